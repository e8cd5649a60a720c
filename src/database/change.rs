//! What a commit writes.

use super::{KeyParameters, Member, PartParameters, Wanted};
use crate::wire::{Address, Domain, Epoch, Layout, Level, MeetingId, Run, TerminalState};

/// One thing that a commit writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A conference that was not there. Refused where its id is taken.
    Create(KeyParameters),
    /// A conference as it is known now, in place of all that was known of it.
    Replace(KeyParameters),
    /// A part, new or changed.
    Part(MeetingId, PartParameters),
    /// A part as its autonomous server says that it is. A state that was written ahead, `starting`
    /// or `ending`, stays: the operation that finishes it changes that.
    Learned(MeetingId, PartParameters),
    /// A conference that is known to be there, of this level and run. Creates it where it is not,
    /// without a name: the table, or an autonomous server, can know of one that a lost or older
    /// file does not.
    Known(MeetingId, Level, Run),
    /// A part's members are gone.
    RemoveMembers(MeetingId, Domain),
    /// What is still to be made so in the conference, in place of what was wanted before.
    Want(MeetingId, Wanted),
    /// A part is gone, and with it its members.
    RemovePart(MeetingId, Domain),
    /// In place of the layout before.
    Layout(MeetingId, Layout),
    /// In place of the chairman before; [`Address`] 0 for none.
    Chairman(MeetingId, Address),
    /// A member, new or changed.
    Member(MeetingId, Member),
    /// A member has left.
    RemoveMember(MeetingId, Address),
    /// The conference is over. Its id is remembered as that of one that ended until it is used
    /// again.
    End(MeetingId),
    /// A conference that no client was ever told of: all of it is forgotten, its id included.
    Forget(MeetingId),
    /// This id was chosen here: the next one is above it.
    Chosen(MeetingId),
    /// A terminal's last known state.
    Terminal(TerminalState),
    /// Another dispatch server controls this domain, under this epoch or a higher one that is there
    /// already.
    Fence(Domain, Epoch),
}
