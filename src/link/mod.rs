//! link
pub mod engine;
