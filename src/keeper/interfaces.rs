//! The interfaces: what they have to be for a start, what the start changes of them, and how they
//! are watched afterwards.
//!
//! What a start needs is checked by functions that change nothing, so that `baton doctor` calls the
//! same ones.

use std::time::Instant;

use super::error::KeeperError;
use crate::config::Config;
use crate::limits::INTERFACES_CHECKED;
use crate::sys::bpf::Steering;
use crate::sys::interface::{Interface, InterfaceError};
use crate::wire::Mac;

/// An interface that can be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub interface: Interface,
    pub mac: Mac,
    /// Receive queues.
    pub queues: u32,
}

/// Finds one by its name, if it is one of those that can be served.
pub(crate) fn find(name: &str) -> Result<Found, InterfaceError> {
    let interface = Interface::find(name)?;
    interface.check_ethernet()?;
    Ok(Found { mac: interface.mac()?, queues: interface.queues()?, interface })
}

/// Finds all that the configuration names. Their MAC addresses differ: the one in a frame says
/// which interface it leaves by.
pub(crate) fn find_all(config: &Config) -> Result<Vec<Found>, KeeperError> {
    let found = config.interface.names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    for (n, Found { interface, mac, .. }) in found.iter().enumerate() {
        if let Some(first) = found[..n].iter().find(|other| other.mac == *mac) {
            let one = first.interface.name.clone();
            return Err(KeeperError::SameMac { one, other: interface.name.clone(), mac: *mac });
        }
    }
    Ok(found)
}

/// How many queues of each are served, and rings of each queue.
pub(crate) fn share_out(config: &Config, found: &[Found]) -> Result<(Vec<u32>, u32), KeeperError> {
    let mut queues = Vec::with_capacity(found.len());
    for Found { interface, queues: has, .. } in found {
        let wanted = config.interface.queues.unwrap_or(*has);
        if wanted > *has {
            return Err(KeeperError::FewQueues { interface: interface.name.clone(), has: *has, wanted });
        }
        queues.push(wanted);
    }
    let rings = config.rings_per_queue(queues.iter().sum())?;
    Ok((queues, rings))
}

/// Interfaces that took VLAN tags off before this keeper started, and are to do so again after it.
#[derive(Debug, Default)]
pub(super) struct Tags(Vec<Interface>);

impl Tags {
    /// Has the tags left on frames of interfaces at which a domain with a `vlan` may be: neither
    /// steering nor a worker sees a tag that is taken off, and a worker could not tell the domain's
    /// frames from another VLAN's.
    pub fn keep(config: &Config, found: &[Found]) -> Self {
        let mut changed = Vec::new();
        for (number, Found { interface, .. }) in found.iter().enumerate() {
            let name = &interface.name;
            if !bears_tags(config, number) || interface.strips_tags() != Some(true) {
                continue;
            }
            match interface.strip_tags(false).map(|()| interface.strips_tags()) {
                Ok(Some(false)) => {
                    tracing::info!("{name} took VLAN tags off; it leaves them on now (rx-vlan-offload off)");
                    changed.push(interface.clone());
                }
                refused => {
                    let why = refused.err().map(|error| format!(" ({error})")).unwrap_or_default();
                    tracing::warn!(
                        "{name} takes VLAN tags off, and cannot leave them on{why}: frames of other VLANs \
                         are not told from the domain's own. Answers bear the tag of the configuration"
                    );
                }
            }
        }
        Self(changed)
    }

    /// Has them taken off again where they were before.
    pub fn put_back(self) {
        for interface in self.0 {
            if let Err(error) = interface.strip_tags(true) {
                tracing::warn!("{error}: its rx-vlan-offload stays off");
            }
        }
    }
}

/// Whether a domain with a `vlan` is, or may be, at the interface of this number.
pub(crate) fn bears_tags(config: &Config, number: usize) -> bool {
    let at = |domain: &crate::config::AutonomousDomain| domain.interface.is_none_or(|at| usize::from(at) == number);
    config.domains.iter().any(|domain| domain.vlan.is_some() && at(domain))
}

/// Watches an interface while it is served. A change is logged once.
#[derive(Debug)]
pub(super) struct Watch {
    next: Instant,
    runs: bool,
    queues: u32,
    mtu: u32,
    /// Why steering that another program took off cannot be put there again.
    off: Option<String>,
}

impl Watch {
    pub fn begin(found: &Found) -> Self {
        let Found { interface, queues, .. } = found;
        let mut watch =
            Self { next: Instant::now(), runs: true, queues: *queues, mtu: interface.mtu().unwrap_or(0), off: None };
        watch.look_at_state(interface);
        watch
    }

    /// Looks, if it is time to.
    ///
    /// # Errors
    /// It is no longer the interface that was served.
    pub fn look(&mut self, now: Instant, found: &Found, steering: &mut Steering) -> Result<(), KeeperError> {
        if now < self.next {
            return Ok(());
        }
        self.next = now + INTERFACES_CHECKED;
        let Found { interface, mac, .. } = found;
        let name = &interface.name;
        // It may have another name by now, or be gone, which the sockets tell: what cannot be read
        // counts as unchanged.
        if let Ok(now) = interface.mac()
            && now != *mac
        {
            return Err(KeeperError::MacChanged { interface: name.clone(), was: *mac, is: now });
        }
        self.look_at_state(interface);
        if let Ok(queues) = interface.queues() {
            if queues > self.queues {
                tracing::warn!(
                    "{name} has {queues} receive queues now; it had {} at the start: frames that come to the \
                     others are lost to Baton. Start it again, or `ethtool -L {name}` them back",
                    self.queues
                );
            }
            self.queues = queues.max(self.queues);
        }
        if let Ok(mtu) = interface.mtu()
            && mtu != self.mtu
        {
            tracing::warn!("{name} has an MTU of {mtu} now; it was {}", self.mtu);
            self.mtu = mtu;
        }
        match steering.mend(interface) {
            Ok(false) => {}
            Ok(true) => {
                let mode = steering.mode().map_or_else(String::new, |mode| format!(", {mode}"));
                tracing::warn!("somebody took steering off {name}: it is there again{mode}");
                self.off = None;
            }
            Err(error) => {
                let why = error.to_string();
                if self.off.as_ref() != Some(&why) {
                    tracing::error!("somebody took steering off {name}, and no frames come: {why}");
                    self.off = Some(why);
                }
            }
        }
        Ok(())
    }

    fn look_at_state(&mut self, interface: &Interface) {
        let Ok(runs) = interface.is_running() else { return };
        let name = &interface.name;
        match (self.runs, runs) {
            (true, false) => {
                tracing::warn!("{name} is down, or has no carrier: no frames come (`ip link show {name}`)")
            }
            (false, true) => tracing::info!("{name} is up"),
            _ => {}
        }
        self.runs = runs;
    }
}
