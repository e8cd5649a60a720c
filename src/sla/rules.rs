//! The rules, from TOML.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::config::{ConfigError, Place};
use crate::telemetry::{ASKED_TAGS, Stage};

/// The rules of a file, ordered by kind and then as in the file.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// The path that messages name.
    pub file: PathBuf,
    /// Never empty.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Its name in verdicts: the given one, or a description of its limit.
    pub name: String,
    /// The quantity that is limited.
    pub kind: Kind,
    /// Every window of this length must hold the rule; none: all logs are one window.
    pub window: Option<Duration>,
}

/// The quantity that a rule limits.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// A percentile of a stage's latency.
    Latency {
        /// A stage of the server, or a tag of a load generator.
        stage: String,
        /// Above 0, at most 100, which means the slowest.
        percentile: f64,
        /// The largest allowed value.
        bound: Duration,
    },
    /// Frames shed or dropped, as a share of all that arrived.
    Loss {
        /// The largest allowed share.
        bound: f64,
    },
    /// The share of the time in which an engine was in control.
    Availability {
        /// The smallest allowed share.
        bound: f64,
    },
    /// The time from a death until control was back.
    Reset {
        /// The phase of recovery that ends it.
        phase: Phase,
        /// The largest allowed value.
        bound: Duration,
    },
}

/// A phase of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The first takeover frame is on its way.
    FirstFrame,
    /// Every takeover was answered.
    Acknowledged,
    /// Every audit agreed.
    Reconciled,
}

impl Phase {
    /// Every phase, in their order.
    pub const ALL: [Self; 3] = [Self::FirstFrame, Self::Acknowledged, Self::Reconciled];

    /// The spelling in rules.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstFrame => "first_frame",
            Self::Acknowledged => "acknowledged",
            Self::Reconciled => "reconciled",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency { stage, percentile: 100.0, .. } => write!(f, "{stage} maximum"),
            Self::Latency { stage, percentile, .. } => write!(f, "{stage} p{percentile}"),
            Self::Loss { .. } => f.write_str("loss"),
            Self::Availability { .. } => f.write_str("availability"),
            Self::Reset { phase, .. } => write!(f, "reset {}", phase.name()),
        }
    }
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("cannot read the rules {}: {error}; name another file with --rules", file.display())]
    Unreadable {
        /// The path that was given.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// An error in the file: file, line, key, and the expected value.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
    /// The file contains no rule.
    #[error("{}: no rule: at least one of [[latency]], [[loss]], [[availability]], [[reset]] is expected", .0.display())]
    None(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    latency: Vec<Latency>,
    #[serde(default)]
    loss: Vec<Loss>,
    #[serde(default)]
    availability: Vec<Availability>,
    #[serde(default)]
    reset: Vec<Reset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    name: Option<String>,
    #[serde(deserialize_with = "stage")]
    stage: String,
    #[serde(deserialize_with = "percentile")]
    percentile: f64,
    #[serde(deserialize_with = "duration")]
    bound: Duration,
    #[serde(default, deserialize_with = "window")]
    window: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loss {
    name: Option<String>,
    #[serde(deserialize_with = "share")]
    bound: f64,
    #[serde(default, deserialize_with = "window")]
    window: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Availability {
    name: Option<String>,
    #[serde(deserialize_with = "share")]
    bound: f64,
    #[serde(default, deserialize_with = "window")]
    window: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    name: Option<String>,
    phase: Spanned<Phase>,
    #[serde(deserialize_with = "duration")]
    bound: Duration,
}

impl Rules {
    /// Reads the rules of a file.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn read(file: &Path) -> Result<Self, RulesError> {
        let text = fs::read_to_string(file).map_err(|error| RulesError::Unreadable { file: file.into(), error })?;
        Self::parse(file, &text)
    }

    /// As [`Self::read`], from this text.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, RulesError> {
        let place = Place { file, text };
        let typed: File = toml::from_str(text).map_err(|error| {
            place.wrong(error.span().unwrap_or(text.len()..text.len()), None, error.message().to_owned())
        })?;
        let rule = |name: Option<String>, kind: Kind, window| Rule {
            name: name.unwrap_or_else(|| kind.to_string()),
            kind,
            window,
        };
        let mut rules = Vec::new();
        for Latency { name, stage, percentile, bound, window } in typed.latency {
            rules.push(rule(name, Kind::Latency { stage, percentile, bound }, window));
        }
        for Loss { name, bound, window } in typed.loss {
            rules.push(rule(name, Kind::Loss { bound }, window));
        }
        for Availability { name, bound, window } in typed.availability {
            rules.push(rule(name, Kind::Availability { bound }, window));
        }
        for Reset { name, phase, bound } in typed.reset {
            rules.push(rule(name, Kind::Reset { phase: phase.into_inner(), bound }, None));
        }
        if rules.is_empty() {
            return Err(RulesError::None(file.into()));
        }
        Ok(Self { file: file.into(), rules })
    }
}

/// Every stage that a rule may name: the server's, then a load generator's tags.
fn stages() -> Vec<&'static str> {
    Stage::ALL.iter().map(|stage| stage.name()).chain(ASKED_TAGS).collect()
}

fn stage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = stages();
    if known.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(D::Error::custom(format!("unknown stage `{name}`, expected one of {}", known.join(", "))))
}

fn percentile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Whole(i64),
        Real(f64),
    }
    let number = match Number::deserialize(deserializer).map_err(|_| D::Error::custom("a number is expected"))? {
        Number::Whole(number) => number as f64,
        Number::Real(number) => number,
    };
    if number > 0.0 && number <= 100.0 {
        return Ok(number);
    }
    Err(D::Error::custom(format!("{number} is no percentile: above 0, at most 100 (the slowest) is expected")))
}

/// Units of time, in seconds.
const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// A time with its unit, such as `50us`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let known = || UNITS.map(|(unit, _)| unit).join(", ");
    let at = text.find(|it: char| !(it.is_ascii_digit() || it == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..at], text[at..].trim());
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is no time: a number and a unit, such as 50us, is expected"))?;
    let Some((_, seconds)) = UNITS.iter().find(|(known, _)| *known == unit) else {
        return Err(if unit.is_empty() {
            format!("`{text}` has no unit; expected one of {}", known())
        } else {
            format!("unknown unit `{unit}`, expected one of {}", known())
        });
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("`{text}` is too long a time"))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let window = duration(deserializer)?;
    if window < Duration::from_secs(1) {
        return Err(D::Error::custom("a window is at least 1s long, as the intervals of the logs are"));
    }
    Ok(Some(window))
}

/// "99.9%", or 0.999.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Share {
        Whole(i64),
        Real(f64),
        Text(String),
    }
    let expected = || D::Error::custom("a share is expected: \"99.9%\", or 0.999");
    let share = match Share::deserialize(deserializer).map_err(|_| expected())? {
        Share::Whole(share) => share as f64,
        Share::Real(share) => share,
        Share::Text(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            percent.ok_or_else(expected)? / 100.0
        }
    };
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rules, RulesError> {
        Rules::parse(Path::new("sla.toml"), text)
    }

    #[test]
    fn rules_are_read_with_their_units() {
        let rules = parse(
            "[[latency]]\nstage = \"processing\"\npercentile = 99.9\nbound = \"50us\"\nwindow = \"10s\"\n\
             [[latency]]\nname = \"probes\"\nstage = \"probe\"\npercentile = 100\nbound = \"1.5ms\"\n\
             [[loss]]\nbound = \"0.01%\"\n[[availability]]\nbound = 0.99999\nwindow = \"1h\"\n\
             [[reset]]\nphase = \"first_frame\"\nbound = \"1ms\"\n",
        )
        .unwrap()
        .rules;
        let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["processing p99.9", "probes", "loss", "availability", "reset first_frame"]);
        assert_eq!(rules[0].window, Some(Duration::from_secs(10)));
        let Kind::Latency { bound, percentile, .. } = rules[1].kind else { panic!("{:?}", rules[1]) };
        assert_eq!((bound, percentile), (Duration::from_micros(1500), 100.0));
        assert_eq!(rules[2].kind, Kind::Loss { bound: 0.0001 });
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_the_known_ones() {
        let latency = |key: &str, value: &str| {
            let lines = [("stage", "\"probe\""), ("percentile", "99"), ("bound", "\"1ms\""), ("window", "\"1s\"")];
            let line = |(name, usual)| format!("{name} = {}\n", if name == key { value } else { usual });
            format!("# rules\n[[latency]]\n{}", lines.map(line).concat())
        };
        for (text, expected) in [
            (
                latency("stage", "\"parsing\""),
                "sla.toml:3: `latency.stage`: unknown stage `parsing`, expected one of ring_wait, processing,",
            ),
            (latency("percentile", "101"), "sla.toml:4: `latency.percentile`: 101 is no percentile"),
            (
                latency("bound", "\"1 fortnight\""),
                "sla.toml:5: `latency.bound`: unknown unit `fortnight`, expected one of ns, us, µs, ms, s, m, h",
            ),
            (latency("bound", "\"10\""), "`10` has no unit; expected one of ns,"),
            (latency("bound", "\"fast\""), "`fast` is no time"),
            (latency("window", "\"1ms\""), "sla.toml:6: `latency.window`: a window is at least 1s"),
            ("[[loss]]\nbound = \"much\"\n".into(), "sla.toml:2: `loss.bound`: a share is expected"),
            ("[[loss]]\nbund = 0\n".into(), "sla.toml:2: `loss.bund`: unknown field `bund`, expected one of"),
            ("[[reset]]\nphase = \"soon\"\nbound = \"1s\"\n".into(), "unknown variant `soon`, expected one of"),
            ("[[throughput]]\nbound = 1\n".into(), "unknown field `throughput`, expected one of `latency`, `loss`"),
            ("# none\n".into(), "sla.toml: no rule: at least one of [[latency]]"),
        ] {
            let said = parse(&text).unwrap_err().to_string();
            assert!(said.contains(expected), "{text}\n{said}\n{expected}");
        }
    }
}
