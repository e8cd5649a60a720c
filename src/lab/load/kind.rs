//! The kinds of load.

use serde::Serialize;

use crate::telemetry::ASKED_TAGS;
use crate::wire::Opcode;

/// Which frames a load consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A REPORT of each terminal in turn
    Reports,
    /// A REPORT_INFO of each terminal in turn, with 64 bytes of information
    Infos,
    /// PROBEs, which come back
    Probes,
    /// Frames for the control thread: HEARTBEATs, and unsolicited answers
    Commands,
    /// Of 16 frames: 11 reports, 3 probes, an info, a heartbeat
    Mix,
    /// Random, cut and damaged frames
    Garbage,
    /// Wrong tags, unknown domains, terminals of other domains, other addressees
    Forgeries,
    /// A valid frame of every opcode in turn, also those that are not for a dispatch server
    All,
}

/// The number of frames after which a kind repeats.
pub(super) const PERIOD: u64 = 16;

/// The class of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A REPORT of one terminal.
    Report,
    /// A REPORT_INFO with the longest information.
    Info,
    /// A PROBE, which is echoed.
    Probe,
    /// A HEARTBEAT of an autonomous server.
    Heartbeat,
    /// An unsolicited answer.
    Stray,
    /// Not a V2V frame, or a damaged one.
    Garbage,
    /// A complete frame that is not authentic.
    Forgery,
    /// A valid frame of one opcode.
    Example,
}

impl Class {
    /// The classes that are answered, by index.
    pub const ANSWERED: [Self; 4] = [Self::Report, Self::Info, Self::Probe, Self::Heartbeat];

    /// The name in results and logs.
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
    /// The class of the frame with this sequence number.
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

    /// How many of the frames from `first` on are answered if none is lost.
    pub fn answers(self, first: u64, count: u64) -> u64 {
        let answered =
            |of: u64| (first..first + of).filter(|&sequence| self.class(sequence).is_answered()).count() as u64;
        count / PERIOD * answered(PERIOD) + answered(count % PERIOD)
    }

    /// The number of frames that differ in more than their sequence number.
    pub const fn variety(self) -> u64 {
        match self {
            Self::All => Opcode::ALL.len() as u64,
            _ => PERIOD,
        }
    }
}
