//! Baton: a V2V conference dispatch server that survives its own death.

pub mod cascade;
pub mod cli;
pub mod cms;
pub mod config;
pub mod keeper;
pub mod limits;
pub mod link;
pub mod recovery;
pub mod sdk;
pub mod sim;
pub mod sys;
pub mod table;
pub mod telemetry;
pub mod time;
pub mod wire;
