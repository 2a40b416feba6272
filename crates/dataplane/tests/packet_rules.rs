//! The packet rules, cell by cell: what happens to which packet in which state of the VPN.

mod support;

use dataplane::DropReason as D;
use dataplane::PassReason as P;
use dataplane::*;
use support::*;

/// What has become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Encrypted,
    Clear(PassReason),
    Inward(PassReason),
    Decrypted,
    Dropped(DropReason),
}
use Fate::*;

/// The states of a VPN: the columns of the table, the first and the last each in two variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never registered, nothing known.
    New,
    /// Never registered under this configuration; policies of an earlier one are the last known.
    NewWithLastKnown,
    /// Registered, the TEK is live.
    Live,
    /// Registered, the TEK has expired and nothing replaced it.
    Expired,
    /// Registered, all TEKs were deleted; also what is known after a restart.
    Keyless,
}
use State::*;

/// Row, origin, binding, default policy, packet, and the fate in each state.
type Row<'a> = (&'a str, Origin, Binding, DefaultPolicy, &'a Packet, [Fate; 5]);

const STATES: [State; 5] = [New, NewWithLastKnown, Live, Expired, Keyless];

/// Pairs of nets and their twins of IPv6.
fn both(pairs: &[(&str, &str)]) -> Vec<AddressPair> {
    let twins = |(source, destination): &(&str, &str)| {
        [pair(source, destination), pair(&net6(source), &net6(destination))]
    };
    pairs.iter().flat_map(twins).collect()
}

fn vpn(state: State, binding: Binding) -> Vpn {
    let sas = match state {
        Live => vec![sa(SPI)],
        Expired => vec![sa_with(AES128_SHA1, SPI, Instant::ZERO, at(100))],
        New | NewWithLastKnown | Keyless => vec![],
    };
    let mut vpn = seed_vpn(&sas);
    vpn.binding = binding;
    vpn.exclude = both(&[("31.1.1.50/32", "41.1.1.0/24"), ("8.8.8.0/24", "9.9.9.0/24")]);
    vpn.fail_open = both(&[("31.1.1.60/32", "41.1.1.0/24"), ("8.8.8.60/32", "41.1.1.0/24")]);
    if matches!(state, New | NewWithLastKnown) {
        vpn.registration = Registration::NotYet;
    }
    if state == New {
        vpn.policies.clear();
    }
    vpn
}

/// Runs one frame at second 100 and tells what became of it; every frame is either sent or counted, once.
fn fate(tables: &Tables, vpns: &[Vpn], origin: Origin, frame: &[u8]) -> Fate {
    let before: Vec<u64> = vpns.iter().map(|vpn| vpn.counters.passed.total()).collect();
    let output = run(&mut engine(), tables, origin, frame);
    let all = || vpns.iter().map(|vpn| &vpn.counters).chain([tables.counters()]);
    let dropped: Vec<_> = all().flat_map(|counters| counters.drops.occurred().collect::<Vec<_>>()).collect();
    let passed: Vec<_> = all().flat_map(|counters| counters.passed.occurred().collect::<Vec<_>>()).collect();
    let fate = match output.as_slice() {
        [] => {
            assert_eq!((dropped.len(), dropped[0].1), (1, 1), "{dropped:?}");
            assert_eq!(passed, []);
            Dropped(dropped[0].0)
        }
        [out] => {
            assert_eq!(dropped, []);
            match out.destination {
                Destination::WireEsp => Encrypted,
                Destination::Inject if out.bytes != frame => Decrypted,
                Destination::WireClear | Destination::Inject => {
                    assert_eq!(out.bytes, frame);
                    assert_eq!((passed.len(), passed[0].1), (1, 1), "{before:?} {passed:?}");
                    let inward = out.destination == Destination::Inject;
                    if inward { Inward(passed[0].0) } else { Clear(passed[0].0) }
                }
                Destination::IcmpToHost => panic!("{out:?}"),
            }
        }
        more => panic!("{more:?}"),
    };
    all().for_each(|counters| counters.reset());
    fate
}

fn udp(source: &str, destination: &str) -> Packet {
    Packet::udp(source, destination, (1000, 2000), b"a datagram")
}

/// The same packet, or its twin of IPv6.
fn of_version(is_six: bool) -> impl Fn(&str, &str) -> Packet {
    move |source, destination| {
        let packet = udp(source, destination);
        if is_six { packet.six() } else { packet }
    }
}

const FORWARDED: Origin = OWN_FORWARDED;
const ZONE: Binding = Binding::Zone;
const SERVICE: Binding = Binding::ServiceSet { forward_mismatch: false };
const SERVICE_FORWARD: Binding = Binding::ServiceSet { forward_mismatch: true };

#[test]
fn packets_that_leave() {
    [false, true].into_iter().for_each(leaving);
}

fn leaving(is_six: bool) {
    use DefaultPolicy::{DenyAll, PermitAll};
    let udp = of_version(is_six);
    let policy = udp("31.1.1.2", "41.1.1.2");
    let mirror = udp("41.1.99.2", "31.1.1.2");
    let nothing = udp("21.1.1.2", "41.1.1.2");
    let router = "100.0.0.3";
    let error_about = |quoted: &Packet| {
        Packet::icmp_error(router, &std::net::Ipv4Addr::from(quoted.source).to_string(), quoted)
    };
    // An error about a packet that came out of the tunnel goes back into it.
    let error_protected = error_about(&udp("41.1.1.2", "31.1.1.2"));
    let error_clear = error_about(&udp("41.1.1.2", "21.1.1.2"));
    let error_excluded = error_about(&udp("41.1.1.2", "31.1.1.50"));
    // What looks like an error about a clear flow, but is between protected addresses.
    let error_smuggled = Packet::icmp_error("31.1.1.2", "41.1.1.2", &nothing);

    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        // row, origin, binding, default policy, packet, [New, NewWithLastKnown, Live, Expired, Keyless]
        ("6 exclude",               FORWARDED, ZONE,    DenyAll,   &udp("31.1.1.50", "41.1.1.2"), [Clear(P::Excluded); 5]),
        ("6 exclude, mirror",       FORWARDED, ZONE,    DenyAll,   &udp("41.1.1.2", "31.1.1.50"), [Clear(P::Excluded); 5]),
        ("6 exclude, own",          OWN,       ZONE,    DenyAll,   &udp("31.1.1.50", "41.1.1.2"), [Clear(P::Excluded); 5]),
        ("6 exclude, no policy",    FORWARDED, SERVICE, DenyAll,   &udp("8.8.8.8", "9.9.9.9"),    [Clear(P::Excluded); 5]),
        ("7 policy",                FORWARDED, ZONE,    PermitAll, &policy, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 policy, deny-all",      FORWARDED, ZONE,    DenyAll,   &policy, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 policy, mirror",        FORWARDED, ZONE,    PermitAll, &mirror, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 policy, service set",   FORWARDED, SERVICE_FORWARD, PermitAll, &policy, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 policy, injected",      INJECTED,  ZONE,    PermitAll, &policy, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 policy, fail-open",     FORWARDED, ZONE,    PermitAll, &udp("31.1.1.60", "41.1.1.2"), [Clear(P::FailOpen), Clear(P::FailOpen), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 fail-open, mirror",     FORWARDED, ZONE,    PermitAll, &udp("41.1.1.2", "31.1.1.60"), [Clear(P::FailOpen), Clear(P::FailOpen), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 policy, own",           OWN,       ZONE,    PermitAll, &policy, [Clear(P::Own), Dropped(D::NotRegisteredPolicy), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 error about policy",    FORWARDED, ZONE,    PermitAll, &error_protected, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 error, own",            OWN,       ZONE,    DenyAll,   &error_protected, [Clear(P::Own), Dropped(D::NotRegisteredPolicy), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("7 error, smuggled",       FORWARDED, ZONE,    PermitAll, &error_smuggled, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Encrypted, Dropped(D::NoLiveKey), Dropped(D::NoLiveKey)]),
        ("6 error about excluded",  OWN,       ZONE,    DenyAll,   &error_excluded, [Clear(P::Own); 5]),
        ("8 injected",              INJECTED,  ZONE,    PermitAll, &nothing, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Dropped(D::NoPolicyInjected), Dropped(D::NoPolicyInjected), Dropped(D::NoPolicyInjected)]),
        ("9 no policy",             FORWARDED, ZONE,    PermitAll, &nothing, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Clear(P::DefaultPolicy), Clear(P::DefaultPolicy), Clear(P::DefaultPolicy)]),
        ("9 no policy, fail-open",  FORWARDED, ZONE,    DenyAll,   &udp("8.8.8.60", "41.1.1.2"), [Clear(P::FailOpen), Clear(P::FailOpen), Dropped(D::NoPolicyDefaultDeny), Dropped(D::NoPolicyDefaultDeny), Dropped(D::NoPolicyDefaultDeny)]),
        ("9 no policy, deny-all",   FORWARDED, ZONE,    DenyAll,   &nothing, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Dropped(D::NoPolicyDefaultDeny), Dropped(D::NoPolicyDefaultDeny), Dropped(D::NoPolicyDefaultDeny)]),
        ("9 error about clear",     FORWARDED, ZONE,    PermitAll, &error_clear, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Clear(P::DefaultPolicy), Clear(P::DefaultPolicy), Clear(P::DefaultPolicy)]),
        ("10 no policy",            FORWARDED, SERVICE, PermitAll, &nothing, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Dropped(D::NoPolicyServiceSet), Dropped(D::NoPolicyServiceSet), Dropped(D::NoPolicyServiceSet)]),
        ("10 mismatch forwarded",   FORWARDED, SERVICE_FORWARD, DenyAll, &nothing, [Dropped(D::NotRegistered), Dropped(D::NotRegistered), Clear(P::ForwardMismatch), Clear(P::ForwardMismatch), Clear(P::ForwardMismatch)]),
        ("11 own, no policy",       OWN,       ZONE,    DenyAll,   &nothing, [Clear(P::Own); 5]),
        ("11 own, service set",     OWN,       SERVICE, DenyAll,   &nothing, [Clear(P::Own); 5]),
    ];
    for (row, origin, binding, default_policy, packet, fates) in rows {
        for (state, expected) in STATES.into_iter().zip(fates) {
            let vpn = vpn(state, *binding);
            let tables = tables_of(std::slice::from_ref(&vpn), *default_policy);
            assert_eq!(fate(&tables, &[vpn], *origin, &packet.frame()), *expected, "{row}, {state:?}");
        }
    }
}

#[test]
fn clear_packets_that_arrive() {
    [false, true].into_iter().for_each(arriving);
}

fn arriving(is_six: bool) {
    let udp = of_version(is_six);
    let policy = udp("41.1.99.2", "31.1.1.2");
    let esp = |source: &str, destination: &str| Packet {
        is_six,
        ..Packet::new(source, destination, 50, vec![7; 64])
    };
    let error = Packet::icmp_error("5.5.5.5", "31.1.1.2", &udp("31.1.1.2", "41.1.1.2"));
    #[rustfmt::skip]
    let rows: &[(&str, Packet, [Fate; 5])] = &[
        ("8 policy",            policy,                        [Dropped(D::ClearInboundNotRegistered), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound)]),
        ("8 policy, mirror",    udp("41.1.1.2", "31.1.99.2"),  [Dropped(D::ClearInboundNotRegistered), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound)]),
        ("8 error about policy", error,                        [Dropped(D::ClearInboundNotRegistered), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound)]),
        ("8 excluded",          udp("41.1.1.2", "31.1.1.50"),  [Inward(P::Excluded); 5]),
        ("8 fail-open",         udp("41.1.1.2", "31.1.1.60"),  [Inward(P::FailOpen), Inward(P::FailOpen), Dropped(D::ClearInbound), Dropped(D::ClearInbound), Dropped(D::ClearInbound)]),
        ("9 no policy",         udp("41.1.1.2", "21.1.1.2"),   [Dropped(D::ClearInboundNotRegistered), Inward(P::Inbound), Inward(P::Inbound), Inward(P::Inbound), Inward(P::Inbound)]),
        ("4 ESP, policy",       esp("41.1.1.2", "31.1.1.2"),   [Dropped(D::UnknownSpiProtected); 5]),
        ("4 ESP, excluded",     esp("41.1.1.2", "31.1.1.50"),  [Inward(P::Excluded); 5]),
        ("5 ESP, no policy",    esp("41.1.1.2", "21.1.1.2"),   [Dropped(D::UnknownSpiProtected), Inward(P::Inbound), Inward(P::Inbound), Inward(P::Inbound), Inward(P::Inbound)]),
    ];
    for (row, packet, fates) in rows {
        for (state, expected) in STATES.into_iter().zip(fates) {
            let vpn = vpn(state, ZONE);
            let tables = tables(&vpn);
            assert_eq!(
                fate(&tables, &[vpn], Origin::Ingress, &packet.frame()),
                *expected,
                "{row}, {state:?}"
            );
        }
    }
}

#[test]
fn esp_from_the_wire() {
    [false, true].into_iter().for_each(from_the_wire);
}

fn from_the_wire(is_six: bool) {
    let udp = of_version(is_six);
    let sender = seed_vpn(&[sa(SPI)]);
    let good =
        single(run(&mut engine(), &tables(&sender), FORWARDED, &udp("41.1.1.2", "31.1.1.2").frame())).bytes;
    let esp = |source: &str, destination: &str| {
        Packet { is_six, ..Packet::new(source, destination, 50, vec![7; 64]) }.frame()
    };
    // Where the outer source address ends, and where ESP begins.
    let (source, start) = if is_six { (14 + 23, 14 + 40) } else { (14 + 15, 14 + 20) };
    let short = Packet { is_six, ..Packet::new("41.1.1.2", "31.1.1.2", 50, vec![0; 7]) };
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let last = good.len() - 1;
    #[rustfmt::skip]
    let rows: &[(&str, Vec<u8>, State, Fate)] = &[
        ("3 good",                   good.clone(),                  Live,    Decrypted),
        ("3 expired",                good.clone(),                  Expired, Dropped(D::SaExpired)),
        ("4 keys are gone",          good.clone(),                  Keyless, Dropped(D::UnknownSpiProtected)),
        ("4 not registered",         good.clone(),                  NewWithLastKnown, Dropped(D::UnknownSpiProtected)),
        ("3 ICV",                    changed(last),                 Live,    Dropped(D::BadIntegrity)),
        ("3 ciphertext",             changed(start + 36),                   Live,    Dropped(D::BadIntegrity)),
        ("3 sequence number",        changed(start + 7),              Live,    Dropped(D::BadIntegrity)),
        ("3 outer source",           changed(source),              Live,    Dropped(D::InnerAddressMismatch)),
        ("4 SPI",                    changed(start),              Live,    Dropped(D::UnknownSpiProtected)),
        ("4 unknown SPI, policy",    esp("41.1.1.2", "31.1.1.2"),   Live,    Dropped(D::UnknownSpiProtected)),
        ("4 unknown SPI, excluded",  esp("41.1.1.2", "31.1.1.50"),  Live,    Inward(P::ForeignEsp)),
        ("4 for the router itself",  esp("41.1.1.2", "100.0.0.3"),  Live,    Inward(P::ForeignEsp)),
        ("5 other ESP",              esp("41.1.1.2", "21.1.1.2"),   Live,    Inward(P::ForeignEsp)),
        ("8 clear, policy",          udp("41.1.1.2", "31.1.1.2").frame(), Live, Dropped(D::ClearInbound)),
        ("- ESP without header",     short.frame(), Live, Dropped(D::EspTooShort)),
        ("- malformed",              vec![8; 60],                   Live,    Dropped(D::NotIp)),
        ("- no Ethernet header",     vec![0; 13],                   Live,    Dropped(D::Malformed)),
    ];
    for (row, frame, state, expected) in rows {
        let vpn = vpn(*state, ZONE);
        let tables = tables(&vpn);
        assert_eq!(fate(&tables, &[vpn], Origin::Wire, frame), *expected, "{row}");
    }
}

#[test]
fn esp_cut_short_is_dropped_at_every_length() {
    let vpn = vpn(Live, ZONE);
    let tables = tables(&vpn);
    let good = single(run(&mut engine(), &tables, FORWARDED, &udp("41.1.1.2", "31.1.1.2").frame())).bytes;
    for length in 20..good.len() - 14 {
        let mut packet = good[..14 + length].to_vec();
        packet[16..18].copy_from_slice(&(length as u16).to_be_bytes());
        assert_eq!(run(&mut engine(), &tables, Origin::Wire, &packet), []);
    }
    assert_eq!(vpn.counters.decrypted.packets(), 0);
}

#[test]
fn what_was_sealed_wrongly_by_a_member_is_dropped_with_its_reason() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let inner = udp("41.1.1.2", "31.1.1.2");
    let other = udp("41.1.1.2", "21.1.1.2");
    let seal = |outer: &Packet, plain: &[u8]| seal(AES128_SHA1, outer, plain);
    let wrap = |packet: &Packet, trailer: &[u8]| [&packet.bytes()[..], trailer].concat();
    let aligned = |packet: &Packet, next_header: u8| {
        let padding = (16 - (packet.bytes().len() + 2) % 16) % 16;
        let trailer: Vec<u8> = (1..=padding as u8).chain([padding as u8, next_header]).collect();
        wrap(packet, &trailer)
    };
    let mut bad_padding = aligned(&inner, 4);
    let at = bad_padding.len() - 4;
    bad_padding[at] ^= 0xff;
    let mut bad_inner = aligned(&inner, 4);
    bad_inner[0] = 0x55;
    let mut congested = inner.clone();
    congested.tos = 3;
    let mut hidden = vec![0; 14];
    hidden.extend([12, 4]);
    let padded_inside = [&inner.bytes()[..], &[0xee; 40], &[0, 4]].concat();
    let padded_inside =
        [&padded_inside[..padded_inside.len() - padded_inside.len() % 16 - 2], &[0, 4]].concat();
    #[rustfmt::skip]
    let rows: &[(&str, Vec<u8>, Fate)] = &[
        ("good",                 seal(&inner, &aligned(&inner, 4)), Decrypted),
        ("padded against traffic analysis", seal(&inner, &padded_inside), Decrypted),
        ("padding",              seal(&inner, &bad_padding),        Dropped(D::BadPadding)),
        ("padding too long",     seal(&inner, &[15; 16]),           Dropped(D::BadPadding)),
        ("dummy",                seal(&inner, &aligned(&inner, 59)), Dropped(D::DummyPacket)),
        ("transport mode",       seal(&inner, &aligned(&inner, 17)), Dropped(D::BadNextHeader)),
        ("IPv6 inside",          seal(&inner, &aligned(&inner, 41)), Dropped(D::BadNextHeader)),
        ("no packet inside",     seal(&inner, &[[0; 14].as_slice(), &[0, 4]].concat()), Dropped(D::InnerMalformed)),
        ("not IPv4 inside",      seal(&inner, &bad_inner),          Dropped(D::InnerMalformed)),
        ("other addresses",      seal(&inner, &aligned(&udp("41.1.1.3", "31.1.1.2"), 4)), Dropped(D::InnerAddressMismatch)),
        ("no policy",            seal(&other, &aligned(&other, 4)), Dropped(D::InnerPolicyMismatch)),
        ("congestion",           seal(&congested, &aligned(&inner, 4)), Dropped(D::EcnDrop)),
    ];
    for (row, frame, expected) in rows {
        assert_eq!(fate(&tables, std::slice::from_ref(&vpn), Origin::Wire, frame), *expected, "{row}");
    }
}

#[test]
fn frames_of_other_protocols_and_interfaces() {
    let vpn = vpn(Live, ZONE);
    let tables = tables(&vpn);
    let with_type = |ethertype: u16, rest: &[u8]| [&ETHERNET[..12], &ethertype.to_be_bytes(), rest].concat();
    let arp = with_type(0x0806, &[0; 28]);
    assert_eq!(fate(&tables, std::slice::from_ref(&vpn), FORWARDED, &arp), Clear(P::LinkControl));
    let tagged = with_type(0x8100, &[0; 60]);
    assert_eq!(fate(&tables, std::slice::from_ref(&vpn), OWN, &tagged), Dropped(D::NotIp));
    let mut output = FrameBuffer::new();
    let bytes = &udp("31.1.1.2", "41.1.1.2").frame()[..];
    let frame = FrameIn { interface: InterfaceId(99), origin: OWN, vnet: VnetHeader::default(), bytes };
    engine().process(at(1), &tables, &[frame], &mut output);
    assert!(output.is_empty());
    assert_eq!(tables.counters().drops.count(D::UnknownInterface), 1);
    // An interface whose last VPN is gone is closed, too, until the tc programs leave it.
    let tables = tables_of(&[], DefaultPolicy::PermitAll);
    assert_eq!(fate(&tables, &[], FORWARDED, bytes), Dropped(D::UnknownInterface));
}

#[test]
fn a_service_filter_exempts_what_it_skips_in_the_direction_it_is_applied_to() {
    let term = ServiceFilterTerm {
        sources: vec!["31.1.1.0/24".parse().unwrap()],
        destinations: Vec::new(),
        protocols: vec![17],
        skip: true,
    };
    let filter = ServiceFilter { interface: WAN, leaving: true, terms: vec![term] };
    let binding = Binding::ServiceSet { forward_mismatch: false };
    let vpn = Vpn { binding, filters: vec![filter], ..seed_vpn(&[sa(SPI)]) };
    let both = [vpn];
    let tables = tables_of(&both, DefaultPolicy::PermitAll);
    let fate_of = |origin, packet: Packet| fate(&tables, &both, origin, &packet.frame());
    let tcp = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((1, 2), 7), &[1]);
    assert_eq!(fate_of(FORWARDED, udp("31.1.1.2", "41.1.1.2")), Clear(P::Excluded));
    assert_eq!(fate_of(FORWARDED, tcp), Encrypted, "another protocol");
    assert_eq!(fate_of(FORWARDED, udp("41.1.1.2", "31.1.1.2")), Encrypted, "no mirror image");
    assert_eq!(
        fate_of(Origin::Ingress, udp("31.1.1.2", "41.1.1.2")),
        Dropped(D::ClearInbound),
        "not applied there"
    );
    assert_eq!(fate_of(FORWARDED, udp("1.1.1.1", "2.2.2.2")), Dropped(D::NoPolicyServiceSet));
}

#[test]
fn several_vpns_of_an_interface_are_asked_in_order() {
    let first = Vpn { exclude: vec![pair("31.1.1.50/32", "0.0.0.0/0")], ..seed_vpn(&[sa(SPI)]) };
    let mut second = seed_vpn(&[sa(SPI + 1)]);
    second.policies = vec![policy(selector("31.1.1.0/24", "0.0.0.0/0"), &[sa(SPI + 1)])];
    let both = [first, second];
    let tables = tables_of(&both, DefaultPolicy::PermitAll);
    let spi = |source: &str, destination: &str| {
        let out = single(run(&mut engine(), &tables, FORWARDED, &udp(source, destination).frame()));
        assert_eq!(out.destination, Destination::WireEsp);
        u32::from_be_bytes(out.bytes[34..38].try_into().unwrap())
    };
    assert_eq!(spi("31.1.1.2", "41.1.1.2"), SPI);
    assert_eq!(spi("31.1.1.2", "55.1.1.2"), SPI + 1);
    // Excluded from the first only.
    assert_eq!(spi("31.1.1.50", "41.1.1.2"), SPI + 1);
    assert_eq!(
        fate(&tables, &both, FORWARDED, &udp("21.1.1.9", "22.1.1.1").frame()),
        Clear(P::DefaultPolicy)
    );
    // One that has not registered holds back what the other does not encrypt.
    let mut both = both;
    both[0].registration = Registration::NotYet;
    both[0].counters.reset();
    both[1].counters.reset();
    let tables = tables_of(&both, DefaultPolicy::PermitAll);
    assert_eq!(fate(&tables, &both, FORWARDED, &udp("31.1.1.2", "41.1.1.2").frame()), Encrypted);
    both[1].counters.reset();
    assert_eq!(
        fate(&tables, &both, FORWARDED, &udp("21.1.1.9", "22.1.1.1").frame()),
        Dropped(D::NotRegistered)
    );
}
