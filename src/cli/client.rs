//! A client of a running engine: HTTP over its Unix socket, and tables for people.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use unicode_width::UnicodeWidthStr;

use super::{FAILED, WRONG};
use crate::cms::{Refusal, RefusalKind};
use crate::output;
use crate::wire::MeetingId;

/// Where a running engine listens when nobody says otherwise.
pub const SOCKET: &str = "/run/baton/api.sock";
/// How long a request that may be repeated is tried while the engine is replaced.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds that connecting and an answer may take. The engine answers what it is asked after ten at
/// the latest, and an upgrade after twelve; this is for one that hangs, and for a keeper that has
/// none.
pub const TIMEOUT_S: u16 = 15;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Which server, and how it is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// The API's socket of the server
    #[arg(long, value_name = "PATH", default_value = SOCKET, global = true)]
    pub socket: PathBuf,
    /// Print what the API answers, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// How long it may take
    #[command(flatten)]
    pub timeout: Timeout,
}

impl ClientArgs {
    /// A client of that server.
    pub fn client(&self) -> Client {
        Client::new(self.socket.clone(), self.timeout)
    }
}

/// How long a server may take.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Timeout {
    /// Seconds that connecting and the answer may take
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = TIMEOUT_S, global = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub seconds: u16,
}

impl Default for Timeout {
    fn default() -> Self {
        Self { seconds: TIMEOUT_S }
    }
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Whoever was asked did not say yes.
    #[error("{0}")]
    NotAgreed(&'static str),
    /// Nobody listens.
    #[error("no server answers on {socket}: {source}; start one with `baton run`, or name its socket with --socket")]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One may not.
    #[error("{socket} may not be opened: {source}; ask as root, or as a user of the socket's group")]
    Barred {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody listens and says nothing.
    #[error(
        "no answer on {socket} within {seconds} s: no engine runs, or it hangs; a change may have been carried out or may be \
         yet: see the server's log, look, and ask again, or wait longer with --timeout"
    )]
    Silent {
        /// Where.
        socket: PathBuf,
        /// How long it was waited for.
        seconds: u16,
    },
    /// The connection broke under the request.
    #[error("the engine went away with the request, which may have been carried out; look, and ask again ({0})")]
    Lost(String),
    /// There is nothing to be had at that address.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What went wrong with one of several conferences.
    #[error("meeting {0}: {1}")]
    Of(MeetingId, Box<ClientError>),
    /// An upgrade was made, and undone.
    #[error("the new program failed in its trial, and the one before controls again: {0}")]
    Returned(String),
    /// An upgrade was begun, and nobody has been seen to control since.
    #[error("engine {0} was to take over and has not said in time that it controls; see `baton status`, and the log")]
    NobodyControls(u32),
    /// The answer is not what this version understands.
    #[error("the server's answer is not understood: {0}; is it of this version?")]
    Foreign(String),
}

impl ClientError {
    /// The exit code that says so.
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Of(_, error) => error.exit(),
            Self::Refused(refusal) if refusal.kind == RefusalKind::BadRequest => ExitCode::from(WRONG),
            _ => ExitCode::from(FAILED),
        }
    }
}

/// A connection to the engine, made anew when it breaks.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Timeout,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Not connected yet.
    pub const fn new(socket: PathBuf, timeout: Timeout) -> Self {
        Self { socket, timeout, sender: None }
    }

    /// Asks. What changes nothing, or the same however often it is asked, is asked again while the
    /// engine is replaced.
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

    /// Asks, whatever comes of it.
    pub async fn call_once(&mut self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let bytes = self.bytes_once(method, path, "application/json", body).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Foreign(error.to_string()))
    }

    async fn bytes_once(
        &mut self,
        method: &Method,
        path: &str,
        accept: &str,
        body: String,
    ) -> Result<Bytes, ClientError> {
        let seconds = self.timeout.seconds;
        let asked = self.bytes_in_time(method, path, accept, body);
        if let Ok(result) = tokio::time::timeout(Duration::from_secs(seconds.into()), asked).await {
            return result;
        }
        // An answer that comes yet must not be taken for the next one.
        self.sender = None;
        Err(ClientError::Silent { socket: self.socket.clone(), seconds })
    }

    async fn bytes_in_time(
        &mut self,
        method: &Method,
        path: &str,
        accept: &str,
        body: String,
    ) -> Result<Bytes, ClientError> {
        let lost = |error: hyper::Error| ClientError::Lost(error.to_string());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "baton")
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Foreign(error.to_string()))?;
        let sender = self.connected().await?;
        let answer = sender.send_request(request).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.sender = None;
                return Err(lost(error));
            }
        };
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(lost)?.to_bytes();
        if !status.is_success() {
            return Err(refused(status, &bytes));
        }
        Ok(bytes)
    }

    /// Asks for a text, once.
    pub async fn get_text(&mut self, path: &str, accept: &str) -> Result<String, ClientError> {
        let bytes = self.bytes_once(&Method::GET, path, accept, String::new()).await?;
        String::from_utf8(bytes.to_vec()).map_err(|error| ClientError::Foreign(error.to_string()))
    }

    /// As [`Self::call`] with GET, parsed.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<(T, Value), ClientError> {
        let value = self.call(Method::GET, path, None).await?;
        let parsed = T::deserialize(&value).map_err(|error| ClientError::Foreign(error.to_string()))?;
        Ok((parsed, value))
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, ClientError> {
        let alive = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            let stream = self.connect().await?;
            let lost = |error: hyper::Error| ClientError::Lost(error.to_string());
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(lost)?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("it was just made"))
    }
}

impl Client {
    async fn connect(&self) -> Result<UnixStream, ClientError> {
        loop {
            let source = match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let socket = self.socket.clone();
            match source.kind() {
                // The backlog is full: who waits there comes first.
                io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
                io::ErrorKind::PermissionDenied => return Err(ClientError::Barred { socket, source }),
                _ => return Err(ClientError::Unreachable { socket, source }),
            }
        }
    }
}

fn refused(status: StatusCode, bytes: &[u8]) -> ClientError {
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) => refusal.into(),
        Err(_) => ClientError::Foreign(format!("{status}: {}", String::from_utf8_lossy(bytes))),
    }
}

/// Runs what a subcommand does, and turns its end into an exit code.
pub(super) fn run(work: impl Future<Output = Result<(), ClientError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&error);
            error.exit()
        }
    }
}

/// Prints rows under their heads, columns aligned, numbers to the right.
pub(super) fn print_table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) {
    output::put(&table(heads, rows));
}

fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| std::array::from_fn(|at| output::shown_in_line(&row[at]))).collect();
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().map(|row| row[at].width());
        cells.chain([heads[at].width()]).max().unwrap_or(0)
    });
    let is_number = |at: usize| {
        let is_number = |text: &str| text.chars().all(|it| it.is_ascii_digit() || ".-".contains(it));
        !rows.is_empty() && rows.iter().all(|row| is_number(&row[at]))
    };
    let mut text = String::new();
    let mut put = |row: [&str; N]| {
        let mut line = String::new();
        for (at, cell) in row.into_iter().enumerate() {
            let fill = " ".repeat(widths[at] - cell.width());
            let cell = if is_number(at) { format!("{fill}{cell}") } else { format!("{cell}{fill}") };
            line += &cell;
            line += "  ";
        }
        text += line.trim_end();
        text += "\n";
    };
    put(heads);
    rows.iter().for_each(|row| put(std::array::from_fn(|at| row[at].as_str())));
    text
}

/// Whether somebody watches standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let rows = [["7".to_owned(), "Board".to_owned()], ["1024".to_owned(), "Ä".to_owned()]];
        assert_eq!(table(["MEETING", "NAME"], &rows), "MEETING  NAME\n      7  Board\n   1024  Ä\n");
        assert_eq!(table(["MEETING", "NAME"], &[]), "MEETING  NAME\n");
    }

    #[test]
    fn a_name_keeps_to_its_row_and_its_column() {
        let row = |name: &str, state: &str| [name.to_owned(), state.to_owned()];
        let rows = [row("会议室", "missing"), row("Ä\u{1b}[2J\nforged", "in meeting"), row("e\u{301}", "ended")];
        assert_eq!(
            table(["NAME", "STATE"], &rows),
            "NAME                STATE\n\
             会议室              missing\n\
             Ä\\u{1b}[2J\\nforged  in meeting\n\
             e\u{301}                   ended\n"
        );
    }
}
