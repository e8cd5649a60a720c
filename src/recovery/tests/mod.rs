//! The machine by hand-made answers; `simulation` holds it against an autonomous server written by
//! somebody else.

mod agreement;
mod audit;
mod cache;
mod doubt;
mod fake_store;
mod kept;
mod lookup;
mod machine;
mod mend;
mod random;
mod refresh;
mod scripted_peer;
mod table;
mod takeover;
mod trust;
mod update;
mod warm;
