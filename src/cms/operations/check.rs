//! What a client asked for, made into what can be done; or why it cannot.

use std::collections::BTreeMap;

use crate::cms::{NewMember, Refusal, RefusalKind, StartMeeting};
use crate::database::{KeyParameters, Member, PartParameters, WINDOW_NONE};
use crate::limits::{MEETING_ID_MAX, MEMBERS_MAX, NAME_BYTES_MAX, PARTS_MAX};
use crate::wire::{Address, Domain, Flags, MeetingId, MeetingState, Role, Run, Status};

pub(super) fn bad(what: impl Into<String>, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::BadRequest, what, remedy)
}

/// The members asked for, by ascending address.
pub(super) fn members(asked: &[NewMember], has_domain: impl Fn(Domain) -> bool) -> Result<Vec<Member>, Refusal> {
    if asked.is_empty() {
        return Err(bad("no member is named", "name at least one terminal, as domain/device"));
    }
    if asked.len() > MEMBERS_MAX {
        let what = format!("{} members are named, and a conference has at most {MEMBERS_MAX}", asked.len());
        return Err(bad(what, "start several conferences"));
    }
    let mut members = BTreeMap::new();
    for &NewMember { terminal, role } in asked {
        let domain = terminal.domain().filter(|_| terminal.device() != 0).ok_or_else(|| {
            bad(format!("{terminal} is not a terminal"), "name domain and device, both from 1: 366/1001")
        })?;
        if !has_domain(domain) {
            let what = format!("domain {domain} of {terminal} is not in the configuration");
            return Err(Refusal::new(
                RefusalKind::NotFound,
                what,
                "add the domain to the configuration, or leave the terminal out",
            ));
        }
        let member = Member { terminal, role, flags: Flags::default(), window: WINDOW_NONE };
        if members.insert(terminal, member).is_some() {
            return Err(bad(format!("{terminal} is named twice"), "name each terminal once"));
        }
    }
    let mut chairmen = members.values().filter(|member| member.role == Role::Chairman);
    if let (Some(first), Some(second)) = (chairmen.next(), chairmen.next()) {
        let what = format!("{} and {} are both named chairman", first.terminal, second.terminal);
        return Err(bad(what, "name one chairman"));
    }
    Ok(members.into_values().collect())
}

/// The key parameters of a conference to be started; its id is [`MeetingId::NONE`] where it is to
/// be chosen.
pub(super) fn start(asked: &StartMeeting, has_domain: impl Fn(Domain) -> bool) -> Result<KeyParameters, Refusal> {
    let meeting = asked.meeting.unwrap_or(MeetingId::NONE);
    if asked.meeting == Some(MeetingId::NONE) || meeting.0 > MEETING_ID_MAX {
        let what = format!("{meeting} is not a meeting's id");
        return Err(bad(what, "give a number from 1 to 9007199254740991, or none for the next free one"));
    }
    if asked.name.len() > NAME_BYTES_MAX {
        return Err(bad(format!("the name has {} bytes", asked.name.len()), "give one of at most 128"));
    }
    let mut members = members(&asked.members, has_domain)?;
    if let Some(chairman) = asked.chairman {
        let others = members.iter().any(|member| member.role == Role::Chairman && member.terminal != chairman);
        let named = members.iter_mut().find(|member| member.terminal == chairman);
        match named {
            Some(_) if others => return Err(bad("two chairmen are named", "name one chairman")),
            Some(member) => member.role = Role::Chairman,
            None => {
                return Err(bad(
                    format!("chairman {chairman} is not among the members"),
                    "name the chairman as a member",
                ));
            }
        }
    }
    let chairman = members.iter().find(|member| member.role == Role::Chairman);
    let mut parts: Vec<PartParameters> = Vec::new();
    for domain in members.iter().filter_map(|member| member.terminal.domain()) {
        // Members ascend by address, so a domain's stand together.
        if parts.last().is_none_or(|part| part.domain != domain) {
            parts.push(PartParameters { domain, version: 0, state: MeetingState::Starting });
        }
    }
    if parts.len() > PARTS_MAX {
        let what = format!("the members are in {} domains, and a conference spans at most {PARTS_MAX}", parts.len());
        return Err(bad(what, "start several conferences"));
    }
    Ok(KeyParameters {
        meeting,
        run: Run::NONE,
        name: asked.name.clone(),
        level: asked.level,
        layout: asked.layout,
        chairman: chairman.map_or(Address::default(), |member| member.terminal),
        created_ms: asked.created_ms,
        parts,
        members,
    })
}

/// What an autonomous server's status means to the client.
pub(super) fn declined(domain: Domain, what: &str, status: Status) -> Refusal {
    let (kind, remedy) = match status {
        Status::Capacity => (RefusalKind::Capacity, "end conferences there, or give that autonomous server more room"),
        Status::Conflict => (RefusalKind::Conflict, "take the terminal out of its other conference first"),
        Status::UnknownTerminal => (RefusalKind::NotFound, "see `baton meeting show` for who is in it"),
        Status::UnknownMeeting => {
            (RefusalKind::Declined, "see `baton status`: the conference is missing there; end it and start it again")
        }
        _ => (RefusalKind::Declined, "see the autonomous server's own log"),
    };
    Refusal::new(kind, format!("the autonomous server of domain {domain} answered \"{status}\" to {what}"), remedy)
}
