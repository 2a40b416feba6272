//! Bodies of the fuzz targets, shared with the ordinary tests, which replay the corpora.

pub mod oracle;

use std::sync::Arc;

use crypto::esp::{EspSealer, EspSuite, Frame};
use crypto::{CbcCipher, GcmKeyLen, Integrity, SeededRandom};
use dataplane::*;

const WAN: InterfaceId = InterfaceId(7);
const SPI: u32 = 0x0102_0304;
const CBC: EspSuite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };
const GCM: EspSuite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };
const CIPHER_KEY: [u8; 20] = [1; 20];
const INTEGRITY_KEY: [u8; 20] = [2; 20];

/// What the first octet of the input chooses of the VPN.
#[derive(Clone, Copy)]
struct Kind {
    suite: EspSuite,
    is_timed: bool,
    registration: Registration,
    binding: Binding,
}

impl Kind {
    fn of(choice: u8) -> Self {
        let registered = choice & 0x40 == 0;
        let service_set = Binding::ServiceSet { forward_mismatch: choice & 0x04 != 0 };
        Self {
            suite: if choice & 0x10 != 0 { GCM } else { CBC },
            is_timed: choice & 0x20 != 0,
            registration: if registered { Registration::Registered } else { Registration::NotYet },
            binding: if choice & 0x80 != 0 { service_set } else { Binding::Zone },
        }
    }

    fn keys(self) -> (&'static [u8], &'static [u8]) {
        (&CIPHER_KEY[..self.suite.cipher_key_len()], &INTEGRITY_KEY[..self.suite.integrity_key_len()])
    }
}

fn tables(kind: Kind, own_sender: u32) -> Tables {
    let (cipher_key, integrity_key) = kind.keys();
    let ids = SenderIds::new(SenderIdLength::Bits16);
    ids.grant(own_sender).expect("it has fewer bits");
    let minute = std::time::Duration::from_secs(60);
    let clock = PseudoClock::new(Instant::ZERO, PseudoTime::from_micros(0), minute);
    let settings = SaSettings {
        direction: SaDirection::Symmetric,
        spi: SPI,
        suite: kind.suite,
        cipher_key,
        integrity_key,
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: Some(&ids),
        pseudo_clock: kind.is_timed.then_some(&clock),
    };
    let sa = GroupSa::new(&settings).expect("the keys have the suite's lengths");
    let policy = |selector| Policy { selector, sas: vec![sa.clone()], drop_clear_from: Instant::ZERO };
    let net = |text: &str| text.parse().expect("a net");
    let telnet = Selector {
        destination_port: 23,
        protocol: 6,
        ..Selector::between(net("20.0.0.0/8"), net("30.0.0.0/8"))
    };
    let vpn = Vpn {
        name: "fuzz".into(),
        interfaces: vec![WAN],
        binding: kind.binding,
        registration: kind.registration,
        df_bit: DfBit::Copy,
        tunnel_mtu: None,
        // Most random addresses are protected.
        policies: vec![
            policy(telnet),
            policy(Selector::between(net("0.0.0.0/1"), net("0.0.0.0/0"))),
            policy(Selector { protocol: 17, ..Selector::between(net("2000::/4"), net("::/0")) }),
            policy(Selector::between(net("2000::/3"), net("::/0"))),
        ],
        exclude: vec![AddressPair { source: net("10.0.0.0/8"), destination: net("10.0.0.0/8") }],
        filters: vec![],
        fail_open: vec![],
        counters: Arc::default(),
    };
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 1500).default_policy(DefaultPolicy::PermitAll).vpn(vpn);
    builder.local_addresses(["2001:db8::1".parse().expect("an address")]);
    builder.build()
}

/// Octets taken from the front of the input, zeros where it has run out.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn octet(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }
}

fn run(tables: &Tables, origin: Origin, frames: &[(VnetHeader, Vec<u8>)]) -> Vec<(Destination, Vec<u8>)> {
    let input: Vec<FrameIn<'_>> =
        frames.iter().map(|(vnet, bytes)| FrameIn { interface: WAN, origin, vnet: *vnet, bytes }).collect();
    let mut output = FrameBuffer::new();
    let mut engine = Engine::new(&mut SeededRandom::new(3));
    engine.merge_datagrams(true);
    engine.process(Instant::from_micros(9), tables, &input, &mut output);
    output.iter().map(|frame| (frame.destination, frame.bytes().to_vec())).collect()
}

/// A frame around a packet of the version that its first octet says.
fn frame(packet: &[u8]) -> Vec<u8> {
    let is_six = packet.first().is_some_and(|first| first >> 4 == 6);
    let ethertype: [u8; 2] = if is_six { [0x86, 0xdd] } else { [8, 0] };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ethertype, packet].concat()
}

/// Any frames with any offload state leave; what comes out fits the link, nothing that a policy protects is in clear, and
/// what was encrypted is decrypted again.
pub fn engine_outbound(octets: &[u8]) {
    let mut input = Input(octets);
    let choice = input.octet();
    let origin = Origin::Egress { own: choice & 1 != 0, injected: choice & 3 == 2 };
    let mut frames = Vec::new();
    while !input.0.is_empty() && frames.len() < 16 {
        let vnet = VnetHeader {
            flags: input.octet(),
            gso_type: input.octet(),
            header_length: input.word(),
            // The kernel makes no super-frames of single octets; a hundred thousand frames would only be slow.
            gso_size: match input.word() {
                0 => 0,
                size => size.max(64),
            },
            checksum_start: input.word(),
            checksum_offset: input.word(),
        };
        let length = usize::from(input.word());
        frames.push((vnet, frame(input.take(length))));
    }
    let kind = Kind::of(choice);
    let sent = run(&tables(kind, 1), origin, &frames);
    let own = matches!(origin, Origin::Egress { own: true, .. });
    for (destination, bytes) in &sent {
        match destination {
            Destination::WireClear => assert!(oracle::may_be_clear(bytes, own), "in clear: {bytes:02x?}"),
            Destination::WireEsp => assert!(oracle::is_sealed(bytes, &frames), "not sealed: {bytes:02x?}"),
            // Goes back to who has sent the packet.
            Destination::IcmpToHost => {}
            Destination::Inject => panic!("what leaves does not come in"),
        }
    }
    let esp: Vec<_> = sent
        .into_iter()
        .filter(|(destination, _)| *destination == Destination::WireEsp)
        .map(|(_, bytes)| {
            assert!(bytes.len() <= 1514);
            (VnetHeader::default(), bytes)
        })
        .collect();
    for (destination, _) in run(&tables(kind, 2), Origin::Wire, &esp) {
        assert_eq!(destination, Destination::Inject);
    }
}

/// Any frames arrive: raw, of which none comes in that a policy protects, and with the octets as plaintext of a packet that a
/// member has sealed, of which none comes in that is not of a policy.
pub fn engine_inbound(octets: &[u8]) {
    let mut input = Input(octets);
    let choice = input.octet();
    let kind = Kind::of(choice);
    let tables = tables(kind, 1);
    if choice & 1 != 0 {
        let mut frames = Vec::new();
        while !input.0.is_empty() && frames.len() < 64 {
            let length = usize::from(input.octet()) * 4;
            frames.push((VnetHeader::default(), frame(input.take(length))));
        }
        let origin = if choice & 2 != 0 { Origin::Wire } else { Origin::Ingress };
        for (destination, bytes) in run(&tables, origin, &frames) {
            match destination {
                Destination::Inject => assert!(oracle::may_come_in(&bytes), "came in: {bytes:02x?}"),
                Destination::IcmpToHost => {}
                Destination::WireClear | Destination::WireEsp => panic!("what arrives does not leave"),
            }
        }
        return;
    }
    let (cipher_key, integrity_key) = kind.keys();
    let mut sealer =
        EspSealer::new(kind.suite, cipher_key, integrity_key).expect("the keys have the lengths");
    let mut frames = Vec::new();
    while !input.0.is_empty() && frames.len() < 16 {
        let tos = input.octet();
        let length = usize::from(input.word()) % 2048 / 16 * 16;
        let mut plain = input.take(length).to_vec();
        plain.resize(plain.len().max(1).next_multiple_of(16), 0);
        let sequence = (frames.len() as u32 / 2 + 1).to_be_bytes();
        let mut esp = [&SPI.to_be_bytes()[..], &sequence, &[0, 2, 0, 0], &sequence].concat();
        esp.resize(8 + kind.suite.iv_len(), 4);
        esp.extend_from_slice(&plain);
        esp.resize(esp.len() + kind.suite.icv_len(), 0);
        sealer.seal(&mut [Frame::new(&mut esp)]);
        // The addresses outside are those inside, or nothing further would be looked at.
        let inner = &plain[if kind.is_timed { 12.min(plain.len()) } else { 0 }..];
        let packet = match inner.first().map(|first| first >> 4) {
            Some(6) if inner.len() >= 40 => {
                let length = (esp.len() as u16).to_be_bytes();
                let header = [0x60 | tos >> 4, tos << 4, 0, 0, length[0], length[1], 50, 64];
                [&header[..], &inner[8..40], &esp].concat()
            }
            _ => {
                let total = ((20 + esp.len()) as u16).to_be_bytes();
                let header = [0x45, tos, total[0], total[1], 0, 1, 0, 0, 64, 50, 0, 0];
                let addresses = inner.get(12..20).unwrap_or(&[20, 1, 1, 1, 30, 1, 1, 1]);
                [&header[..], addresses, &esp].concat()
            }
        };
        frames.push((VnetHeader::default(), frame(&packet)));
    }
    for (destination, bytes) in run(&tables, Origin::Wire, &frames) {
        assert_eq!(destination, Destination::Inject);
        assert!(oracle::is_of_a_policy(&bytes), "decrypted: {bytes:02x?}");
    }
}
