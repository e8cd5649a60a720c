//! Baton's table in shared memory. Its writer is acknowledged when a store has returned: memory
//! outlives the process.

use std::path::Path;
use std::sync::Arc;

use baton::sys::mapping;
use baton::table::{Capacity, OwnerId, Part, Table, Terminal};
use baton::wire::{Address, Domain, Epoch, Flags, Layout, Level, MeetingState, Role, Run, TakeoverEntry};

use super::{Failure, Reading, Store};
use crate::records::{Key, MEMBERS, Meeting, Member, meeting_id};

pub struct Shared {
    table: Arc<Table>,
}

impl Shared {
    /// What an engine does with the table that it finds: map it, look at its header, prove that its
    /// writers are dead, and bring to an end what they had begun.
    pub fn open(folder: &Path, fill: Option<u64>) -> Result<Self, Failure> {
        let path = folder.join("table");
        let table = match fill {
            Some(meetings) => {
                let meetings = u32::try_from(meetings)?;
                Table::create_at(&path, Capacity { meetings, terminals: meetings * MEMBERS }, mapping::boot_id()?)?
            }
            None => Table::open_at(&path)?,
        };
        if !table.mapping().try_lock()? {
            return Err("the table's writer lives".into());
        }
        if fill.is_none() {
            let same_boot = table.boot_id() == mapping::boot_id()?;
            assert!(same_boot, "the folder is this run's own");
            table.recover();
        }
        Ok(Self { table: Arc::new(table) })
    }
}

impl Store for Shared {
    fn fill(&mut self, meetings: u64) -> Result<(), Failure> {
        let mut writer = self.table.writer(OwnerId::CONTROL);
        for n in 0..meetings {
            let part = part(n)?;
            writer.insert_part(&part)?;
            for member in Member::of(n) {
                let role = Role::from_wire(member.role).ok_or("a role")?;
                let mut terminal = Terminal::new(Address::from_number(member.terminal), part.meeting, role);
                terminal.flags = Flags(member.flags);
                terminal.window = member.window;
                writer.join(part.meeting, part.domain, &terminal)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, _: u64, reading: &mut Reading) -> Result<(), Failure> {
        let key = |(level, entry): (Level, TakeoverEntry)| Key {
            id: entry.meeting.0,
            version: entry.version,
            level: level.number(),
        };
        reading.first(self.table.keys().next().map(key).ok_or("no part in the table")?);
        self.table.keys().for_each(|part| reading.meeting(key(part)));
        reading.meetings_done();
        self.table.terminals().for_each(|terminal| {
            reading.member(&Member {
                meeting: terminal.meeting.0,
                terminal: terminal.terminal.number(),
                role: terminal.role.wire(),
                flags: terminal.flags.0,
                window: terminal.window,
            });
        });
        reading.members_done();
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Failure> {
        let again = part(0)?;
        let found = self.table.writer(OwnerId::CONTROL).update_part(again.meeting, again.domain, |part| {
            part.version = again.version;
        })?;
        if found { Ok(()) } else { Err("meeting 0 is gone".into()) }
    }
}

fn part(n: u64) -> Result<Part, Failure> {
    let meeting = Meeting::number(n);
    Ok(Part {
        meeting: meeting_id(n),
        domain: Domain::new(meeting.domain).ok_or("a domain")?,
        version: meeting.version,
        epoch: Epoch::new(1, 1),
        state: MeetingState::from_wire(meeting.state).ok_or("a state")?,
        level: Level::new(meeting.level).ok_or("a level")?,
        layout: Layout::new(meeting.layout).ok_or("a layout")?,
        participants: 0,
        chairman: Address::from_number(meeting.chairman),
        in_doubt: false,
        is_unlisted: false,
        run: Run(1),
    })
}
