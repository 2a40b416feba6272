//! `gvpn metrics`: what the daemon counts, as OpenMetrics text.
//!
//! The exporter is a process of its own, so that the daemon needs no TCP listener and the exporter no privilege but that of
//! reading the control socket.

mod exposition;
mod listen;
mod snapshot;

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::command::{Arguments, Context, Output, command, value};
use snapshot::Snapshot;

command! {
    /// Counters and lifetimes of both roles as OpenMetrics text, for Prometheus and its kin.
    ///
    /// Without `listen` they are printed once. With it they are served at http://ADDRESS:PORT/metrics until interrupted;
    /// each request asks the daemon anew, and none changes anything.
    METRICS = "metrics", &[value("listen", "Serve them by HTTP at this address and port, as in 127.0.0.1:9848")], run;
}

fn run(context: &Context, arguments: &Arguments) -> Result<Output> {
    match arguments.value("listen") {
        None => Ok(Output::text(exposition::render(&Snapshot::take(context)?)?)),
        Some(address) => {
            let address: SocketAddr =
                address.parse().with_context(|| format!("`listen {address}`: expected ADDRESS:PORT"))?;
            listen::serve(context.clone(), address)?;
            Ok(Output { success: true, ..Output::default() })
        }
    }
}
