//! `bpf/abi.h` in Rust, made by bindgen: constants and structs, with their sizes and offsets
//! asserted as clang laid them out.
#![allow(missing_docs, non_camel_case_types, clippy::all, reason = "generated; bpf/abi.h bears the comments")]

include!(concat!(env!("OUT_DIR"), "/abi.rs"));
