//! Counters of one worker: only the worker adds, any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::rings::RingStatus;
use crate::wire::Malformed;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// The result of processing a frame, or of what follows from it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// Every counter, by index.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in listings and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// Frames taken from the ring.
    Received "received",
    /// Reports that changed the table.
    ReportsApplied "reports_applied",
    /// Reports whose version, or a newer one, the table already had.
    ReportsKnown "reports_known",
    /// Reports of terminals that are not in the table.
    ReportsUnknown "reports_unknown",
    /// Reports left unanswered because another writer had the slot, or its record was damaged; the
    /// terminal repeats them.
    ReportsDeferred "reports_deferred",
    /// Reports answered CAPACITY: the table has no room for additional information of more than 6
    /// bytes.
    ReportsFull "reports_full",
    /// Probes sent back.
    ProbesEchoed "probes_echoed",
    /// Probes of the kernel's packet generator, if steering accepts them.
    GeneratorProbes "generator_probes",
    /// Acknowledgements handed to the kernel.
    Acknowledged "acknowledged",
    /// Acknowledgements that found no room in the transmit ring.
    AcknowledgementsDropped "acknowledgements_dropped",
    /// Frames handed to the control thread.
    ToControl "to_control",
    /// Frames for the control thread that found its queue full.
    ControlOverflow "control_overflow",
    /// How often the worker became overloaded and began to shed.
    Overloads "overloads",
    /// Reports shed that would have changed nothing: keep-alives, and repetitions of what the table
    /// has.
    ShedKnown "shed_known",
    /// Other reports shed.
    ShedReports "shed_reports",
    /// Probes shed in an overload.
    ShedProbes "shed_probes",
    /// BUSY answers to shed frames.
    BusyTold "busy_told",
    /// Frames handed to the kernel.
    Sent "sent",
    /// Frames from domains that are not in the configuration.
    UnknownDomain "unknown_domain",
    /// Frames with a wrong tag.
    Unauthentic "unauthentic",
    /// Frames addressed to another dispatch server.
    Misaddressed "misaddressed",
    /// Frames whose opcode is not for a dispatch server.
    Misdirected "misdirected",
    /// Reports from domains that another dispatch server controls.
    Fenced "fenced",
    /// Shorter than its packet.
    MalformedShort "malformed_short",
    /// Another EtherType.
    MalformedEtherType "malformed_ethertype",
    /// Unknown packet type.
    MalformedPacketType "malformed_packet_type",
    /// Another version.
    MalformedVersion "malformed_version",
    /// Unknown opcode.
    MalformedOpcode "malformed_opcode",
    /// An opcode in the wrong payload.
    MalformedPayload "malformed_payload",
    /// A value that the protocol does not define.
    MalformedValue "malformed_value",
    /// A page with impossible numbers.
    MalformedPage "malformed_page",
    /// A record that goes beyond its page.
    MalformedRecord "malformed_record",
}

impl From<Malformed> for Counter {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Short => Self::MalformedShort,
            Malformed::EtherType => Self::MalformedEtherType,
            Malformed::PacketType => Self::MalformedPacketType,
            Malformed::Version => Self::MalformedVersion,
            Malformed::Opcode => Self::MalformedOpcode,
            Malformed::Payload => Self::MalformedPayload,
            Malformed::Value => Self::MalformedValue,
            Malformed::Page => Self::MalformedPage,
            Malformed::Record => Self::MalformedRecord,
        }
    }
}

/// The counters of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    cells: [AtomicU64; Counter::ALL.len()],
    /// The state of its rings when it last looked.
    ring: Mutex<Option<RingStatus>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; Counter::ALL.len()], ring: Mutex::default() }
    }
}

impl Counters {
    /// Adds one. Only for the thread that owns these counters: a load and a store, no locked
    /// instruction.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n`. As [`Self::count`].
    pub fn add(&self, counter: Counter, n: u64) {
        let cell = &self.cells[counter as usize];
        // Relaxed: a counter orders nothing, and there is one writer.
        cell.store(cell.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// The present value. For any thread.
    pub fn read(&self, counter: Counter) -> u64 {
        self.cells[counter as usize].load(Ordering::Relaxed)
    }

    /// Publishes the state of the rings. If another thread is reading it, this is left for the next
    /// time: the worker does not wait.
    pub fn show_ring(&self, status: Option<RingStatus>) {
        if let Some(mut shown) = self.ring.try_lock() {
            *shown = status;
        }
    }

    /// The state of the rings within the last second or so; none if there are no rings, or none was
    /// published yet.
    pub fn ring(&self) -> Option<RingStatus> {
        *self.ring.lock()
    }

    /// Every counter with its name, summed over workers.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> impl Iterator<Item = (&'static str, u64)> {
        Counter::ALL.iter().map(move |&counter| (counter.name(), all.clone().map(|one| one.read(counter)).sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_workers_and_names_every_counter() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].count(Counter::Received);
        workers[1].add(Counter::Received, 2);
        workers[1].count(Malformed::Record.into());
        let sums: Vec<_> = Counters::sum(workers.iter()).filter(|&(_, n)| n > 0).collect();
        assert_eq!(sums, [("received", 3), ("malformed_record", 1)]);
    }
}
