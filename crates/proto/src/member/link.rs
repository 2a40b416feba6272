//! Links that come and go.
//!
//! ```text
//!   link down:  nothing is tried; SAs, KEKs and sender ids are held as long as they live
//!   up again:   goes on with them as if nothing had been; registers if none is left or its address is another one
//!   gone:       everything is cleared
//! ```
//!
//! What was pushed meanwhile is lost, as it is when the network loses it: the timeline asks for a successor in time.

use std::net::IpAddr;

use super::state::{State, Trigger};
use super::{Member, Removal};
use crate::log::{Entry, Facility, Level};
use crate::time::Instant;

impl Member {
    /// The external interface of a VPN is up: it registers, unless it has keys of before the link was down or of before a
    /// restart. `local_address` is the address it has towards the servers where the gateway does not name one.
    pub fn interface_up(&mut self, now: Instant, vpn: &str, local_address: Option<IpAddr>) {
        let Some(index) = self.find(vpn) else { return };
        self.vpns[index].local_address = local_address;
        if matches!(self.vpns[index].state, State::Down)
            && !self.go_on(now, index)
            && !self.resume(now, index)
        {
            self.begin_try(now, index);
        }
    }

    /// The link of a VPN's external interface is down: nothing is tried until it is up again. Its SAs are held.
    pub fn link_down(&mut self, now: Instant, vpn: &str) {
        let Some(index) = self.find(vpn) else { return };
        // One that was never up may have keys of before a restart, which nobody was told to install.
        if matches!(self.vpns[index].state, State::Down) {
            return;
        }
        self.end_pull(index);
        let vpn = &mut self.vpns[index];
        vpn.state.step(Trigger::InterfaceDown, State::Down);
        vpn.is_held = !vpn.sas.is_empty();
        self.forget_unused_connections(now);
    }

    /// A VPN has no external interface any more, or not the address that it is to have: its SAs are cleared, and nothing is
    /// tried until it is up again.
    pub fn interface_down(&mut self, now: Instant, vpn: &str) {
        let Some(index) = self.find(vpn) else { return };
        let mut vpn = self.vpns.remove(index);
        self.stop(&mut vpn, Removal::InterfaceDown);
        self.vpns.insert(index, vpn);
        self.forget_unused_connections(now);
    }

    /// Goes on with the keys that the data path has held, if any live. Returns whether there are some.
    fn go_on(&mut self, now: Instant, index: usize) -> bool {
        self.expire(now, index);
        let vpn = &mut self.vpns[index];
        if !std::mem::take(&mut vpn.is_held) || vpn.sas.is_empty() {
            return false;
        }
        vpn.restart_tries();
        vpn.state.step(Trigger::Resumed, State::Registered);
        let words = match vpn.is_displaced {
            false => "the link is up again: goes on with its keys",
            true => "the link is up again, and our address is gone: registering again",
        };
        let entry = Entry::new(Level::Info, Facility::General, words).with("vpn", &vpn.name);
        let registers = vpn.is_displaced;
        self.journal.record(now, entry);
        if registers {
            self.begin_try(now, index);
        }
        true
    }
}
