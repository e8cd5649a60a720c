//! The values that fields of PDUs and records take, each a closed set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An enumeration on the wire. It is closed, so that a value of another version is
/// [`super::Malformed`] and not guessed.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $text] $(#[$vdoc])* #[serde(rename = $text)] $variant = $value,)* }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The value with this number on the wire.
            pub const fn from_wire(number: u8) -> Option<Self> {
                match number { $($value => Some(Self::$variant),)* _ => None }
            }

            /// Its number on the wire.
            pub const fn wire(self) -> u8 {
                self as u8
            }

            /// Its name, as people read and type it, and in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|value| value.name()).collect();
                    format!("`{text}` is none of: {}", known.join(", "))
                })
            }
        }
    };
}

wire_enum! {
    /// What an answer says of its request.
    Status {
        Ok = 0 "ok",
        UnknownMeeting = 1 "unknown meeting",
        /// The body has the highest epoch seen.
        StaleEpoch = 2 "stale epoch",
        /// Never sent; counted.
        Unauthentic = 3 "unauthentic",
        /// The body has the nanoseconds after which to ask again.
        Busy = 4 "busy",
        Malformed = 5 "malformed",
        UnsupportedVersion = 6 "unsupported version",
        /// As OK, but it was so before.
        Already = 7 "already",
        Capacity = 8 "capacity",
        UnknownTerminal = 9 "unknown terminal",
        /// A meeting of a higher level has the terminal.
        Conflict = 10 "conflict",
    }
}

impl Status {
    /// Whether the request is fulfilled now.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Ok | Self::Already)
    }
}

wire_enum! {
    /// The state of a meeting, or of its part in one domain.
    MeetingState {
        None = 0 "none",
        Prepared = 1 "prepared",
        Starting = 2 "starting",
        InMeeting = 3 "in meeting",
        Recovering = 4 "recovering",
        Ending = 5 "ending",
        Ended = 6 "ended",
        /// The dispatch server holds it, the autonomous server does not.
        Missing = 7 "missing",
    }
}

wire_enum! {
    /// What a terminal is busy with.
    Business {
        Idle = 0 "idle",
        Invited = 1 "invited",
        InMeeting = 2 "in meeting",
        Left = 3 "left",
        LiveBroadcast = 4 "live broadcast",
        OnDemand = 5 "on demand",
        Offline = 6 "offline",
        Fault = 7 "fault",
    }
}

wire_enum! {
    /// What a terminal's decoder does.
    Decode {
        Stopped = 0 "stopped",
        Starting = 1 "starting",
        Decoding = 2 "decoding",
        Stalled = 3 "stalled",
        Failed = 4 "failed",
    }
}

wire_enum! {
    /// A member's part in a conference.
    Role {
        Participant = 0 "participant",
        Chairman = 1 "chairman",
        SpeakerOne = 2 "speaker one",
        SpeakerTwo = 3 "speaker two",
        SpeakerThree = 4 "speaker three",
    }
}

wire_enum! {
    /// Which of a terminal's streams.
    StreamKind {
        Sub = 0 "sub",
        Main = 1 "main",
    }
}

/// A terminal's flags: bit 0 muted, 1 hand raised, 2 recording, 3 online, 4 auxiliary stream, 5 has
/// audio.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(pub u8);

#[expect(missing_docs, reason = "the bits are listed at the type")]
impl Flags {
    pub const MUTED: Self = Self(1);
    pub const HAND_RAISED: Self = Self(1 << 1);
    pub const RECORDING: Self = Self(1 << 2);
    pub const ONLINE: Self = Self(1 << 3);
    pub const AUXILIARY: Self = Self(1 << 4);
    pub const AUDIO: Self = Self(1 << 5);
    /// Every flag; the other two bits are none.
    pub const ALL: Self = Self(0b11_1111);
    /// Each flag with its name.
    pub const NAMES: [(Self, &'static str); 6] = [
        (Self::MUTED, "muted"),
        (Self::HAND_RAISED, "hand raised"),
        (Self::RECORDING, "recording"),
        (Self::ONLINE, "online"),
        (Self::AUXILIARY, "auxiliary"),
        (Self::AUDIO, "audio"),
    ];

    /// These flags with the bits of `mask` replaced by those of `value`.
    pub const fn with(self, mask: Self, value: Self) -> Self {
        Self(self.0 & !mask.0 | value.0 & mask.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Self::NAMES.iter().filter(|(flag, _)| self.0 & flag.0 != 0).map(|&(_, name)| name).collect();
        write!(f, "Flags({})", names.join("|"))
    }
}

/// The window of a terminal that is not on the screen. Windows are counted from 0.
pub const WINDOW_NONE: u8 = 255;

/// The number of windows on the screen: 1 to 13, 16 or 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Layout(u8);

impl Layout {
    /// None if there is no layout of that many windows.
    pub const fn new(windows: u8) -> Option<Self> {
        if matches!(windows, 1..=13 | 16 | 64) { Some(Self(windows)) } else { None }
    }

    /// 1 to 13, 16 or 64.
    pub const fn windows(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Layout {
    type Error = String;

    fn try_from(windows: u8) -> Result<Self, String> {
        Self::new(windows).ok_or_else(|| format!("{windows} windows is not a layout: 1 to 13, 16 or 64"))
    }
}

impl From<Layout> for u8 {
    fn from(layout: Layout) -> u8 {
        layout.0
    }
}

/// A meeting's level, 1 (highest) to 5.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

impl Level {
    /// The level of most importance.
    pub const HIGHEST: Self = Self(1);
    /// The level of least importance.
    pub const LOWEST: Self = Self(5);
    /// All of them, the highest first.
    pub const ALL: [Self; 5] = [Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// None if the number is not 1 to 5.
    pub const fn new(number: u8) -> Option<Self> {
        if matches!(number, 1..=5) { Some(Self(number)) } else { None }
    }

    /// 1 to 5.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| format!("{number} is not a level: 1 (highest) to 5"))
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> u8 {
        level.0
    }
}

pub(super) use wire_enum;
