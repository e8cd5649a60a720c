//! The scripts for the kernel's packet generator, as far as they can be tested with a kernel
//! without it: which arguments they accept and refuse, and what the program at the egress hook does
//! with the generator's frames. `scripts/test.sh --vm` runs the rest.

use std::path::Path;
use std::process::{Command, Output};

use baton::lab::testbed::need_root;
use baton::wire::{Address, DEFAULT_ETHERTYPE, Flags, Frame, MeetingId, Role};
use libbpf_rs::{ObjectBuilder, ProgramInput};

const REPORTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reports.bpf.o"));
const SCRIPTS: [&str; 4] = ["probes", "reports", "soak", "latency"];

fn script(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pktgen").join(format!("{name}.sh"));
    let Output { status, stdout, stderr } =
        Command::new(path).args(arguments).env_clear().env("PATH", env!("PATH")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A frame as pktgen makes it: number `sequence` of thread `thread` of `threads`.
fn generated(sequence: u32, thread: u16, threads: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 82, 0, 0, 0, 0, 32, 17, 0, 0];
    frame.extend([0, 0, 0, 0, 198, 18, 0, 42]);
    frame.extend([thread, threads, 62, 0].into_iter().flat_map(u16::to_be_bytes));
    frame.extend([0xBE9B_E955, sequence, 7, 8].into_iter().flat_map(u32::to_be_bytes));
    frame.resize(96, 0xEE);
    frame
}

/// The program's output for these frames, with the buffer's priority.
fn shaped(frames: &[Vec<u8>], priority: u32) -> Vec<Vec<u8>> {
    let open = ObjectBuilder::default().open_memory(REPORTS).unwrap();
    need_root("loading BPF");
    let object = open.load().unwrap();
    let program = object.progs_mut().find(|program| program.name() == "baton_reports").unwrap();
    let run = |frame: &Vec<u8>| {
        // struct __sk_buff up to its priority.
        let mut context = [0; 36];
        context[32..].copy_from_slice(&priority.to_ne_bytes());
        let mut out = vec![0; frame.len()];
        let input = ProgramInput {
            data_in: Some(frame),
            data_out: Some(&mut out),
            context_in: Some(&mut context),
            ..ProgramInput::default()
        };
        let verdict = program.test_run(input).unwrap().return_value;
        assert_eq!(verdict, 0, "the frame goes on its way");
        out
    };
    frames.iter().map(run).collect()
}

#[test]
fn help_is_given_and_what_is_typed_wrong_is_named() {
    for name in SCRIPTS {
        for flag in ["-h", "--help"] {
            let (code, out, _) = script(name, &[flag]);
            assert_eq!(code, Some(0), "{name} {flag}");
            for parameter in "imdpstfncbwvh".chars() {
                assert!(out.contains(&format!("\n  -{parameter}")), "{name}: -{parameter} in\n{out}");
            }
        }
        let to = ["-i", "lo", "-m", "02:00:00:00:00:01"];
        let wrong: [(&[&str], &str); 9] = [
            (&[], "-i says"),
            (&["-i", "lo"], "-m says"),
            (&["-i", "nowhere", "-m", "02:00:00:00:00:01"], "no interface nowhere"),
            (&["-i", "lo", "-m", "zero"], "'zero'"),
            (&[&to[..], &["-t", "many"]].concat(), "'many'"),
            (&[&to[..], &["-s", "59"]].concat(), "from 60"),
            (&[&to[..], &["-n"]].concat(), "-n needs a value"),
            (&[&to[..], &["-z"]].concat(), "no -z"),
            (&[&to[..], &["more"]].concat(), "'more'"),
        ];
        for (arguments, what) in wrong {
            let (code, out, said) = script(name, arguments);
            assert_eq!((code, out.as_str()), (Some(2), ""), "{name} {arguments:?}: {said}");
            assert!(said.contains(what), "{name} {arguments:?}: {said}");
        }
    }
    for (flag, value) in [("-c", "1"), ("-b", "8"), ("-t", "3")] {
        let (code, _, said) = script("reports", &["-i", "lo", "-m", "02:00:00:00:00:01", flag, value]);
        assert_eq!(code, Some(2), "reports {flag} {value}: {said}");
    }
}

#[test]
fn the_generators_frames_leave_as_reports_of_terminal_after_terminal() {
    // Two threads; the last frame is the first terminal's second report.
    let sent = [generated(1, 0, 2), generated(1, 1, 2), generated(6, 0, 2), generated(101, 0, 2)];
    let expected = [
        (1001, 1, 77, Role::Chairman),
        (1002, 1, 77, Role::Participant),
        (1011, 2, 77, Role::Chairman),
        (1001, 1, 78, Role::Chairman),
    ];
    for (bytes, (device, meeting, version, role)) in shaped(&sent, 77).iter().zip(expected) {
        let frame = Frame::parse(bytes, DEFAULT_ETHERTYPE).unwrap();
        assert_eq!(bytes[..12], sent[0][..12], "the addresses of Ethernet stay");
        let report = frame.report().unwrap();
        let terminal = Address::from_number(366 << 16 | device);
        assert_eq!(
            (report.terminal, report.meeting, report.version, report.role),
            (terminal, MeetingId(meeting), version, role)
        );
        assert_eq!(report.flags, Flags(0x28));
        assert_eq!(
            bytes[14..32],
            [&[1, 0, 0, 0, 0, 1, 255, 255, 0, 0, 0, 0, 1, 110][..], &(device as u16).to_be_bytes(), &[0, 0]].concat()
        );
        assert_eq!(bytes[80..], [0; 16], "the tag of no authentication");
    }
}

#[test]
fn a_report_never_bears_the_version_of_who_has_not_reported() {
    let versions = |priority| {
        let shaped = shaped(&[generated(1, 0, 1), generated(201, 0, 1)], priority);
        shaped
            .iter()
            .map(|bytes| Frame::parse(bytes, DEFAULT_ETHERTYPE).unwrap().report().unwrap().version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(u32::MAX), [u32::MAX, 1]);
    assert_eq!(versions(0), [1, 1]);
}

#[test]
fn what_the_generator_has_not_made_goes_out_as_it_is() {
    let mut others = [generated(1, 0, 1), generated(1, 0, 1), generated(1, 0, 1), generated(1, 0, 1)];
    others[0][42] = 0; // no magic
    others[1][12] = 0x86; // no IPv4
    others[2][23] = 6; // no UDP
    others[3].truncate(95); // no room
    assert_eq!(shaped(&others, 1), others);
}
