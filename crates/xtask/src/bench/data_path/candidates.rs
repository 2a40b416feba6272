//! Who is measured, and how peers that no distribution has are installed.

use std::path::Path;
use std::process::{Command, Stdio};

use super::measure::Measure;

/// One network of `lab/bench`.
pub(super) struct Candidate {
    /// The folder.
    pub(super) name: &'static str,
    /// What it is, for the table.
    pub(super) what: &'static str,
    source: Source,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two gateways between two hosts.
    Gateways,
    /// One gateway on a core of its own, and no way from host to host.
    OneCore,
    /// No gateway, but what every one does.
    Ceiling,
}

enum Source {
    /// Here, or installed by `scripts/prepare bench`; the program tells.
    Program(&'static str),
    /// From crates.io, built once into the target folder: package and program.
    Crate(&'static str, &'static str),
}

const fn candidate(name: &'static str, what: &'static str, source: Source) -> Candidate {
    Candidate { name, what, source, kind: Kind::Gateways }
}

const fn without_peers(name: &'static str, what: &'static str, kind: Kind) -> Candidate {
    Candidate { name, what, source: Source::Program("ip"), kind }
}

/// Everybody, in the order of the table.
pub(super) const CANDIDATES: &[Candidate] = &[
    candidate("plain", "forwarding, with GSO", Source::Program("ip")),
    candidate("plain-no-gso", "forwarding, hosts without GSO", Source::Program("ethtool")),
    candidate("gcm128", "ours, AES-128-GCM", Source::Program("ip")),
    candidate("gcm256", "ours, AES-256-GCM", Source::Program("ip")),
    candidate("cbc-sha1", "ours, AES-128-CBC + HMAC-SHA1-96", Source::Program("ip")),
    candidate("wireguard-go", "Debian's", Source::Program("wireguard-go")),
    candidate("boringtun", "boringtun-cli", Source::Crate("boringtun-cli", "boringtun-cli")),
    candidate("gotatun", "gotatun-cli", Source::Crate("gotatun-cli", "gotatun")),
    candidate("nebula", "Debian's, AES-256-GCM", Source::Program("nebula")),
    candidate("openvpn", "Debian's, AES-128-GCM, no kernel module", Source::Program("openvpn")),
    candidate("strongswan-gcm", "kernel-libipsec, openssl, AES-128-GCM", Source::Program("swanctl")),
    candidate(
        "strongswan",
        "kernel-libipsec, openssl, AES-128-CBC + HMAC-SHA1-96",
        Source::Program("swanctl"),
    ),
    without_peers("ceiling", "sender, reading, AES-128-GCM and sending, nothing else", Kind::Ceiling),
    without_peers("core-null", "ours with fixed keys, every packet judged to be clear", Kind::OneCore),
    without_peers("core-gcm128", "ours with fixed keys, AES-128-GCM", Kind::OneCore),
    without_peers("core-cbc-sha1", "ours with fixed keys, AES-128-CBC + HMAC-SHA1-96", Kind::OneCore),
];

impl Candidate {
    /// The measure says something of it.
    pub(super) fn takes(&self, measure: Measure) -> bool {
        match measure {
            Measure::Ceiling => self.kind == Kind::Ceiling,
            Measure::Core => self.kind == Kind::OneCore,
            Measure::Tcp | Measure::Flood | Measure::Paced | Measure::RoundTrip => {
                self.kind == Kind::Gateways
            }
        }
    }

    /// Makes sure that the programs are there. False: they are not, and why is on standard error.
    pub(super) fn install(&self, programs: &Path) -> bool {
        match self.source {
            Source::Program(program) => {
                let found = is_in_path(program);
                if !found {
                    eprintln!("{}: no {program} on this machine", self.name);
                }
                found
            }
            Source::Crate(name, program) => {
                let root = programs.join("../peers");
                if root.join("bin").join(program).exists() {
                    return true;
                }
                eprintln!("installing {name}");
                let status = Command::new(env!("CARGO"))
                    .args(["install", "--quiet", "--locked", "--root"])
                    .arg(&root)
                    .arg(name)
                    .stdin(Stdio::null())
                    .status();
                let installed = status.is_ok_and(|status| status.success());
                if !installed {
                    eprintln!("{}: cargo install {name} failed", self.name);
                }
                installed
            }
        }
    }
}

fn is_in_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).exists())
}
