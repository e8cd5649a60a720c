//! Dispatch server and autonomous servers held against each other, meeting by meeting and terminal
//! by terminal, and both against what operators and terminals were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::workload::Ledger;
use crate::lab::sim::Dump;
use crate::table::{Part, TableDump, Terminal};
use crate::wire::{Address, Flags, MeetingId, MeetingState, Role};

/// What does not agree, each with the reason.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// What differs in each, in words.
    pub meetings: BTreeMap<MeetingId, String>,
    /// What differs of each, in words.
    pub terminals: BTreeMap<Address, String>,
    /// Terminals of which a report was acknowledged and is not in the table.
    pub reports_lost: BTreeSet<Address>,
}

/// Where the two sides differ. Both must be at rest.
pub fn differences<'a>(dispatch: &'a TableDump, servers: &'a Dump) -> Differences {
    let key = |part: &Part| (part.meeting, part.domain);
    let ours: BTreeMap<_, _> = dispatch.parts.iter().map(|part| (key(part), part)).collect();
    let theirs: BTreeMap<_, _> = servers.parts.iter().map(|held| (key(&held.part), &held.part)).collect();
    let mut found = Differences::default();
    for (&(meeting, domain), why) in &unequal(&ours, &theirs) {
        found.meetings.insert(meeting, format!("domain {domain}: {why}"));
    }
    let by_address = |terminal: &'a Terminal| (terminal.terminal, terminal);
    let ours: BTreeMap<_, _> = dispatch.terminals.iter().map(by_address).collect();
    let members = || servers.terminals.iter().filter(|held| held.terminal.meeting != MeetingId::NONE);
    found.terminals = unequal(&ours, &members().map(|held| by_address(&held.terminal)).collect());
    for held in members() {
        let (address, Some(acknowledged)) = (held.terminal.terminal, held.acknowledged) else { continue };
        let version = ours.get(&address).map(|terminal| terminal.version);
        // Versions wrap, so the later one is told by the sign of the difference.
        if version.is_none_or(|version| (version.wrapping_sub(acknowledged) as i32) < 0) {
            found.reports_lost.insert(address);
        }
    }
    found
}

/// Keys that only one side has, or whose values are not the same.
fn unequal<K: Ord + Clone, V: Debug + PartialEq>(
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
) -> BTreeMap<K, String> {
    let mut unequal = BTreeMap::new();
    for (key, our) in ours {
        match theirs.get(key) {
            None => drop(unequal.insert(key.clone(), format!("only the dispatch server has {our:?}"))),
            Some(their) if our != their => {
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

/// Where a side, which has these parts and terminals, does not have what operators were told is
/// done; one sentence each.
pub fn operations_lost<'a>(
    ledger: &Ledger,
    side: &str,
    held: impl IntoIterator<Item = &'a Part>,
    terminals: impl IntoIterator<Item = &'a Terminal>,
) -> Vec<String> {
    let mut lost = Vec::new();
    let mut parts = BTreeMap::<MeetingId, Vec<&Part>>::new();
    for part in held {
        parts.entry(part.meeting).or_default().push(part);
    }
    let mut members = BTreeMap::<MeetingId, BTreeMap<Address, (Role, bool)>>::new();
    for it in terminals.into_iter().filter(|terminal| terminal.meeting != MeetingId::NONE) {
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
    use crate::wire::Layout;

    fn servers() -> Dump {
        let terminal = |address: &str| {
            json!({
                "terminal": address, "meeting": 7, "version": 5, "business": "in meeting", "decode": "decoding",
                "role": "participant", "flags": 8, "channel": 1, "stream": "main", "window": 255, "info": "",
                "acknowledged": 5,
            })
        };
        serde_json::from_value(json!({
            "parts": [{
                "meeting": 7, "domain": 1, "version": 3, "epoch": 9, "state": "in meeting", "level": 3,
                "layout": 4, "chairman": "1/1001", "participants": 2, "members": ["1/1001", "1/1002"],
            }],
            "terminals": [terminal("1/1001"), terminal("1/1002")],
        }))
        .unwrap()
    }

    /// What the dispatch server holds when it holds the same.
    fn dispatch() -> TableDump {
        let Dump { parts, terminals } = servers();
        TableDump {
            epoch: parts[0].part.epoch,
            parts: parts.into_iter().map(|held| held.part).collect(),
            terminals: terminals.into_iter().map(|held| held.terminal).collect(),
        }
    }

    fn lost(ledger: &Ledger, dump: &TableDump) -> Vec<String> {
        operations_lost(ledger, "a side", &dump.parts, &dump.terminals)
    }

    fn ledger() -> Ledger {
        let member = |address: &str| (address.parse().unwrap(), (Role::Participant, false));
        let expected =
            Expected { layout: Layout::new(4).unwrap(), members: [member("1/1001"), member("1/1002")].into() };
        Ledger { meetings: [(MeetingId(7), expected)].into(), ended: BTreeSet::new() }
    }

    #[test]
    fn sides_that_agree_have_no_differences() {
        let found = differences(&dispatch(), &servers());
        assert!(found.meetings.is_empty() && found.terminals.is_empty() && found.reports_lost.is_empty(), "{found:?}");
        assert_eq!(lost(&ledger(), &dispatch()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_found_from_either_side() {
        let ours: [fn(&mut TableDump); 4] = [
            |dump| dump.parts[0].version += 1,
            |dump| dump.parts.clear(),
            |dump| dump.terminals[1].channel += 1,
            |dump| dump.terminals.truncate(1),
        ];
        let theirs: [fn(&mut Dump); 4] = [
            |dump| dump.parts[0].part.version += 1,
            |dump| dump.parts.clear(),
            |dump| dump.terminals[1].terminal.channel += 1,
            |dump| dump.terminals.truncate(1),
        ];
        for (number, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
            let (mut dispatch_changed, mut servers_changed) = (dispatch(), servers());
            ours(&mut dispatch_changed);
            theirs(&mut servers_changed);
            for found in [differences(&dispatch_changed, &servers()), differences(&dispatch(), &servers_changed)] {
                assert_eq!(found.meetings.len() + found.terminals.len(), 1, "change {number}");
            }
        }
    }

    #[test]
    fn a_report_that_was_acknowledged_must_be_held() {
        let mut older = dispatch();
        older.terminals[0].version = 4;
        assert_eq!(differences(&older, &servers()).reports_lost.len(), 1);
        let (mut wrapped, mut theirs) = (dispatch(), servers());
        wrapped.terminals[0].version = 2;
        theirs.terminals[0].terminal.version = 2;
        theirs.terminals[0].acknowledged = Some(u32::MAX);
        assert!(differences(&wrapped, &theirs).reports_lost.is_empty(), "2 comes after the highest number");
    }

    #[test]
    fn every_operation_that_was_answered_must_hold() {
        let changes: [fn(&mut TableDump); 5] = [
            |dump| dump.parts[0].layout = Layout::new(9).unwrap(),
            |dump| dump.parts[0].state = MeetingState::Missing,
            |dump| dump.terminals[0].role = Role::SpeakerOne,
            |dump| dump.terminals[0].flags = Flags::MUTED,
            |dump| dump.terminals.truncate(1),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = dispatch();
            change(&mut changed);
            assert_eq!(lost(&ledger(), &changed).len(), 1, "change {number}");
        }
        let mut over = ledger();
        over.meetings.clear();
        over.ended.insert(MeetingId(7));
        assert_eq!(lost(&over, &dispatch()).len(), 1);
    }
}
