//! What the data path lacks, the member asks for: keys of ESP that is dropped, and sender ids.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::DropReason;
use futures_util::future::select_all;
use tokio::sync::Notify;

use super::Daemon;

/// How often the counters are looked at, at most: whoever can send us datagrams can make us look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often sender ids are looked at. A lane asks for its next one eight seconds before it needs it, at the least.
const SENDER_IDS: Duration = Duration::from_secs(2);

/// What the data path said last.
#[derive(Default)]
pub(super) struct Recovery {
    /// Of each data path.
    unknown_spi: Vec<Arc<Notify>>,
    not_before: Option<tokio::time::Instant>,
    /// When to see whether sender ids run out.
    sender_ids_at: Option<tokio::time::Instant>,
    /// Packets dropped, by VPN.
    seen: BTreeMap<String, u64>,
}

impl Recovery {
    /// Listens to one more data path, and no more to those that have ended.
    pub(super) fn watch(&mut self, unknown_spi: Arc<Notify>) {
        self.unknown_spi.retain(|known| Arc::strong_count(known) > 1);
        self.unknown_spi.push(unknown_spi);
    }

    /// Waits until there is something to look at.
    pub(super) async fn alarm(&self) {
        if self.unknown_spi.is_empty() {
            return std::future::pending().await;
        }
        let seen = async {
            if let Some(moment) = self.not_before {
                tokio::time::sleep_until(moment).await;
            }
            select_all(self.unknown_spi.iter().map(|unknown_spi| Box::pin(unknown_spi.notified()))).await;
        };
        match self.sender_ids_at {
            Some(moment) => _ = tokio::time::timeout_at(moment, seen).await,
            None => seen.await,
        }
    }

    /// There are keys that need sender ids.
    pub(super) fn watch_sender_ids(&mut self) {
        self.sender_ids_at.get_or_insert_with(|| tokio::time::Instant::now() + SENDER_IDS);
    }
}

impl Daemon {
    /// From here on unknown keys are news: what was dropped before the data path had its keys says nothing.
    pub(super) fn watch_unknown_spis(&mut self) {
        for vpn in self.active.model.member.iter().flat_map(|member| &member.vpns) {
            if let Some(counters) = self.protection.counters(&vpn.name) {
                let dropped = counters.drops.count(DropReason::UnknownSpiProtected);
                self.recovery.seen.insert(vpn.name.clone(), dropped);
            }
        }
    }

    /// Tells the member of VPNs that lack something.
    pub(super) fn handle_unknown_spi(&mut self) {
        self.look_at_sender_ids();
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

    /// Asks for sender ids where lanes run out of them, and frees what belongs to ended keys.
    fn look_at_sender_ids(&mut self) {
        if self.recovery.sender_ids_at.is_none_or(|moment| moment > tokio::time::Instant::now()) {
            return;
        }
        let now = self.clock.now();
        let goes_on = self.protection.forget_expired_senders(crate::protection::engine_time(now));
        self.recovery.sender_ids_at = goes_on.then(|| tokio::time::Instant::now() + SENDER_IDS);
        let vpns = self.active.model.member.iter().flat_map(|member| &member.vpns);
        let names: Vec<String> = vpns.map(|vpn| vpn.name.clone()).collect();
        for vpn in names {
            let wanted = self.protection.wanted_sender_ids(&vpn);
            if wanted > 0
                && self.grant_sender_ids(&vpn, wanted) < wanted
                && let Some(member) = &mut self.member
            {
                member.need_sender_ids(now, &vpn);
            }
        }
    }
}
