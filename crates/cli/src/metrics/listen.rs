//! Serving metrics by HTTP.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve as serve_http};
use tokio::net::TcpListener;

use super::exposition;
use super::snapshot::Snapshot;
use crate::command::Context;

/// What OpenMetrics text is called.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers requests until the process is interrupted.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve(context: Context, address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        eprintln!("metrics at http://{}/metrics", listener.local_addr()?);
        let router = Router::new().route("/metrics", get(answer)).with_state(context);
        Ok(serve_http(listener, router).await?)
    })
}

async fn answer(State(context): State<Context>) -> Response {
    // The client has a runtime of its own, which must not begin within this one.
    let taken = tokio::task::spawn_blocking(move || exposition::render(&Snapshot::take(&context)?)).await;
    match taken.map_err(anyhow::Error::from).flatten() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
    }
}
