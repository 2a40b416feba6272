//! Recovery probes: the data path drops ESP under keys that we lack, and the member asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::DropReason;
use tokio::sync::Notify;

use super::Daemon;

/// How often the counters are looked at, at most: whoever can send us datagrams can make us look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the data path said last.
#[derive(Default)]
pub(super) struct Recovery {
    unknown_spi: Option<Arc<Notify>>,
    not_before: Option<tokio::time::Instant>,
    /// Packets dropped, by VPN.
    seen: BTreeMap<String, u64>,
}

impl Recovery {
    /// Listens to a data path.
    pub(super) fn watch(&mut self, unknown_spi: Arc<Notify>) {
        self.unknown_spi = Some(unknown_spi);
    }

    /// Waits until there is something to look at.
    pub(super) async fn alarm(&self) {
        let Some(unknown_spi) = &self.unknown_spi else { return std::future::pending().await };
        if let Some(moment) = self.not_before {
            tokio::time::sleep_until(moment).await;
        }
        unknown_spi.notified().await;
    }
}

impl Daemon {
    /// Tells the member of VPNs that dropped ESP under a key they lack.
    pub(super) fn handle_unknown_spi(&mut self) {
        self.recovery.not_before = Some(tokio::time::Instant::now() + LOOK_AGAIN);
        let now = self.clock.now();
        let Some(member) = &mut self.member else { return };
        for vpn in self.active.model.member.iter().flat_map(|member| &member.vpns) {
            let Some(counters) = self.protection.counters(&vpn.name) else { continue };
            let dropped = counters.drops.count(DropReason::UnknownSpiProtected);
            let before = self.recovery.seen.insert(vpn.name.clone(), dropped).unwrap_or(0);
            if dropped > before {
                member.unknown_spi(now, &vpn.name);
            }
        }
    }
}
