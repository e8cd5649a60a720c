//! What an engine says, checked against what an engine can have to say.
//!
//! An engine works on what comes in frames, and a frame may have taken it over. So its notices are
//! checked as frames are: one is ignored that names what the configuration does not, that comes a
//! second time where it can come once, or that comes before it can. An engine that says too much,
//! or says several things that make no sense, is to be killed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cascade::Hop;
use crate::handover::protocol::{Notice, Role};
use crate::limits::{NEXT_HOPS_PER_SECOND, NOTICES_NONSENSE_MAX, NOTICES_PER_SECOND};
use crate::time::Nanos;
use crate::wire::Domain;

/// What notices may name.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub domains: BTreeSet<Domain>,
    pub interfaces: usize,
}

/// What one engine has said so far.
#[derive(Debug)]
pub(super) struct Hearing {
    role: Role,
    since: Nanos,
    notices: u32,
    hops: u32,
    nonsense: u32,
    // What can be said once, and was.
    stands: bool,
    ready: bool,
    complete: bool,
}

/// What a packet was.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Heard {
    Notice(Notice),
    /// It makes no sense, or comes too often, and is ignored.
    Nothing,
    /// The engine is to be killed: why, in words.
    Enough(&'static str),
}

impl Hearing {
    pub fn new(role: Role, now: Nanos) -> Self {
        Self { role, since: now, notices: 0, hops: 0, nonsense: 0, stands: false, ready: false, complete: false }
    }

    /// Takes a packet; `None` is one that is too long.
    pub fn hear(&mut self, packet: Option<&[u8]>, known: &Known, now: Nanos) -> Heard {
        if now.since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.notices = 0;
            self.hops = 0;
        }
        self.notices += 1;
        if self.notices > NOTICES_PER_SECOND {
            return Heard::Enough("said more than an engine has to say");
        }
        let notice = packet.and_then(|packet| serde_json::from_slice(packet).ok());
        match notice.filter(|notice| self.makes_sense(notice, known)) {
            Some(Notice::NextHop { .. }) if self.hops >= NEXT_HOPS_PER_SECOND => Heard::Nothing,
            Some(notice) => {
                self.note(&notice);
                Heard::Notice(notice)
            }
            None => {
                self.nonsense += 1;
                if self.nonsense >= NOTICES_NONSENSE_MAX {
                    return Heard::Enough("said what makes no sense");
                }
                Heard::Nothing
            }
        }
    }

    fn makes_sense(&self, notice: &Notice, known: &Known) -> bool {
        match notice {
            Notice::Failed { .. } => true,
            Notice::Standing { .. } => self.role == Role::Standby && !self.stands,
            Notice::Ready => !self.ready && (self.role == Role::Active || self.stands),
            Notice::Complete => self.ready && !self.complete,
            Notice::NextHop { domain, hop: Hop { interface, .. } } => {
                self.ready && known.domains.contains(domain) && usize::from(*interface) < known.interfaces
            }
            Notice::Upgrade { .. } | Notice::Fenced { .. } => self.ready,
        }
    }

    fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Standing { .. } => self.stands = true,
            Notice::Ready => self.ready = true,
            Notice::Complete => self.complete = true,
            Notice::NextHop { .. } => self.hops += 1,
            Notice::Failed { .. } | Notice::Upgrade { .. } | Notice::Fenced { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::compat::Identity;
    use crate::lab::sim::Random;
    use crate::wire::Mac;

    fn known() -> Known {
        Known { domains: (1..=3).map(|number| Domain::new(number).unwrap()).collect(), interfaces: 2 }
    }

    fn hop(domain: u64, interface: u8) -> Notice {
        Notice::NextHop { domain: Domain::new(domain).unwrap(), hop: Hop { interface, mac: Mac([2, 0, 0, 0, 0, 9]) } }
    }

    fn say(hearing: &mut Hearing, notice: &Notice, now: Nanos) -> Heard {
        hearing.hear(Some(&serde_json::to_vec(notice).unwrap()), &known(), now)
    }

    #[test]
    fn an_engine_that_says_what_engines_say_is_heard() {
        let now = Nanos(1);
        let standing = Notice::Standing { program: Identity::ours() };
        let controls = [Notice::Ready, Notice::Complete, hop(1, 0), hop(3, 1), Notice::Fenced { epoch: 9 }];
        for (role, first) in [(Role::Active, None), (Role::Standby, Some(standing))] {
            let mut hearing = Hearing::new(role, now);
            for notice in first.into_iter().chain(controls.clone()) {
                assert_eq!(say(&mut hearing, &notice, now), Heard::Notice(notice));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_ignored() {
        let now = Nanos(1);
        let standing = Notice::Standing { program: Identity::ours() };
        let mut standby = Hearing::new(Role::Standby, now);
        assert_eq!(say(&mut standby, &Notice::Ready, now), Heard::Nothing, "it does not stand by yet");
        let mut active = Hearing::new(Role::Active, now);
        for early in [Notice::Complete, hop(1, 0), Notice::Fenced { epoch: 9 }, standing] {
            assert_eq!(say(&mut active, &early, now), Heard::Nothing, "{early:?}");
        }
        assert_eq!(say(&mut active, &Notice::Ready, now), Heard::Notice(Notice::Ready));
        for made_up in [hop(4, 0), hop(1, 2), Notice::Ready] {
            assert_eq!(say(&mut active, &made_up, now), Heard::Nothing, "{made_up:?}");
        }
        assert_eq!(active.hear(None, &known(), now), Heard::Enough("said what makes no sense"));
    }

    #[test]
    fn next_hops_beyond_what_there_can_be_are_ignored_and_a_flood_ends_it() {
        let now = Nanos(1);
        let mut hearing = Hearing::new(Role::Active, now);
        say(&mut hearing, &Notice::Ready, now);
        let mut heard = 0;
        loop {
            match say(&mut hearing, &hop(1, 0), now) {
                Heard::Notice(_) => heard += 1,
                Heard::Nothing => {}
                Heard::Enough(_) => break,
            }
        }
        assert_eq!(heard, NEXT_HOPS_PER_SECOND);
        let mut patient = Hearing::new(Role::Active, now);
        say(&mut patient, &Notice::Ready, now);
        for second in 1..20 {
            for _ in 0..NEXT_HOPS_PER_SECOND {
                let then = now + Duration::from_secs(second);
                assert!(matches!(say(&mut patient, &hop(1, 0), then), Heard::Notice(_)));
            }
        }
    }

    /// Any bytes: no panic, no notice that names what there is not, and it is soon enough.
    #[test]
    fn an_engine_that_says_anything_at_all_is_not_listened_to_for_long() {
        let now = Nanos(1);
        let words: [&[u8]; 8] = [
            b"\"ready\"",
            b"\"complete\"",
            b"{\"nexthop\":{\"domain\":7,\"hop\":{\"interface\":1,\"mac\":\"02:00:00:00:00:01\"}}}",
            b"{\"fenced\":{\"epoch\":18446744073709551615}}",
            b"{\"upgrade\":{\"form\":{}}}",
            b"{\"failed\":{\"why\":\"\\u0000\"}}",
            b"{\"standing\":{\"program\":null}}",
            b"",
        ];
        for seed in 1..200 {
            let mut random = Random::new(seed);
            let mut hearing = Hearing::new(if seed % 2 == 0 { Role::Active } else { Role::Standby }, now);
            let mut accepted = Vec::new();
            for round in 0.. {
                assert!(round <= NOTICES_PER_SECOND, "seed {seed}");
                let mut packet = words[random.below(words.len() as u64) as usize].to_vec();
                for _ in 0..random.below(3) {
                    if !packet.is_empty() {
                        let at = random.below(packet.len() as u64) as usize;
                        packet[at] = random.below(256) as u8;
                    }
                }
                match hearing.hear(Some(&packet), &known(), now) {
                    Heard::Notice(notice) => accepted.push(notice),
                    Heard::Nothing => {}
                    Heard::Enough(_) => break,
                }
            }
            let count = |of: &Notice| accepted.iter().filter(|notice| *notice == of).count();
            assert!(count(&Notice::Ready) <= 1 && count(&Notice::Complete) <= 1, "seed {seed}");
            let hops = accepted.iter().filter_map(|notice| match notice {
                Notice::NextHop { domain, .. } => Some(domain),
                _ => None,
            });
            assert!(hops.into_iter().all(|domain| known().domains.contains(domain)), "seed {seed}");
        }
    }
}
