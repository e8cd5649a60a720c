//! The clients of the API as the control thread has them: requests to take, answers to give.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use tokio::sync::oneshot;

use super::dispatcher::Dispatcher;
use crate::api::{Answer, Api, ApiRequest, Reply, Request, Status, Submitter, View};
use crate::cms::ReplyId;
use crate::limits::CONTROL_BATCH;
use crate::telemetry::Published;
use crate::time::Nanos;

/// Clients, and the API's thread. Those that wait are let go before that is waited for.
pub(super) struct Clients {
    pub requests: Receiver<ApiRequest>,
    waiting: HashMap<ReplyId, oneshot::Sender<Reply>>,
    next_reply: u64,
    submitter: Submitter,
    /// Until the API's thread runs.
    listener: Option<UnixListener>,
    api: Option<Api>,
    pub view: View,
}

impl Clients {
    /// Nobody is served before [`Self::serve`]. `wake` is called for each request.
    pub fn new(listener: UnixListener, view: View, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (submitter, requests) = Submitter::new(wake);
        Self { requests, waiting: HashMap::new(), next_reply: 0, submitter, listener: Some(listener), api: None, view }
    }

    /// Starts the API's thread.
    pub fn serve(&mut self, telemetry: Arc<Published>) -> io::Result<()> {
        if let Some(listener) = self.listener.take() {
            self.api = Some(Api::spawn(listener, self.submitter.clone(), self.view.clone(), telemetry)?);
        }
        Ok(())
    }

    /// The next engine answers from here on.
    pub fn leave(&mut self) {
        self.api.as_mut().map(Api::stop);
    }

    /// Gives the dispatcher what clients ask for. Says whether there was anything.
    pub fn take(&mut self, now: Nanos, dispatcher: &mut Dispatcher) -> bool {
        for taken in 0..CONTROL_BATCH {
            let Ok(ApiRequest { request, deadline, reply }) = self.requests.try_recv() else { return taken > 0 };
            if matches!(request, Request::Upgrade(_) | Request::TakeControl) {
                self.let_go(dispatcher);
            }
            self.next_reply += 1;
            let client = ReplyId(self.next_reply);
            self.waiting.insert(client, reply);
            dispatcher.handle_request(now, client, request, now + deadline);
        }
        true
    }

    /// One client at a time may wait for an upgrade or for control: one that went away does not
    /// keep the next one from it.
    fn let_go(&mut self, dispatcher: &mut Dispatcher) {
        self.waiting.retain(|&client, to| {
            let is_there = !to.is_closed();
            if !is_there {
                dispatcher.handle_gone(client);
            }
            is_there
        });
    }

    /// Answers those whose requests are done. `status` and `recovery` add what the dispatcher does
    /// not know.
    pub fn answer(
        &mut self,
        dispatcher: &mut Dispatcher,
        status: impl Fn(&Dispatcher, &mut Status),
        recovery: impl Fn(&mut serde_json::Value),
    ) {
        while let Some((client, mut reply)) = dispatcher.poll_reply() {
            let Some(to) = self.waiting.remove(&client) else { continue };
            match &mut reply {
                Ok(Answer::Status(answer)) => status(dispatcher, answer),
                Ok(Answer::Recovery(report)) => recovery(report),
                _ => {}
            }
            // A client that went away needs no answer.
            let _ = to.send(reply);
        }
    }
}
