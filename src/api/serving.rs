//! The connections of the API: how many there are, how long each may do nothing, and which of them
//! makes room.
//!
//! What always holds: no client can shut the API for others by holding connections. One that has no
//! request under way (none yet, half a header, half a body, or the time between two requests) is
//! closed after a while; and when all places are taken, the one that has been idle longest makes
//! room at once. A request that is being worked on is never broken off for another.

use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::cms::{Refusal, RefusalKind};
use crate::limits::{ACCEPT_PAUSE, BODY_BYTES_MAX, BODY_MAX, CONNECTIONS_MAX, IDLE_MAX};

/// The limits that clients are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// Connections at once.
    pub connections: usize,
    /// How long one may have no request under way.
    pub idle: Duration,
    /// How long a request's body may take.
    pub body: Duration,
}

impl Default for Grant {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, idle: IDLE_MAX, body: BODY_MAX }
    }
}

/// Serves until `stopped` has no sender any more; then requests that are under way are answered,
/// and no more are taken.
pub(super) async fn serve(listener: UnixListener, router: Router, grant: Grant, mut stopped: watch::Receiver<()>) {
    let mut tasks = JoinSet::new();
    let mut places = HashMap::<Id, Arc<Place>>::new();
    let freed = Arc::new(Notify::new());
    loop {
        let is_full = places.len() >= grant.connections;
        if is_full {
            make_room(&places);
        }
        tokio::select! {
            _ = stopped.changed() => break,
            Some(ended) = tasks.join_next_with_id() => {
                places.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
            () = freed.notified(), if is_full => {}
            accepted = listener.accept(), if !is_full => match accepted {
                Ok((stream, _)) => {
                    let place = Arc::new(Place::new(Arc::clone(&freed)));
                    let attended = attend(stream, Arc::clone(&place), router.clone(), grant, stopped.clone());
                    places.insert(tasks.spawn(attended).id(), place);
                }
                // The client is gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // No descriptor is free, until others close theirs.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Closes the connection that has been idle longest, if there is one.
fn make_room(places: &HashMap<Id, Arc<Place>>) {
    let idle = places.values().filter_map(|place| Some((place.idle_since()?, place)));
    if let Some((_, place)) = idle.min_by_key(|&(since, _)| since) {
        place.close.notify_one();
    }
}

/// The place that one connection takes.
struct Place {
    state: Mutex<State>,
    /// Asks the connection's task to close it.
    close: Notify,
    /// Tells the accepting loop that a connection became idle, and may make room.
    freed: Arc<Notify>,
}

struct State {
    is_working: bool,
    /// When it last made progress: was accepted, began or ended work, or took a part of an answer.
    progressed: Instant,
}

impl Place {
    fn new(freed: Arc<Notify>) -> Self {
        Self { state: Mutex::new(State { is_working: false, progressed: Instant::now() }), close: Notify::new(), freed }
    }

    /// Since when it has had no request under way; none while it has one.
    fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (!state.is_working).then_some(state.progressed)
    }

    fn note_progress(&self) {
        self.state.lock().progressed = Instant::now();
    }

    fn set_working(&self, is_working: bool) {
        *self.state.lock() = State { is_working, progressed: Instant::now() };
        if !is_working {
            self.freed.notify_one();
        }
    }
}

/// Serves one connection to its end.
async fn attend(stream: UnixStream, place: Arc<Place>, router: Router, grant: Grant, mut stopped: watch::Receiver<()>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| answer(request, &place, &router, grant.body));
    let stream = TokioIo::new(Watched { stream, place: Arc::clone(&place) });
    let mut connection = pin!(http1::Builder::new().serve_connection(stream, service));
    let mut is_stopping = false;
    loop {
        let until = place.idle_since().unwrap_or_else(Instant::now) + grant.idle;
        tokio::select! {
            // A request that has come is begun first, and keeps its connection then.
            biased;
            // How a connection ended concerns its client alone.
            _ = connection.as_mut() => return,
            () = place.close.notified() => {
                if place.idle_since().is_some() {
                    return;
                }
                place.freed.notify_one();
            }
            _ = stopped.changed(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(until) => {
                if place.idle_since().is_some_and(|since| since.elapsed() >= grant.idle) {
                    return;
                }
            }
        }
    }
}

/// Answers one request. Once all of it has arrived, its connection is not closed for another.
async fn answer(
    request: Request<Incoming>,
    place: &Place,
    router: &TowerToHyperService<Router>,
    patience: Duration,
) -> Result<Response, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(patience, whole(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return Ok(refused),
        Err(_) => {
            let what = format!("the body did not come within {} s", patience.as_secs());
            return Ok(refused(StatusCode::REQUEST_TIMEOUT, what, "send it as a whole, and again"));
        }
    };
    place.set_working(true);
    let answered = router.call(Request::from_parts(head, Body::from(body))).await;
    place.set_working(false);
    answered
}

/// A body that is too large is read to its end all the same, and not kept: a client that is still
/// sending would not read the answer.
async fn whole(mut body: Incoming) -> Result<Vec<u8>, Response> {
    let mut kept = Vec::new();
    let mut is_too_large = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let what = format!("the body cannot be read: {error}");
            refused(StatusCode::BAD_REQUEST, what, "send it as HTTP/1.1 has it")
        })?;
        let Some(data) = frame.data_ref() else { continue };
        is_too_large |= kept.len() + data.len() > BODY_BYTES_MAX;
        if !is_too_large {
            kept.extend_from_slice(data);
        }
    }
    if is_too_large {
        let what = format!("the body has more than {BODY_BYTES_MAX} bytes");
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, what, "ask for less at once: start several conferences"));
    }
    Ok(kept)
}

fn refused(status: StatusCode, what: String, remedy: &str) -> Response {
    (status, Refusal::new(RefusalKind::BadRequest, what, remedy).into_response()).into_response()
}

/// A stream that notes when its client took a part of an answer.
struct Watched {
    stream: UnixStream,
    place: Arc<Place>,
}

impl Watched {
    fn wrote(&self, wrote: &Poll<io::Result<usize>>) {
        if matches!(wrote, Poll::Ready(Ok(1..))) {
            self.place.note_progress();
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
