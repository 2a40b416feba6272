//! Bodies of the fuzz targets, shared with the ordinary tests, which replay the corpora.

use std::sync::Arc;

use crypto::esp::{EspSealer, EspSuite, Frame};
use crypto::{CbcCipher, Integrity, SeededRandom};
use dataplane::*;

const WAN: InterfaceId = InterfaceId(7);
const SPI: u32 = 0x0102_0304;
const SUITE: EspSuite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };
const CIPHER_KEY: [u8; 16] = [1; 16];
const INTEGRITY_KEY: [u8; 20] = [2; 20];

fn tables() -> Tables {
    let settings = SaSettings {
        spi: SPI,
        suite: SUITE,
        cipher_key: &CIPHER_KEY,
        integrity_key: &INTEGRITY_KEY,
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: None,
        pseudo_clock: None,
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
        binding: Binding::Zone,
        registration: Registration::Registered,
        df_bit: DfBit::Copy,
        tunnel_mtu: None,
        // Most random addresses are protected.
        policies: vec![policy(telnet), policy(Selector::between(net("0.0.0.0/1"), net("0.0.0.0/0")))],
        exclude: vec![AddressPair { source: net("10.0.0.0/8"), destination: net("10.0.0.0/8") }],
        fail_open: vec![],
        counters: Arc::default(),
    };
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 1500).default_policy(DefaultPolicy::PermitAll).vpn(vpn);
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

fn run(origin: Origin, frames: &[(VnetHeader, Vec<u8>)]) -> Vec<(Destination, Vec<u8>)> {
    let input: Vec<FrameIn<'_>> =
        frames.iter().map(|(vnet, bytes)| FrameIn { interface: WAN, origin, vnet: *vnet, bytes }).collect();
    let mut output = FrameBuffer::new();
    Engine::new(&mut SeededRandom::new(3)).process(Instant::from_micros(9), &tables(), &input, &mut output);
    output.iter().map(|frame| (frame.destination, frame.bytes().to_vec())).collect()
}

/// Any frames with any offload state leave; what comes out fits the link and what was encrypted is decrypted again.
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
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend_from_slice(input.take(length));
        frames.push((vnet, frame));
    }
    let sent = run(origin, &frames);
    let esp: Vec<_> = sent
        .into_iter()
        .filter(|(destination, _)| *destination == Destination::WireEsp)
        .map(|(_, bytes)| {
            assert!(bytes.len() <= 1514);
            (VnetHeader::default(), bytes)
        })
        .collect();
    for (destination, _) in run(Origin::Wire, &esp) {
        assert_eq!(destination, Destination::Inject);
    }
}

/// Any frames arrive: raw, and with the octets as plaintext of a packet that a member has sealed.
pub fn engine_inbound(octets: &[u8]) {
    let mut input = Input(octets);
    let choice = input.octet();
    if choice & 1 != 0 {
        let mut frames = Vec::new();
        while !input.0.is_empty() && frames.len() < 64 {
            let length = usize::from(input.octet()) * 4;
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
            frame.extend_from_slice(input.take(length));
            frames.push((VnetHeader::default(), frame));
        }
        run(if choice & 2 != 0 { Origin::Wire } else { Origin::Ingress }, &frames);
        return;
    }
    let mut frames = Vec::new();
    while !input.0.is_empty() && frames.len() < 16 {
        let tos = input.octet();
        let length = usize::from(input.word()) % 2048 / 16 * 16;
        let mut plain = input.take(length).to_vec();
        plain.resize(plain.len().max(1).next_multiple_of(16), 0);
        let mut esp = [&SPI.to_be_bytes()[..], &[0; 4], &[4; 16]].concat();
        // The addresses outside are those inside, or nothing further would be looked at.
        let mut addresses = [20, 1, 1, 1, 30, 1, 1, 1];
        if plain.len() > 20 {
            addresses.copy_from_slice(&plain[12..20]);
        }
        esp.extend_from_slice(&plain);
        esp.resize(esp.len() + SUITE.icv_len(), 0);
        let mut sealer =
            EspSealer::new(SUITE, &CIPHER_KEY, &INTEGRITY_KEY).expect("the keys have the lengths");
        sealer.seal(&mut [Frame::new(&mut esp)]);
        let total = ((20 + esp.len()) as u16).to_be_bytes();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend_from_slice(&[0x45, tos, total[0], total[1], 0, 1, 0, 0, 64, 50, 0, 0]);
        frame.extend_from_slice(&addresses);
        frame.extend_from_slice(&esp);
        frames.push((VnetHeader::default(), frame));
    }
    run(Origin::Wire, &frames);
}
