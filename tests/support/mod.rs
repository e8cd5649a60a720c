//! What tests share.
#![allow(dead_code, reason = "every test takes what it needs")]

pub mod netns;
pub mod probe;
pub mod server;
