//! FRR in a namespace: zebra and the routing daemons, with their sockets in the host's run directory.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::network::run;

const PROGRAMS: &str = "/usr/lib/frr";

/// Start zebra and `daemons` in `namespace`, all reading `configuration`.
pub fn start(namespace: &str, directory: &Path, configuration: &Path, daemons: &[String]) -> Result<()> {
    let folder = directory.join("frr");
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    let (user, group) = frr_user()?;
    chown(&folder, Some(user), Some(group))?;
    // The daemons drop their privileges before they read it, and the repository may not be readable to them.
    let copy = folder.join("frr.conf");
    std::fs::copy(configuration, &copy).with_context(|| format!("reading {}", configuration.display()))?;
    chown(&copy, Some(user), Some(group))?;
    let socket = folder.join("zserv.api");
    for daemon in std::iter::once("zebra").chain(daemons.iter().map(String::as_str)) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(format!("{PROGRAMS}/{daemon}"));
        command.args(["-d", "-P", "0", "--log", "file:/dev/null"]);
        command.arg("-f").arg(&copy).arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(&socket).arg("--vty_socket").arg(&folder);
        run(&mut command)?;
        if daemon == "zebra" {
            wait_for(&socket)?;
        }
    }
    Ok(())
}

fn wait_for(socket: &Path) -> Result<()> {
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(5) {
            bail!("zebra did not open {}", socket.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn frr_user() -> Result<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let line = passwd
        .lines()
        .find(|line| line.starts_with("frr:"))
        .context("no user `frr`: install Debian's frr")?;
    let fields: Vec<&str> = line.split(':').collect();
    Ok((fields[2].parse()?, fields[3].parse()?))
}
