//! What must hold at every second of every world.
//!
//! "Connected" is defined here, not fitted to what comes out: a member is *owed* every key that others send with once
//! it has registered since its interface came up and has not been cut off for the timeline's fail-over allowance F. A
//! loss of single datagrams, up to the scenario's rate, is no excuse. A sender that goes on with a key in the last S of
//! its life was itself cut off at the switch; nobody owes it to keep that key to the last second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::server::Server;
use proto::time::Instant;
use proto::timeline::Timeline;

use crate::parties::{DataPath, member_address, selector};
use crate::scenario::Scenario;

/// How long an undisturbed member may take from its interface coming up to its first keys: three tries at each of
/// two servers, and the waits of phase 1 on a bad network.
const FIRST_REGISTRATION: Duration = Duration::from_secs(120);

/// A member as the invariants see it.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) data_path: DataPath,
    /// Since when its interface is up; `None` while it is down.
    pub(crate) up_since: Option<Instant>,
    pub(crate) registered_since_up: bool,
    /// Until when it was, or is, cut off from everybody.
    pub(crate) disturbed_until: Instant,
}

/// What is known of the TEKs of all servers.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The end of each TEK ever seen, not earlier than it is.
    ends: BTreeMap<u32, Instant>,
    pub(crate) checks: u64,
}

impl Truth {
    /// Looks at the servers.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        scenario: &Scenario,
        servers: &[Server],
    ) -> Result<(), String> {
        let mut spis = BTreeSet::new();
        for server in servers {
            for group in server.ipsec_security_associations(now) {
                let mut of_sa = BTreeMap::<String, usize>::new();
                for tek in &group.security_associations {
                    let count = of_sa.entry(tek.name.clone()).or_default();
                    *count += 1;
                    if *count > 2 {
                        return Err(format!("{} has more than two TEKs", tek.name));
                    }
                    if !spis.insert(tek.spi.0) {
                        return Err(format!("SPI {} is used twice", tek.spi));
                    }
                    let end = now + Duration::from_secs(tek.lifetime_secs + 1);
                    self.ends.entry(tek.spi.0).or_insert(end);
                }
                if of_sa.len() != scenario.ipsec_sas {
                    return Err(format!("{} of {} ipsec-sas have a TEK", of_sa.len(), scenario.ipsec_sas));
                }
            }
            for group in server.registered_members(now) {
                for member in group.members {
                    let index: Option<usize> =
                        member.gateway.strip_prefix("member-").and_then(|n| n.parse().ok());
                    if index.map(member_address) != Some(member.address) {
                        return Err(format!("{} is registered from {}", member.gateway, member.address));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks everything that is about members.
    pub(crate) fn check(
        &mut self,
        now: Instant,
        scenario: &Scenario,
        members: &[Watched],
    ) -> Result<(), String> {
        let timeline = Timeline::pull(scenario.tek_lifetime);
        for (index, member) in members.iter().enumerate() {
            self.check_lives(now, index, member)?;
            check_presence(now, scenario, index, member)?;
        }
        if scenario.servers == 1 {
            for sa in 0..scenario.ipsec_sas {
                self.check_reachability(now, &timeline, sa, members)?;
            }
        }
        Ok(())
    }

    /// Invariant 4: nothing outlives the TEK of the server that made it.
    fn check_lives(&mut self, now: Instant, index: usize, member: &Watched) -> Result<(), String> {
        for sa in member.data_path.iter() {
            self.checks += 1;
            let Some(end) = self.ends.get(&sa.spi) else {
                return Err(format!("member {index} holds {:08x}, which no server made", sa.spi));
            };
            if sa.hard_expiry > *end {
                return Err(format!(
                    "member {index} keeps {:08x} until {:?}, its end is {end:?}",
                    sa.spi, sa.hard_expiry
                ));
            }
            if sa.hard_expiry <= now {
                return Err(format!("member {index} still holds {:08x}, which has expired", sa.spi));
            }
        }
        Ok(())
    }

    /// Invariant 6.
    fn check_reachability(
        &mut self,
        now: Instant,
        timeline: &Timeline,
        sa: usize,
        members: &[Watched],
    ) -> Result<(), String> {
        let selector = selector(sa);
        let mut used = BTreeMap::<u32, usize>::new();
        for (index, member) in members.iter().enumerate() {
            let sending = member.data_path.sends_with(now, &selector);
            if let Some(sending) = sending.filter(|sa| sa.hard_expiry - now > timeline.switch) {
                used.entry(sending.spi).or_insert(index);
            }
        }
        for (index, member) in members.iter().enumerate() {
            let undisturbed = member.disturbed_until + timeline.failover <= now;
            if !(undisturbed && member.registered_since_up) {
                continue;
            }
            for (spi, sender) in &used {
                self.checks += 1;
                if !member.data_path.receives(now, *spi) {
                    let end = self.ends.get(spi).map(|end| *end - now);
                    return Err(format!(
                        "member {sender} sends with {spi:08x} ({end:?} left), which member {index} lacks"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A member that nobody disturbs gets its keys, and keeps having some.
fn check_presence(now: Instant, scenario: &Scenario, index: usize, member: &Watched) -> Result<(), String> {
    let Some(up_since) = member.up_since else {
        return match member.data_path.iter().next() {
            None => Ok(()),
            Some(sa) => Err(format!("member {index} holds {:08x} while its interface is down", sa.spi)),
        };
    };
    if up_since.max(member.disturbed_until) + FIRST_REGISTRATION > now {
        return Ok(());
    }
    match (0..scenario.ipsec_sas).find(|sa| member.data_path.sends_with(now, &selector(*sa)).is_none()) {
        None => Ok(()),
        Some(sa) => Err(format!("member {index} has nothing to encrypt with for ipsec-sa {sa}")),
    }
}
