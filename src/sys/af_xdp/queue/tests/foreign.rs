//! What a compromised predecessor can leave in the rings.

use super::super::super::ring::fake::{self, memory};
use super::super::super::umem::Umem;
use super::super::*;
use crate::sys::interface::Interface;

const ENTRIES: u32 = 64;

/// Both ends of a ring, ours and the kernel's.
fn ring<E: crate::sys::af_xdp::ring::Entry>() -> (Producer<E>, Consumer<E>) {
    let fd = memory();
    let ends = (Producer::over(fake::ring(&fd, ENTRIES)), Consumer::over(fake::ring(&fd, ENTRIES)));
    (ends.0.unwrap(), ends.1.unwrap())
}

/// It can have sent any chunk, and can write to the ring itself.
#[test]
fn completions_of_what_is_no_transmit_chunk_are_an_error_once() {
    let interface = Interface { name: "none".into(), index: 0 };
    let settings = Settings { receive: ENTRIES, transmit: ENTRIES, huge_pages: false, ..Settings::new(interface, 1) };
    let area = Area::new(Arc::new(Umem::create(&settings).unwrap().0), &settings, 0);
    let (mut kernel, completion) = ring::<u64>();
    let (fill, _) = ring::<u64>();
    let (transmit, _) = ring::<Descriptor>();
    let receive_chunk = area.reclaim(3);
    area.set_owner(&receive_chunk, Owner::Fill(0));
    for address in [area.address(&receive_chunk), u64::MAX, area.address(&area.reclaim(ENTRIES as usize))] {
        kernel.put(address);
    }
    kernel.publish();
    let sent = [ArrayQueue::new(ENTRIES as usize)].into();
    let queue = Queue {
        area,
        number: 0,
        interface: "none".into(),
        rings: Mutex::new(Rings { fill, completion, taken_back: vec![false].into() }),
        returned: ArrayQueue::new(ENTRIES as usize),
        sent,
        receive: ENTRIES,
        transmit: ENTRIES,
    };
    // If a spare chunk's word says that it was sent, the entries are read before anything is taken
    // back.
    let spare = queue.spare(0).start;
    queue.area.set_owner(&queue.area.reclaim(spare), Owner::Sent);
    let taken: Vec<_> = queue.take_spare(0, &transmit).unwrap().iter().map(Chunk::number).collect();
    assert_eq!(taken, [spare as u32], "what is no chunk is passed over");
    assert!(matches!(queue.take_back_sent(0, &transmit), Err(XdpError::Foreign { .. })));
    assert_eq!(queue.take_back_sent(0, &transmit).unwrap().len(), ENTRIES as usize - 1, "all but the spare");
}
