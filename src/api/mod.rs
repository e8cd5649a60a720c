//! The HTTP/JSON API, on a Unix socket that outlives the engine: a client that connects while one
//! engine dies is answered by the next.
//!
//! What always holds here: the size of a body and the number of connections are bounded; every
//! error is answered as `{"error", "what", "do"}` with a fitting HTTP status ([`Refusal`]). A
//! request that changes a conference goes to the control thread over a bounded queue and waits for
//! its answer; one that only reads is answered here, from the [`View`].

pub mod client;
mod forms;
mod listener;
mod metrics;
mod request;
mod serving;
mod status;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use crossbeam::channel::{Receiver, Sender, bounded};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

pub use self::forms::DEADLINE;
use self::forms::{AddForm, Asked, FlagsForm, LayoutForm, RoleForm, Within, body, meeting, terminal};
pub use self::listener::Bounded;
use self::serving::Grant;
use crate::cms::{ConferenceAnswer, ConferenceRequest, Refusal, RefusalKind};
use crate::handover::{TrialTime, UpgradeForm};
use crate::limits::{REQUEST_QUEUE, UPGRADE_READY, UPGRADE_TRIAL_S_MAX};
use crate::sys::threads::{Nice, spawn_nice};
use crate::telemetry::Dialect;
use crate::telemetry::Published;
use crate::wire::Epoch;
pub use request::{Answer, GivenControl, Orphan, OrphanFate, Reply, Request};
pub use status::{ControlState, DatabaseState, DomainStatus, Status};
pub use view::{Census, MeetingRow, MeetingView, View};
/// How long the control thread may be late with an answer before the client gets a refusal.
const GRACE: Duration = Duration::from_secs(2);
/// How long clients that are being answered may delay a stop.
const STOP_GRACE: Duration = Duration::from_millis(250);

/// A request on its way to the control thread.
#[derive(Debug)]
pub struct ApiRequest {
    #[expect(missing_docs, reason = "see the type")]
    pub request: Request,
    /// How long it may take.
    pub deadline: Duration,
    /// For the answer. Closed where the client is gone.
    pub reply: oneshot::Sender<Reply>,
}

/// Hands requests to the control thread.
#[derive(Clone)]
pub struct Submitter {
    queue: Sender<ApiRequest>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Submitter {
    /// A bounded queue, and its end for the control thread, which `wake` wakes after each request
    /// that was put in.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> (Self, Receiver<ApiRequest>) {
        let (queue, requests) = bounded(REQUEST_QUEUE);
        (Self { queue, wake: Arc::new(wake) }, requests)
    }

    /// Asks the control thread and waits for its answer.
    async fn ask(&self, request: Request, deadline: Duration) -> Reply {
        let (reply, answer) = oneshot::channel();
        if self.queue.try_send(ApiRequest { request, deadline, reply }).is_err() {
            let what = format!("{REQUEST_QUEUE} requests are waiting");
            return Err(Refusal::new(RefusalKind::Busy, what, "ask again in a second"));
        }
        (self.wake)();
        match tokio::time::timeout(deadline + GRACE, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Refusal::new(RefusalKind::Busy, "the engine is stopping", "ask again in a second")),
            Err(_) => {
                Err(Refusal::new(RefusalKind::Busy, "the engine did not answer in time", "see the log, and ask again"))
            }
        }
    }
}

/// The API's thread. Dropping it waits until the requests under way are answered, for a bounded
/// time, and stops it.
#[derive(Debug)]
pub struct Api {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Api {
    /// Serves clients of this listening socket.
    pub fn spawn(
        listener: UnixListener,
        submitter: Submitter,
        view: View,
        telemetry: Arc<Published>,
    ) -> io::Result<Self> {
        Self::granting(Grant::default(), listener, submitter, view, telemetry)
    }

    fn granting(
        grant: Grant,
        listener: UnixListener,
        submitter: Submitter,
        view: View,
        telemetry: Arc<Published>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::from_std(listener)?
        };
        // Nothing is sent: that the sender is dropped is the signal.
        let (stop, mut stopped) = watch::channel(());
        let serve = async move {
            let router = router(Shared { submitter, view, telemetry });
            let served = serving::serve(listener, router, grant, stopped.clone());
            // A client that holds its connection open and asks nothing must not delay a stop.
            let grace_is_over = async move {
                while stopped.changed().await.is_ok() {}
                tokio::time::sleep(STOP_GRACE).await;
            };
            tokio::select! {
                () = served => {}
                () = grace_is_over => {}
            }
        };
        let thread = spawn_nice("api", Nice::ClientsWait, move || runtime.block_on(serve))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Api {
    /// Takes no more connections, which wait for the next engine. Requests under way are answered;
    /// this does not wait for that.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by its hook already.
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Shared {
    submitter: Submitter,
    view: View,
    telemetry: Arc<Published>,
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/meetings", post(start).get(list))
        .route("/meetings/{meeting}", get(show).delete(end))
        .route("/meetings/{meeting}/layout", put(set_layout))
        .route("/meetings/{meeting}/members", post(add))
        .route("/meetings/{meeting}/members/{domain}/{device}", delete(remove))
        .route("/meetings/{meeting}/members/{domain}/{device}/role", put(set_role))
        .route("/meetings/{meeting}/members/{domain}/{device}/flags", put(set_flags))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/hlog", get(log))
        .route("/recovery/last", get(|shared, asked| ask(shared, asked, Request::RecoveryLast)))
        .route("/orphans", get(|shared, asked| ask(shared, asked, Request::Orphans)))
        .route("/orphans/{meeting}/adopt", post(|shared, asked, id| decide(shared, asked, id, OrphanFate::Adopted)))
        .route("/orphans/{meeting}/end", post(|shared, asked, id| decide(shared, asked, id, OrphanFate::Ended)))
        .route("/upgrade", post(upgrade))
        .route("/control/take", post(|shared, asked| ask(shared, asked, Request::TakeControl)))
        .route("/table", get(table))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        // The size of a body is checked before: see `serving`.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

type Asking = (State<Shared>, Asked);

async fn start(shared: State<Shared>, asked: Asked, bytes: Bytes) -> Result<Response, Refusal> {
    let mut form: crate::cms::StartMeeting = body(&bytes)?;
    form.created_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    change((shared, asked), ConferenceRequest::Start(form)).await
}

async fn add(
    shared: State<Shared>,
    asked: Asked,
    Within(id): Within<String>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let AddForm { members } = body(&bytes)?;
    change((shared, asked), ConferenceRequest::Add { meeting: meeting(&id)?, members }).await
}

async fn remove(
    shared: State<Shared>,
    asked: Asked,
    Within((id, domain, device)): Within<(String, String, String)>,
) -> Result<Response, Refusal> {
    let terminal = terminal(&domain, &device)?;
    change((shared, asked), ConferenceRequest::Remove { meeting: meeting(&id)?, terminal }).await
}

async fn set_role(
    shared: State<Shared>,
    asked: Asked,
    Within((id, domain, device)): Within<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let meeting = meeting(&id)?;
    let terminal = terminal(&domain, &device)?;
    let RoleForm { role } = body(&bytes)?;
    change((shared, asked), ConferenceRequest::SetRole { meeting, terminal, role }).await
}

async fn set_flags(
    shared: State<Shared>,
    asked: Asked,
    Within((id, domain, device)): Within<(String, String, String)>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let meeting = meeting(&id)?;
    let terminal = terminal(&domain, &device)?;
    let (mask, value) = body::<FlagsForm>(&bytes)?.flags()?;
    change((shared, asked), ConferenceRequest::SetFlags { meeting, terminal, mask, value }).await
}

async fn set_layout(
    shared: State<Shared>,
    asked: Asked,
    Within(id): Within<String>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let meeting = meeting(&id)?;
    let LayoutForm { layout } = body(&bytes)?;
    change((shared, asked), ConferenceRequest::SetLayout { meeting, layout }).await
}

async fn end(shared: State<Shared>, asked: Asked, Within(id): Within<String>) -> Result<Response, Refusal> {
    change((shared, asked), ConferenceRequest::End { meeting: meeting(&id)? }).await
}

/// Answered when the new program stands by and the hand-over begins, which may be later than other
/// answers.
async fn upgrade(State(shared): State<Shared>, bytes: Bytes) -> Result<Response, Refusal> {
    let form = if bytes.is_empty() { UpgradeForm::default() } else { body(&bytes)? };
    form.trial().map_err(|TrialTime(seconds)| {
        let what = format!("a trial of {seconds} seconds");
        Refusal::new(RefusalKind::BadRequest, what, format!("ask for 1 to {UPGRADE_TRIAL_S_MAX}"))
    })?;
    json(StatusCode::OK, &shared.submitter.ask(Request::Upgrade(form), UPGRADE_READY).await?)
}

/// Answered when it has begun: the listings show how it goes.
async fn decide(
    shared: State<Shared>,
    asked: Asked,
    Within(id): Within<String>,
    become_of: OrphanFate,
) -> Result<Response, Refusal> {
    ask(shared, asked, Request::Orphan { meeting: meeting(&id)?, become_of }).await
}

async fn change((shared, asked): Asking, request: ConferenceRequest) -> Result<Response, Refusal> {
    ask(shared, asked, Request::Conference(request)).await
}

async fn ask(State(shared): State<Shared>, asked: Asked, request: Request) -> Result<Response, Refusal> {
    let answer = shared.submitter.ask(request, asked.deadline()).await?;
    let status = if matches!(answer, Answer::Conference(ConferenceAnswer::Started(_))) {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    json(status, &with_epoch_texts(&answer)?)
}

async fn status(shared: State<Shared>, asked: Asked) -> Result<Response, Refusal> {
    let (status, _) = counted(&shared, asked.deadline()).await?;
    json(StatusCode::OK, &with_epoch_texts(&status)?)
}

/// The status, with the counts of parts, which the control thread does not make.
async fn counted(shared: &Shared, deadline: Duration) -> Result<(Box<Status>, Census), Refusal> {
    let answer = shared.submitter.ask(Request::Status, deadline).await?;
    let Answer::Status(mut status) = answer else { unreachable!("a status is answered with one") };
    let epoch = status.epoch;
    let census = read(shared, move |view| Ok(view.census(epoch))).await?;
    for domain in &mut status.domains {
        let counts = census.domains.get(&domain.domain);
        [domain.parts, domain.taken_over, domain.missing] = counts.copied().unwrap_or_default();
    }
    Ok((status, census))
}

/// For Prometheus, in the dialect that it asks for.
async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (status, census) = counted(&shared, DEADLINE).await?;
    let answer = shared.submitter.ask(Request::RecoveryLast, DEADLINE).await?;
    let Answer::Recovery(recovery) = answer else { unreachable!("a recovery is answered with one") };
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let dialect = Dialect::accepted(accepted);
    let text = metrics::expose(dialect, &status, &census, &recovery, &shared.telemetry.totals);
    Ok(([(header::CONTENT_TYPE, dialect.content_type())], text).into_response())
}

/// The histogram log of the last minutes.
async fn log(State(shared): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], shared.telemetry.recent()).into_response()
}

async fn list(shared: State<Shared>) -> Result<Response, Refusal> {
    read(&shared, |view| view.list().map_err(unreadable).and_then(|rows| json(StatusCode::OK, &rows))).await
}

async fn table(shared: State<Shared>) -> Result<Response, Refusal> {
    read(&shared, |view| json(StatusCode::OK, &view.dump())).await
}

async fn show(shared: State<Shared>, Within(id): Within<String>) -> Result<Response, Refusal> {
    let meeting = meeting(&id)?;
    read(&shared, move |view| match view.show(meeting).map_err(unreadable)? {
        Some(found) => json(StatusCode::OK, &found),
        None => {
            let what = format!("there is no meeting {meeting}");
            Err(Refusal::new(RefusalKind::NotFound, what, "see `baton meeting list`"))
        }
    })
    .await
}

/// Reads on a thread of its own: to list a full table takes so long that other clients would wait.
async fn read<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&View) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let view = shared.view.clone();
    let joined = tokio::task::spawn_blocking(move || read(&view)).await;
    joined.unwrap_or_else(|_| Err(Refusal::new(RefusalKind::Internal, "the listing failed", "report it, with the log")))
}

async fn no_such_path() -> Refusal {
    Refusal::new(RefusalKind::NotFound, "there is nothing under this path", "see docs/api.md")
}

async fn no_such_method() -> Response {
    let refusal =
        Refusal::new(RefusalKind::BadRequest, "this path has no such method", "see docs/api.md for those it has");
    (StatusCode::METHOD_NOT_ALLOWED, refusal.into_response()).into_response()
}

fn unreadable(error: crate::database::DatabaseError) -> Refusal {
    Refusal::new(RefusalKind::Database, error.to_string(), "see the log for what the disk says")
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Result<Response, Refusal> {
    let bytes = serde_json::to_vec(body).map_err(|error| internal(&error))?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// An answer with each epoch also as text: a number alone does not show its parts.
fn with_epoch_texts(answer: &impl serde::Serialize) -> Result<Value, Refusal> {
    let mut value = serde_json::to_value(answer).map_err(|error| internal(&error))?;
    add_epoch_texts(&mut value);
    Ok(value)
}

fn add_epoch_texts(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(add_epoch_texts),
        Value::Object(fields) => {
            for key in ["epoch", "controller"] {
                let epoch = fields.get(key).filter(|epoch| epoch.is_number()).cloned();
                if let Some(epoch) = epoch.and_then(|epoch| serde_json::from_value::<Epoch>(epoch).ok()) {
                    fields.insert(format!("{key}_text"), epoch.to_string().into());
                }
            }
            fields.values_mut().for_each(add_epoch_texts);
        }
        _ => {}
    }
}

fn internal(error: &serde_json::Error) -> Refusal {
    Refusal::new(RefusalKind::Internal, error.to_string(), "report it, with the log")
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json(status, &self).unwrap_or_else(|_| status.into_response())
    }
}
