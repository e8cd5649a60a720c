//! The example configuration. A test compares it with the defaults.

/// Printed by `baton config example`: every key, its default, and what it does.
pub const EXAMPLE: &str = include_str!("example.toml");
