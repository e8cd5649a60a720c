//! The example, which a test holds against the defaults.

/// What `baton config example` prints: every key, its default, and what it does.
pub const EXAMPLE: &str = include_str!("example.toml");
