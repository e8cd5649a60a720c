//! The keeper: what outlives an engine.
//!
//! A small, privileged process with one thread that parses no frame. It opens what must survive an engine (the table, the
//! UMEM, the AF_XDP sockets, the pinned XDP link and maps, the API's listening socket), starts an engine without privileges,
//! hands it the descriptors ([`handover`]), sees it die, and starts the next.

pub mod handover;
