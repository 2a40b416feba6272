//! Why a packet was dropped: one row yields the variant, the counter's name and the text.

macro_rules! drop_reasons {
    ($( $(#[$doc:meta])* $variant:ident, $name:literal, $text:literal; )*) => {
        /// Why the engine did not pass a packet on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $( #[doc = $text] $(#[$doc])* $variant, )*
        }

        impl DropReason {
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

drop_reasons! {
    // Frames.
    Malformed, "malformed", "The frame or its IP header is malformed.";
    NotIp, "not-ip", "A frame that is neither IPv4, IPv6 nor ARP reached the engine.";
    UnknownInterface, "unknown-interface", "The frame belongs to an interface without a VPN.";
    UnsupportedOffload, "unsupported-offload", "The frame asks for an offload that the engine does not do.";
    // Leaving.
    NotRegistered, "not-registered", "The member has never registered: what to protect is not known yet.";
    NotRegisteredPolicy, "not-registered-policy", "Not registered, and the last known policies protect the packet.";
    NoLiveKey, "no-live-key", "A policy protects the packet, but none of its keys is live.";
    NoPolicyDefaultDeny, "no-policy-default-deny", "No policy matches and the default policy is deny-all.";
    NoPolicyServiceSet, "no-policy-service-set", "No policy matches in the service set.";
    NoPolicyInjected, "no-policy-injected", "A decrypted packet leaves again and no policy matches it.";
    AmbiguousFragment, "ambiguous-fragment", "A later fragment whose first fragment was not seen may be protected.";
    Ipv6NotActive, "ipv6-not-active", "A policy protects the IPv6 packet; ESP over IPv6 is not active yet.";
    TooBig, "too-big", "Too big for the path with DF set; the sender was told, within the rate limit.";
    TooSmallMtu, "too-small-mtu", "The path's MTU leaves no room for a packet in ESP.";
    BadChecksumOffload, "bad-checksum-offload", "The checksum offload points outside the packet.";
    BadSuperFrame, "bad-super-frame", "The super-frame cannot be cut into segments.";
    CryptoFailure, "crypto-failure", "The cryptographic library failed.";
    // ESP from the wire.
    EspTooShort, "esp-too-short", "The ESP packet is shorter than its suite allows.";
    SaExpired, "sa-expired", "The SA's hard lifetime is over.";
    BadIntegrity, "bad-integrity", "The integrity check failed.";
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
    IcmpQuotingEsp, "icmp-quoting-esp", "An ICMP error about our ESP that needs no translation.";
}

impl DropReason {
    /// Number of reasons, and of counters.
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_variants_index_their_counters() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.text().ends_with('.'));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
