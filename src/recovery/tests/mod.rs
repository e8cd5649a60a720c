//! The machine by hand-made answers; `simulation` holds it against an autonomous server written by somebody else.

mod agreement;
mod audit;
mod cache;
mod doubt;
mod hand;
mod lookup;
mod machine;
mod random;
mod shelf;
mod table;
mod takeover;
mod trust;
mod update;
