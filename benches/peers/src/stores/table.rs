//! Baton's table in shared memory. Its writer is acknowledged when a store has returned: memory
//! outlives the process.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use baton::sys::mapping;
use baton::table::{Capacity, OwnerId, Part, Share, Table, Terminal};
use baton::wire::{Address, Domain, Epoch, Flags, Layout, Level, MeetingState, Role, Run, TakeoverEntry};

use super::{Failure, Reading, Store};
use crate::records::{Key, MEMBERS, Meeting, Member, Tally, meeting_id};

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
        let table = &*self.table;
        reading.first(table.keys_in_share(Share::WHOLE).next().map(key).ok_or("no part in the table")?);
        let of_share = |share, tally: &mut Tally| table.keys_in_share(share).for_each(|part| tally.meeting(key(part)));
        reading.tally = in_shares(of_share);
        reading.meetings_done();
        let of_share = |share, tally: &mut Tally| {
            table.terminals_in_share(share).for_each(|terminal| {
                tally.member(&Member {
                    meeting: terminal.meeting.0,
                    terminal: terminal.terminal.number(),
                    role: terminal.role.wire(),
                    flags: terminal.flags.0,
                    window: terminal.window,
                });
            });
        };
        reading.tally += in_shares(of_share);
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

fn key((level, TakeoverEntry { meeting, version }): (Level, TakeoverEntry)) -> Key {
    Key { id: meeting.0, version, level: level.number() }
}

/// Has each processor read a share.
fn in_shares(read: impl Fn(Share, &mut Tally) + Sync) -> Tally {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let read = |share| {
        let mut tally = Tally::default();
        read(share, &mut tally);
        tally
    };
    thread::scope(|scope| {
        let mut shares = Share::split(processors);
        let first = shares.next();
        let others: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
        let mut tally = first.map_or_else(Tally::default, read);
        others.into_iter().for_each(|other| tally += other.join().expect("it only reads"));
        tally
    })
}
