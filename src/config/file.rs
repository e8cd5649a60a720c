//! A configuration file, from text to [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use toml::Spanned;

use super::{AutonomousDomain, Config, Overrides, values};
use crate::limits::{DOMAINS_BEHIND_MAX, DOMAINS_MAX, SLOTS_MAX, SOCKET_BYTES_MAX, WORKERS_MAX};
use crate::wire::{Domain, Mac, Secret};

/// Why a configuration is refused. The message says where and what was expected; it never repeats a
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the configuration {}: {error}; name another with --config, or make one from `baton config example`",
        file.display()
    )]
    Unreadable {
        /// Where it was looked for.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A key has an invalid value, is unknown, or is missing.
    #[error("{}:{line}: {key}{what}", file.display(), key = key_text(.key))]
    Wrong {
        /// Which was read.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its section; empty if the file is not TOML at that place.
        key: String,
        /// What was found and what was expected.
        what: String,
    },
    /// Queues and workers do not fit the interfaces' actual queues.
    #[error("{}: `interface`: {what}", file.display())]
    Unfit {
        /// Which holds the fault.
        file: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
    /// A command-line option has an invalid value.
    #[error("{option}: {what}")]
    Option {
        /// As typed on the command line.
        option: &'static str,
        /// What was expected.
        what: String,
    },
}

fn key_text(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// The file's form. Values are checked on their own while they are read, so that an error has its
/// place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    dispatch: super::Dispatch,
    interface: Option<Spanned<super::Interface>>,
    #[serde(default)]
    domain: Vec<Spanned<DomainSection>>,
    #[serde(default)]
    table: super::Table,
    #[serde(default)]
    database: super::Database,
    #[serde(default)]
    runtime: super::Runtime,
    recovery: Option<Spanned<super::Recovery>>,
    #[serde(default)]
    heartbeat: super::Heartbeat,
    #[serde(default)]
    worker: super::Worker,
    #[serde(default)]
    telemetry: super::Telemetry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainSection {
    number: Spanned<Domain>,
    #[serde(default, with = "values::mac")]
    mac: Option<Mac>,
    interface: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "values::vlan")]
    vlan: Option<u16>,
    #[serde(default, deserialize_with = "values::label")]
    label: Option<u16>,
    #[serde(default, with = "values::secret")]
    secret: Option<Secret>,
    secret_file: Option<Spanned<PathBuf>>,
    #[serde(default, alias = "laboratory")]
    insecure_no_authentication: bool,
    #[serde(default)]
    behind: Vec<Spanned<Domain>>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|error| ConfigError::Unreadable { file: file.into(), error })?;
        Self::parse(file, &text, overrides)
    }

    /// As [`Self::read`], from the text. `file` names it in errors, and relative paths of secrets
    /// start at its folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(file: &Path, text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let place = Place { file, text };
        let typed: File = toml::from_str(text).map_err(|error| {
            place.wrong(error.span().unwrap_or(text.len()..text.len()), None, error.message().to_owned())
        })?;
        let section = typed.interface.as_ref().map_or(0..0, Spanned::span);
        let mut interface = typed.interface.map(Spanned::into_inner).unwrap_or_default();
        if !overrides.interface.is_empty() {
            let option = "--interface";
            if let Some(name) = overrides.interface.iter().find(|name| !values::is_interface_name(name)) {
                let what = format!("`{name}` is not an interface's name: 1 to 15 characters, such as eth0");
                return Err(ConfigError::Option { option, what });
            }
            values::check_interfaces(&overrides.interface).map_err(|what| ConfigError::Option { option, what })?;
            interface.names.clone_from(&overrides.interface);
        }
        if interface.names.is_empty() {
            let what = "missing: the name of the interface that V2V frames come and go by (or give --interface)";
            return Err(place.wrong(section, Some("interface.name"), what.into()));
        }
        if let (Some(queues), Some(workers)) = (interface.queues, interface.workers)
            && workers % queues != 0
        {
            let what =
                format!("{workers} workers cannot serve {queues} queues alike: a multiple of {queues} is expected");
            return Err(place.wrong(section, Some("interface.workers"), what));
        }
        let mut table = typed.table;
        for (option, value, slot) in [
            ("--meetings", overrides.meetings, &mut table.meetings),
            ("--terminals", overrides.terminals, &mut table.terminals),
        ] {
            let Some(value) = value else { continue };
            if !(1..=SLOTS_MAX).contains(&value) {
                let what = format!("{value} is not a whole number from 1 to {SLOTS_MAX}");
                return Err(ConfigError::Option { option, what });
            }
            *slot = value;
        }
        let recovery = typed.recovery.as_ref().map_or(0..0, Spanned::span);
        let recovery_settings = typed.recovery.map(Spanned::into_inner).unwrap_or_default();
        if recovery_settings.rto_min > recovery_settings.rto_max {
            let [min, max] = [recovery_settings.rto_min, recovery_settings.rto_max].map(|time| time.as_millis());
            let what = format!("the first wait of {min} ms is longer than the longest, `rto_max_ms` of {max}");
            return Err(place.wrong(recovery, Some("recovery.rto_min_ms"), what));
        }
        let without = typed.domain.iter().find(|domain| domain.get_ref().mac.is_none());
        if let Some(domain) = without.filter(|_| interface.known_macs_only) {
            let number = domain.get_ref().number.get_ref();
            let what = format!(
                "domain {number} has no mac: with `interface.known_macs_only` its frames would be dropped, and it could not be learned"
            );
            return Err(place.wrong(domain.span(), Some("domain.mac"), what));
        }
        let exposed = exposed_secrets(&place, &typed.domain);
        let config = Self {
            file: file.into(),
            dispatch: typed.dispatch,
            domains: domains(&place, typed.domain, &interface)?,
            interface,
            table,
            database: typed.database,
            runtime: typed.runtime,
            recovery: recovery_settings,
            heartbeat: typed.heartbeat,
            worker: typed.worker,
            telemetry: typed.telemetry,
            exposed,
        };
        config.check_paths(&place)?;
        Ok(config)
    }

    /// Paths name files, each another one, and those of sockets are short enough for the kernel.
    fn check_paths(&self, place: &Place<'_>) -> Result<(), ConfigError> {
        let wrong = |key: &str, what: String| place.wrong(place.offset_of(key), Some(key), what);
        let (table, database) = (&self.table.path, &self.database.path);
        let named = [
            ("table.path", Some(table)),
            ("database.path", Some(database)),
            ("runtime.dir", Some(&self.runtime.dir)),
            ("runtime.api_socket", self.runtime.api_socket.as_ref()),
            ("runtime.pin", self.runtime.pin.as_ref()),
            ("telemetry.folder", self.telemetry.folder.as_ref()),
        ];
        for (key, path) in named {
            if path.is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(wrong(
                    key,
                    "an empty path names nothing: name a file or folder, or leave the key out".into(),
                ));
            }
        }
        for (key, path) in [("table.path", table), ("database.path", database)] {
            if path.file_name().is_none() {
                return Err(wrong(key, format!("{} does not name a file", path.display())));
            }
        }
        let snapshot = self.database.snapshot();
        let socket = self.runtime.api_socket();
        let own = [("database.path", database), ("database.path", &snapshot), ("runtime.api_socket", &socket)];
        if let Some((key, path)) = own.into_iter().find(|(_, path)| *path == table) {
            let what = format!("{} is the table already: name another file", path.display());
            return Err(wrong(key, what));
        }
        if socket == *database || socket == snapshot {
            let what = format!("{} is the database or its snapshot: name another place", socket.display());
            return Err(wrong("runtime.api_socket", what));
        }
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_BYTES_MAX {
            let key = if self.runtime.api_socket.is_some() { "runtime.api_socket" } else { "runtime.dir" };
            let what = format!(
                "the API's socket {} has a name of {bytes} bytes, and the kernel takes at most {SOCKET_BYTES_MAX}: name a \
                 shorter one",
                socket.display()
            );
            return Err(wrong(key, what));
        }
        Ok(())
    }

    /// Warnings about a valid configuration, logged at each start.
    pub fn warnings(&self) -> Vec<String> {
        let bare: Vec<_> = self.domains.iter().filter(|domain| domain.secret.is_none()).map(|d| d.number).collect();
        let mut warnings = Vec::new();
        if !bare.is_empty() {
            let mut list = String::new();
            for (n, domain) in bare.iter().enumerate().take(8) {
                let _ = write!(list, "{}{domain}", if n == 0 { "" } else { ", " });
            }
            let more = if bare.len() > 8 { format!(" and {} more", bare.len() - 8) } else { String::new() };
            let (domains, their) = if bare.len() == 1 {
                ("domain", "has no secret, so any host on the wire can command its")
            } else {
                ("domains", "have no secret, so any host on the wire can command their")
            };
            warnings.push(format!("insecure: no authentication: {domains} {list}{more} {their} meetings"));
        }
        warnings.extend(self.exposed.iter().map(|(path, mode)| {
            format!("{} holds a secret, and other users may read it (mode {mode:04o}): chmod go= {0}", path.display())
        }));
        warnings
    }

    /// Rings a queue: worker threads that share each of `queues`.
    ///
    /// # Errors
    /// The number of workers is not a multiple of the number of queues.
    pub fn rings_per_queue(&self, queues: u32) -> Result<u32, ConfigError> {
        let workers = self.interface.workers.unwrap_or(queues);
        if queues as usize > WORKERS_MAX {
            let list = self.interface.list();
            let each = WORKERS_MAX / self.interface.names.len().max(1);
            let what = format!(
                "{list} with {queues} receive queues to serve: a server has at most {WORKERS_MAX} workers, and \
                 each queue needs one. Set fewer (`ethtool -L … combined {each}`, or scripts/tune-nic.sh -q {each}); \
                 with `interface.queues` alone, what comes to the others is lost to Baton"
            );
            return Err(ConfigError::Unfit { file: self.file.clone(), what });
        }
        if workers as usize > WORKERS_MAX || queues == 0 || workers < queues || !workers.is_multiple_of(queues) {
            let what = format!(
                "{workers} workers cannot serve the {queues} queues of {}: a multiple of {queues}, at most \
                 {WORKERS_MAX}, is expected; or set `interface.queues`",
                self.interface.list()
            );
            return Err(ConfigError::Unfit { file: self.file.clone(), what });
        }
        Ok(workers / queues)
    }
}

fn domains(
    place: &Place<'_>,
    sections: Vec<Spanned<DomainSection>>,
    interfaces: &super::Interface,
) -> Result<Vec<AutonomousDomain>, ConfigError> {
    if sections.is_empty() {
        let what = "missing: at least one [[domain]] section with its number";
        return Err(place.wrong(0..0, Some("domain"), what.into()));
    }
    if sections.len() > DOMAINS_MAX {
        let what = format!("{} domains are more than the {DOMAINS_MAX} that one server controls", sections.len());
        return Err(place.wrong(sections[DOMAINS_MAX].span(), Some("domain"), what));
    }
    let behind = behind(place, &sections)?;
    let mut domains = Vec::with_capacity(sections.len());
    for (section, behind) in sections.into_iter().zip(behind) {
        let span = section.span();
        let section = section.into_inner();
        let number = *section.number.get_ref();
        let secret = match (section.secret, section.secret_file, section.insecure_no_authentication) {
            (Some(secret), None, false) => Some(secret),
            (None, Some(file), false) => Some(read_secret(place, &file)?),
            (None, None, true) => None,
            (None, None, false) => {
                let what = format!(
                    "domain {number} has no secret: one of secret_file, secret, or, where nothing real is controlled, \
                     `insecure_no_authentication = true` is expected"
                );
                return Err(place.wrong(span, Some("domain.secret"), what));
            }
            _ => {
                let what = format!(
                    "domain {number} has several of secret, secret_file and insecure_no_authentication: exactly one is expected"
                );
                return Err(place.wrong(span, Some("domain.secret"), what));
            }
        };
        let interface = section.interface.map(|name| interface_of(place, &name, interfaces)).transpose()?;
        let domain = AutonomousDomain {
            number,
            mac: section.mac,
            interface,
            vlan: section.vlan.or(interfaces.vlan),
            label: section.label,
            secret,
            behind,
        };
        domains.push((section.number.span(), domain));
    }
    domains.sort_by_key(|(span, domain)| (domain.number, span.start));
    if let Some(twice) = domains.windows(2).find(|pair| pair[0].1.number == pair[1].1.number) {
        let [(first, _), (second, domain)] = twice else { unreachable!("windows of two") };
        let what = format!("domain {} is named twice, first in line {}", domain.number, place.line(first.start));
        return Err(place.wrong(second.clone(), Some("domain.number"), what));
    }
    Ok(domains.into_iter().map(|(_, domain)| domain).collect())
}

/// The domains behind each, ascending. A terminal belongs to one domain only, or two autonomous
/// servers could speak for it.
fn behind(place: &Place<'_>, sections: &[Spanned<DomainSection>]) -> Result<Vec<Vec<Domain>>, ConfigError> {
    let wrong = |behind: &Spanned<Domain>, what| Err(place.wrong(behind.span(), Some("domain.behind"), what));
    let configured: BTreeSet<_> = sections.iter().map(|section| *section.get_ref().number.get_ref()).collect();
    let mut owners = BTreeMap::new();
    for section in sections {
        let owner = *section.get_ref().number.get_ref();
        for behind in &section.get_ref().behind {
            let domain = *behind.get_ref();
            if configured.contains(&domain) {
                let what = format!("domain {domain} has its own section, so it cannot be behind another");
                return wrong(behind, what);
            }
            if let Some(other) = owners.insert(domain, owner) {
                let what =
                    format!("domain {domain} is behind domain {other} already: a domain is behind one, and named once");
                return wrong(behind, what);
            }
            if owners.len() > DOMAINS_BEHIND_MAX {
                let what = format!("more than {DOMAINS_BEHIND_MAX} domains are behind others");
                return wrong(behind, what);
            }
        }
    }
    let of = |section: &Spanned<DomainSection>| {
        let mut behind: Vec<_> = section.get_ref().behind.iter().map(|domain| *domain.get_ref()).collect();
        behind.sort_unstable();
        behind
    };
    Ok(sections.iter().map(of).collect())
}

/// Files with secrets that users other than their owner can read, with their modes: those of the
/// domains, and the configuration itself if it has secrets.
fn exposed_secrets(place: &Place<'_>, sections: &[Spanned<DomainSection>]) -> Vec<(PathBuf, u32)> {
    let sections = || sections.iter().map(Spanned::get_ref);
    let own = sections().any(|section| section.secret.is_some()).then(|| place.file.to_owned());
    let files = sections().filter_map(|section| section.secret_file.as_ref()).map(|file| place.beside(file.get_ref()));
    let all: BTreeSet<_> = own.into_iter().chain(files).collect();
    let mode = |path: &PathBuf| Some(fs::metadata(path).ok()?.mode() & 0o7777);
    let modes = all.into_iter().filter_map(|path| mode(&path).map(|mode| (path, mode)));
    // That the group may read is the owner's decision.
    modes.filter(|(_, mode)| mode & 0o004 != 0).collect()
}

/// The number of the interface that a domain is at.
fn interface_of(place: &Place<'_>, name: &Spanned<String>, interfaces: &super::Interface) -> Result<u8, ConfigError> {
    let number = interfaces.names.iter().position(|known| known == name.get_ref());
    number.map(|number| number as u8).ok_or_else(|| {
        let what = format!("`{}` is none of the interfaces: {}", name.get_ref(), interfaces.list());
        place.wrong(name.span(), Some("domain.interface"), what)
    })
}

/// The secret in a file: 32 bytes, or 64 hexadecimal digits with or without a line's end.
fn read_secret(place: &Place<'_>, file: &Spanned<PathBuf>) -> Result<Secret, ConfigError> {
    let path = place.beside(file.get_ref());
    let wrong = |what: String| place.wrong(file.span(), Some("domain.secret_file"), what);
    let bytes = fs::read(&path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    if let Ok(bytes) = <[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(Secret(bytes));
    }
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| values::parse_secret(text.trim_end()))
        .ok_or_else(|| wrong(format!("{} holds neither 64 hexadecimal digits nor 32 bytes", path.display())))
}

/// A place in a file, for errors.
pub(crate) struct Place<'a> {
    pub file: &'a Path,
    pub text: &'a str,
}

impl Place<'_> {
    /// An error at an offset; the key is looked up if none is given.
    pub fn wrong(&self, span: Range<usize>, key: Option<&str>, what: String) -> ConfigError {
        let key = key.map_or_else(|| self.key(span.start), str::to_owned);
        let what = what.replace('\n', "; ");
        ConfigError::Wrong { file: self.file.into(), line: self.line(span.start), key, what }
    }

    /// A path in the file, relative to the file's folder.
    fn beside(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The offset of a key of a section, or else of its section; the file's beginning if neither is
    /// there.
    fn offset_of(&self, key: &str) -> Range<usize> {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let (mut offset, mut found, mut is_inside) = (0, 0, false);
        for line in self.text.split_inclusive('\n') {
            let words = line.trim();
            if words.starts_with('[') {
                is_inside = words == format!("[{section}]");
                found = if is_inside { offset } else { found };
            } else if is_inside && words.split('=').next().is_some_and(|typed| typed.trim() == name) {
                return offset..offset;
            }
            offset += line.len();
        }
        found..found
    }

    fn line(&self, offset: usize) -> usize {
        self.text[..offset.min(self.text.len())].matches('\n').count() + 1
    }

    /// The key whose value is at `offset`: the last `key =` at or before its line, in the last
    /// `[section]`.
    fn key(&self, offset: usize) -> String {
        let end = self.text[offset.min(self.text.len())..].find('\n').map_or(self.text.len(), |n| offset + n);
        let mut key = "";
        for line in self.text[..end].lines().rev() {
            let line = line.trim();
            if line.starts_with('#') {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
                return if key.is_empty() { section.into() } else { format!("{section}.{key}") };
            }
            if key.is_empty()
                && let Some((name, _)) = line.split_once('=')
            {
                key = name.trim();
            }
        }
        key.into()
    }
}
