//! More arrives than a worker can do: what it sheds, in which order, and that control passes.

use super::*;
use crate::limits::{BUSY_PAUSE_NS, BUSY_RETRY_NS, LOOK_AHEAD, SHED_AT};

impl Rig {
    /// So many reports of one terminal, all of one version.
    fn reports(&self, count: usize, version: u32) {
        (0..count).for_each(|_| self.report(1, version, FlagsHeader::default()));
    }

    fn probe(&self) {
        self.arrive(domain().server(), Header::default(), &Message::Probe { sent_ns: 3, sequence: 9 });
    }

    fn heartbeat(&self, sent_ns: u64) {
        self.arrive(
            domain().server(),
            Header::default(),
            &Message::HeartbeatAck { sent_ns, held: 1, boot_generation: 1, age: 0, highest_epoch: Epoch::NONE },
        );
    }

    fn counts<const N: usize>(&self, counters: [Counter; N]) -> [u64; N] {
        counters.map(|counter| self.count(counter))
    }

    /// Steps until nothing waits.
    fn drain(&mut self) {
        while self.ring.unreleased() > 0 {
            self.wait_for_acknowledgements();
        }
    }
}

const SHED: [Counter; 3] = [Counter::ShedKnown, Counter::ShedReports, Counter::ShedProbes];

#[test]
fn without_a_backlog_nothing_is_shed() {
    let mut rig = Rig::new(8, 64);
    rig.reports(SHED_AT[0] - 1, 5);
    rig.drain();
    assert_eq!((rig.counts(SHED), rig.count(Counter::Overloads)), ([0; 3], 0));
    assert_eq!(rig.count(Counter::Acknowledged), SHED_AT[0] as u64 - 1);
}

#[test]
fn first_reports_that_change_nothing_are_shed_and_those_that_do_are_acknowledged() {
    let mut rig = Rig::new(8, 64);
    rig.report(1, 5, FlagsHeader::default());
    rig.report(2, 5, FlagsHeader::default());
    rig.drain();
    assert_eq!(rig.acknowledged().len(), 2);

    rig.reports(SHED_AT[0], 5);
    rig.report(2, 6, FlagsHeader::default());
    rig.report(9, 1, FlagsHeader::default());
    rig.step();
    assert_eq!((rig.counts(SHED), rig.count(Counter::Overloads)), ([LOOK_AHEAD as u64, 0, 0], 1));
    // The backlog is gone, and with it the overload: one step for each step.
    rig.step();
    rig.step();
    rig.reports(1, 5);
    rig.drain();
    let busy = rig.ring.sent().unwrap();
    assert_eq!(Frame::parse(&busy, ETHERTYPE).unwrap().header().status, Status::Busy.wire());
    let told = rig.acknowledged();
    assert!(told.contains(&(domain().device(2), 6, Status::Ok)), "{told:?}");
    assert!(told.contains(&(domain().device(9), 1, Status::UnknownTerminal)), "{told:?}");
    assert!(told.contains(&(domain().device(1), 5, Status::Ok)), "back to normal: {told:?}");
    assert_eq!(rig.count(Counter::ShedKnown), LOOK_AHEAD as u64);
}

#[test]
fn then_all_reports_then_probes_and_what_is_shed_changes_and_acknowledges_nothing() {
    let mut rig = Rig::new(8, 64);
    rig.probe();
    rig.reports(SHED_AT[1], 5);
    rig.step();
    assert_eq!(rig.counts(SHED), [0, LOOK_AHEAD as u64 - 1, 0]);
    assert_eq!(rig.count(Counter::ProbesEchoed), 1, "probes pass where reports do not");

    rig.probe();
    rig.reports(SHED_AT[2], 5);
    (0..4).for_each(|_| rig.step());
    let [known, _, probes] = rig.counts(SHED);
    assert_eq!((known, probes, rig.count(Counter::ProbesEchoed)), (0, 1, 1));
    assert_eq!((rig.count(Counter::Acknowledged), rig.count(Counter::ReportsApplied)), (0, 0));
    assert_eq!(rig.table.terminal(domain().device(1)).unwrap().version, 0);

    // What is left when the backlog is down is done, and the terminal's repetition of what was shed
    // as well.
    rig.drain();
    let counts = [Counter::ReportsApplied, Counter::ReportsKnown].into_iter().map(|it| rig.count(it)).sum::<u64>();
    assert_eq!(rig.count(Counter::Acknowledged), counts);
    assert_eq!(counts + rig.counts(SHED).iter().sum::<u64>() + 1, rig.count(Counter::Received));
}

#[test]
fn control_frames_pass_before_any_report_of_the_backlog_and_only_a_full_queue_refuses_them() {
    let mut rig = Rig::new(4, 64);
    rig.reports(SHED_AT[0] - 5, 5);
    (1..=5).for_each(|sent_ns| rig.heartbeat(sent_ns));
    rig.reports(SHED_AT[2], 6);
    rig.step();
    assert_eq!(rig.counts([Counter::ToControl, Counter::ControlOverflow]), [4, 1]);
    for sent_ns in 1..=4 {
        let seen = rig.shared.inbox.take(|bytes, _| Frame::parse(bytes, ETHERTYPE).unwrap().message());
        assert_eq!(
            seen,
            Some(Ok(Message::HeartbeatAck {
                sent_ns,
                held: 1,
                boot_generation: 1,
                age: 0,
                highest_epoch: Epoch::NONE
            })),
            "in their order"
        );
    }
}

#[test]
fn who_is_shed_is_told_so_now_and_then_if_he_is_authentic() {
    let mut rig = Rig::new(8, 64);
    let mut buffer = [0; crate::limits::FRAME_BYTES_MAX];
    let header = Header { meeting: MEETING, ..Header::default() };
    let forged = Key::derive(Some(&SECRET), Direction::Dispatch);
    let terminal = domain().device(1);
    let length = encode_message(&mut buffer, &envelope(terminal), &header, &report(terminal, 4), &forged);
    rig.ring.arrive(&buffer[..length], None);
    rig.reports(3 * SHED_AT[2], 5);
    rig.step();
    rig.step();
    assert_eq!(rig.count(Counter::BusyTold), 1, "once, however many are shed");
    rig.now = rig.now + Duration::from_nanos(BUSY_PAUSE_NS);
    rig.step();
    assert_eq!(rig.count(Counter::BusyTold), 2);
    let sent = rig.ring.sent().unwrap();
    let busy = Frame::parse(&sent, ETHERTYPE).unwrap();
    assert!(busy.authentic(&Key::derive(Some(&SECRET), Direction::Dispatch)));
    assert_eq!((busy.envelope().to, busy.header().transaction), (terminal, Transaction(5)));
    let said = Message::Refused { opcode: Opcode::ReportAck.wire(), status: Status::Busy, value: BUSY_RETRY_NS };
    assert_eq!(busy.message(), Ok(said));
}

#[test]
fn what_a_dead_worker_had_shed_and_not_released_its_successor_receives() {
    let mut rig = Rig::new(8, 64);
    rig.reports(LOOK_AHEAD / 2, 5);
    // Shed at the very first look, and held until the acknowledgements before it are out.
    rig.reports(SHED_AT[2], 6);
    let all = rig.ring.unreleased();
    let worker = rig.worker.as_mut().unwrap();
    worker.step(rig.now);
    let left = rig.ring.unreleased();
    assert_eq!(all - left, LOOK_AHEAD, "released with the burst that they were shed with");
    rig.start();
    rig.drain();
    assert_eq!(rig.table.terminal(domain().device(1)).unwrap().version, 6);
}
