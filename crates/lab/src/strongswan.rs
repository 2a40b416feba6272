//! strongSwan's charon in a namespace, with a private `/run` (its pid file has a fixed place) and its own vici socket.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::network::run;

/// Which kernel interface charon uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// None that matters: only phase 1 is wanted.
    #[default]
    Netlink,
    /// ESP in user space, through a TUN device.
    Libipsec,
}

/// Place of the vici socket in a host's run directory, as swanctl's `--uri` wants it.
pub fn vici(directory: &Path) -> String {
    format!("unix://{}", directory.join("charon.vici").display())
}

/// Start charon and load `swanctl`, a configuration file in swanctl's language.
pub fn start(namespace: &str, directory: &Path, swanctl: &Path, kernel: Kernel, port: u16) -> Result<Child> {
    let settings = directory.join("strongswan.conf");
    std::fs::write(&settings, configuration(directory, kernel, port))?;
    let log = directory.join("charon.log");
    let mut command = Command::new("ip");
    // `ip netns exec` has already given the program a mount namespace of its own.
    command.args([
        "netns",
        "exec",
        namespace,
        "sh",
        "-c",
        "mount -t tmpfs tmpfs /run && exec /usr/lib/ipsec/charon",
    ]);
    command.env("STRONGSWAN_CONF", &settings).stdin(Stdio::null());
    let output = File::create(&log)?;
    let child = command.stdout(output.try_clone()?).stderr(output).spawn().context("starting charon")?;
    let socket = directory.join("charon.vici");
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(10) {
            bail!("charon did not open its socket; its log: {}", std::fs::read_to_string(&log)?);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut load = Command::new("ip");
    load.args([
        "netns",
        "exec",
        namespace,
        "swanctl",
        "--load-all",
        "--noprompt",
        "--uri",
        &vici(directory),
        "--file",
    ]);
    run(load.arg(swanctl).env("STRONGSWAN_CONF", &settings))?;
    Ok(child)
}

fn configuration(directory: &Path, kernel: Kernel, port: u16) -> String {
    let plugins = match kernel {
        Kernel::Netlink => "",
        Kernel::Libipsec => "kernel-libipsec { load = 10 }",
    };
    let log: PathBuf = directory.join("charon-debug.log");
    format!(
        "charon {{
    load = random nonce openssl aes des sha1 sha2 md5 hmac kdf gmp curve25519 pem pkcs1 pkcs8 pubkey x509 gcm ccm {libipsec} kernel-netlink socket-default vici
    load_modular = no
    port = {port}
    port_nat_t = {port_nat_t}
    retransmit_tries = 2
    retransmit_timeout = 1.0
    plugins {{
        vici {{ socket = {vici} }}
        {plugins}
    }}
    filelog {{
        debug {{
            path = {log}
            ike = 2
            flush_line = yes
        }}
    }}
}}
",
        libipsec = if kernel == Kernel::Libipsec { "kernel-libipsec" } else { "" },
        // Any other port: NAT traversal is not wanted, but charon insists on a socket for it.
        port_nat_t = if port == 500 { 4500 } else { 4848 },
        vici = vici(directory),
        log = log.display(),
    )
}
