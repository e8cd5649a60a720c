//! The machine by hand-made answers; `simulation` holds it against an autonomous server written by somebody else.

mod audit;
mod cache;
mod doubt;
mod hand;
mod lookup;
mod machine;
mod shelf;
mod table;
mod takeover;
mod update;
