//! Creating and opening a table, and the epoch in its header.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::limits::{CLAIM_TRIES_CONTROL, OWNERS_MAX, SLOTS_MAX};
use crate::sys::mapping::{BootId, Mapping, MappingError};
use crate::table::layout::{BANK, HEADER, LAYOUT_HASH, Layout, MAGIC};
use crate::table::slot::checksum;
use crate::table::slot::pause;
use crate::table::{Capacity, OwnerId, Table};
use crate::wire::Epoch;

/// The layout of the version before, which a resize reads (`earlier`).
pub(super) const EARLIER_LAYOUT_HASH: u64 = 0x5fed_a0a6_3af0_08f4;

/// Why a table could not be created or opened. An existing file is as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum OpenError {
    /// The file could not be made or mapped.
    #[error(transparent)]
    Mapping(MappingError),
    /// It was mapped, and is not a table to be trusted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was asked for with a capacity that no table has.
    #[error("a table holds 1 to {max} meetings and terminals; asked for {meetings} and {terminals}")]
    Capacity { meetings: u32, terminals: u32, max: u32 },
}

impl OpenError {
    /// What is wrong with the table at a path, which is named once.
    pub fn at(&self, path: &Path) -> String {
        match self {
            Self::Mapping(error) => error.to_string(),
            error => format!("{}: {error}", path.display()),
        }
    }
}

/// What is wrong with a table that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum Refusal {
    /// It does not begin as one.
    #[error("this is not a table of Baton's")]
    NotATable,
    /// The version before laid it out.
    #[error("its layout is that of the version before; `baton table resize` brings it over, with all that it holds")]
    EarlierLayout,
    /// Another version of this program laid it out.
    #[error("its layout is {found:016x}, and this program's is {ours:016x}: another version of Baton made it")]
    OtherLayout { found: u64, ours: u64 },
    /// It is shorter or longer than it should be.
    #[error("it should be {expected} bytes long and is {found}: it was cut, or something was added")]
    Length { expected: u64, found: u64 },
    /// The header does not fit its checksum.
    #[error("its header is damaged")]
    Header,
    /// The record of the epoch does not fit its checksum.
    #[error("the record of its epoch is damaged")]
    Epoch,
}

impl From<MappingError> for OpenError {
    fn from(error: MappingError) -> Self {
        match error {
            // No table has this size: the content is wrong, not the file system.
            MappingError::Size { bytes, .. } => Self::Refused(Refusal::Length {
                expected: bytes.next_multiple_of(8).max(HEADER as u64 * 8),
                found: bytes,
            }),
            error => Self::Mapping(error),
        }
    }
}

impl Table {
    /// The bytes of a table of this capacity; 0 where no table has it.
    pub fn bytes(capacity: Capacity) -> u64 {
        Layout::of(capacity).map_or(0, |layout| layout.bytes())
    }

    /// Lays out a new, empty table in zeroed memory of [`Table::bytes`].
    pub fn create(mapping: Mapping, capacity: Capacity, boot: BootId) -> Result<Self, OpenError> {
        let layout = layout_of(capacity)?;
        let expected = layout.bytes().next_multiple_of(mapping.unit());
        if mapping.bytes() != expected {
            return Err(Refusal::Length { expected, found: mapping.bytes() }.into());
        }
        let header = header(&layout, boot);
        for (word, value) in mapping.words().iter().zip(header).rev() {
            // Release makes the magic, the first word of the file, the last to be stored: a header
            // that has it is complete.
            word.store(value, Ordering::Release);
        }
        Ok(Self::over(mapping, layout))
    }

    /// Opens an existing table. Nothing is written, even if it is refused.
    pub fn open(mapping: Mapping) -> Result<Self, OpenError> {
        let found = mapping.bytes();
        if found < HEADER as u64 * 8 {
            return Err(Refusal::Length { expected: HEADER as u64 * 8, found }.into());
        }
        let mut said = [0; 7];
        for (to, from) in said.iter_mut().zip(mapping.words()) {
            // Acquire pairs with the Release stores of `create`.
            *to = from.load(Ordering::Acquire);
        }
        if said[0] != MAGIC {
            return Err(Refusal::NotATable.into());
        }
        if said[1] == EARLIER_LAYOUT_HASH {
            return Err(Refusal::EarlierLayout.into());
        }
        if said[1] != LAYOUT_HASH {
            return Err(Refusal::OtherLayout { found: said[1], ours: LAYOUT_HASH }.into());
        }
        if checksum(&said[..6], &[]) != said[6] {
            return Err(Refusal::Header.into());
        }
        let capacity = Capacity { meetings: (said[3] >> 32) as u32, terminals: said[3] as u32 };
        let layout = Layout::of(capacity).ok_or(Refusal::Header)?;
        if layout.bytes() != said[2] {
            return Err(Refusal::Header.into());
        }
        let expected = layout.bytes().next_multiple_of(mapping.unit());
        if expected != found {
            return Err(Refusal::Length { expected, found }.into());
        }
        let table = Self::over(mapping, layout);
        if table.words().epoch().is_claimed_beyond(OWNERS_MAX) || table.read_epoch().is_none() {
            return Err(Refusal::Epoch.into());
        }
        Ok(table)
    }

    /// Creates a table in a new file, which gets its name when it is complete.
    pub fn create_at(path: &Path, capacity: Capacity, boot: BootId) -> Result<Self, OpenError> {
        let mapping = Mapping::create(path, layout_of(capacity)?.bytes())?;
        let table = Self::create(mapping, capacity, boot)?;
        table.mapping().publish(path)?;
        Ok(table)
    }

    /// Opens the table in a file, as [`Table::open`] does.
    pub fn open_at(path: &Path) -> Result<Self, OpenError> {
        Self::open(Mapping::open(path)?)
    }

    /// A table on the heap, for tests and simulations. Panics where no table has this capacity.
    pub fn on_heap(capacity: Capacity) -> Self {
        let mapping = Mapping::heap(Self::bytes(capacity));
        Self::create(mapping, capacity, BootId::default()).expect("a capacity from 1 to 2^30")
    }

    /// The boot under which it was created.
    pub fn boot_id(&self) -> BootId {
        // Relaxed: written once, before the table was shared.
        let half = |at: usize| u128::from(self.mapping().words()[at].load(Ordering::Relaxed));
        BootId(half(4) | half(5) << 64)
    }

    /// The epoch of the engine that controls.
    pub fn epoch(&self) -> Epoch {
        self.epoch_record().0
    }

    /// The end of the block of generations that the database has reserved: generations below it may
    /// be used.
    pub fn generation_end(&self) -> u32 {
        self.epoch_record().1
    }

    /// Enters a block of generations that the database has reserved: `epoch` is in use now, and
    /// generations below `end` may follow it under the same term and nonce.
    pub fn set_reservation(&self, epoch: Epoch, end: u32) {
        self.change_epoch(|_, _| Some((epoch, end)));
    }

    /// Begins the next generation of the block; none, and nothing is changed, if the block is used
    /// up.
    pub fn bump_generation(&self) -> Option<Epoch> {
        self.change_epoch(|epoch, end| {
            let next = epoch.generation().checked_add(1).filter(|&next| u32::from(next) < end)?;
            Some((Epoch::new(epoch.term(), next).with_nonce(epoch.nonce()), end))
        })
    }

    /// One thread of one process changes the epoch: the one that controls, after
    /// [`Table::recover`].
    fn change_epoch(&self, change: impl FnOnce(Epoch, u32) -> Option<(Epoch, u32)>) -> Option<Epoch> {
        let slot = self.words().epoch();
        let claim = (0..CLAIM_TRIES_CONTROL).find_map(|tried| {
            let (seen, ()) = slot.read(|bank, _| decode(bank).map(|_| ())).ok()?;
            slot.claim(seen, OwnerId::CONTROL).or_else(|| {
                pause(tried);
                None
            })
        });
        let claim = claim.expect("the epoch is whole and unclaimed: recovery has run, and only this thread changes it");
        let (epoch, end) = self.epoch_record();
        let (epoch, end) = change(epoch, end)?;
        let mut bank = [0; BANK];
        (bank[0], bank[1]) = (epoch.0, end.into());
        bank[BANK - 1] = checksum(&bank[..BANK - 1], &[]);
        claim.publish(&bank);
        Some(epoch)
    }

    fn epoch_record(&self) -> (Epoch, u32) {
        self.read_epoch().expect("the record of the epoch was whole when the table was opened")
    }

    fn read_epoch(&self) -> Option<(Epoch, u32)> {
        self.words().epoch().read(|bank, _| decode(bank)).ok().map(|(_, record)| record)
    }
}

fn decode(bank: &[u64; BANK]) -> Option<(Epoch, u32)> {
    (checksum(&bank[..BANK - 1], &[]) == bank[BANK - 1]).then_some((Epoch(bank[0]), bank[1] as u32))
}

fn layout_of(capacity: Capacity) -> Result<Layout, OpenError> {
    let Capacity { meetings, terminals } = capacity;
    Layout::of(capacity).ok_or(OpenError::Capacity { meetings, terminals, max: SLOTS_MAX })
}

fn header(layout: &Layout, boot: BootId) -> [u64; 7] {
    let Capacity { meetings, terminals } = layout.capacity;
    let mut header = [
        MAGIC,
        LAYOUT_HASH,
        layout.bytes(),
        u64::from(meetings) << 32 | u64::from(terminals),
        boot.0 as u64,
        (boot.0 >> 64) as u64,
        0,
    ];
    header[6] = checksum(&header[..6], &[]);
    header
}
