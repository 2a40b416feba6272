//! What the engine's benchmarks share: keys, tables, frames, and an engine with its buffers.
#![allow(dead_code, reason = "each benchmark uses a part")]

use std::sync::Arc;

use crypto::esp::EspSuite;
use crypto::{CbcCipher, GcmKeyLen, Integrity, SeededRandom};
use dataplane::*;

pub const WAN: InterfaceId = InterfaceId(1);
/// Frames given to the engine at a time.
pub const BATCH: usize = 64;
pub const NOW: Instant = Instant::from_micros(1_000_000);
pub const FORWARDED: Origin = Origin::Egress { own: false, injected: false };
pub const GCM: EspSuite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };
/// The suite of the vendor's paper.
pub const CBC: EspSuite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };

/// Cipher and integrity key.
pub fn key(suite: EspSuite) -> (Vec<u8>, Vec<u8>) {
    (vec![1; suite.cipher_key_len()], vec![2; suite.integrity_key_len()])
}

fn sa(suite: EspSuite, sender: u32) -> Arc<GroupSa> {
    let ids = SenderIds::new(SenderIdLength::Bits16);
    ids.grant(sender).expect("it has fewer bits");
    let (cipher_key, integrity_key) = key(suite);
    GroupSa::new(&SaSettings {
        direction: SaDirection::Symmetric,
        spi: 4096,
        suite,
        cipher_key: &cipher_key,
        integrity_key: &integrity_key,
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: Some(&ids),
        pseudo_clock: None,
    })
    .expect("the key has the suite's length")
}

/// Three policies under one key, the last of which matches the packets of [`frames`]; `sender` is the identifier that packets are
/// sent with.
pub fn tables(suite: EspSuite, sender: u32) -> Tables {
    let sa = sa(suite, sender);
    let net = |text: &str| text.parse().expect("a prefix");
    let policy = |source, destination| Policy {
        selector: Selector::between(net(source), net(destination)),
        sas: vec![Arc::clone(&sa)],
        drop_clear_from: Instant::ZERO,
    };
    let vpn = Vpn {
        name: "bench".into(),
        interfaces: vec![WAN],
        binding: Binding::Zone,
        registration: Registration::Registered,
        df_bit: DfBit::Clear,
        tunnel_mtu: None,
        policies: vec![
            policy("10.0.1.0/24", "100.0.1.0/24"),
            policy("10.0.2.0/24", "100.0.2.0/24"),
            policy("31.0.0.0/24", "41.1.0.0/16"),
        ],
        exclude: vec![],
        filters: vec![],
        fail_open: vec![],
        counters: Arc::default(),
    };
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 9000).default_policy(DefaultPolicy::PermitAll).vpn(vpn);
    builder.build()
}

/// A batch of UDP packets of `length` octets, each of another flow, for the policy of the first key.
pub fn frames(length: usize) -> Vec<Vec<u8>> {
    let frame = |flow: usize| {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        frame.extend((length as u16).to_be_bytes());
        frame.extend([0, 1, 0, 0, 64, 17, 0, 0]);
        frame.extend(0x1f00_0002_u32.to_be_bytes());
        frame.extend((0x2901_0000 | flow as u32).to_be_bytes());
        frame.extend([0x10, 0, 0x20, 0]);
        frame.extend(((length - 20) as u16).to_be_bytes());
        frame.resize(14 + length, 0x5c);
        frame
    };
    (0..BATCH).map(frame).collect()
}

/// An engine with its buffers, used again and again.
pub struct Lane {
    engine: Engine,
    output: FrameBuffer,
}

impl Lane {
    pub fn new() -> Self {
        Self { engine: Engine::new(&mut SeededRandom::new(1)), output: FrameBuffer::new() }
    }

    pub fn run(&mut self, tables: &Tables, origin: Origin, frames: &[Vec<u8>]) {
        let none = VnetHeader::default();
        let mut input = [FrameIn { interface: WAN, origin, vnet: none, bytes: &[] }; BATCH];
        input.iter_mut().zip(frames).for_each(|(input, bytes)| input.bytes = bytes);
        self.output.clear();
        self.engine.process(NOW, tables, &input[..frames.len()], &mut self.output);
        assert_eq!(self.output.len(), frames.len());
    }

    /// What these frames look like on the wire.
    pub fn encrypted(&mut self, tables: &Tables, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.run(tables, FORWARDED, frames);
        self.output.iter().map(|frame| frame.bytes().to_vec()).collect()
    }
}

/// `batches` batches for the receiving side. Counter-mode packets can be decrypted once: take each batch once, or another
/// lane.
pub fn encrypted_batches(suite: EspSuite, frames: &[Vec<u8>], batches: usize) -> Vec<Vec<Vec<u8>>> {
    let (mut lane, tables) = (Lane::new(), tables(suite, 1));
    (0..batches).map(|_| lane.encrypted(&tables, frames)).collect()
}
