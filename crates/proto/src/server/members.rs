//! The members of a group: who has registered, with what result, and what we know of the keys they hold.
//!
//! ```text
//!   (none) ──refused──▶ only failures ──registers──▶ active ──three rekeys unacknowledged──▶ lost
//!                                                      ▲  ────────────registers──────────────┘
//! ```
//!
//! A member is who registers from one address and port. It has a small number, by which sets of members name it, and
//! which is given to another one only after it is forgotten.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::departed::Departed;
use crate::path::Path;
use crate::time::Instant;

/// Number of a member within its group.
pub(super) type MemberId = u32;

/// Members that are only known by failures, so that a listed gateway which never gets in cannot fill memory by
/// changing its port.
const FAILURES_ONLY: usize = 4096;

/// Registered members of a group that has no threshold. Beyond it, those whose keys may have expired make room.
const REGISTERED: usize = 1 << 20;

/// Rekeys in a row that a member may leave unacknowledged; with the next one it leaves the active list.
const UNACKNOWLEDGED: u8 = 3;

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It never got in.
    OnlyFailures,
    /// Registered.
    Active,
    /// Registered once; it left three consecutive rekeys unacknowledged.
    Lost,
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) gateway: Arc<str>,
    /// Where it registered from, and to which address of the server.
    pub(super) path: Path,
    /// Name of the server it registered at; empty where there is but one.
    pub(super) server: Arc<str>,
    pub(super) standing: Standing,
    /// Whether it showed our vendor id, so that it may get private attributes.
    pub(super) ours: bool,
    /// Whether it ever acknowledged anything.
    pub(super) acknowledges: bool,
    /// Rekeys in a row that it left unacknowledged.
    pub(super) unacknowledged: u8,
    /// Index of the newest KEK that we know it to hold; 0 for none.
    pub(super) kek: u32,
    /// Sequence number and KEK of its last acknowledgement.
    pub(super) last_acknowledged: (u32, u32),
    /// Last registration or acknowledgement.
    pub(super) heard_at: Instant,
    /// When the last key that we know it to hold is gone.
    pub(super) keys_until: Instant,
    pub(super) counters: Counters,
}

/// A registration, as far as it concerns the list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) path: Path,
    /// Name of the server that did it.
    pub(super) server: Arc<str>,
    pub(super) ours: bool,
    /// Index of the KEK it was given, 0 for none.
    pub(super) kek: u32,
    pub(super) keys_until: Instant,
}

/// What is kept of a member.
pub(super) struct RememberedMember {
    pub(super) gateway: Arc<str>,
    pub(super) path: Path,
    pub(super) server: Arc<str>,
    pub(super) lost: bool,
    pub(super) ours: bool,
    pub(super) acknowledges: bool,
    pub(super) kek: u32,
    pub(super) heard_at: Instant,
    pub(super) keys_until: Instant,
    pub(super) counters: Counters,
}

/// Counters of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) pulls_succeeded: u32,
    pub(super) pulls_failed: u32,
    pub(super) pushes_sent: u32,
    pub(super) pushes_acknowledged: u32,
    pub(super) pushes_unacknowledged: u32,
}

/// The members of one group.
#[derive(Debug, Default)]
pub(super) struct Members {
    slots: Vec<Option<Member>>,
    free: Vec<MemberId>,
    by_address: BTreeMap<SocketAddr, MemberId>,
    /// Of whom a server that goes on from here does not know enough; those first who have just registered.
    changed: VecDeque<SocketAddr>,
    /// Whether anybody wants to know; from then on `changed` is kept.
    recorded: bool,
    active: usize,
    only_failures: usize,
    /// Active members that did not show our vendor id.
    foreign: usize,
    /// Active members that were given no KEK.
    without_kek: usize,
    /// Those that are forgotten and may hold keys.
    departed: Departed,
}

impl Members {
    /// Active members.
    pub(super) fn count(&self) -> usize {
        self.active
    }

    /// Active members that must not be sent private attributes.
    pub(super) fn foreign(&self) -> usize {
        self.foreign
    }

    /// Active members that no push reaches.
    pub(super) fn without_kek(&self) -> usize {
        self.without_kek
    }

    pub(super) fn is_registered(&self, address: SocketAddr) -> bool {
        self.find(address).is_some_and(|(_, member)| member.standing == Standing::Active)
    }

    /// Highest number in use, plus one.
    pub(super) fn id_limit(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, address: SocketAddr) -> Option<(MemberId, &Member)> {
        let id = *self.by_address.get(&address)?;
        Some((id, self.get(id)?))
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&Member> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// Active members, by number.
    pub(super) fn active(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.iter().filter(|(_, member)| member.standing == Standing::Active)
    }

    /// Active and lost members, by gateway name and address.
    pub(super) fn shown(&self) -> Vec<&Member> {
        let mut members: Vec<_> =
            self.iter().map(|(_, member)| member).filter(|m| m.standing != Standing::OnlyFailures).collect();
        members.sort_by(|a, b| (&a.gateway, a.path.remote).cmp(&(&b.gateway, b.path.remote)));
        members
    }

    pub(super) fn register(
        &mut self,
        now: Instant,
        gateway: Arc<str>,
        registration: Registration,
    ) -> MemberId {
        let Registration { path, server, ours, kek, keys_until } = registration;
        let id = self.entry(gateway.clone(), path);
        if let Some(other) = self.get(id).filter(|member| member.gateway != gateway).cloned() {
            // Its address is somebody else's now.
            self.departed.insert(other);
        }
        self.change(id, |member| {
            member.gateway = gateway;
            member.path = path;
            member.server = server;
            member.standing = Standing::Active;
            member.ours = ours;
            member.unacknowledged = 0;
            member.kek = kek;
            member.heard_at = now;
            member.keys_until = keys_until;
            member.counters.pulls_succeeded += 1;
        });
        if self.recorded {
            self.changed.push_front(path.remote);
        }
        id
    }

    /// Takes over a member that was kept.
    pub(super) fn restore(&mut self, kept: RememberedMember) {
        let id = self.entry(Arc::clone(&kept.gateway), kept.path);
        self.change(id, |member| kept.restore(member));
        self.recorded = true;
        self.changed.clear();
    }

    /// Takes over one that had been forgotten before.
    pub(super) fn restore_departed(&mut self, kept: RememberedMember) {
        let mut member = fresh(Arc::clone(&kept.gateway), kept.path);
        kept.restore(&mut member);
        self.departed.insert(member);
        self.departed.take_changed();
    }

    /// Another server forgot a member.
    pub(super) fn restore_removal(&mut self, address: SocketAddr) {
        if let Some((id, _)) = self.find(address) {
            self.remove(id);
        }
        self.changed.clear();
    }

    /// Another server needs to remember a departed one of this gateway no more.
    pub(super) fn restore_return(&mut self, gateway: &str) {
        self.departed.restore_return(gateway);
    }

    /// Everything that is known is on record.
    pub(super) fn all_are_stored(&mut self) {
        self.recorded = true;
        self.changed.clear();
        self.departed.take_changed();
    }

    /// Nothing that is known is on record.
    pub(super) fn none_is_stored(&mut self) {
        self.recorded = false;
        self.departed.none_is_stored();
    }

    /// KEKs up to `kek` are revoked, and what they brought lives until `until`.
    pub(super) fn revoke(&mut self, kek: u32, until: Instant) {
        self.departed.revoke(kek, until);
        let lost = |member: &&mut Member| member.standing == Standing::Lost && member.kek != 0;
        for member in self.slots.iter_mut().flatten().filter(lost) {
            member.keys_until = member.keys_until.max(until);
        }
    }

    /// Those that are forgotten and may hold keys, as they are now, where that changed; `None` for no more.
    pub(super) fn take_departed(&mut self) -> Vec<(Arc<str>, Option<Member>)> {
        self.departed.take_changed()
    }

    /// Gateways of which a member is forgotten that may hold keys.
    pub(super) fn departed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.departed.gateways()
    }

    /// Members that changed, as they are now, or `None` for one that is forgotten; at most `limit`.
    pub(super) fn take_changed(&mut self, limit: usize) -> Vec<(SocketAddr, Option<Member>)> {
        if !std::mem::replace(&mut self.recorded, true) {
            self.changed = self.addresses().collect();
        }
        let addresses: BTreeSet<_> = self.changed.drain(..limit.min(self.changed.len())).collect();
        let registered = |address| {
            let (_, member) = self.find(address)?;
            Some(member).filter(|member| member.standing != Standing::OnlyFailures).cloned()
        };
        addresses.into_iter().map(|address| (address, registered(address))).collect()
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.recorded || !self.changed.is_empty() || self.departed.has_changed()
    }

    /// Whether anybody keeps records of them.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Where the members register from.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.by_address.keys().copied()
    }

    pub(super) fn failed(&mut self, gateway: Arc<str>, path: Path) {
        if self.by_address.contains_key(&path.remote) || self.only_failures < FAILURES_ONLY {
            let id = self.entry(gateway, path);
            self.change(id, |member| member.counters.pulls_failed += 1);
        }
    }

    /// A message was sent to a member.
    pub(super) fn sent(&mut self, id: MemberId) {
        if let Some(member) = self.slot(id) {
            member.counters.pushes_sent = member.counters.pushes_sent.wrapping_add(1);
        }
    }

    /// A member acknowledged a message: of the KEK with index `kek` and this sequence number. `carried` is the KEK that
    /// the message brought, if it brought one.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        id: MemberId,
        (kek, sequence): (u32, u32),
        carried: u32,
    ) {
        self.change(id, |member| {
            member.acknowledges = true;
            member.counters.pushes_acknowledged = member.counters.pushes_acknowledged.wrapping_add(1);
            member.unacknowledged = 0;
            member.heard_at = now;
            member.last_acknowledged = (kek, sequence);
            member.kek = member.kek.max(carried);
        });
    }

    /// A rekey was settled by an acknowledgement; its keys live until `keys_until`.
    pub(super) fn settled(&mut self, id: MemberId, keys_until: Instant) {
        if let Some(member) = self.slot(id) {
            member.keys_until = member.keys_until.max(keys_until);
        }
    }

    /// A member is taken to hold a KEK, though it acknowledged nothing.
    pub(super) fn assume(&mut self, id: MemberId, kek: u32) {
        self.change(id, |member| member.kek = member.kek.max(kek));
    }

    /// A member left a rekey unacknowledged. Returns true if with that it left the active list.
    pub(super) fn unacknowledged(&mut self, id: MemberId, required: bool) -> bool {
        let mut lost = false;
        self.change(id, |member| {
            member.counters.pushes_unacknowledged = member.counters.pushes_unacknowledged.wrapping_add(1);
            member.unacknowledged = member.unacknowledged.saturating_add(1);
            //= https://www.rfc-editor.org/rfc/rfc8263#section-6
            //# In
            //# particular, a GCKS SHOULD NOT consider a GM to have left the group
            //# until it has received at least one ACK from the GM.
            lost = member.unacknowledged >= UNACKNOWLEDGED && (member.acknowledges || required);
            if lost {
                member.standing = Standing::Lost;
            }
        });
        lost
    }

    /// Forgets members whose keys are all gone: in a group that pulls (`pulls`) all of them, in one that pushes those
    /// that are lost, because an active one was pushed later keys than we know it to hold. Returns who was active.
    pub(super) fn expire(&mut self, now: Instant, pulls: bool) -> Vec<MemberId> {
        self.departed.expire(now);
        self.forget(|member| {
            member.keys_until > now
                || match member.standing {
                    Standing::OnlyFailures => true,
                    Standing::Active => !pulls && member.kek != 0,
                    Standing::Lost => false,
                }
        })
    }

    /// Makes room: forgets members whose keys may be gone, as far as we know. Returns who was active.
    pub(super) fn make_room(&mut self, now: Instant) -> Vec<MemberId> {
        self.forget(|member| member.keys_until > now || member.standing == Standing::OnlyFailures)
    }

    /// Whether all that may register have keys that last longer than `now`, as far as we know.
    pub(super) fn is_full_at(&self, now: Instant, threshold: Option<u32>) -> bool {
        let threshold = threshold.map_or(REGISTERED, |threshold| threshold as usize).min(REGISTERED);
        self.active().filter(|(_, member)| member.keys_until > now).count() >= threshold
    }

    /// Whether another one may register.
    pub(super) fn is_full(&self, threshold: Option<u32>) -> bool {
        self.active >= threshold.map_or(REGISTERED, |threshold| threshold as usize).min(REGISTERED)
    }

    /// Forgets members of other gateways. Returns who was active, and whether one of those that are forgotten may hold
    /// keys still.
    pub(super) fn keep_gateways(
        &mut self,
        now: Instant,
        gateways: &BTreeSet<Arc<str>>,
    ) -> (Vec<MemberId>, bool) {
        let leaves = |member: &Member| !gateways.contains(&member.gateway);
        let holds_keys = self.iter().any(|(_, member)| {
            leaves(member)
                && match member.standing {
                    Standing::OnlyFailures => false,
                    // It was pushed later keys than we know it to hold; and of one that is lost we only know that its
                    // acknowledgements did not come, while it may read every push on its way to others.
                    Standing::Active | Standing::Lost => member.kek != 0 || member.keys_until > now,
                }
        });
        let held = self.departed.keep_gateways(now, gateways);
        (self.retain(|member| !leaves(member)), holds_keys || held)
    }

    /// Sets the counters of all members to zero.
    pub(super) fn clear_statistics(&mut self) {
        for member in self.slots.iter_mut().flatten() {
            member.counters = Counters::default();
        }
        self.retain(|member| member.standing != Standing::OnlyFailures);
    }

    fn iter(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.slots.iter().enumerate().filter_map(|(id, member)| Some((id as MemberId, member.as_ref()?)))
    }

    /// Forgets those who are not to be kept, except for what they may hold.
    fn forget(&mut self, keep: impl Fn(&Member) -> bool) -> Vec<MemberId> {
        let revoked = self.departed.revoked();
        for member in self.slots.iter().flatten().filter(|member| member.kek > revoked && !keep(member)) {
            self.departed.insert(member.clone());
        }
        self.retain(keep)
    }

    fn retain(&mut self, keep: impl Fn(&Member) -> bool) -> Vec<MemberId> {
        let leaving: Vec<_> = self
            .iter()
            .filter(|(_, member)| !keep(member))
            .map(|(id, member)| (id, member.standing))
            .collect();
        for &(id, _) in &leaving {
            self.remove(id);
        }
        leaving.into_iter().filter(|(_, standing)| *standing == Standing::Active).map(|(id, _)| id).collect()
    }

    fn entry(&mut self, gateway: Arc<str>, path: Path) -> MemberId {
        if let Some(&id) = self.by_address.get(&path.remote) {
            return id;
        }
        let member = fresh(gateway, path);
        self.count_in(&member);
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(member);
                id
            }
            None => {
                self.slots.push(Some(member));
                (self.slots.len() - 1) as MemberId
            }
        };
        self.by_address.insert(path.remote, id);
        id
    }

    fn remove(&mut self, id: MemberId) {
        if let Some(member) = self.slots[id as usize].take() {
            self.count_out(&member);
            if self.recorded && member.standing != Standing::OnlyFailures {
                self.changed.push_back(member.path.remote);
            }
            self.by_address.remove(&member.path.remote);
            self.free.push(id);
        }
    }

    fn slot(&mut self, id: MemberId) -> Option<&mut Member> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// Changes what the totals may depend on.
    fn change(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) {
        if let Some(mut member) = self.slots.get_mut(id as usize).and_then(Option::take) {
            self.count_out(&member);
            let kept = |member: &Member| (member.standing, member.acknowledges, member.kek);
            let before = kept(&member);
            change(&mut member);
            if self.recorded && kept(&member) != before {
                self.changed.push_back(member.path.remote);
            }
            self.count_in(&member);
            self.slots[id as usize] = Some(member);
        }
    }

    fn count_in(&mut self, member: &Member) {
        let active = member.standing == Standing::Active;
        self.active += usize::from(active);
        self.only_failures += usize::from(member.standing == Standing::OnlyFailures);
        self.foreign += usize::from(active && !member.ours);
        self.without_kek += usize::from(active && member.kek == 0);
    }

    fn count_out(&mut self, member: &Member) {
        let active = member.standing == Standing::Active;
        self.active -= usize::from(active);
        self.only_failures -= usize::from(member.standing == Standing::OnlyFailures);
        self.foreign -= usize::from(active && !member.ours);
        self.without_kek -= usize::from(active && member.kek == 0);
    }
}

impl Member {
    /// The way to it from the server of this name: who did not register it cannot send from the address that it knows.
    pub(super) fn path_from(&self, server: &str) -> Path {
        let mut path = self.path;
        if *self.server != *server {
            path.local.set_ip(match path.local.ip() {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            });
        }
        path
    }
}

impl RememberedMember {
    fn restore(self, member: &mut Member) {
        member.path = self.path;
        member.gateway = self.gateway;
        member.server = self.server;
        member.standing = if self.lost { Standing::Lost } else { Standing::Active };
        member.ours = self.ours;
        member.acknowledges = self.acknowledges;
        member.kek = self.kek;
        member.heard_at = self.heard_at;
        member.keys_until = self.keys_until;
        member.counters = self.counters;
    }
}

/// Whether it never got in.
pub(super) fn only_failures(member: &Member) -> bool {
    member.standing == Standing::OnlyFailures
}

/// A member of which nothing is known.
fn fresh(gateway: Arc<str>, path: Path) -> Member {
    Member {
        gateway,
        path,
        server: Arc::from(""),
        standing: Standing::OnlyFailures,
        ours: false,
        acknowledges: false,
        unacknowledged: 0,
        kek: 0,
        last_acknowledged: (0, 0),
        heard_at: Instant::ORIGIN,
        keys_until: Instant::ORIGIN,
        counters: Counters::default(),
    }
}
