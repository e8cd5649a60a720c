//! Compiles what the kernel runs: the generator, and what the bench puts on interfaces.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the architecture");
    let headers = format!("-I/usr/include/{architecture}-linux-gnu");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    for name in ["generate", "receive"] {
        let program = format!("bpf/{name}.bpf.c");
        println!("cargo:rerun-if-changed={program}");
        let object = out.join(format!("{name}.bpf.o"));
        let flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", &headers, "-c", &program, "-o"];
        let compiled = Command::new(&clang).args(flags).arg(object).status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "clang does not compile {program}; scripts/setup.sh installs it"
        );
    }
}
