//! Why a packet was dropped, or passed in clear: one row yields the variant, the counter's name and the text.

macro_rules! reasons {
    ($(#[$doc:meta])* $enumeration:ident: $( $variant:ident, $name:literal, $text:literal; )*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $enumeration {
            $( #[doc = $text] $variant, )*
        }

        impl $enumeration {
            /// Number of reasons, and of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// One sentence for an operator.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
    };
}

reasons! {
    /// Why the engine let a packet pass as it is.
    PassReason:
    Excluded, "exclude", "An exclude rule exempts the packet.";
    FailOpen, "fail-open", "Not registered, and a fail-open rule lets the packet pass.";
    DefaultPolicy, "default-policy", "No policy matches and the default policy is permit-all.";
    ForwardMismatch, "forward-policy-mismatch", "No policy matches and the service set forwards such packets.";
    Own, "own", "A packet of this machine that no policy matches.";
    LinkControl, "link-control", "Address resolution.";
    ForeignEsp, "foreign-esp", "ESP of an SPI that is not ours.";
    Inbound, "inbound", "A packet from outside that no policy matches.";
}

reasons! {
    /// Why the engine did not pass a packet on.
    DropReason:
    // Frames.
    Malformed, "malformed", "The frame or its IP header is malformed.";
    NotIp, "not-ip", "A frame that is neither IPv4, IPv6 nor ARP reached the engine.";
    UnknownInterface, "unknown-interface", "The frame belongs to an interface without a VPN.";
    UnsupportedOffload, "unsupported-offload", "The frame asks for an offload that the engine does not do.";
    // Leaving.
    NotRegistered, "not-registered", "The member has never registered: what to protect is not known yet.";
    NotRegisteredPolicy, "not-registered-policy", "Not registered, and the last known policies protect the packet.";
    NoLiveKey, "no-live-tek", "A policy protects the packet, but none of its TEKs is live.";
    NoPolicyDefaultDeny, "no-policy-default-deny", "No policy matches and the default policy is deny-all.";
    NoPolicyServiceSet, "no-policy-service-set", "No policy matches in the service set.";
    NoPolicyInjected, "no-policy-injected", "A decrypted packet leaves again and no policy matches it.";
    ReceiverOnly, "receiver-only", "A policy protects the packet, and all its TEKs are for receiving only.";
    AmbiguousFragment, "ambiguous-fragment", "A later fragment whose first fragment was not seen may be protected.";
    RegisterFragment, "pim-register-fragment", "A PIM Register in fragments or with offloads: what is inside is not known.";
    TooBig, "too-big", "Too big for the path with DF set; the sender was told, within the rate limit.";
    TooSmallMtu, "too-small-mtu", "The path's MTU leaves no room for a packet in ESP.";
    BadChecksumOffload, "bad-checksum-offload", "The checksum offload points outside the packet.";
    BadSuperFrame, "bad-super-frame", "The super-frame cannot be cut into segments.";
    CryptoFailure, "crypto-failure", "The cryptographic library failed.";
    NoSenderId, "no-sender-id", "No sender identifier is left for the counter-mode key: sending stops until there is one.";
    // ESP from the wire.
    EspTooShort, "esp-too-short", "The ESP packet is shorter than its suite allows.";
    SaExpired, "sa-expired", "The SA's hard lifetime is over.";
    SenderOnly, "sender-only", "The SA is for sending only.";
    BadIntegrity, "bad-integrity", "The integrity check failed.";
    SequenceRepeated, "replayed-sequence", "The sender has used the sequence number before: a replayed packet.";
    SequenceTooOld, "sequence-too-old", "The sequence number is behind the sender's window.";
    OwnPacket, "own-packet", "A packet with a sender identifier of our own came back.";
    TooManySenders, "too-many-senders", "No memory is left for the window of one more sender.";
    TimestampMissing, "timestamp-missing", "The packet carries no pseudo-time, which the group demands.";
    TimestampUnexpected, "timestamp-unexpected", "The packet carries a pseudo-time, which the group does not use.";
    TimestampMalformed, "timestamp-malformed", "The header with the pseudo-time is not of the known form.";
    TimestampTooOld, "timestamp-too-old", "The packet's pseudo-time is too far in the past: late, or a replay.";
    TimestampTooNew, "timestamp-too-new", "The packet's pseudo-time is too far in the future.";
    BadPadding, "bad-padding", "The ESP padding is wrong.";
    BadNextHeader, "bad-next-header", "The ESP next header is not the protocol of the outer header.";
    DummyPacket, "dummy-packet", "A traffic-flow confidentiality dummy packet.";
    InnerMalformed, "inner-malformed", "The decrypted packet is not a well-formed IP packet.";
    InnerAddressMismatch, "inner-address-mismatch", "Inner and outer addresses differ.";
    InnerPolicyMismatch, "inner-policy-mismatch", "The decrypted packet matches no policy of its SA.";
    EcnDrop, "ecn-drop", "Congestion was experienced by a packet not capable of ECN.";
    UnknownSpiProtected, "unknown-spi-protected", "ESP with an unknown SPI between protected addresses.";
    ReassemblyTimeout, "reassembly-timeout", "Fragments of an ESP packet whose rest did not come in time.";
    ReassemblyFull, "reassembly-full", "Fragments pushed out because the reassembly memory is full.";
    ReassemblyInvalid, "reassembly-invalid", "Fragments that overlap or exceed the largest packet.";
    // Clear packets from outside.
    ClearInbound, "clear-inbound", "A clear packet arrived that a policy protects.";
    ClearInboundNotRegistered, "clear-inbound-not-registered", "A clear packet arrived before the first registration.";
    IcmpQuotingEsp, "icmp-quoting-esp", "An ICMP error about our ESP that no host has to be told of.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_variants_index_their_counters() {
        let drops = DropReason::ALL.iter().map(|reason| (*reason as usize, reason.name(), reason.text()));
        let passes = PassReason::ALL.iter().map(|reason| (*reason as usize, reason.name(), reason.text()));
        for rows in [drops.collect::<Vec<_>>(), passes.collect()] {
            for (position, (index, _, text)) in rows.iter().enumerate() {
                assert_eq!(*index, position);
                assert!(text.ends_with('.'));
            }
            let mut names: Vec<_> = rows.iter().map(|row| row.1).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), rows.len());
        }
    }
}
