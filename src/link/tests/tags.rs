//! Tags are compared side by side, and each frame is believed by its own.

use super::*;
use crate::sys::cmac::LANES;

/// Frames of a burst, a version of terminal 1 each: a frame that is believed shows by its version.
fn burst(frames: usize) -> Vec<Vec<u8>> {
    let key = Key::derive(Some(&SECRET), Direction::Autonomous);
    let terminal = domain().device(1);
    let write = |version| {
        let mut buffer = [0; crate::limits::FRAME_BYTES_MAX];
        let header = Header { meeting: MEETING, transaction: Transaction(version), ..Header::default() };
        let length = encode_message(&mut buffer, &envelope(terminal), &header, &report(terminal, version), &key);
        buffer[..length].to_vec()
    };
    (1..=frames as u32).map(write).collect()
}

/// Its versions of the terminal that were believed.
fn believed(frames: &[Vec<u8>]) -> (u64, u64, u32) {
    let mut rig = Rig::new(4, 64);
    frames.iter().for_each(|frame| rig.ring.arrive(frame, None));
    rig.step();
    let version = rig.table.terminal(domain().device(1)).unwrap().version;
    (rig.count(Counter::ReportsApplied), rig.count(Counter::Unauthentic), version)
}

#[test]
fn one_forged_frame_in_any_lane_is_the_one_that_is_not_believed() {
    for frames in [1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES + 3] {
        let good = burst(frames);
        assert_eq!(believed(&good), (frames as u64, 0, frames as u32));
        for lane in 0..frames {
            let tag = good[lane].len() - 16;
            // A bit of the tag, of the body, and the tag of the frame beside it.
            let mut forged = vec![good[lane].clone(), good[lane].clone()];
            forged[0][tag + lane % 16] ^= 0x80;
            forged[1][60] ^= 4;
            if frames > 1 {
                let beside = &good[(lane + 1) % frames];
                forged.push([&good[lane][..tag], &beside[tag..]].concat());
            }
            for bad in forged {
                let mut frames_now = good.clone();
                frames_now[lane] = bad;
                let last = if lane + 1 == frames { frames - 1 } else { frames };
                assert_eq!(believed(&frames_now), (frames as u64 - 1, 1, last as u32), "lane {lane} of {frames}");
            }
        }
    }
}

/// A frame that differs in length, or has a label, changes nothing about those beside it.
#[test]
fn frames_of_every_kind_go_side_by_side() {
    let key = Key::derive(Some(&SECRET), Direction::Autonomous);
    let mut frames = burst(LANES);
    let state = TerminalState { version: 50, ..TerminalState::from(&super::terminal(2)) };
    let mut buffer = [0; crate::limits::FRAME_BYTES_MAX];
    let header = Header { meeting: MEETING, ..Header::default() };
    let server = envelope(domain().server());
    let (length, _) = encode_page(&mut buffer, &server, Opcode::ReportInfo, &header, (0, 1), [state], &key);
    frames.insert(3, buffer[..length].to_vec());
    let labelled = Envelope { label: Some(9), ..envelope(domain().device(3)) };
    let length = encode_message(&mut buffer, &labelled, &header, &report(domain().device(3), 60), &key);
    frames.insert(5, buffer[..length].to_vec());
    let mut rig = Rig::new(4, 64);
    frames.iter().for_each(|frame| rig.ring.arrive(frame, None));
    rig.step();
    let version = |device| rig.table.terminal(domain().device(device)).unwrap().version;
    assert_eq!((version(1), version(2), version(3)), (LANES as u32, 50, 60));
    assert_eq!(rig.count(Counter::Unauthentic), 0);
}
