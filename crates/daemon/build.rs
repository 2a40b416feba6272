//! Compiles the tc programs with clang; the daemon carries the object.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("gvpn.bpf.o");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target");
    // On Debian the architecture's part of the kernel headers is in a directory of its own.
    let headers = format!("/usr/include/{architecture}-linux-gnu");

    if !Path::new("/usr/include/bpf/bpf_helpers.h").exists() {
        fail("the header bpf/bpf_helpers.h is missing");
    }
    let result = Command::new(&clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-I", &headers, "-c", "bpf/gvpn.bpf.c", "-o"])
        .arg(&output)
        .status();
    match result {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{clang} could not compile bpf/gvpn.bpf.c ({status})")),
        Err(error) => fail(&format!("cannot run {clang}: {error}")),
    }
}

/// Ends the build with a text that says what to do, without the noise of a panic.
fn fail(reason: &str) -> ! {
    println!("cargo::error={reason}");
    println!(
        "cargo::error=the tc programs are C compiled by clang; on Debian: apt-get install clang libbpf-dev"
    );
    exit(1);
}
