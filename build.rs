//! Compiles `bpf/` and generates the structs that it shares with Rust.
fn main() {}
