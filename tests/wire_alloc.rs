//! No content of a frame makes the wire format allocate: a counting allocator watches reading and
//! writing.

use allocation_counter::measure;
use baton::limits::FRAME_BYTES_MAX;
use baton::wire::{
    DEFAULT_ETHERTYPE, Direction, Frame, Key, MeetingSummary, Record, ReportAck, Secret, TakeoverEntry, TakeoverResult,
    TerminalState, encode_message, encode_page,
};

/// Every frame of the vectors, good and bad.
fn frames() -> Vec<(String, Vec<u8>)> {
    let file: serde_json::Value = serde_json::from_str(include_str!("vectors/wire.json")).unwrap();
    let mut frames = Vec::new();
    for kind in ["good", "bad"] {
        for frame in file[kind].as_array().unwrap() {
            let hex = frame["frame"].as_str().unwrap();
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            frames.push((frame["name"].as_str().unwrap().to_owned(), bytes));
        }
    }
    frames
}

fn copy_records<R: Record>(frame: &Frame<'_>, key: &Key, buffer: &mut [u8]) -> usize {
    let Ok(page) = frame.page() else { return 0 };
    let Ok(records) = page.records::<R>() else { return 0 };
    let opcode = frame.opcode().unwrap();
    encode_page(buffer, &frame.envelope(), opcode, &frame.header(), (page.page, page.pages), records.flatten(), key).0
}

#[test]
fn reading_and_writing_frames_allocates_nothing() {
    let key = Key::derive(Some(&Secret([7; 32])), Direction::Dispatch);
    let mut buffer = [0; FRAME_BYTES_MAX];
    for (name, bytes) in frames() {
        // A reader gets the whole frame, every truncation of it, and the frame with each of its
        // bytes changed.
        let mut changed = bytes.clone();
        let info = measure(|| {
            for length in 0..=bytes.len() {
                read_and_write(&bytes[..length], &key, &mut buffer);
            }
            for at in 0..changed.len() {
                changed[at] ^= 0xFF;
                read_and_write(&changed, &key, &mut buffer);
                changed[at] ^= 0xFF;
            }
        });
        assert_eq!(info.count_total, 0, "{name}");
    }
}

fn read_and_write(bytes: &[u8], key: &Key, buffer: &mut [u8]) {
    let Ok(frame) = Frame::parse(bytes, DEFAULT_ETHERTYPE) else { return };
    let _ = (frame.authentic(key), frame.opcode());
    if let Ok(message) = frame.message() {
        encode_message(buffer, &frame.envelope(), &frame.header(), &message, key);
    }
    copy_records::<MeetingSummary>(&frame, key, buffer);
    copy_records::<TakeoverEntry>(&frame, key, buffer);
    copy_records::<TakeoverResult>(&frame, key, buffer);
    copy_records::<ReportAck>(&frame, key, buffer);
    copy_records::<TerminalState>(&frame, key, buffer);
}

/// The counter itself works: it notices an allocation.
#[test]
fn an_allocation_would_be_counted() {
    let info = measure(|| drop(std::hint::black_box(vec![1_u8; 32])));
    assert_eq!(info.count_total, 1);
}
