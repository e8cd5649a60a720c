//! The dissector for Wireshark compared with Baton's own parser: captures of the load generator,
//! the vectors, and garbage.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use baton::wire::{
    DEFAULT_ETHERTYPE, Epoch, Frame, Link, Malformed, MeetingSummary, Opcode, PacketType, ReportAck, Status,
    TakeoverEntry, TakeoverResult, TerminalState,
};
use serde_json::Value;
use tempfile::TempDir;

/// BEAT is a message between dispatch servers of a cluster. It is not an opcode of an autonomous
/// server.
const BEAT: u8 = 0x60;

/// The name of a fault in the dissector's `v2v.malformed`.
fn name(malformed: Malformed) -> &'static str {
    match malformed {
        Malformed::Short => "short",
        Malformed::EtherType => "ethertype",
        Malformed::PacketType => "packet_type",
        Malformed::Version => "version",
        Malformed::Opcode => "opcode",
        Malformed::Payload => "payload",
        Malformed::Value => "value",
        Malformed::Page => "page",
        Malformed::Record => "record",
    }
}

/// The fault of a frame, according to Baton's own parser.
fn verdict(bytes: &[u8]) -> Option<Malformed> {
    read(bytes).err()
}

fn read(bytes: &[u8]) -> Result<(), Malformed> {
    let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE)?;
    let header = frame.header();
    let refused = Status::from_wire(header.status).is_some_and(|status| !status.is_success());
    let opcode = match frame.opcode() {
        Err(Malformed::Opcode) if frame.opcode_raw() == BEAT => {
            let page = !refused && frame.packet_type() != PacketType::Protocol;
            return match Status::from_wire(header.status) {
                _ if page => Err(Malformed::Payload),
                None => Err(Malformed::Value),
                Some(_) => Ok(()),
            };
        }
        // An answer to an opcode that its sender did not know.
        Err(Malformed::Opcode) if refused && frame.is_error_answer() => return Ok(()),
        opcode => opcode?,
    };
    if refused || !opcode.is_page() {
        frame.message()?;
        if opcode == Opcode::Report && !refused {
            frame.report()?;
        }
        return Ok(());
    }
    // Baton does not use the status of a page that is not a refusal; an undefined number is a fault
    // all the same.
    Status::from_wire(header.status).ok_or(Malformed::Value)?;
    let page = frame.page()?;
    match opcode {
        Opcode::Info => page.records::<MeetingSummary>()?.try_for_each(|record| record.map(drop))?,
        Opcode::TakeoverBatch => page.records::<TakeoverEntry>()?.try_for_each(|record| record.map(drop))?,
        Opcode::TakeoverBatchAck => page.records::<TakeoverResult>()?.try_for_each(|record| record.map(drop))?,
        Opcode::ReportAckBatch => page.records::<ReportAck>()?.try_for_each(|record| record.map(drop))?,
        Opcode::Topology => page.records::<Link>()?.try_for_each(|record| record.map(drop))?,
        _ => page.records::<TerminalState>()?.try_for_each(|record| record.map(drop))?,
    }
    Ok(())
}

/// A capture of these frames, in the classic format.
fn capture<'a>(place: &Path, frames: impl IntoIterator<Item = &'a [u8]>) -> PathBuf {
    let mut file: Vec<u8> = [0xA1B2_C3D4, 0x0002_0004, 0, 0, 65535, 1].into_iter().flat_map(u32::to_be_bytes).collect();
    for (second, frame) in (1..).zip(frames) {
        let length = frame.len() as u32;
        file.extend([second, 0, length, length].into_iter().flat_map(u32::to_be_bytes));
        file.extend(frame);
    }
    let path = place.join("frames.pcap");
    fs::write(&path, file).unwrap();
    path
}

/// The frames of a capture that `baton load` wrote.
fn frames_of(capture: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(capture).unwrap();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let end = at + 16 + word(at + 8);
        frames.push(bytes[at + 16..end].to_vec());
        at = end;
    }
    frames
}

/// What tshark shows of each frame: by field, all its values in their order. The dissector never
/// fails.
fn shown(capture: &Path, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wireshark/v2v.lua");
    let output = Command::new("tshark")
        .args(["-X", &format!("lua_script:{}", script.display()), "-n", "-r"])
        .arg(capture)
        .args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=;", "-E", "occurrence=a"])
        .args(fields.iter().chain(&["_ws.col.Info", "_ws.lua.text"]).flat_map(|field| ["-e", field]))
        .output()
        .expect("tshark, which scripts/setup.sh installs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(".lua") && !said.contains("Lua"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let mut columns: Vec<_> = line.split('|').collect();
            let (errors, info) = (columns.pop().unwrap(), columns.pop().unwrap());
            assert!(errors.is_empty() && !info.contains("Lua"), "{line}");
            assert_eq!(columns.len(), fields.len(), "{line}");
            columns
                .iter()
                .map(|column| column.split(';').filter(|it| !it.is_empty()).map(str::to_owned).collect())
                .collect()
        })
        .collect()
}

/// Makes `baton load` write a capture.
fn load(place: &TempDir, what: &str, count: usize) -> PathBuf {
    let path = place.path().join(format!("{what}.pcap"));
    let count = count.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args([
            "load",
            "--what",
            what,
            "--insecure-no-authentication",
            "--interface",
            "none",
            "--count",
            &count,
            "--pcap",
        ])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

fn vectors(which: &str) -> (Vec<Value>, Vec<Vec<u8>>) {
    let file: Value = serde_json::from_str(include_str!("vectors/wire.json")).unwrap();
    let vectors = file[which].as_array().unwrap().clone();
    let frames = vectors.iter().map(|vector| bytes_of(vector["frame"].as_str().unwrap())).collect();
    (vectors, frames)
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// A number as tshark shows it, decimal or hexadecimal; text unchanged.
fn plain(text: &str) -> String {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap().to_string(),
        None => text.to_owned(),
    }
}

#[test]
fn every_opcode_is_shown_and_found_right() {
    let place = tempfile::tempdir().unwrap();
    let capture = load(&place, "all", 3 * Opcode::ALL.len());
    let shown = shown(&capture, &["v2v.opcode", "v2v.malformed", "v2v.dst", "v2v.tag"]);
    assert_eq!(shown.len(), 3 * Opcode::ALL.len());
    for (at, frame) in shown.iter().enumerate() {
        assert!(frame[0].len() == 1 && frame[1].is_empty() && frame[2].len() == 1, "frame {}: {frame:?}", at + 1);
        assert_eq!(frame[3], ["00000000000000000000000000000000"]);
    }
    let seen: BTreeSet<_> = shown.iter().map(|frame| plain(&frame[0][0])).collect();
    assert_eq!(seen, Opcode::ALL.iter().map(|opcode| opcode.wire().to_string()).collect());
}

#[test]
fn good_vectors_are_shown_as_the_file_states_them() {
    // A vector's key, and the field that shows it: all its values, if the key states a list.
    let stated = [
        ("opcode", "v2v.opcode"),
        ("transaction", "v2v.transaction"),
        ("epoch", "v2v.epoch"),
        ("highest_epoch", "v2v.highest_epoch"),
        ("boot_generation", "v2v.boot_generation"),
        ("held", "v2v.held"),
        ("run", "v2v.run"),
        ("level", "v2v.level"),
        ("window", "v2v.window"),
        ("meeting", "v2v.meeting"),
        ("page", "v2v.page"),
        ("pages", "v2v.pages"),
        ("records", "v2v.records"),
        ("label", "v2v.label"),
        ("participants", "v2v.participants"),
        ("layout", "v2v.layout"),
        ("info_lengths", "v2v.info_len"),
        ("business", "v2v.business"),
        ("decode", "v2v.decode"),
        ("role", "v2v.role"),
        ("flags", "v2v.flags"),
        ("channel", "v2v.channel"),
        ("stream", "v2v.stream"),
        ("info_hex", "v2v.info"),
        ("flags_header", "v2v.header_flags"),
        ("versions", "v2v.report_version"),
        ("count", "v2v.count"),
        ("digest", "v2v.digest"),
        ("status", "v2v.status"),
    ];
    let more = ["v2v.malformed", "v2v.terminal", "v2v.chairman", "v2v.meeting_version", "vlan.id", "v2v.age"];
    let (vectors, frames) = vectors("good");
    let place = tempfile::tempdir().unwrap();
    let fields: Vec<_> = stated.iter().map(|(_, field)| *field).chain(more).collect();
    let shown = shown(&capture(place.path(), frames.iter().map(Vec::as_slice)), &fields);
    assert_eq!(shown.len(), vectors.len());
    let mut checked = 0;
    for (vector, shown) in vectors.iter().zip(&shown) {
        let vector = vector.as_object().unwrap();
        let of = |field: &str| -> Vec<String> {
            shown[fields.iter().position(|it| *it == field).unwrap()].iter().map(|text| plain(text)).collect()
        };
        let address = |value: &Value| {
            let number = value.as_u64().unwrap();
            vec![format!("{}/{}", number >> 16, number & 0xffff)]
        };
        assert_eq!(of("v2v.malformed"), [""; 0], "{}", vector["name"]);
        for (key, value) in vector {
            let field = stated.iter().find(|(stated, _)| stated == key).map(|(_, field)| *field);
            let (found, told) = match (key.as_str(), field) {
                ("name" | "why" | "frame" | "authentic" | "tag_zero", _) => continue,
                ("statuses", _) => (of("v2v.status").split_off(1), list(value)),
                ("first_meeting", _) => (vec![of("v2v.meeting")[1].clone()], list(value)),
                ("last_meeting", _) => (of("v2v.meeting").split_off(63), list(value)),
                ("version", _) if vector["opcode"] == 0x30 => (of("v2v.report_version"), list(value)),
                ("version", _) => (of("v2v.meeting_version"), list(value)),
                ("terminal", _) => (of("v2v.terminal"), address(value)),
                ("chairman", _) => (of("v2v.chairman"), address(value)),
                // On the wire, and in the dissector, in tenths of a millisecond.
                ("age_us", _) => (of("v2v.age"), vec![(value.as_u64().unwrap() / 100).to_string()]),
                ("vlan", _) => (of("vlan.id"), vec![(value.as_u64().unwrap() & 0xfff).to_string()]),
                (_, Some(field)) => (of(field), list(value)),
                (key, None) => panic!("{}: nothing shows `{key}`", vector["name"]),
            };
            assert_eq!(found, told, "{}: {key}", vector["name"]);
            checked += 1;
        }
    }
    assert!(checked >= vectors.len(), "every vector states something");
}

#[test]
fn epochs_are_shown_by_their_parts_and_ages_and_runs_by_their_names() {
    let (vectors, frames) = vectors("good");
    let place = tempfile::tempdir().unwrap();
    let parts = |prefix: &str| ["term", "generation", "nonce"].map(|part| format!("v2v.{prefix}.{part}"));
    let names: Vec<_> = ["epoch", "highest_epoch", "controller_epoch"].iter().flat_map(|name| parts(name)).collect();
    let wholes = ["v2v.epoch", "v2v.highest_epoch", "v2v.controller_epoch"];
    let fields: Vec<_> = names.iter().map(String::as_str).chain(wholes).collect();
    let shown = shown(&capture(place.path(), frames.iter().map(Vec::as_slice)), &fields);
    let mut seen = [0; 3];
    for (vector, shown) in vectors.iter().zip(&shown) {
        for (at, seen) in seen.iter_mut().enumerate() {
            for (nth, whole) in shown[9 + at].iter().enumerate() {
                let epoch = Epoch(whole.parse().unwrap());
                let told = [u64::from(epoch.term()), epoch.generation().into(), epoch.nonce().into()];
                let found = [0, 1, 2].map(|part| plain(&shown[3 * at + part][nth]).parse::<u64>().unwrap());
                assert_eq!(found, told, "{}: {}", vector["name"], wholes[at]);
                *seen += u32::from(epoch.nonce() != 0);
            }
        }
    }
    assert!(seen.iter().all(|&seen| seen > 0), "each of the three is shown with a nonce: {seen:?}");
}

#[test]
fn beats_of_a_cluster_are_shown() {
    let (vectors, frames) = vectors("good");
    let report = vectors.iter().position(|vector| vector["name"] == "report").unwrap();
    let mut beat = frames[report].clone();
    beat[33] = BEAT;
    beat[56..80].copy_from_slice(&bytes_of("000000000000002a0123456789abcdef00000000deadbeef"));
    let mut page = frames[vectors.iter().position(|vector| vector["name"] == "info_empty").unwrap()].clone();
    page[33] = BEAT;
    let place = tempfile::tempdir().unwrap();
    let fields = ["v2v.opcode_name", "v2v.sent_ns", "v2v.incarnation", "v2v.groups_digest", "v2v.malformed"];
    let shown = shown(&capture(place.path(), [beat.as_slice(), &page]), &fields);
    let first: Vec<_> = shown[0].iter().flatten().map(String::as_str).collect();
    assert_eq!(first, ["BEAT", "42", "0x0123456789abcdef", "0x00000000deadbeef"]);
    assert_eq!(shown[1][4], ["payload"]);
}

/// What a vector states, as texts.
fn list(value: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_array().map_or_else(|| vec![text(value)], |values| values.iter().map(text).collect())
}

#[test]
fn bad_vectors_are_flagged_for_what_is_wrong() {
    let (vectors, frames) = vectors("bad");
    let place = tempfile::tempdir().unwrap();
    let shown =
        shown(&capture(place.path(), frames.iter().map(Vec::as_slice)), &["v2v.malformed", "_ws.expert.severity"]);
    assert_eq!(shown.len(), vectors.len());
    for ((vector, frame), shown) in vectors.iter().zip(&frames).zip(&shown) {
        let wrong = verdict(frame).unwrap_or_else(|| panic!("{}: Baton takes it", vector["name"]));
        // Our dissector does not get to see frames that are too short for an Ethernet header or
        // have another EtherType.
        let ours = frame.len() >= 14 && wrong != Malformed::EtherType;
        let told: &[&str] = if ours { &[name(wrong)] } else { &[] };
        assert_eq!(shown[0], told, "{}", vector["name"]);
        assert_eq!(
            ours,
            shown[1].contains(&"8388608".to_owned()) && !shown[0].is_empty(),
            "{}: {shown:?}",
            vector["name"]
        );
    }
}

#[test]
fn garbage_is_flagged_where_baton_drops_it() {
    let place = tempfile::tempdir().unwrap();
    let capture = load(&place, "garbage", 4000);
    let frames = frames_of(&capture);
    let shown = shown(&capture, &["v2v.malformed", "v2v.type"]);
    assert_eq!(shown.len(), frames.len());
    let mut told = BTreeSet::new();
    for (at, (frame, shown)) in frames.iter().zip(&shown).enumerate() {
        let wrong = verdict(frame).filter(|wrong| *wrong != Malformed::EtherType && frame.len() >= 14);
        assert_eq!(shown[0].first().map(String::as_str), wrong.map(name), "frame {}: {frame:02x?}", at + 1);
        told.extend(wrong.map(name));
    }
    assert!(told.len() >= 5, "{told:?}");
}

#[test]
fn generator_probes_are_shown_on_their_port_alone() {
    let probe = |port: u16, payload: &[u8]| {
        let mut frame = bytes_of("0200000000010200000000020800");
        let length = 28 + payload.len() as u16;
        frame.extend([0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend(bytes_of("00000000201100000a0000010a000002"));
        frame.extend([40_000, port, length - 20, 0].into_iter().flat_map(u16::to_be_bytes));
        frame.extend(payload);
        frame
    };
    let whole = bytes_of("be9be9550000002a00000007000f423f0000");
    let frames = [
        probe(9, &whole),
        probe(9, &bytes_of("be9be9550000002a00000007000f4240")),
        probe(9, &whole[..15]),
        probe(9, b"something else"),
        probe(1234, &whole),
    ];
    let place = tempfile::tempdir().unwrap();
    let fields = [
        "v2v_probe.sequence",
        "v2v_probe.seconds",
        "v2v_probe.microseconds",
        "v2v_probe.expert.value",
        "v2v_probe.expert.short",
    ];
    let shown = shown(&capture(place.path(), frames.iter().map(Vec::as_slice)), &fields);
    let first = |frame: usize| {
        fields
            .iter()
            .enumerate()
            .map(|(at, _)| shown[frame][at].first().cloned().unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert_eq!(first(0), ["42", "7", "999999", "", ""]);
    assert_eq!(first(1)[..3], ["42", "7", "1000000"]);
    assert!(!first(1)[3].is_empty(), "{:?}", first(1));
    assert!(first(2)[0].is_empty() && !first(2)[4].is_empty(), "{:?}", first(2));
    assert_eq!(first(3), [""; 5]);
    assert_eq!(first(4), [""; 5]);
}
