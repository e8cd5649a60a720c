//! Which link is taken, when it is up, and when another is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::Overrides;

mod exchange;

impl Exchanges for BTreeMap<Domain, Exchange> {
    fn exchange(&mut self, domain: Domain) -> Option<&mut Exchange> {
        self.get_mut(&domain)
    }
}

const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OWN_SECOND: Mac = Mac([2, 0, 0, 0, 0, 2]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 1, 0x6e]);
const ELSEWHERE: Mac = Mac([2, 0, 0, 0, 9, 9]);
const SECOND: Duration = Duration::from_secs(1);

/// Domains 1 (learned) and 366 (configured, on a VLAN, with a label); a heartbeat a second, down
/// after three, up after two.
fn topology() -> Topology {
    let text = "
        [interface]
        name = [\"eth0\", \"eth1\"]
        [heartbeat]
        interval_ms = 1000
        down_after = 3
        up_after = 2
        [[domain]]
        number = 366
        mac = \"02:00:00:00:01:6e\"
        vlan = 7
        label = 16
        secret = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"
        [[domain]]
        number = 1
        insecure_no_authentication = true";
    Topology::new(&Config::parse(Path::new("test"), text, &Overrides::default()).unwrap(), &[OWN, OWN_SECOND])
}

/// A MAC address at our first interface.
fn first(mac: Mac) -> Hop {
    Hop { interface: 0, mac }
}

fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

fn at(seconds: u64) -> Nanos {
    Nanos(1_000_000_000_000) + SECOND * seconds as u32
}

/// Sends every heartbeat that is due; gives to whom.
fn beat(topology: &mut Topology, now: Nanos) -> Vec<u64> {
    let mut to = Vec::new();
    while let Some((envelope, header, message)) = topology.poll_transmit(now, Epoch::new(3, 7), &mut BTreeMap::new()) {
        assert_eq!(message, Message::Heartbeat { sent_ns: now.0 });
        assert_eq!(header.epoch, Epoch::new(3, 7));
        to.push(envelope.to.domain().unwrap().number());
    }
    to
}

#[test]
fn a_configured_next_hop_is_where_frames_go() {
    let topology = topology();
    let envelope = topology.next_hop(domain(366)).unwrap();
    assert_eq!((envelope.dst_mac, envelope.src_mac), (THEIRS, OWN));
    assert_eq!((envelope.vlan, envelope.label), (Some(7), Some(16)));
    assert_eq!((envelope.to.to_string(), envelope.from.to_string()), ("366/0".into(), "1/65535".into()));
    let terminal = topology.next_hop_to("366/1001".parse().unwrap()).unwrap();
    assert_eq!(terminal.to.to_string(), "366/1001");
    assert!(topology.next_hop(domain(5)).is_none(), "nobody named that domain");
}

#[test]
fn frames_leave_by_the_interface_at_which_the_next_hop_is() {
    let mut topology = topology();
    let second = Hop { interface: 1, mac: THEIRS };
    assert!(topology.handle_authentic(domain(1), second));
    assert_eq!(topology.next_hop(domain(1)).unwrap().src_mac, OWN_SECOND);
    assert_eq!(Hop::from_number(second.number()), second);
    // One that we do not have: such a next hop was learned before the configuration changed.
    let mut topology = self::topology();
    assert!(!topology.handle_authentic(domain(1), Hop { interface: 2, mac: THEIRS }));
    assert!(topology.next_hop(domain(1)).is_none());
    assert!(topology.handle_authentic(domain(1), first(THEIRS)));
    assert_eq!(topology.next_hop(domain(1)).unwrap().src_mac, OWN);
}

#[test]
fn a_domain_that_is_at_one_interface_is_learned_there_alone() {
    let text = "[interface]\nname = [\"eth0\", \"eth1\"]\n[[domain]]\nnumber = 2\ninterface = \"eth1\"\ninsecure_no_authentication = true";
    let config = Config::parse(Path::new("test"), text, &Overrides::default()).unwrap();
    let mut topology = Topology::new(&config, &[OWN, OWN_SECOND]);
    assert!(!topology.handle_authentic(domain(2), first(THEIRS)));
    assert!(topology.handle_authentic(domain(2), Hop { interface: 1, mac: THEIRS }));
    assert_eq!(topology.next_hop(domain(2)).unwrap().src_mac, OWN_SECOND);
}

#[test]
fn keys_of_the_two_directions_differ() {
    let topology = topology();
    let route = topology.route(domain(366)).unwrap();
    assert_ne!(route.to_it, route.from_it);
    assert_eq!(topology.route(domain(1)).unwrap().to_it, Key::Unauthenticated);
}

#[test]
fn a_next_hop_is_learned_and_the_first_heartbeat_follows_at_once() {
    let mut topology = topology();
    assert!(topology.next_hop(domain(1)).is_none());
    assert_eq!(beat(&mut topology, at(0)), [366]);
    assert!(topology.handle_authentic(domain(1), first(THEIRS)));
    assert_eq!(topology.next_hop(domain(1)).unwrap().dst_mac, THEIRS);
    assert_eq!(beat(&mut topology, at(0)), [1]);
    assert!(!topology.handle_authentic(domain(1), first(THEIRS)), "nothing new");
}

#[test]
fn a_configured_next_hop_is_not_learned_over() {
    let mut topology = topology();
    assert!(!topology.handle_authentic(domain(366), first(ELSEWHERE)));
    assert_eq!(topology.next_hop(domain(366)).unwrap().dst_mac, THEIRS);
}

#[test]
fn a_recorded_frame_from_elsewhere_moves_no_link_that_is_up() {
    let mut topology = topology();
    topology.handle_authentic(domain(1), first(THEIRS));
    beat(&mut topology, at(0));
    topology.handle_heartbeat_ack(at(0), domain(1), at(0), 5);
    assert!(!topology.handle_authentic(domain(1), first(ELSEWHERE)));
    assert_eq!(topology.next_hop(domain(1)).unwrap().dst_mac, THEIRS);
    for second in 1..=4 {
        beat(&mut topology, at(second));
    }
    assert_eq!(topology.link(domain(1)).unwrap().state(), LinkState::Down);
}

/// A heartbeat a second, each answered if it goes there, while `meanwhile` happens; gives where
/// they went.
fn beats(
    topology: &mut Topology,
    seconds: std::ops::Range<u64>,
    there: Mac,
    mut meanwhile: impl FnMut(&mut Topology, u64),
) -> Vec<Mac> {
    let mut went = Vec::new();
    for second in seconds {
        meanwhile(topology, second);
        while let Some((envelope, _, _)) = topology.poll_transmit(at(second), Epoch::new(3, 7), &mut BTreeMap::new()) {
            if envelope.to.domain() != Some(domain(1)) {
                continue;
            }
            went.push(envelope.dst_mac);
            if envelope.dst_mac == there {
                topology.handle_heartbeat_ack(at(second), domain(1), at(second), 5);
            }
        }
    }
    went
}

#[test]
fn old_frames_from_elsewhere_do_not_keep_a_link_that_is_down_from_its_server() {
    let mut topology = topology();
    topology.handle_authentic(domain(1), first(THEIRS));
    let nowhere = Mac([2, 0, 0, 0, 8, 8]);
    beats(&mut topology, 0..2, THEIRS, |_, _| {});
    beats(&mut topology, 2..8, nowhere, |_, _| {});
    assert_eq!(topology.link(domain(1)).unwrap().state(), LinkState::Down);
    // The server only answers, and somebody repeats what it once said, from one address and from
    // ever others.
    let went = beats(&mut topology, 8..40, THEIRS, |topology, second| {
        topology.handle_authentic(domain(1), first(ELSEWHERE));
        topology.handle_authentic(domain(1), first(Mac([2, 0, 0, 0, 7, second as u8])));
    });
    assert_eq!(topology.link(domain(1)).unwrap().state(), LinkState::Up);
    assert_eq!(topology.next_hop(domain(1)).unwrap().dst_mac, THEIRS);
    assert!(went[went.len() - 24..].iter().all(|mac| *mac == THEIRS), "and it stays there: {went:?}");
    let events: Vec<_> = std::iter::from_fn(|| topology.poll_event()).collect();
    assert!(!events.iter().any(|event| matches!(event, LinkEvent::Moved(..))), "it has not moved: {events:?}");
}

#[test]
fn a_server_that_speaks_from_elsewhere_now_is_found_there() {
    let mut topology = topology();
    topology.handle_authentic(domain(1), first(THEIRS));
    assert!(topology.take_turned() && !topology.take_turned());
    beats(&mut topology, 0..2, THEIRS, |_, _| {});
    let moved = Hop { interface: 1, mac: ELSEWHERE };
    let went = beats(&mut topology, 2..20, ELSEWHERE, |topology, _| {
        topology.handle_authentic(domain(1), moved);
    });
    assert!(went.contains(&THEIRS) && went.contains(&ELSEWHERE), "{went:?}");
    assert_eq!(topology.route(domain(1)).unwrap().hop(), Some(moved));
    assert!(topology.take_turned());
    let events: Vec<_> = std::iter::from_fn(|| topology.poll_event()).collect();
    assert!(events.contains(&LinkEvent::Moved(domain(1), moved)), "{events:?}");
}

#[test]
fn an_answer_goes_by_the_domains_way_to_who_asked() {
    let topology = topology();
    let marks = |number| topology.route(domain(number)).unwrap().marks;
    let asked = Envelope {
        dst_mac: Mac([0xff; 6]),
        src_mac: ELSEWHERE,
        vlan: None,
        ethertype: 0x88B5,
        to: "1/65535".parse().unwrap(),
        from: "366/7".parse().unwrap(),
        label: None,
    };
    // Its VLAN tag was taken off by the interface: the answer bears that of the link.
    let answer = marks(366).answer(&asked, OWN).unwrap();
    let expected = Envelope { dst_mac: ELSEWHERE, src_mac: OWN, vlan: Some(7), label: Some(16), ..asked };
    assert_eq!(answer, Envelope { to: asked.from, from: asked.to, ..expected });
    // Where none is configured, what it bears is kept.
    let answer = marks(1).answer(&Envelope { vlan: Some(9), ..asked }, OWN).unwrap();
    assert_eq!((answer.vlan, answer.label, answer.src_mac), (Some(9), None, OWN));
    assert_eq!(marks(1).answer(&Envelope { src_mac: Mac([3, 0, 0, 0, 0, 1]), ..asked }, OWN), None);
}

#[test]
fn a_group_address_is_not_learned() {
    let mut topology = topology();
    assert!(!topology.handle_authentic(domain(1), first(Mac([0xff; 6]))));
    assert!(topology.next_hop(domain(1)).is_none());
}

#[test]
fn a_link_goes_down_after_three_unanswered_and_comes_up_after_two_answers() {
    let mut topology = topology();
    let state = |topology: &Topology| topology.link(domain(366)).unwrap().state();
    // Domain 1, which nobody has heard of, goes down meanwhile.
    let event = |topology: &mut Topology| {
        std::iter::from_fn(|| topology.poll_event()).find(|event| *event != LinkEvent::Down(domain(1)))
    };
    assert_eq!(state(&topology), LinkState::Unknown);
    beat(&mut topology, at(0));
    topology.handle_heartbeat_ack(at(0) + SECOND / 4, domain(366), at(0), 12);
    assert_eq!(event(&mut topology), Some(LinkEvent::Up(domain(366))), "the first answer of all is enough");
    let link = topology.link(domain(366)).unwrap();
    assert_eq!((link.meetings_held(), link.round_trip()), (12, Some(SECOND / 4)));
    for second in 1..=3 {
        beat(&mut topology, at(second));
        assert_eq!(state(&topology), LinkState::Up);
    }
    beat(&mut topology, at(4));
    assert_eq!(state(&topology), LinkState::Down);
    assert_eq!(event(&mut topology), Some(LinkEvent::Down(domain(366))));
    topology.handle_heartbeat_ack(at(4), domain(366), at(4), 12);
    assert_eq!(state(&topology), LinkState::Down, "one answer is not two");
    beat(&mut topology, at(5));
    topology.handle_heartbeat_ack(at(5), domain(366), at(5), 12);
    assert_eq!(state(&topology), LinkState::Up);
    assert_eq!(event(&mut topology), Some(LinkEvent::Up(domain(366))));
    assert_eq!(event(&mut topology), None);
}

#[test]
fn an_answer_that_is_old_repeated_or_from_the_future_keeps_nothing_up() {
    let mut topology = topology();
    beat(&mut topology, at(0));
    topology.handle_heartbeat_ack(at(0), domain(366), at(0), 1);
    for second in 1..=4 {
        beat(&mut topology, at(second));
        topology.handle_heartbeat_ack(at(second), domain(366), at(0), 1);
        topology.handle_heartbeat_ack(at(second), domain(366), at(100), 1);
        topology.handle_heartbeat_ack(at(second), domain(366), Nanos(5), 1);
    }
    assert_eq!(topology.link(domain(366)).unwrap().state(), LinkState::Down);
}

#[test]
fn a_link_that_never_answered_goes_down_too() {
    let mut topology = topology();
    for second in 0..=3 {
        beat(&mut topology, at(second));
    }
    assert_eq!(topology.link(domain(366)).unwrap().state(), LinkState::Down);
}

#[test]
fn heartbeats_come_once_an_interval_and_are_not_made_up_for() {
    let mut topology = topology();
    topology.handle_authentic(domain(1), first(THEIRS));
    assert_eq!(beat(&mut topology, at(0)).len(), 2);
    assert_eq!(beat(&mut topology, at(0)).len(), 0);
    assert_eq!(topology.poll_timeout(), Some(at(1)));
    assert_eq!(beat(&mut topology, at(100)).len(), 2, "one each after a long pause");
    assert_eq!(topology.poll_timeout(), Some(at(101)));
}

#[test]
fn events_that_nobody_fetches_stay_bounded() {
    let mut topology = topology();
    let mut now = 0;
    for _ in 0..100 {
        for _ in 0..5 {
            beat(&mut topology, at(now));
            now += 1;
        }
        for _ in 0..2 {
            beat(&mut topology, at(now));
            topology.handle_heartbeat_ack(at(now), domain(366), at(now), 1);
            now += 1;
        }
    }
    assert!(std::iter::from_fn(|| topology.poll_event()).count() <= 2 * EVENTS_A_LINK);
}

#[test]
fn an_answer_counts_once_and_for_a_heartbeat_that_was_sent_a_short_while_ago() {
    let mut topology = topology();
    for second in 0..=6 {
        beat(&mut topology, at(second));
    }
    let mut counts = |sent| topology.handle_heartbeat_ack(at(6), domain(366), sent, 1);
    assert!(!counts(at(6) - SECOND / 2), "no heartbeat bore that time");
    assert!(!counts(at(2)), "of before those after which the link is down");
    assert!(counts(at(5)) && !counts(at(5)), "once");
    assert!(!counts(at(4)), "a later one was answered before");
    assert!(counts(at(6)));
}
