//! Both sides held against each other: what the table and the database say, and what the autonomous
//! servers hold.

use std::collections::BTreeMap;

use baton::database::KeyParameters;
use baton::table::Part;
use baton::wire::{Address, Domain, Epoch, MeetingId, MeetingState, TerminalState};

use crate::world::{World, summary_of};

/// Everything that one side knows. Of a terminal that is what both know: its window the dispatch
/// server alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    pub parts: BTreeMap<(MeetingId, Domain), Part>,
    pub terminals: BTreeMap<Address, TerminalState>,
}

/// What the dispatch server's table says of every part and member. Whether a missing part is in
/// doubt is left out: doubt is about members, and it has none at its autonomous server.
pub fn of_table(world: &World) -> Picture {
    let in_doubt = |part: &Part| part.in_doubt && part.state != MeetingState::Missing;
    let parts = world.table.parts().map(|part| Part { in_doubt: in_doubt(&part), ..part });
    Picture {
        parts: parts.map(|part| ((part.meeting, part.domain), part)).collect(),
        terminals: world.table.terminals().map(|terminal| (terminal.terminal, (&terminal).into())).collect(),
    }
}

/// The picture that the autonomous servers give of what is not an orphan.
pub fn of_servers(world: &World, orphans: &[MeetingId]) -> Picture {
    let mut picture = Picture::default();
    for site in &world.sites {
        for summary in site.server.meetings().filter(|summary| !orphans.contains(&summary.meeting)) {
            let part = Part::listed(site.server.domain(), &summary);
            picture.parts.insert((part.meeting, part.domain), part);
            for member in site.server.members(summary.meeting) {
                picture.terminals.insert(member, site.server.terminal(member).expect("a member is a terminal"));
            }
        }
    }
    picture
}

/// Asserts that the table is what the autonomous servers are, but for parts that they lack, which
/// are missing in it.
pub fn assert_table(world: &World, orphans: &[MeetingId]) {
    let (mut ours, theirs) = (of_table(world), of_servers(world, orphans));
    let lacking = |meeting, domain: Domain| {
        let site = world.sites.iter().find(|site| site.server.domain() == domain).expect("a domain of ours");
        summary_of(&site.server, meeting).is_none()
    };
    let (missing, there) = ours.parts.into_iter().partition(|((meeting, domain), _)| lacking(*meeting, *domain));
    ours.parts = there;
    let missing: BTreeMap<_, Part> = missing;
    for ((meeting, domain), part) in missing {
        assert_eq!((part.state, part.epoch), (MeetingState::Missing, Epoch::NONE), "{meeting} in {domain}");
        // Who was last known as a member of it stays known: it is not ended for being missing.
        ours.terminals.retain(|_, terminal| terminal.meeting != meeting || terminal.terminal.domain() != Some(domain));
    }
    for (key, part) in &theirs.parts {
        assert_eq!(part.epoch, world.epoch, "{key:?} is under another's control");
        assert_eq!(ours.parts.get(key), Some(part), "{key:?}");
    }
    for (address, terminal) in &theirs.terminals {
        assert_eq!(ours.terminals.get(address), Some(terminal), "{address}");
    }
    for part in world.table.parts().filter(|part| part.state == MeetingState::InMeeting) {
        assert!(!part.in_doubt, "{} in {} is as its autonomous server has it", part.meeting, part.domain);
    }
    assert_eq!(ours.parts.len(), theirs.parts.len(), "no part but theirs");
    assert_eq!(ours.terminals.len(), theirs.terminals.len(), "no terminal but theirs");
}

/// Everything in the database: conferences, and terminals' states.
pub fn of_database(world: &World) -> (Vec<KeyParameters>, BTreeMap<Address, TerminalState>) {
    let mut meetings = Vec::new();
    world.database.for_each_meeting(|meeting| meetings.push(meeting)).expect("readable");
    let members = meetings.iter().flat_map(|meeting| &meeting.members);
    let terminals = members
        .filter_map(|member| world.database.terminal(member.terminal).expect("readable"))
        .map(|state| (state.terminal, state));
    (meetings.clone(), terminals.collect())
}

/// Asserts that the database holds of each part in meeting what the table holds.
pub fn assert_database(world: &World) {
    let (meetings, _) = of_database(world);
    for part in world.table.parts() {
        let parameters =
            meetings.iter().find(|meeting| meeting.meeting == part.meeting).expect("it is in the database");
        let stored = parameters.part(part.domain).expect("its part too");
        assert_eq!((stored.version, stored.state), (part.version, part.state), "{} {}", part.meeting, part.domain);
        let stored: Vec<_> =
            parameters.members_in(part.domain).map(|member| (member.terminal, member.window)).collect();
        let mut held: Vec<_> = world
            .table
            .members(part.meeting, part.domain)
            .map(|terminal| (terminal.terminal, terminal.window))
            .collect();
        held.sort();
        assert_eq!(stored, held, "{} {}", part.meeting, part.domain);
    }
}
