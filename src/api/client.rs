//! The client of the API: HTTP/1.1 over the engine's Unix socket. The command line, the testbed,
//! the tests and the benches all use this one.
//!
//! A request has one of three ends: an answer, a refusal ([`ClientError::Refused`]), or nobody
//! knows ([`ClientError::Lost`], [`ClientError::Silent`]), because the engine died with the request
//! in its hands. After the last, what changes nothing, or changes the same thing each time, may be
//! asked again.

use std::cell::OnceCell;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
pub use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::cms::{Refusal, RefusalKind};

/// Where a running engine listens unless its configuration says otherwise.
pub const SOCKET: &str = "/run/baton/api.sock";
/// How long a request that may be repeated is repeated while the engine is replaced.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens on the socket.
    #[error("no server answers on {socket}: {source}; start one with `baton run`, or name its socket with --socket")]
    Unreachable {
        /// The API's socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This user may not open the socket.
    #[error("{socket} may not be opened: {source}; ask as root, or as a user of the socket's group")]
    Barred {
        /// The API's socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A process listens and does not answer.
    #[error(
        "no answer on {socket} within {} s: no engine runs, or it hangs; a change may have been carried out or may be \
         yet: see the server's log, look, and ask again, or wait longer with --timeout", .timeout.as_secs()
    )]
    Silent {
        /// The API's socket.
        socket: PathBuf,
        /// How long the answer was waited for.
        timeout: Duration,
    },
    /// The connection broke under the request.
    #[error("the engine went away with the request, which may have been carried out; look, and ask again ({0})")]
    Lost(String),
    /// The engine refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer is not what this version understands.
    #[error("the server's answer is not understood: {0}; is it of this version?")]
    Foreign(String),
}

impl ClientError {
    /// The answer is JSON, but not of the form that was expected.
    pub fn foreign(error: &serde_json::Error) -> Self {
        Self::Foreign(error.to_string())
    }

    /// Whether the same request may succeed a little later: the engine died, or is busy, or an
    /// autonomous server does not answer it yet.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Lost(_) => true,
            Self::Refused(refusal) => {
                matches!(refusal.kind, RefusalKind::Busy | RefusalKind::Database | RefusalKind::Unreachable)
            }
            Self::Barred { .. } | Self::Foreign(_) => false,
        }
    }

    /// What kind of refusal it is, if it is one.
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind),
            _ => None,
        }
    }
}

/// A client with one connection, which it makes again when the engine has gone.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Client {
    /// Connects with the first request. `timeout` is for each request: for connecting and for the
    /// answer.
    pub const fn new(socket: PathBuf, timeout: Duration) -> Self {
        Self { socket, timeout, connection: None }
    }

    /// Asks. A request that changes nothing, or the same thing however often it is carried out
    /// (GET, PUT), is repeated while the engine is replaced.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let may_repeat = matches!(method, Method::GET | Method::PUT);
        let begun = Instant::now();
        loop {
            match self.call_once(&method, path, body).await {
                Err(ClientError::Lost(_)) if may_repeat && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Asks, and does not repeat.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn call_once(&mut self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let bytes = self.bytes_once(method, path, "application/json", body).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::foreign(&error))
    }

    /// As [`Self::call`] with GET: the parsed answer, and its JSON.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<(T, Value), ClientError> {
        let value = self.call(Method::GET, path, None).await?;
        let parsed = T::deserialize(&value).map_err(|error| ClientError::foreign(&error))?;
        Ok((parsed, value))
    }

    /// Asks for a text of this media type, and does not repeat.
    ///
    /// # Errors
    /// There is no good answer.
    pub async fn get_text(&mut self, path: &str, accept: &str) -> Result<String, ClientError> {
        let bytes = self.bytes_once(&Method::GET, path, accept, String::new()).await?;
        String::from_utf8(bytes.to_vec()).map_err(|error| ClientError::Foreign(error.to_string()))
    }

    async fn bytes_once(
        &mut self,
        method: &Method,
        path: &str,
        accept: &str,
        body: String,
    ) -> Result<Bytes, ClientError> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "baton")
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Foreign(error.to_string()))?;
        let timeout = self.timeout;
        let (status, bytes) = match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ClientError::Silent { socket: self.socket.clone(), timeout }),
        };
        if status.is_success() { Ok(bytes) } else { Err(refused(status, &bytes)) }
    }

    /// The connection is kept for the next request only after a whole answer: an answer that is
    /// still to come must not be taken for that of the next request.
    async fn exchange(&mut self, request: hyper::Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && !connection.is_alive().await
        {
            kept = None;
        }
        let lost = |error: hyper::Error| ClientError::Lost(error.to_string());
        let mut request = request;
        if let Some(mut connection) = kept {
            match connection.exchange(request).await {
                Ok(answer) => {
                    self.connection = Some(connection);
                    return Ok(answer);
                }
                Err(Failed::Sent(error)) => return Err(lost(error)),
                // The engine closed it meanwhile, and has seen nothing of the request.
                Err(Failed::Unsent(back)) => request = *back,
            }
        }
        let mut connection = Connection::open(&self.socket).await?;
        let answer = match connection.exchange(request).await {
            Ok(answer) => answer,
            Err(Failed::Sent(error)) => return Err(lost(error)),
            Err(Failed::Unsent(_)) => return Err(ClientError::Lost("the connection was closed".into())),
        };
        self.connection = Some(connection);
        Ok(answer)
    }
}

fn refused(status: StatusCode, bytes: &[u8]) -> ClientError {
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) => refusal.into(),
        Err(_) => ClientError::Foreign(format!("{status}: {}", String::from_utf8_lossy(bytes))),
    }
}

/// One connection. It is driven by the caller that waits for an answer on it, not by a task of its
/// own, so it closes when it is dropped.
#[derive(Debug)]
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once it is over.
    driver: Option<Driver>,
}

type Driver = Pin<Box<http1::Connection<TokioIo<UnixStream>, Full<Bytes>>>>;

impl Connection {
    async fn open(socket: &PathBuf) -> Result<Self, ClientError> {
        let stream = loop {
            let source = match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(error) => error,
            };
            let socket = socket.clone();
            match source.kind() {
                // The backlog is full: those who wait in it come first.
                io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
                io::ErrorKind::PermissionDenied => return Err(ClientError::Barred { socket, source }),
                _ => return Err(ClientError::Unreachable { socket, source }),
            }
        };
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| ClientError::Lost(error.to_string()))?;
        Ok(Self { sender, driver: Some(Box::pin(driver)) })
    }

    /// Whether the engine has not closed it since the last answer.
    async fn is_alive(&mut self) -> bool {
        let Self { sender, driver } = self;
        let Some(running) = driver else { return false };
        let is_over = tokio::select! {
            biased;
            _ = running => true,
            ready = sender.ready() => ready.is_err(),
        };
        if is_over {
            *driver = None;
        }
        !is_over
    }

    async fn exchange(&mut self, request: Asking) -> Result<(StatusCode, Bytes), Failed> {
        let Self { sender, driver } = self;
        let answer = async {
            let answer = sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(request) => Failed::Unsent(Box::new(request)),
                None => Failed::Sent(error.into_error()),
            })?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(Failed::Sent)?;
            Ok((status, body.to_bytes()))
        };
        drive(driver, answer).await
    }
}

type Asking = hyper::Request<Full<Bytes>>;

/// Why there is no answer.
enum Failed {
    /// The request did not leave, and may be sent on another connection.
    Unsent(Box<Asking>),
    /// The engine may have seen it.
    Sent(hyper::Error),
}

/// Waits for `work`, which the connection has to be driven for. A driver that is over is dropped: a
/// request that it has not sent is given back by that, and would be waited for otherwise.
async fn drive<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    if let Some(running) = driver {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = running => {}
        }
        *driver = None;
    }
    work.await
}

/// A client for threads: each request has a connection of its own, and none is repeated.
#[derive(Clone, Debug)]
pub struct BlockingClient {
    socket: PathBuf,
    timeout: Duration,
}

impl BlockingClient {
    /// `timeout` is for each answer, as in [`Client::new`].
    pub const fn new(socket: PathBuf, timeout: Duration) -> Self {
        Self { socket, timeout }
    }

    /// Asks. Not for a thread that is in a Tokio runtime.
    ///
    /// # Errors
    /// There is no good answer.
    pub fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        self.block_on(async |client| client.call_once(method, path, body).await)
    }

    /// As [`Self::call`] with GET.
    ///
    /// # Errors
    /// There is no good answer.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(&Method::GET, path, None)
    }

    /// As [`Client::get_text`].
    ///
    /// # Errors
    /// There is no good answer.
    pub fn get_text(&self, path: &str, accept: &str) -> Result<String, ClientError> {
        self.block_on(async |client| client.get_text(path, accept).await)
    }

    fn block_on<T>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T, ClientError>) -> Result<T, ClientError> {
        thread_local! {
            // Making one costs three system calls, a request hardly more.
            static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
        }
        RUNTIME.with(|cell| {
            if cell.get().is_none() {
                let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let made = made.map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
                let _ = cell.set(made);
            }
            let runtime = cell.get().expect("it was just made");
            runtime.block_on(work(&mut Client::new(self.socket.clone(), self.timeout)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers one connection after the other with these bytes, each once a request has begun to
    /// come, and closes it.
    fn server(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, BlockingClient) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let mut stream = listener.accept().unwrap().0;
                assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
                stream.write_all(&answer).unwrap();
            }
        });
        (folder, BlockingClient::new(socket, Duration::from_secs(10)))
    }

    #[test]
    fn an_answer_that_was_cut_is_no_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull";
        let (_folder, client) = server((0..=whole.len()).map(|length| whole[..length].to_vec()).collect());
        for length in 0..whole.len() {
            let cut = client.get("/status").unwrap_err();
            assert!(matches!(cut, ClientError::Lost(_)) && cut.is_passing(), "{length}: {cut}");
        }
        assert_eq!(client.get("/status").unwrap(), Value::Null);
    }

    #[test]
    fn a_refusal_is_told_by_its_kind_and_what_is_none_of_ours_is_foreign() {
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let busy = r#"{"error":"busy","what":"too much is under way","do":"ask again"}"#;
        let (_folder, client) = server(vec![answer("503 Service Unavailable", busy), answer("502 Bad Gateway", "no")]);
        let refused = client.get("/status").unwrap_err();
        assert_eq!((refused.refusal(), refused.is_passing()), (Some(RefusalKind::Busy), true));
        let foreign = client.get("/status").unwrap_err();
        assert!(matches!(&foreign, ClientError::Foreign(what) if what.contains("502")), "{foreign}");
        assert!(!foreign.is_passing());
    }

    #[test]
    fn a_connection_that_the_engine_closed_after_its_answer_is_made_again() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7".to_vec();
        let (_folder, client) = server(vec![answer.clone(), answer]);
        let twice = client.block_on(async |client| {
            let first = client.call_once(&Method::GET, "/", None).await?;
            Ok((first, client.call_once(&Method::POST, "/", None).await?))
        });
        assert_eq!(twice.unwrap(), (7.into(), 7.into()));
    }
}
