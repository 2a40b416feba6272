//! Watches links, addresses, queueing disciplines and filters.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Links;
use crate::namespace::Namespace;

/// Read again after this long even without a notification, in case one was lost to a full socket buffer.
const REFRESH: Duration = Duration::from_secs(10);
/// Notifications come in bursts (a new link with its flags and addresses); one reading serves a burst.
const BURST: Duration = Duration::from_millis(2);

/// Keeps a view of the links current while it lives.
pub struct Monitor {
    links: watch::Receiver<Arc<Links>>,
    tasks: [JoinHandle<()>; 2],
}

impl Monitor {
    /// Starts to watch a network namespace; needs a running `tokio` runtime of the calling thread.
    pub fn start(namespace: Namespace) -> io::Result<Self> {
        use MulticastGroup::{Ipv4Ifaddr, Ipv6Ifaddr, Link, Tc};
        let (connection, handle, mut messages) =
            namespace.within(|| new_multicast_connection(&[Link, Ipv4Ifaddr, Ipv6Ifaddr, Tc]))??;
        let (sender, links) = watch::channel(Arc::new(namespace.within(Links::read)??));
        let connection = tokio::spawn(connection);
        let reader = tokio::spawn(async move {
            // The connection ends when its last handle is dropped.
            let _handle = handle;
            let mut filter_changes = 0;
            loop {
                let first = tokio::time::timeout(REFRESH, messages.next()).await;
                match &first {
                    Ok(Some((message, _))) => filter_changes += u64::from(is_filter_change(message)),
                    Ok(None) => {
                        tracing::error!("netlink monitor lost its connection");
                        return;
                    }
                    Err(_) => {}
                }
                if first.is_ok() {
                    tokio::time::sleep(BURST).await;
                }
                while let Some(Some((message, _))) = messages.next().now_or_never() {
                    filter_changes += u64::from(is_filter_change(&message));
                }
                match namespace.within(Links::read).flatten() {
                    Ok(mut current) => {
                        current.filter_changes = filter_changes;
                        sender.send_if_modified(|known| {
                            let changed = **known != current;
                            if changed {
                                *known = Arc::new(current);
                            }
                            changed
                        });
                    }
                    Err(error) => tracing::warn!(%error, "cannot read links"),
                }
            }
        });
        Ok(Self { links, tasks: [connection, reader] })
    }

    /// The present view, and a way to wait for the next: `changed().await`, then `borrow_and_update()`.
    pub fn links(&self) -> watch::Receiver<Arc<Links>> {
        self.links.clone()
    }
}

/// Somebody changed a queueing discipline or a filter: perhaps removed ours.
fn is_filter_change(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    use RouteNetlinkMessage::{DelQueueDiscipline, DelTrafficFilter, NewQueueDiscipline, NewTrafficFilter};
    matches!(
        message.payload,
        NetlinkPayload::InnerMessage(
            NewQueueDiscipline(_) | DelQueueDiscipline(_) | NewTrafficFilter(_) | DelTrafficFilter(_)
        )
    )
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
