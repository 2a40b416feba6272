//! Requests to the daemon over its Unix socket.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use control::{Problem, paths::SOCKET_NAME};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::command::Context;

/// Gets what a path and query name.
pub fn get<Reply: DeserializeOwned>(context: &Context, path: &str, query: &str) -> Result<Reply> {
    request(context, Method::GET, &with_query(path, query), Vec::new())
}

/// Clears what a path and query name.
pub fn delete<Reply: DeserializeOwned>(context: &Context, path: &str, query: &str) -> Result<Reply> {
    request(context, Method::DELETE, &with_query(path, query), Vec::new())
}

/// Sends a request with a body.
pub fn post<Reply: DeserializeOwned>(context: &Context, path: &str, body: &impl Serialize) -> Result<Reply> {
    request(context, Method::POST, path, serde_json::to_vec(body)?)
}

/// Gets an endless reply and hands each line to `line` until it returns false.
pub fn stream(context: &Context, path: &str, mut line: impl FnMut(&str) -> bool) -> Result<()> {
    runtime()?.block_on(async {
        let mut body = send(context, Method::GET, path, Vec::new()).await?.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the daemon went away")?.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = pending.iter().position(|octet| *octet == b'\n') {
                let rest = pending.split_off(end + 1);
                let text = String::from_utf8_lossy(&pending[..end]).into_owned();
                pending = rest;
                if !line(&text) {
                    return Ok(());
                }
            }
        }
        bail!("the daemon closed the stream")
    })
}

fn with_query(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

fn request<Reply: DeserializeOwned>(
    context: &Context,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Reply> {
    runtime()?.block_on(async {
        let response = send(context, method, path, body).await?;
        let body = response.into_body().collect().await.context("the daemon's reply broke off")?.to_bytes();
        serde_json::from_slice(&body)
            .context("the daemon's reply is not understood: are its version and gvpn's the same?")
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?)
}

async fn send(context: &Context, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>> {
    let socket = context.runtime_directory.join(SOCKET_NAME);
    let stream = UnixStream::connect(&socket).await.map_err(|error| explain(error, &socket))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "gvpnd")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response =
        sender.send_request(request).await.with_context(|| format!("asking {}", socket.display()))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Err(anyhow!("{problem}")),
        Err(_) => bail!("the daemon answered {status}: {}", String::from_utf8_lossy(&body).trim()),
    }
}

fn explain(error: std::io::Error, socket: &Path) -> anyhow::Error {
    let path: PathBuf = socket.to_path_buf();
    match error.kind() {
        std::io::ErrorKind::NotFound => anyhow!(
            "no daemon: {} does not exist; is gvpnd running, and with this --runtime-dir?",
            path.display()
        ),
        std::io::ErrorKind::ConnectionRefused => {
            anyhow!("no daemon: nobody listens on {}; gvpnd has ended without removing it", path.display())
        }
        std::io::ErrorKind::PermissionDenied => {
            anyhow!(
                "no permission to use {}: run gvpn as root or as a member of the socket's group",
                path.display()
            )
        }
        _ => anyhow!("{}: {error}", path.display()),
    }
}
