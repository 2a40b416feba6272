//! Looks for intel-ipsec-mb and compiles the shim of the multi-buffer ESP backend where it exists.
//!
//! Without it (or with `IPSEC_MB=off`) the crate has the portable backend only. After installing the library, touch
//! this file or set the variable, so that cargo looks again.

use std::path::Path;
use std::{env, fs};

const SHIM: &str = "src/esp/multibuffer/shim.c";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ipsec_mb)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SHIM}");
    println!("cargo::rerun-if-env-changed=IPSEC_MB");
    let is_x86_64 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    if !is_x86_64 || env::var("IPSEC_MB").is_ok_and(|value| value == "off") {
        return;
    }
    if !library_links() {
        println!(
            "cargo::warning=intel-ipsec-mb not found (Debian: libipsec-mb-dev): ESP will be several times slower"
        );
        return;
    }
    cc::Build::new().file(SHIM).warnings_into_errors(false).opt_level(2).compile("esp_multibuffer");
    println!("cargo::rustc-link-lib=dylib=IPSec_MB");
    println!("cargo::rustc-cfg=ipsec_mb");
}

/// Whether a program that includes the header and calls the library compiles and links.
fn library_links() -> bool {
    let directory = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let source = Path::new(&directory).join("probe.c");
    let program = "#include <intel-ipsec-mb.h>\n\
                   #if IMB_VERSION_NUM < 0x10200\n#error too old\n#endif\n\
                   int main(void) { return (int)imb_get_version(); }\n";
    if fs::write(&source, program).is_err() {
        return false;
    }
    let mut command = cc::Build::new().get_compiler().to_command();
    command.arg(&source).arg("-o").arg(Path::new(&directory).join("probe")).arg("-lIPSec_MB");
    command.output().is_ok_and(|output| output.status.success())
}
