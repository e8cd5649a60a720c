//! Kamailio's dialog module, which has its dialogs back from a database when it starts. A dialog is
//! what a meeting is to a dispatch server; it has two ends and no members. The database is
//! SQLite's, in Kamailio's own schema, filled before Kamailio is first started: what a Kamailio
//! with `db_mode` 1 would have written for calls that go on.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use super::{BATCH, Failure, Reading, Store};
use crate::records::Meeting;

/// Debian's schema.
const SCHEMA: &str = "/usr/share/kamailio/db_sqlite";
/// Buckets of the module's table of dialogs.
const HASH_SIZE: u32 = 1 << 16;
/// Between two tries to reach a server that is not there yet: the delay that we add, at most.
const RETRY: Duration = Duration::from_micros(200);
const TRIES_MAX: u32 = 10_000_000;

/// The server, as its folder's configuration says. Its memory is set up for the dialogs that it
/// will find, under the allocator that it is quickest with: Debian's default, `qm`, takes eight
/// times as long.
pub fn server(folder: &Path) -> Result<Command, Failure> {
    let meetings: u64 = fs::read_to_string(folder.join("meetings"))?.parse()?;
    let megabytes = |bytes_each: u64| (128 + meetings * bytes_each / (1 << 20)).to_string();
    let mut command = Command::new("kamailio");
    command
        .args(["-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", &megabytes(4096), "-M", &megabytes(6144), "-f"])
        .arg(folder.join("kamailio.cfg"));
    command.arg("-Y").arg(folder);
    Ok(command)
}

/// The folder, and who asks Kamailio what it has.
pub struct Dialogs {
    folder: PathBuf,
}

impl Dialogs {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn configuration(&self, socket: &str) -> String {
        let folder = self.folder.display();
        format!(
            r#"#!KAMAILIO
debug=1
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
dns=no
listen={socket}
loadmodule "kex.so"
loadmodule "jsonrpcs.so"
loadmodule "db_sqlite.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "dialog.so"
modparam("jsonrpcs", "transport", 4)
modparam("jsonrpcs", "dgram_socket", "{folder}/rpc")
modparam("dialog", "db_url", "sqlite:///{folder}/dialogs.sqlite")
modparam("dialog", "db_mode", 1)
modparam("dialog", "hash_size", {HASH_SIZE})
request_route {{ exit; }}
"#
        )
    }

    /// How many dialogs Kamailio counts as active. A question waits at its socket until it serves:
    /// it is asked once.
    fn active(&self) -> Result<u64, Failure> {
        const QUESTION: &str =
            r#"{"jsonrpc":"2.0","method":"stats.get_statistics","params":["active_dialogs"],"id":1}"#;
        let own = self.folder.join("asker");
        let _ = fs::remove_file(&own);
        let socket = UnixDatagram::bind(&own)?;
        socket.set_read_timeout(Some(Duration::from_secs(600)))?;
        for _ in 0..TRIES_MAX {
            match socket.send_to(QUESTION.as_bytes(), self.folder.join("rpc")) {
                Ok(_) => break,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes)?;
        let answer = String::from_utf8_lossy(&bytes[..count]);
        let digits: String = answer
            .split("active_dialogs = ")
            .nth(1)
            .ok_or_else(|| format!("Kamailio answered {answer}"))?
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        Ok(digits.parse()?)
    }
}

impl Store for Dialogs {
    fn fill(&mut self, meetings: u64) -> Result<(), Failure> {
        // A free port of the loopback interface, which nobody sends to.
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let socket = format!("udp:127.0.0.1:{port}");
        fs::write(self.folder.join("kamailio.cfg"), self.configuration(&socket))?;
        fs::write(self.folder.join("meetings"), meetings.to_string())?;
        let mut connection = Connection::open(self.folder.join("dialogs.sqlite"))?;
        for file in ["standard-create.sql", "dialog-create.sql"] {
            connection.execute_batch(&fs::read_to_string(Path::new(SCHEMA).join(file))?)?;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() as i64;
        for begin in (0..meetings).step_by(BATCH as usize) {
            let transaction = connection.transaction()?;
            {
                let mut put = transaction.prepare_cached(
                    "INSERT INTO dialog (hash_entry, hash_id, callid, from_uri, from_tag, to_uri, to_tag, caller_cseq,
                        callee_cseq, caller_route_set, callee_route_set, caller_contact, callee_contact, caller_sock,
                        callee_sock, state, start_time, timeout, sflags, iflags, toroute_name, req_uri, xdata)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '1', '1', '', '', ?4, ?6, ?8, ?8, 4, ?9, ?10, 0, 0, '', ?6, '')",
                )?;
                for n in begin..meetings.min(begin + BATCH) {
                    let Meeting { id, domain, chairman, .. } = Meeting::number(n);
                    let call = format!("meeting-{id}@127.0.0.1");
                    let (from, to) = (format!("sip:{chairman}@127.0.0.1"), format!("sip:{domain}@127.0.0.1"));
                    put.execute(params![
                        bucket(&call),
                        id as i64,
                        call,
                        from,
                        format!("from-{id}"),
                        to,
                        format!("to-{id}"),
                        socket,
                        now,
                        // A dialog whose time is over is dropped when it is loaded: a day is
                        // enough. Who called later ends later: Kamailio sorts them in from the end
                        // of a list, and this is the order that it is quickest at. With equal times
                        // it takes hours for a million.
                        now + 86_400 + (n / 100) as i64,
                    ])?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    }

    /// Kamailio reads; we learn when it has. It serves nobody before it has loaded all, so the
    /// first comes with the last.
    fn read(&mut self, meetings: u64, reading: &mut Reading) -> Result<(), Failure> {
        let active = self.active()?;
        if active != meetings {
            return Err(format!("Kamailio has loaded {active} dialogs of {meetings}").into());
        }
        reading.first(Meeting::number(0).key());
        reading.tally.meetings = active;
        reading.meetings_done();
        reading.members_ns = reading.meetings_ns;
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Kamailio's `core_hash` of a call's id: a row names the bucket that its dialog belongs to.
fn bucket(call: &str) -> u32 {
    let mut hash: u32 = 0;
    let (words, rest) = call.as_bytes().as_chunks::<4>();
    let tail = rest.iter().fold(0, |value: u32, &byte| value << 8 | u32::from(byte));
    for value in words.iter().map(|&word| u32::from_be_bytes(word)).chain([tail]) {
        hash = hash.wrapping_add(value ^ value >> 3);
    }
    let hash = hash.wrapping_add(hash >> 11).wrapping_add((hash >> 13).wrapping_add(hash >> 23));
    hash & (HASH_SIZE - 1)
}
