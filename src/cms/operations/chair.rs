//! The chair of a conference: how it passes from one terminal to another.
//!
//! Two commands do that, at autonomous servers that need not be the same: one makes the new
//! chairman, the other makes the old one a participant. The acknowledgements say who is chairman,
//! in the table and for the database; the functions here are the only ones that write it.

use std::collections::BTreeSet;

use super::context::Context;
use super::operation::PartChange;
use super::refusals::{NotNow, Waiting};
use super::table_access::chairmen;
use crate::database::Change;
use crate::table::{Part, Table};
use crate::wire::{Address, Domain, MeetingState, Role};

/// Everybody who is chairman of these parts, or says so itself: a death may have cut short the
/// command that made it chairman, and then its report can be here before its part is updated.
pub(super) fn in_chair(table: &Table, parts: &[Part]) -> BTreeSet<Address> {
    let members = parts.iter().flat_map(|part| table.members(part.meeting, part.domain));
    let by_role = members.filter(|member| member.role == Role::Chairman).map(|member| member.terminal);
    chairmen(table, parts).into_iter().chain(by_role).collect()
}

/// Plans that a terminal becomes chairman: the present one gives the chair up.
pub(super) fn plan_chairman(context: &mut Context<'_>, terminal: Address) -> Result<(), NotNow> {
    context.operation.promotes = true;
    let parts = context.parts()?;
    let goes_on = |part: &Part| matches!(part.state, MeetingState::Recovering | MeetingState::InMeeting);
    if let Some(part) = parts.iter().find(|part| part.in_doubt && goes_on(part)) {
        // Its autonomous server is to be asked who is a member of it, and as what.
        return Err(NotNow::Wait(Waiting::TakeOver(part.domain)));
    }
    let in_chair = in_chair(context.table(), &parts);
    for other in in_chair.into_iter().filter(|&other| other != terminal) {
        match context.member(other) {
            Ok(_) => {
                context.operation.wants.roles.insert(other, Role::Participant);
                context.operation.undo.roles.insert(other, Role::Chairman);
            }
            // One that is no member any more cannot be asked to give the chair up, and need not.
            Err(NotNow::Refuse(_)) => {}
            Err(wait) => return Err(wait),
        }
    }
    Ok(())
}

/// A terminal was made chairman.
pub(super) fn takes_chair(context: &mut Context<'_>, domain: Domain, terminal: Address) {
    context.note(domain, Some(PartChange::TakesChair(terminal)));
    context.operation.changes.push(Change::Chairman(context.operation.meeting, terminal));
}

/// A terminal is chairman no more, if it was. Where the same operation makes another one chairman,
/// that one's own acknowledgement says who is.
pub(super) fn leaves_chair(context: &mut Context<'_>, domain: Domain, terminal: Address) {
    let meeting = context.operation.meeting;
    let part = context.table().part(meeting, domain);
    if part.is_some_and(|part| part.chairman == terminal) && !context.operation.promotes {
        context.operation.changes.push(Change::Chairman(meeting, Address::default()));
    }
    context.note(domain, Some(PartChange::LeavesChair(terminal)));
}
