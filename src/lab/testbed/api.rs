//! The dispatch server's API as the demonstration's operators use it: a request a connection, and
//! patience.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// An answer that takes longer is not waited for: the engine may have died with the request in its
/// hands.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API listens.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

/// Why a request has no answer, or none that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens, or the connection broke: the engine died.
    #[error("no answer: {0}")]
    Connection(#[from] io::Error),
    /// It was refused.
    #[error("refused with status {status}: {body}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// Error, what, do.
        body: String,
    },
}

impl ApiError {
    /// Whether the same request may be answered well a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Connection(_) | Self::Refused { status: 503 | 504, .. })
    }

    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Connection(_) => None,
        }
    }
}

impl Api {
    /// The API behind this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks; gives the answer's JSON, null where it has none.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let body = self.bytes(method, path, body)?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| io::Error::other(error).into())
    }

    /// Asks for what is no JSON.
    pub fn text(&self, path: &str) -> Result<String, ApiError> {
        let body = self.bytes("GET", path, None)?;
        String::from_utf8(body).map_err(|error| io::Error::other(error).into())
    }

    fn bytes(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<u8>, ApiError> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // Version 1.0: the answer ends with its connection, in one piece.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: baton\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let (status, body) = split(&answer).ok_or_else(|| io::Error::other("the answer is cut short"))?;
        if !(200..300).contains(&status) {
            return Err(ApiError::Refused { status, body: String::from_utf8_lossy(body).into_owned() });
        }
        Ok(body.to_vec())
    }
}

/// Status and body of an answer; none where it is not whole.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    (length.is_none_or(|length| length == body.len())).then_some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_is_no_answer() {
        let whole = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nnull";
        assert_eq!(split(whole), Some((200, &b"null"[..])));
        for length in 0..whole.len() {
            assert_eq!(split(&whole[..length]), None, "{length}");
        }
        assert_eq!(split(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((204, &b""[..])));
    }
}
