//! Where answers go, for every mark that the frames which they answer can bear.

use super::*;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 1, 0x6e]);
const THIRD: Mac = Mac([2, 0, 0, 0, 9, 9]);
const GROUP: Mac = Mac([0xff; 6]);

/// A report of a terminal's in a frame from and to these MAC addresses.
fn report_between(rig: &Rig, (src_mac, dst_mac): (Mac, Mac), version: u32, flags: FlagsHeader) {
    let from = domain().device(1);
    let header = Header { flags, meeting: MEETING, transaction: Transaction(version), ..Header::default() };
    rig.arrive_in(&Envelope { src_mac, dst_mac, ..envelope(from) }, header, &report(from, version));
}

/// What is sent: where to, where from, its VLAN tag.
fn sent(rig: &Rig) -> Vec<(Mac, Mac, Option<u16>)> {
    let sent = std::iter::from_fn(|| rig.ring.sent());
    sent.map(|bytes| {
        let Envelope { dst_mac, src_mac, vlan, .. } = Frame::parse(&bytes, ETHERTYPE).unwrap().envelope();
        (dst_mac, src_mac, vlan)
    })
    .collect()
}

#[test]
fn acknowledgements_go_to_the_next_hop_even_if_another_repeats_a_report() {
    let mut rig = Rig::new(4, 16);
    report_between(&rig, (THEIRS, OWN), 1, FlagsHeader::default());
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!(sent(&rig), [(THEIRS, OWN, None)]);
    // The same again from elsewhere, first of all, and a new one.
    report_between(&rig, (THIRD, OWN), 1, FlagsHeader::default());
    report_between(&rig, (THEIRS, OWN), 2, FlagsHeader::default());
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!(sent(&rig), [(THEIRS, OWN, None)]);
    assert_eq!(rig.count(Counter::Acknowledged), 3);
}

#[test]
fn what_asks_for_an_answer_of_its_own_gets_it_where_it_asked() {
    let mut rig = Rig::new(4, 16);
    report_between(&rig, (THIRD, OWN), 1, FlagsHeader::ACK_NOW);
    rig.step();
    assert_eq!(sent(&rig), [(THIRD, OWN, None)]);
}

#[test]
fn what_is_sent_to_a_group_is_answered_by_the_interface_and_a_group_is_never_answered() {
    let mut rig = Rig::new(4, 16);
    report_between(&rig, (THEIRS, GROUP), 1, FlagsHeader::ACK_NOW);
    report_between(&rig, (GROUP, OWN), 2, FlagsHeader::ACK_NOW);
    rig.step();
    assert_eq!(sent(&rig), [(THEIRS, OWN, None)]);
    assert_eq!(rig.shared.peers.peer(0).seen().map(|hop| hop.mac), Some(THEIRS), "a group is no place");
    // What is for the control thread bears the interface's address there.
    rig.arrive_in(
        &Envelope { dst_mac: GROUP, ..envelope(domain().server()) },
        Header::default(),
        &Message::Heartbeat { sent_ns: 5 },
    );
    rig.step();
    let to = rig.shared.inbox.take(|bytes, _| Frame::parse(bytes, ETHERTYPE).unwrap().envelope().dst_mac);
    assert_eq!(to, Some(OWN));
}

#[test]
fn answers_bear_the_tag_of_the_link_where_the_interface_took_it_off() {
    let mut rig = Rig::on_vlan(Some(100), 4, 16);
    for flags in [FlagsHeader::ACK_NOW, FlagsHeader::default()] {
        report_between(&rig, (THEIRS, OWN), 1, flags);
        rig.step();
        rig.wait_for_acknowledgements();
        assert_eq!(sent(&rig), [(THEIRS, OWN, Some(100))], "{flags:?}");
    }
}

#[test]
fn a_page_for_a_hop_at_another_interface_leaves_by_a_worker_there() {
    let mut rig = Rig::new(4, 16);
    let own = [OWN, Mac([2, 0, 0, 0, 0, 2])];
    let interface = Some(1);
    let domains = [AutonomousDomain {
        number: domain(),
        mac: Some(THEIRS),
        interface,
        vlan: None,
        label: None,
        secret: Some(SECRET),
        behind: Vec::new(),
    }];
    let topology = Topology::with(&domains, dispatch(), ETHERTYPE, &own, Heartbeat::default());
    // A poll takes one waker.
    let polls = [(); 3].map(|()| Poll::new().unwrap());
    let [here, over_there, inbox] = polls.each_ref().map(|poll| Waker::new(poll.registry(), Token(0)).unwrap());
    let there = Arc::new(FrameQueue::new(4));
    let steered = (ETHERTYPE, Some(9));
    let shared = Shared::new(dispatch(), steered, Arc::new(Peers::new(&topology)), FrameQueue::new(4), inbox, true);
    let ways = [(Arc::clone(&rig.outbox), Arc::new(here)), (Arc::clone(&there), Arc::new(over_there))];
    assert!(shared.ways.set(ways.into()).is_ok());
    rig.shared = Arc::new(shared);
    rig.start();
    report_between(&rig, (THEIRS, OWN), 1, FlagsHeader::default());
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!(sent(&rig), []);
    let left = there.take(|bytes, _| Frame::parse(bytes, ETHERTYPE).unwrap().envelope());
    assert_eq!(left.map(|envelope| (envelope.dst_mac, envelope.src_mac)), Some((THEIRS, own[1])));
}

#[test]
fn what_waits_to_be_acknowledged_when_a_domain_is_given_up_is_not() {
    let mut rig = Rig::new(8, 8);
    rig.report(1, 2, FlagsHeader::default());
    rig.step();
    assert_eq!(rig.count(Counter::ReportsApplied), 1);
    rig.shared.peers.peer(0).fence();
    rig.wait_for_acknowledgements();
    assert_eq!(rig.acknowledged(), [], "nothing under our epoch, which may be above the other's");
}
