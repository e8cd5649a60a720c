//! Dispatch server and autonomous servers held against each other, meeting by meeting and terminal
//! by terminal, and both against what operators and terminals were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::Deserialize;

use super::workload::Ledger;
use crate::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Role, StreamKind,
};

/// One side's dump.
#[derive(Clone, Debug, Deserialize)]
pub struct Dump {
    /// Meetings, one entry per domain that they span.
    #[serde(alias = "parts")]
    pub meetings: Vec<Part>,
    /// Terminals; those in no meeting are of no concern.
    pub terminals: Vec<Terminal>,
}

/// A meeting in one domain.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Part {
    /// Which.
    pub meeting: MeetingId,
    /// Where.
    pub domain: Domain,
    /// Counts its changes there.
    pub version: u64,
    /// Under which epoch it was taken last.
    #[serde(alias = "controller")]
    pub epoch: Epoch,
    /// What it is in.
    pub state: MeetingState,
    /// Its level.
    pub level: Level,
    /// Windows on the screen.
    pub layout: Layout,
    /// Its chairman.
    pub chairman: Option<Address>,
    /// Members there.
    pub participants: u16,
}

/// A terminal.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Terminal {
    /// Which.
    pub terminal: Address,
    /// The meeting that it is in.
    pub meeting: MeetingId,
    /// Counts its changes.
    pub version: u32,
    /// What it is busy with.
    pub business: Business,
    /// What its decoder does.
    pub decode: Decode,
    /// Its part in the conference.
    pub role: Role,
    /// Muted and so on.
    pub flags: Flags,
    /// The channel that it decodes on.
    pub channel: u8,
    /// Which stream it takes.
    pub stream: StreamKind,
    /// Additional information, hexadecimal, without the zeros that fill a report's field up.
    pub info: String,
    /// The last version that was acknowledged, which only the terminal's own side knows.
    #[serde(default)]
    pub acknowledged: Option<u32>,
}

/// What does not agree, each with the reason.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// Meetings.
    pub meetings: BTreeMap<MeetingId, String>,
    /// Terminals.
    pub terminals: BTreeMap<Address, String>,
    /// Terminals of which a report was acknowledged and is not in the table.
    pub reports_lost: BTreeSet<Address>,
}

/// Where the two sides differ. Both must be at rest.
pub fn differences(dispatch: &Dump, servers: &Dump) -> Differences {
    let key = |part: &Part| (part.meeting, part.domain);
    let ours: BTreeMap<_, _> = dispatch.meetings.iter().map(|part| (key(part), part)).collect();
    let theirs: BTreeMap<_, _> = servers.meetings.iter().map(|part| (key(part), part)).collect();
    let mut found = Differences::default();
    for (&(meeting, domain), why) in &unequal(&ours, &theirs, |ours, theirs| ours == theirs) {
        found.meetings.insert(meeting, format!("domain {domain}: {why}"));
    }
    let member = |terminal: &&Terminal| terminal.meeting != MeetingId::NONE;
    let keyed = |dump: &'_ Dump| -> BTreeMap<Address, Terminal> {
        dump.terminals.iter().filter(member).map(|terminal| (terminal.terminal, terminal.clone())).collect()
    };
    let (ours, theirs) = (keyed(dispatch), keyed(servers));
    let same =
        |ours: &Terminal, theirs: &Terminal| Terminal { acknowledged: theirs.acknowledged, ..ours.clone() } == *theirs;
    found.terminals = unequal(&ours, &theirs, same);
    for (address, terminal) in &theirs {
        let Some(acknowledged) = terminal.acknowledged else { continue };
        let held = ours.get(address).map(|terminal| terminal.version);
        // Versions wrap, so the later one is told by the sign of the difference.
        if held.is_none_or(|held| (held.wrapping_sub(acknowledged) as i32) < 0) {
            found.reports_lost.insert(*address);
        }
    }
    found
}

/// Keys that only one side has, or whose values are not the same.
fn unequal<K: Ord + Clone, V: Debug>(
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> BTreeMap<K, String> {
    let mut unequal = BTreeMap::new();
    for (key, our) in ours {
        match theirs.get(key) {
            None => drop(unequal.insert(key.clone(), format!("only the dispatch server has {our:?}"))),
            Some(their) if !same(our, their) => {
                let why = format!("the dispatch server has {our:?}, the autonomous server {their:?}");
                unequal.insert(key.clone(), why);
            }
            Some(_) => {}
        }
    }
    for (key, their) in theirs.iter().filter(|(key, _)| !ours.contains_key(key)) {
        unequal.insert(key.clone(), format!("only the autonomous server has {their:?}"));
    }
    unequal
}

/// Where a side does not have what operators were told is done; one sentence each.
pub fn operations_lost(ledger: &Ledger, side: &str, dump: &Dump) -> Vec<String> {
    let mut lost = Vec::new();
    let mut parts = BTreeMap::<MeetingId, Vec<&Part>>::new();
    for part in &dump.meetings {
        parts.entry(part.meeting).or_default().push(part);
    }
    let mut members = BTreeMap::<MeetingId, BTreeMap<Address, (Role, bool)>>::new();
    for it in dump.terminals.iter().filter(|terminal| terminal.meeting != MeetingId::NONE) {
        let muted = it.flags.0 & Flags::MUTED.0 != 0;
        members.entry(it.meeting).or_default().insert(it.terminal, (it.role, muted));
    }
    for (meeting, expected) in &ledger.meetings {
        let parts = parts.get(meeting).map_or(&[][..], Vec::as_slice);
        if parts.is_empty() || parts.iter().any(|part| part.state != MeetingState::InMeeting) {
            lost.push(format!("{side}: {meeting:?} is not in meeting"));
        }
        if let Some(part) = parts.iter().find(|part| part.layout != expected.layout) {
            let (has, must) = (part.layout.windows(), expected.layout.windows());
            lost.push(format!("{side}: {meeting:?} in domain {} shows {has} windows, not {must}", part.domain));
        }
        let here = members.remove(meeting).unwrap_or_default();
        for (terminal, must) in &expected.members {
            if here.get(terminal) != Some(must) {
                lost.push(format!("{side}: {terminal} in {meeting:?} is {:?}, not {must:?}", here.get(terminal)));
            }
        }
        for terminal in here.keys().filter(|terminal| !expected.members.contains_key(terminal)) {
            lost.push(format!("{side}: {terminal} is in {meeting:?} again"));
        }
    }
    for meeting in ledger.ended.iter().filter(|meeting| parts.contains_key(meeting)) {
        let on = parts[meeting].iter().any(|part| part.state != MeetingState::Ended);
        if on {
            lost.push(format!("{side}: {meeting:?} was ended and goes on"));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::workload::Expected;
    use super::*;

    fn dump() -> Dump {
        let terminal = |address: &str| {
            json!({
                "terminal": address, "meeting": 7, "version": 5, "business": "in meeting", "decode": "decoding",
                "role": "participant", "flags": 8, "channel": 1, "stream": "main", "info": "", "acknowledged": 5,
            })
        };
        serde_json::from_value(json!({
            "meetings": [{
                "meeting": 7, "domain": 1, "version": 3, "controller": 9, "state": "in meeting", "level": 3,
                "layout": 4, "chairman": "1/1001", "participants": 2,
            }],
            "terminals": [terminal("1/1001"), terminal("1/1002")],
        }))
        .unwrap()
    }

    fn ledger() -> Ledger {
        let member = |address: &str| (address.parse().unwrap(), (Role::Participant, false));
        let expected =
            Expected { layout: Layout::new(4).unwrap(), members: [member("1/1001"), member("1/1002")].into() };
        Ledger { meetings: [(MeetingId(7), expected)].into(), ended: BTreeSet::new() }
    }

    #[test]
    fn sides_that_agree_have_no_differences() {
        let found = differences(&dump(), &dump());
        assert!(found.meetings.is_empty() && found.terminals.is_empty() && found.reports_lost.is_empty(), "{found:?}");
        assert_eq!(operations_lost(&ledger(), "a side", &dump()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_found_from_either_side() {
        let changes: [fn(&mut Dump); 4] = [
            |dump| dump.meetings[0].version += 1,
            |dump| dump.meetings.clear(),
            |dump| dump.terminals[1].channel += 1,
            |dump| dump.terminals.truncate(1),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = dump();
            change(&mut changed);
            for found in [differences(&changed, &dump()), differences(&dump(), &changed)] {
                assert_eq!(found.meetings.len() + found.terminals.len(), 1, "change {number}");
            }
        }
    }

    #[test]
    fn a_report_that_was_acknowledged_must_be_held() {
        let mut older = dump();
        older.terminals[0].version = 4;
        assert_eq!(differences(&older, &dump()).reports_lost.len(), 1);
        let mut wrapped = dump();
        wrapped.terminals[0].version = 2;
        let mut theirs = wrapped.clone();
        theirs.terminals[0].acknowledged = Some(u32::MAX);
        assert!(differences(&wrapped, &theirs).reports_lost.is_empty(), "2 comes after the highest number");
    }

    #[test]
    fn every_operation_that_was_answered_must_hold() {
        let changes: [fn(&mut Dump); 5] = [
            |dump| dump.meetings[0].layout = Layout::new(9).unwrap(),
            |dump| dump.meetings[0].state = MeetingState::Missing,
            |dump| dump.terminals[0].role = Role::SpeakerOne,
            |dump| dump.terminals[0].flags = Flags::MUTED,
            |dump| dump.terminals.truncate(1),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = dump();
            change(&mut changed);
            assert_eq!(operations_lost(&ledger(), "a side", &changed).len(), 1, "change {number}");
        }
        let mut over = ledger();
        over.meetings.clear();
        over.ended.insert(MeetingId(7));
        assert_eq!(operations_lost(&over, "a side", &dump()).len(), 1);
    }
}
