//! The rules: what happens to a packet, given where it comes from and what it is.
//!
//! The rows in the comments are those of the packet rules ("leaving by" and "arriving on" an external interface). The
//! tc programs decide the rows before; what they leave open comes here. All of this is a function of the tables, the
//! time and the flow: the engine remembers the answers.

use crate::classifier::{Flow, Ports, Prefix};
use crate::tables::{Interface, VpnIndex};
use crate::{Binding, DefaultPolicy, DropReason, Instant, PassReason, Registration, Tables};

/// What happens to a packet, and on whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Passes as it is.
    Clear {
        /// Why.
        reason: PassReason,
        /// Position of the VPN that lets it pass, if one does.
        vpn: Option<u32>,
    },
    /// Leaves as ESP.
    Encrypt {
        /// Position of the SA.
        sa: u32,
    },
    /// Is dropped.
    Drop {
        /// Why.
        reason: DropReason,
        /// Position of the VPN whose rules say so, if one's do.
        vpn: Option<u32>,
    },
}

impl Verdict {
    fn drop(reason: DropReason, vpn: u32) -> Self {
        Self::Drop { reason, vpn: Some(vpn) }
    }

    /// A policy claims the packet, whether it can be protected now or not.
    pub(crate) fn is_protected(self) -> bool {
        match self {
            Self::Encrypt { .. } => true,
            Self::Clear { .. } => false,
            Self::Drop { reason, .. } => matches!(
                reason,
                DropReason::NoLiveKey
                    | DropReason::ReceiverOnly
                    | DropReason::NotRegisteredPolicy
                    | DropReason::AmbiguousFragment
                    | DropReason::ClearInbound
            ),
        }
    }

    /// The verdict on an ICMP error: `quoted` is that on the mirror of the packet it quotes, `own` that on itself.
    ///
    /// The quoted packet decides. Only where it is nobody's, addresses that are somebody's protect the error: what looks
    /// like an ICMP error must not carry data out in clear.
    //= https://www.rfc-editor.org/rfc/rfc4301#section-6.2
    //# If no SA exists that would carry the outbound ICMP message in
    //# question, and if no SPD entry would allow carriage of this outbound
    //# ICMP error message, then an IPsec implementation MUST map the message
    //# to the SA that would carry the return traffic associated with the
    //# packet that triggered the ICMP error message.
    pub(crate) fn of_icmp_error(quoted: Self, own: Self) -> Self {
        if quoted.is_protected() {
            quoted
        } else if own.is_protected() || matches!(own, Self::Clear { .. }) {
            own
        } else {
            quoted
        }
    }
}

/// Which policy a flow matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    None,
    Policy(u32),
    /// The first policy between the addresses asks for what the packet does not show.
    Ambiguous,
}

impl VpnIndex {
    fn policy_match(&self, flow: &Flow, eligible: impl Fn(u32) -> bool) -> Match {
        let (by_address, deciding) = match (flow.ports, &self.without_ports, &self.addresses_only) {
            (Ports::Unknown, Some(reduced), _) | (Ports::Hidden, _, Some(reduced)) => {
                (&reduced.classifier, &reduced.deciding)
            }
            _ => return self.by_selector.first_match(flow, eligible).map_or(Match::None, Match::Policy),
        };
        match by_address.first_match(flow, eligible) {
            None => Match::None,
            Some(policy) if deciding[policy as usize] => Match::Ambiguous,
            Some(policy) => Match::Policy(policy),
        }
    }

    /// An exclude rule, or a service filter that the interface has for the direction, exempts the packet.
    fn excludes(&self, interface: &Interface, leaving: bool, flow: &Flow) -> bool {
        any_contains(&self.exclude, flow)
            || self.filters.iter().any(|filter| filter.skips(interface.id, leaving, flow))
    }

    fn fails_open(&self, flow: &Flow) -> bool {
        any_contains(&self.fail_open, flow)
    }
}

fn any_contains(pairs: &[(Prefix, Prefix)], flow: &Flow) -> bool {
    pairs.iter().any(|(source, destination)| {
        source.contains(flow.version, flow.source) && destination.contains(flow.version, flow.destination)
    })
}

impl Tables {
    /// Rows 6 to 11 of the packets that leave.
    pub(crate) fn classify_egress(
        &self,
        now: Instant,
        interface: &Interface,
        flow: &Flow,
        own: bool,
        injected: bool,
    ) -> Verdict {
        let mut excluded = None;
        let mut failed_open = None;
        let mut held = None;
        for &at in &interface.vpns {
            let (vpn, index) = (&self.vpns()[at as usize], &self.indexes[at as usize]);
            // Row 6. A rule exempts from its own VPN only; another VPN of the interface may still claim the packet.
            if index.excludes(interface, true, flow) {
                excluded.get_or_insert(at);
                continue;
            }
            match vpn.registration {
                // Row 7.
                Registration::Registered => {
                    let protects = |policy: u32| !self.is_pending(now, index, policy);
                    let receives_only = |policy: u32| index.receives_only[policy as usize];
                    match index.policy_match(flow, |policy| protects(policy) && !receives_only(policy)) {
                        Match::Policy(policy) => {
                            return match self.sending_sa(now, index, policy) {
                                Some(sa) => Verdict::Encrypt { sa },
                                None => Verdict::drop(DropReason::NoLiveKey, at),
                            };
                        }
                        Match::Ambiguous => return Verdict::drop(DropReason::AmbiguousFragment, at),
                        // Of two policies for the two directions the one of the other direction may come first.
                        Match::None if index.policy_match(flow, protects) != Match::None => {
                            return Verdict::drop(DropReason::ReceiverOnly, at);
                        }
                        Match::None => {}
                    }
                }
                // Rows 7, 9 and 10, first column. Another VPN may still encrypt the packet, which leaks nothing.
                Registration::NotYet if own => {
                    if index.policy_match(flow, |_| true) != Match::None {
                        held.get_or_insert(Verdict::drop(DropReason::NotRegisteredPolicy, at));
                    }
                }
                Registration::NotYet if index.fails_open(flow) => {
                    failed_open.get_or_insert(at);
                }
                Registration::NotYet => {
                    held.get_or_insert(Verdict::drop(DropReason::NotRegistered, at));
                }
            }
        }
        if let Some(verdict) = held {
            return verdict;
        }
        if excluded.is_some() {
            return Verdict::Clear { reason: PassReason::Excluded, vpn: excluded };
        }
        // Row 8.
        if injected {
            return Verdict::Drop {
                reason: DropReason::NoPolicyInjected,
                vpn: interface.vpns.first().copied(),
            };
        }
        if failed_open.is_some() {
            return Verdict::Clear { reason: PassReason::FailOpen, vpn: failed_open };
        }
        // Row 11.
        if own {
            return Verdict::Clear { reason: PassReason::Own, vpn: interface.vpns.first().copied() };
        }
        self.without_policy(interface)
    }

    /// Rows 9 and 10, registered: every VPN of the interface has to let the packet go.
    fn without_policy(&self, interface: &Interface) -> Verdict {
        let mut reason = PassReason::DefaultPolicy;
        for &at in &interface.vpns {
            match self.vpns()[at as usize].binding {
                Binding::Zone => match self.default_policy {
                    DefaultPolicy::PermitAll => {}
                    DefaultPolicy::DenyAll => return Verdict::drop(DropReason::NoPolicyDefaultDeny, at),
                },
                Binding::ServiceSet { forward_mismatch: true } => reason = PassReason::ForwardMismatch,
                Binding::ServiceSet { forward_mismatch: false } => {
                    return Verdict::drop(DropReason::NoPolicyServiceSet, at);
                }
            }
        }
        Verdict::Clear { reason, vpn: interface.vpns.first().copied() }
    }

    /// Row 8 of the packets that arrive: clear and forwarded inward.
    pub(crate) fn classify_ingress(&self, now: Instant, interface: &Interface, flow: &Flow) -> Verdict {
        let mut unknown = None;
        let mut pass = PassReason::Inbound;
        for &at in &interface.vpns {
            let (vpn, index) = (&self.vpns()[at as usize], &self.indexes[at as usize]);
            let registered = vpn.registration == Registration::Registered;
            if index.excludes(interface, false, flow) {
                pass = PassReason::Excluded;
                continue;
            }
            if !registered && index.fails_open(flow) {
                pass = PassReason::FailOpen;
                continue;
            }
            let enforced = |policy: u32| vpn.policies[policy as usize].drop_clear_from <= now;
            match index.policy_match(flow, enforced) {
                Match::Policy(_) => return Verdict::drop(DropReason::ClearInbound, at),
                Match::Ambiguous => return Verdict::drop(DropReason::AmbiguousFragment, at),
                Match::None if !registered && vpn.policies.is_empty() => {
                    unknown.get_or_insert(Verdict::drop(DropReason::ClearInboundNotRegistered, at));
                }
                Match::None => {}
            }
        }
        unknown.unwrap_or(Verdict::Clear { reason: pass, vpn: interface.vpns.first().copied() })
    }

    /// Row 3 of the packets that arrive: a packet decrypted with `sa` is one of a policy of that SA.
    pub(crate) fn classify_decrypted(&self, sa: u32, flow: &Flow) -> Verdict {
        let vpn = self.sas[sa as usize].vpn;
        let index = &self.indexes[vpn as usize];
        match index.policy_match(flow, |policy| index.policy_sas[policy as usize].contains(&sa)) {
            Match::Policy(_) => Verdict::Clear { reason: PassReason::Inbound, vpn: Some(vpn) },
            Match::Ambiguous => Verdict::drop(DropReason::AmbiguousFragment, vpn),
            Match::None => Verdict::drop(DropReason::InnerPolicyMismatch, vpn),
        }
    }

    /// A policy of the SA is about the addresses. Walks the policies: for SPIs that two groups share, which is rare.
    pub(crate) fn addresses_match(&self, sa: u32, flow: &Flow) -> bool {
        let vpn = self.sas[sa as usize].vpn as usize;
        let own = self.vpns()[vpn].policies.iter().zip(&self.indexes[vpn].policy_sas);
        own.filter(|(_, sas)| sas.contains(&sa)).any(|(policy, _)| {
            [policy.selector, policy.selector.mirror()].iter().any(|selector| {
                Prefix::from(selector.source).contains(flow.version, flow.source)
                    && Prefix::from(selector.destination).contains(flow.version, flow.destination)
            })
        })
    }

    /// Row 4 of the packets that arrive: ESP with an SPI we do not know is dropped where a policy claims its addresses.
    pub(crate) fn classify_unknown_esp(&self, now: Instant, interface: &Interface, flow: &Flow) -> Verdict {
        let pass = Verdict::Clear { reason: PassReason::ForeignEsp, vpn: interface.vpns.first().copied() };
        if self.is_local(flow.destination) {
            return pass;
        }
        match self.classify_ingress(now, interface, flow) {
            Verdict::Drop { vpn, .. } => Verdict::Drop { reason: DropReason::UnknownSpiProtected, vpn },
            Verdict::Clear { .. } | Verdict::Encrypt { .. } => pass,
        }
    }

    /// All SAs of the policy activate later: it does not protect yet. One without any SA does, by dropping.
    fn is_pending(&self, now: Instant, index: &VpnIndex, policy: u32) -> bool {
        let own = &index.policy_sas[policy as usize];
        !own.is_empty() && own.iter().all(|&at| now < self.sas[at as usize].sa.activate_at())
    }

    /// The newest active SA of a policy, of those that may send.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.5.1.1.2
    //# SA TEK for a
    //# single sender SHOULD be installed in the receiving direction by
    //# receivers ("Receiver-Only") and in the sending direction by the
    //# sender ("Sender-Only").
    fn sending_sa(&self, now: Instant, index: &VpnIndex, policy: u32) -> Option<u32> {
        let own = &index.policy_sas[policy as usize];
        let sends = |at: &u32| {
            let sa = &self.sas[*at as usize].sa;
            sa.sends() && sa.is_active(now)
        };
        own.iter().copied().find(sends)
    }
}
