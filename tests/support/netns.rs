//! Network namespaces of a test's own, joined by a veth pair, gone when the test is.

pub use baton::lab::testbed::need_root;
pub use baton::lab::testbed::netns::{Pair, Side};

/// Two namespaces, and in each one end of a veth pair, `left` and `right`, with this many queues.
pub fn veth_pair(queues: u32) -> Pair {
    need_root("network namespaces and XDP");
    Pair::new(queues).unwrap_or_else(|error| panic!("{error}"))
}
