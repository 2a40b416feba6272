//! Packets, tables and engines for the tests.
#![allow(dead_code)] // each test file uses its part

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crypto::esp::EspSuite;
use crypto::{CbcCipher, GcmKeyLen, Integrity, SeededRandom};
use dataplane::*;
use etherparse::{IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};

pub const WAN: InterfaceId = InterfaceId(7);
pub const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
pub const SPI: u32 = 0x1234_5678;

pub const OWN_FORWARDED: Origin = Origin::Egress { own: false, injected: false };
pub const OWN: Origin = Origin::Egress { own: true, injected: false };
pub const INJECTED: Origin = Origin::Egress { own: false, injected: true };

/// The suite of the seed.
pub const AES128_SHA1: EspSuite =
    EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };

pub fn cbc_suites() -> impl Iterator<Item = EspSuite> {
    EspSuite::all().filter(|suite| suite.wants_random_iv())
}

pub fn at(seconds: u64) -> Instant {
    Instant::ZERO.saturating_add(Duration::from_secs(seconds))
}

pub fn address(text: &str) -> [u8; 4] {
    text.parse::<Ipv4Addr>().unwrap().octets()
}

/// A packet under construction. One of IPv6 has the addresses of [`PREFIX6`] that end with those given, the
/// identification and offset in a fragment header if it is a fragment, and options as hop-by-hop options.
#[derive(Clone, Debug)]
pub struct Packet {
    pub is_six: bool,
    pub flow_label: u32,
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    pub fragment_offset: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn new(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            is_six: false,
            flow_label: 0,
            source: address(source),
            destination: address(destination),
            protocol,
            tos: 0,
            ttl: 63,
            identification: 0x4242,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            options: Vec::new(),
            payload,
        }
    }

    pub fn udp(source: &str, destination: &str, ports: (u16, u16), data: &[u8]) -> Self {
        let mut packet = Self::new(source, destination, 17, Vec::new());
        let ip = packet.header();
        let header = UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip, data).unwrap();
        packet.payload.extend_from_slice(&header.to_bytes());
        packet.payload.extend_from_slice(data);
        packet
    }

    pub fn tcp(source: &str, destination: &str, header: TcpHeader, data: &[u8]) -> Self {
        let mut packet = Self::new(source, destination, 6, Vec::new());
        packet.dont_fragment = true;
        let mut header = header;
        header.checksum = header.calc_checksum_ipv4(&packet.header(), data).unwrap();
        packet.payload.extend_from_slice(&header.to_bytes());
        packet.payload.extend_from_slice(data);
        packet
    }

    /// An error of the version of the packet it quotes.
    pub fn icmp_error(source: &str, destination: &str, quoted: &Packet) -> Self {
        let kind = if quoted.is_six { 1 } else { 3 };
        let mut icmp = vec![kind, 1, 0, 0, 0, 0, 0, 0];
        let quote = quoted.bytes();
        icmp.extend_from_slice(&quote[..quote.len().min(if quoted.is_six { 48 } else { 28 })]);
        if quoted.is_six {
            return Self::new(source, destination, 58, icmp).six();
        }
        let sum = !etherparse::checksum::Sum16BitWords::new().add_slice(&icmp).ones_complement().to_be();
        icmp[2..4].copy_from_slice(&(!sum).to_be_bytes());
        Self::new(source, destination, 1, icmp)
    }

    /// The same as IPv6, transport checksums included.
    pub fn six(mut self) -> Self {
        self.is_six = true;
        self.dont_fragment = false;
        let at = match self.protocol {
            6 => 16,
            17 => 6,
            58 => 2,
            _ => return self,
        };
        if self.fragment_offset == 0 && !self.more_fragments && self.payload.len() > at + 1 {
            self.payload[at..at + 2].fill(0);
            let value = checksum6(
                &self.source6().octets(),
                &self.destination6().octets(),
                self.protocol,
                &self.payload,
            );
            self.payload[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        self
    }

    pub fn source6(&self) -> Ipv6Addr {
        six_of(self.source)
    }

    pub fn destination6(&self) -> Ipv6Addr {
        six_of(self.destination)
    }

    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        match self.is_six {
            true => (self.source6().into(), self.destination6().into()),
            false => (IpAddr::from(self.source), IpAddr::from(self.destination)),
        }
    }

    fn bytes6(&self) -> Vec<u8> {
        let is_fragment = self.more_fragments || self.fragment_offset != 0;
        let mut rest = Vec::new();
        let mut next = self.protocol;
        if is_fragment {
            rest.extend([next, 0]);
            rest.extend((self.fragment_offset << 3 | u16::from(self.more_fragments)).to_be_bytes());
            rest.extend([0, 0]);
            rest.extend(self.identification.to_be_bytes());
            next = 44;
        }
        if !self.options.is_empty() {
            rest.splice(0..0, [next, 0, 1, 4, 0, 0, 0, 0]);
            next = 0;
        }
        rest.extend_from_slice(&self.payload);
        let first = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend([next, self.ttl]);
        bytes.extend(self.source6().octets());
        bytes.extend(self.destination6().octets());
        bytes.extend(rest);
        bytes
    }

    fn header(&self) -> Ipv4Header {
        let mut header =
            Ipv4Header::new(0, self.ttl, IpNumber(self.protocol), self.source, self.destination).unwrap();
        header.dscp = IpDscp::try_new(self.tos >> 2).unwrap();
        header.ecn = IpEcn::try_new(self.tos & 3).unwrap();
        header.identification = self.identification;
        header.dont_fragment = self.dont_fragment;
        header.more_fragments = self.more_fragments;
        header.fragment_offset = IpFragOffset::try_new(self.fragment_offset).unwrap();
        header.options = self.options.as_slice().try_into().unwrap();
        header
    }

    /// The IP packet.
    pub fn bytes(&self) -> Vec<u8> {
        if self.is_six {
            return self.bytes6();
        }
        let mut header = self.header();
        header.set_payload_len(self.payload.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let ethertype: &[u8] = if self.is_six { &[0x86, 0xdd] } else { &[8, 0] };
        [&ETHERNET[..12], ethertype, &self.bytes()].concat()
    }
}

/// Where the IPv6 addresses of the tests are.
pub const PREFIX6: &str = "2001:db8::";

pub fn six_of(address: [u8; 4]) -> Ipv6Addr {
    let [a, b, c, d] = address;
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// The IPv6 twin of an IPv4 net.
pub fn net6(net: &str) -> String {
    let net: ipnet::Ipv4Net = net.parse().unwrap();
    format!("{PREFIX6}{}/{}", net.addr(), 96 + net.prefix_len())
}

pub fn selector6(source: &str, destination: &str) -> Selector {
    selector(&net6(source), &net6(destination))
}

/// The checksum of an upper layer over IPv6 whose own field is zero; never zero.
pub fn checksum6(source: &[u8], destination: &[u8], protocol: u8, payload: &[u8]) -> u16 {
    let length = (payload.len() as u32).to_be_bytes();
    let octets = [source, destination, &length, &[0, 0, 0, protocol], payload].concat();
    let mut sum = 0u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if sum == 0xffff { 0xffff } else { !(sum as u16) }
}

pub fn tcp_header(ports: (u16, u16), sequence: u32) -> TcpHeader {
    let mut header = TcpHeader::new(ports.0, ports.1, sequence, 500);
    header.ack = true;
    header.acknowledgment_number = 77;
    header
}

pub fn gcm_suites() -> impl Iterator<Item = EspSuite> {
    EspSuite::all().filter(|suite| !suite.wants_random_iv())
}

pub const AES128_GCM: EspSuite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };

pub fn cipher_key(suite: EspSuite) -> Vec<u8> {
    (0..suite.cipher_key_len()).map(|octet| octet as u8 ^ 0x5a).collect()
}

pub fn integrity_key(suite: EspSuite) -> Vec<u8> {
    (0..suite.integrity_key_len()).map(|octet| octet as u8 ^ 0xa5).collect()
}

pub fn sender_ids(own: &[u32]) -> Arc<SenderIds> {
    let ids = SenderIds::new(SenderIdLength::Bits16);
    own.iter().for_each(|id| ids.grant(*id).unwrap());
    ids
}

/// The group's key as one member has it, with sender identifiers of its own.
pub fn member_sa(suite: EspSuite, spi: u32, own: &[u32], clock: Option<&Arc<PseudoClock>>) -> Arc<GroupSa> {
    sa_of(suite, spi, Some(&sender_ids(own)), clock, Instant::ZERO, Instant::FAR_FUTURE)
}

pub fn sa_of(
    suite: EspSuite,
    spi: u32,
    sender_ids: Option<&Arc<SenderIds>>,
    pseudo_clock: Option<&Arc<PseudoClock>>,
    activate_at: Instant,
    hard_expiry: Instant,
) -> Arc<GroupSa> {
    directed_sa(SaDirection::Symmetric, suite, spi, sender_ids, pseudo_clock, activate_at, hard_expiry)
}

pub fn directed_sa(
    direction: SaDirection,
    suite: EspSuite,
    spi: u32,
    sender_ids: Option<&Arc<SenderIds>>,
    pseudo_clock: Option<&Arc<PseudoClock>>,
    activate_at: Instant,
    hard_expiry: Instant,
) -> Arc<GroupSa> {
    GroupSa::new(&SaSettings {
        spi,
        suite,
        direction,
        cipher_key: &cipher_key(suite),
        integrity_key: &integrity_key(suite),
        activate_at,
        hard_expiry,
        sender_ids,
        pseudo_clock,
    })
    .unwrap()
}

pub fn sa_with(suite: EspSuite, spi: u32, activate_at: Instant, hard_expiry: Instant) -> Arc<GroupSa> {
    sa_of(suite, spi, None, None, activate_at, hard_expiry)
}

pub fn sa(spi: u32) -> Arc<GroupSa> {
    sa_with(AES128_SHA1, spi, Instant::ZERO, Instant::FAR_FUTURE)
}

pub fn selector(source: &str, destination: &str) -> Selector {
    Selector::between(source.parse().unwrap(), destination.parse().unwrap())
}

pub fn pair(source: &str, destination: &str) -> AddressPair {
    AddressPair { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

pub fn policy(selector: Selector, sas: &[Arc<GroupSa>]) -> Policy {
    Policy { selector, sas: sas.to_vec(), drop_clear_from: Instant::ZERO }
}

/// A registered VPN on [`WAN`] with the seed's policies, and their twins of IPv6.
pub fn seed_vpn(sas: &[Arc<GroupSa>]) -> Vpn {
    Vpn {
        name: "seed".into(),
        interfaces: vec![WAN],
        binding: Binding::Zone,
        registration: Registration::Registered,
        df_bit: DfBit::Clear,
        tunnel_mtu: None,
        policies: vec![
            policy(selector("31.1.1.0/24", "41.1.0.0/16"), sas),
            policy(selector("41.1.1.0/24", "31.1.0.0/16"), sas),
            policy(selector("21.1.1.0/24", "31.1.1.0/24"), sas),
            policy(selector6("31.1.1.0/24", "41.1.0.0/16"), sas),
            policy(selector6("41.1.1.0/24", "31.1.0.0/16"), sas),
            policy(selector6("21.1.1.0/24", "31.1.1.0/24"), sas),
        ],
        exclude: vec![],
        filters: vec![],
        fail_open: vec![],
        counters: Arc::default(),
    }
}

pub fn tables_of(vpns: &[Vpn], default_policy: DefaultPolicy) -> Tables {
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 1500).default_policy(default_policy);
    builder
        .local_addresses(["100.0.0.3", "fe80::3", "2001:db8::100.0.0.3"].map(|text| text.parse().unwrap()));
    for vpn in vpns {
        builder.vpn(vpn.clone());
    }
    builder.build()
}

pub fn tables(vpn: &Vpn) -> Tables {
    tables_of(std::slice::from_ref(vpn), DefaultPolicy::PermitAll)
}

pub fn engine() -> Engine {
    Engine::new(&mut SeededRandom::new(1))
}

/// An output frame, copied out of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    pub destination: Destination,
    pub vnet: VnetHeader,
    pub bytes: Vec<u8>,
}

impl Out {
    /// The IPv6 packet, with its length verified: header, and what is behind it.
    pub fn packet6(&self) -> (Ipv6Header, &[u8]) {
        assert_eq!(self.bytes[12..14], [0x86, 0xdd]);
        let (header, rest) = Ipv6Header::from_slice(&self.bytes[14..]).unwrap();
        assert_eq!(usize::from(header.payload_length), rest.len());
        (header, rest)
    }

    /// The protocol of the outer header, of whatever version.
    pub fn protocol(&self) -> u8 {
        match self.bytes[12..14] {
            [8, 0] => self.packet().0.protocol.0,
            _ => self.packet6().0.next_header.0,
        }
    }

    /// The IP packet, with its length and header checksum verified.
    pub fn packet(&self) -> (Ipv4Header, &[u8]) {
        let (header, rest) = Ipv4Header::from_slice(&self.bytes[14..]).unwrap();
        assert_eq!(usize::from(header.total_len), self.bytes.len() - 14);
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        (header, rest)
    }
}

pub fn run_batch(
    engine: &mut Engine,
    now: Instant,
    tables: &Tables,
    input: &[(Origin, VnetHeader, Vec<u8>)],
) -> Vec<Out> {
    let frames: Vec<FrameIn<'_>> = input
        .iter()
        .map(|(origin, vnet, bytes)| FrameIn { interface: WAN, origin: *origin, vnet: *vnet, bytes })
        .collect();
    let mut output = FrameBuffer::new();
    engine.process(now, tables, &frames, &mut output);
    output
        .iter()
        .map(|frame| {
            assert_eq!(frame.interface, WAN);
            assert_eq!(frame.bytes_with_vnet_header()[..10], frame.vnet.to_bytes());
            Out { destination: frame.destination, vnet: frame.vnet, bytes: frame.bytes().to_vec() }
        })
        .collect()
}

pub fn run(engine: &mut Engine, tables: &Tables, origin: Origin, frame: &[u8]) -> Vec<Out> {
    run_batch(engine, at(100), tables, &[(origin, VnetHeader::default(), frame.to_vec())])
}

/// The only output frame.
pub fn single(output: Vec<Out>) -> Out {
    assert_eq!(output.len(), 1, "{output:?}");
    output.into_iter().next().unwrap()
}

/// The reasons for which a VPN has dropped packets.
pub fn reasons(vpn: &Vpn) -> Vec<(DropReason, u64)> {
    vpn.counters.drops.occurred().collect()
}

/// An ESP packet around any plaintext (payload, padding, pad length, next header), as a member with the key of
/// [`sa`] could make it.
pub fn seal(suite: EspSuite, outer: &Packet, plain: &[u8]) -> Vec<u8> {
    use crypto::esp::{EspSealer, Frame};
    let mut sealer = EspSealer::new(suite, &cipher_key(suite), &integrity_key(suite)).unwrap();
    let mut esp = [&SPI.to_be_bytes()[..], &[0, 0, 0, 9]].concat();
    esp.resize(8 + suite.iv_len(), 0x33);
    esp.extend_from_slice(plain);
    esp.resize(esp.len() + suite.icv_len(), 0);
    sealer.seal(&mut [Frame::new(&mut esp)]);
    Packet { protocol: 50, payload: esp, ..outer.clone() }.frame()
}
