//! What a load is made of.

use serde::Serialize;

use crate::telemetry::ASKED_TAGS;
use crate::wire::Opcode;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A REPORT of each terminal in turn
    Reports,
    /// A REPORT_INFO of each terminal in turn, with 64 bytes of information
    Infos,
    /// PROBEs, which come back
    Probes,
    /// What goes to the control thread: HEARTBEATs, and answers that nobody asked for
    Commands,
    /// Of 16 frames: 11 reports, 3 probes, an info, a heartbeat
    Mix,
    /// Random, cut and damaged frames
    Garbage,
    /// Wrong tags, unknown domains, terminals of other domains, other addressees
    Forgeries,
    /// A valid frame of every opcode in turn, whoever it is for
    All,
}

/// Frames after which a kind begins anew.
pub(super) const PERIOD: u64 = 16;

/// What one frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// REPORT.
    Report,
    /// REPORT_INFO.
    Info,
    /// PROBE.
    Probe,
    /// HEARTBEAT.
    Heartbeat,
    /// An answer that nobody asked for.
    Stray,
    /// No V2V frame, or hardly one.
    Garbage,
    /// A whole frame that is not to be believed.
    Forgery,
    /// One of each opcode.
    Example,
}

impl Class {
    /// Those that are answered, in the order of their places.
    pub const ANSWERED: [Self; 4] = [Self::Report, Self::Info, Self::Probe, Self::Heartbeat];

    /// Its name in results and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => ASKED_TAGS[0],
            Self::Info => ASKED_TAGS[1],
            Self::Probe => ASKED_TAGS[2],
            Self::Heartbeat => ASKED_TAGS[3],
            Self::Stray => "stray",
            Self::Garbage => "garbage",
            Self::Forgery => "forgery",
            Self::Example => "example",
        }
    }

    /// Whether a dispatch server answers it.
    pub fn is_answered(self) -> bool {
        Self::ANSWERED.contains(&self)
    }
}

impl Kind {
    /// What the frame of this sequence is.
    pub const fn class(self, sequence: u64) -> Class {
        match (self, sequence % PERIOD) {
            (Self::Reports, _) | (Self::Mix, 0..11) => Class::Report,
            (Self::Mix, 11) | (Self::Infos, _) => Class::Info,
            (Self::Mix, 12..15) | (Self::Probes, _) => Class::Probe,
            (Self::Mix, _) => Class::Heartbeat,
            (Self::Commands, place) => {
                if place.is_multiple_of(2) {
                    Class::Heartbeat
                } else {
                    Class::Stray
                }
            }
            (Self::Garbage, _) => Class::Garbage,
            (Self::Forgeries, _) => Class::Forgery,
            (Self::All, _) => Class::Example,
        }
    }

    /// How many of the frames from `first` on are answered when none is lost.
    pub fn answers(self, first: u64, count: u64) -> u64 {
        let answered =
            |of: u64| (first..first + of).filter(|&sequence| self.class(sequence).is_answered()).count() as u64;
        count / PERIOD * answered(PERIOD) + answered(count % PERIOD)
    }

    /// Frames of which none is like another but for its number.
    pub const fn variety(self) -> u64 {
        match self {
            Self::All => Opcode::ALL.len() as u64,
            _ => PERIOD,
        }
    }
}
