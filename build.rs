//! Compiles `bpf/` for the kernel and generates the structs that it shares with Rust.
//!
//! What is missing on the machine is said in one sentence, with the package that brings it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Programs, each with the object that becomes of it.
const PROGRAMS: [(&str, &str); 3] = [
    ("bpf/steer.bpf.c", "steer.bpf.o"),
    ("bpf/load.bpf.c", "load.bpf.o"),
    // Nothing in Baton loads it: scripts/pktgen does, compiled for who is to report. It is to
    // compile everywhere.
    ("bpf/reports.bpf.c", "reports.bpf.o"),
];
const ABI: &str = "bpf/abi.h";
const HEADERS_OURS: [&str; 4] = [ABI, "bpf/maps.h", "bpf/parse.h", "bpf/write.h"];

/// Compilers to try, best first. The oldest that knows BTF and atomics well enough is 11.
const CLANGS: [&str; 10] = [
    "clang", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14", "clang-13", "clang-12",
];

/// Headers that the program includes, and Debian's package of each.
const HEADERS: [(&str, &str); 3] =
    [("bpf/bpf_helpers.h", "libbpf-dev"), ("linux/bpf.h", "linux-libc-dev"), ("asm/types.h", "linux-libc-dev")];

fn main() {
    for source in PROGRAMS.iter().map(|(source, _)| *source).chain(HEADERS_OURS) {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let includes = includes();
    let clang = find_clang();
    for (source, object) in PROGRAMS {
        compile(&clang, &includes, source, &out.join(object));
    }
    generate(&includes, &out.join("abi.rs"));
}

/// Ends the build, saying what to do, without the backtrace that would hide it.
fn fail(what: &str) -> ! {
    eprintln!("\nbaton cannot be built: {what}\n");
    exit(1);
}

fn missing(what: &str, package: &str) -> ! {
    fail(&format!("{what}. On Debian: apt-get install {package}; `scripts/setup.sh` installs all that is missing."))
}

fn find_clang() -> String {
    let runs = |clang: &str| Command::new(clang).arg("--version").output().is_ok_and(|output| output.status.success());
    if let Ok(clang) = env::var("CLANG") {
        if runs(&clang) {
            return clang;
        }
        fail(&format!("the environment says CLANG={clang}, and that does not run"));
    }
    match CLANGS.into_iter().find(|clang| runs(clang)) {
        Some(clang) => clang.to_owned(),
        None => missing("there is no clang, which compiles bpf/ for the kernel", "clang"),
    }
}

/// Folders of the system's headers, Debian's folder of the architecture among them. All headers are
/// known to be there.
fn includes() -> Vec<PathBuf> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the architecture");
    let folders: Vec<_> = ["/usr/include".to_owned(), format!("/usr/include/{architecture}-linux-gnu")]
        .into_iter()
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir())
        .collect();
    for (header, package) in HEADERS {
        if !folders.iter().any(|folder| folder.join(header).exists()) {
            missing(&format!("the header {header} is not there, which bpf/ includes"), package);
        }
    }
    folders
}

fn compile(clang: &str, includes: &[PathBuf], source: &str, object: &Path) {
    let mut command = Command::new(clang);
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Ibpf"]);
    for folder in includes {
        command.arg("-idirafter").arg(folder);
    }
    command.args(["-c", source, "-o"]).arg(object);
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => fail(&format!("{clang} refuses {source}:\n{}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => fail(&format!("{clang} does not run: {error}")),
    }
}

/// The constants and structs of `abi.h`, with the sizes and offsets that clang gave them asserted
/// at compile time.
fn generate(includes: &[PathBuf], file: &Path) {
    let builder = bindgen::Builder::default()
        .header(ABI)
        .clang_args(includes.iter().map(|folder| format!("-idirafter{}", folder.display())))
        .allowlist_file(".*abi\\.h")
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false)
        .use_core();
    // bindgen panics where it finds no libclang: its words name no package, ours do.
    std::panic::set_hook(Box::new(|_| {}));
    let bindings = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.generate())) {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => fail(&format!("{ABI} cannot be read: {error}")),
        Err(_) => missing("there is no libclang, which reads bpf/abi.h for the Rust side", "libclang-dev"),
    };
    drop(std::panic::take_hook());
    if let Err(error) = bindings.write_to_file(file) {
        fail(&format!("{} cannot be written: {error}", file.display()));
    }
}
