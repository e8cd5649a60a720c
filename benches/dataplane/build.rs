//! Compiles what the kernel runs: the generator, and the limits that it alone can reach.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    const PROGRAM: &str = "bpf/bench.bpf.c";
    println!("cargo:rerun-if-changed={PROGRAM}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bench.bpf.o");
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the architecture");
    let headers = format!("-I/usr/include/{architecture}-linux-gnu");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", &headers, "-c", PROGRAM, "-o"];
    let compiled = Command::new(clang).args(flags).arg(out).status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "clang does not compile {PROGRAM}; scripts/setup.sh installs it"
    );
}
