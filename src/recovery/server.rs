//! The machine for one autonomous server.

use super::report::{Progress, ServerReport, Timeline};
use super::settings::Settings;
use super::{Event, Holdings, Path, Phase, Request};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, Message, Opcode, Page};

/// Recovery of the meetings of one autonomous server.
///
/// After `new`, and after each `handle_*`, call [`Self::poll_event`] and [`Self::poll_transmit`] until they give nothing;
/// then wait for a frame or for [`Self::poll_timeout`], whose coming is another reason to poll and nothing more.
pub struct ServerRecovery {
    domain: Domain,
    epoch: Epoch,
    path: Path,
    settings: Settings,
    timeline: Timeline,
    progress: Progress,
}

impl ServerRecovery {
    /// A machine that begins now. `epoch` is durable already (wire.md §6).
    pub fn new(domain: Domain, epoch: Epoch, path: Path, settings: Settings, now: Nanos) -> Self {
        let timeline = Timeline { began: now, ..Timeline::default() };
        Self { domain, epoch, path, settings: settings.bounded(), timeline, progress: Progress::default() }
    }

    /// Takes a message that this domain's autonomous server sent, authentic. Gives whether it answered one of this
    /// machine's requests; if not, it is somebody else's.
    pub fn handle_message(
        &mut self,
        now: Nanos,
        header: &Header,
        message: &Message,
        holdings: &mut dyn Holdings,
    ) -> bool {
        let _ = (now, header, message, holdings);
        false
    }

    /// Takes a page that this domain's autonomous server sent, authentic. As [`Self::handle_message`].
    pub fn handle_page(
        &mut self,
        now: Nanos,
        opcode: Opcode,
        header: &Header,
        page: &Page<'_>,
        holdings: &mut dyn Holdings,
    ) -> bool {
        let _ = (now, opcode, header, page, holdings);
        false
    }

    /// The next frame to send. None: nothing until a frame comes or [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, now: Nanos, holdings: &mut dyn Holdings) -> Option<Request> {
        let _ = (now, holdings);
        None
    }

    /// When to poll again if nothing comes. None: never.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        None
    }

    /// The next thing that the engine should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Begins again: the autonomous server restarted, or its link came back after it was thought down.
    pub fn restart(&mut self, now: Nanos) {
        self.timeline.began = now;
    }

    /// Stops at once and for good: another autonomous server has a newer controller.
    pub fn stop(&mut self) {}

    /// Whom it recovers from.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// What it is doing: of what overlaps, the first that is not done.
    pub fn phase(&self) -> Phase {
        Phase::Connecting
    }

    /// Whether both sides agree, proven by the audit.
    pub fn is_reconciled(&self) -> bool {
        self.phase() == Phase::Reconciled
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// When each phase was done.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// All of it for people.
    pub fn report(&self) -> ServerReport {
        let _ = (self.epoch, self.path, &self.settings);
        ServerReport {
            domain: self.domain,
            phase: self.phase(),
            connected_ns: None,
            listed_ns: None,
            first_takeover_ns: None,
            all_acknowledged_ns: None,
            updated_ns: None,
            reconciled_ns: None,
            progress: self.progress,
            missing_meetings: Vec::new(),
            orphan_meetings: Vec::new(),
        }
    }
}
