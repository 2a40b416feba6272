//! What both roles show the same way: phase 1 SAs, names of algorithms.

use std::time::Duration;

use control::{
    AntiReplay, Cookie, GroupReference, IkeDetail, IkeMode, IkeRole, IkeSecurityAssociation, SaState,
};
use crypto::signature::SigningKeyKind;
use crypto::{CbcCipher, EspSuite, Hash, Integrity};
use wire::selector::Selector;

use crate::meter::Traffic;
use crate::phase1::{Association, Mode, Side};
use crate::time::Instant;

/// Pulls of one phase 1 SA.
pub(crate) struct Pulls {
    pub(crate) completed: u64,
    pub(crate) in_progress: u32,
}

/// A phase 1 SA as `show` prints it.
pub(crate) fn association(
    now: Instant,
    sa: &Association,
    groups: Vec<GroupReference>,
    pulls: Pulls,
    traffic: Traffic,
) -> IkeSecurityAssociation {
    let suite = sa.suite();
    IkeSecurityAssociation {
        index: sa.id().index() as u32,
        remote_address: sa.path().remote.ip(),
        state: SaState::Up,
        initiator_cookie: Cookie(sa.initiator_cookie().0),
        responder_cookie: Cookie(sa.responder_cookie().0),
        mode: match sa.mode() {
            Mode::Main => IkeMode::Main,
            Mode::Aggressive => IkeMode::Aggressive,
        },
        groups,
        detail: Some(IkeDetail {
            gateway: sa.gateway().to_owned(),
            role: match sa.side() {
                Side::Initiator => IkeRole::Initiator,
                Side::Responder => IkeRole::Responder,
            },
            local: sa.path().local,
            remote: sa.path().remote,
            authentication_method: "Pre-shared-keys".to_owned(),
            lifetime_remaining_secs: Some((sa.expires_at() - now).as_secs()),
            peer_identity: Some(sa.peer_identity().to_string()),
            authentication_algorithm: format!("hmac-{}", hash(suite.hash)),
            encryption_algorithm: cipher(suite.cipher).to_owned(),
            pseudo_random_function: format!("hmac-{}", hash(suite.hash)),
            diffie_hellman_group: format!("DH-group-{}", suite.group.iana()),
            input_bytes: traffic.input_bytes,
            output_bytes: traffic.output_bytes,
            input_packets: traffic.input_packets,
            output_packets: traffic.output_packets,
            doi: sa.doi().0,
            non_esp_marker: sa.non_esp_marker(),
            pulls_completed: pulls.completed,
            pulls_in_progress: pulls.in_progress,
        }),
    }
}

/// A hash by its name.
pub(crate) fn hash(hash: Hash) -> &'static str {
    match hash {
        Hash::Md5 => "md5",
        Hash::Sha1 => "sha1",
        Hash::Sha256 => "sha256",
        Hash::Sha384 => "sha384",
        Hash::Sha512 => "sha512",
    }
}

/// A cipher by its statement.
pub(crate) fn cipher(cipher: CbcCipher) -> &'static str {
    match cipher {
        CbcCipher::Des => "des-cbc",
        CbcCipher::TripleDes => "3des-cbc",
        CbcCipher::Aes128 => "aes-128-cbc",
        CbcCipher::Aes192 => "aes-192-cbc",
        CbcCipher::Aes256 => "aes-256-cbc",
    }
}

/// The algorithm of a signature in one word.
pub(crate) fn signature(kind: SigningKeyKind) -> &'static str {
    match kind {
        SigningKeyKind::Rsa2048 | SigningKeyKind::Rsa3072 | SigningKeyKind::Rsa4096 => "RSA",
        SigningKeyKind::EcdsaP256 => "ECDSA-256",
        SigningKeyKind::EcdsaP384 => "ECDSA-384",
        SigningKeyKind::EcdsaP521 => "ECDSA-521",
    }
}

/// A suite in one word, as in `ESP:aes-128/sha1`.
pub(crate) fn suite(suite: EspSuite) -> String {
    match suite {
        EspSuite::Cbc { cipher: name, integrity } => {
            format!("ESP:{}/{}", cipher(name).trim_end_matches("-cbc"), hash(integrity.hash()))
        }
        EspSuite::Gcm { key } => format!("ESP:aes-gcm-{}", key.key_len() * 8),
    }
}

/// The integrity algorithm by its statement; empty where the cipher authenticates.
pub(crate) fn authentication_algorithm(suite: EspSuite) -> String {
    let name = match suite {
        EspSuite::Cbc { integrity, .. } => match integrity {
            Integrity::HmacMd5_96 => "hmac-md5-96",
            Integrity::HmacSha1_96 => "hmac-sha1-96",
            Integrity::HmacSha256_128 => "hmac-sha-256-128",
            Integrity::HmacSha384_192 => "hmac-sha-384-192",
            Integrity::HmacSha512_256 => "hmac-sha-512-256",
        },
        EspSuite::Gcm { .. } => "",
    };
    name.to_owned()
}

/// The cipher by its statement.
pub(crate) fn encryption_algorithm(suite: EspSuite) -> String {
    match suite {
        EspSuite::Cbc { cipher: name, .. } => cipher(name).to_owned(),
        EspSuite::Gcm { key } => format!("aes-{}-gcm", key.key_len() * 8),
    }
}

/// Time-based anti-replay of a TEK.
pub(crate) fn anti_replay(window: Option<Duration>) -> AntiReplay {
    window.map_or(AntiReplay::Disabled, |window| {
        AntiReplay::WindowMillis(u32::try_from(window.as_millis()).unwrap_or(u32::MAX))
    })
}

/// The same selector in the words of the control socket.
pub fn selector(selector: &Selector) -> control::Selector {
    control::Selector {
        source: selector.source,
        destination: selector.destination,
        source_port: selector.source_port,
        destination_port: selector.destination_port,
        protocol: selector.protocol,
    }
}
