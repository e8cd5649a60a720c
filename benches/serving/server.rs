//! A dispatch server that held its meetings when it died: it knows them from its table, though no
//! autonomous server is there.

use std::error::Error;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use baton::api::client::BlockingClient;
use baton::config::Wait;
use baton::database::Database;
use baton::lab::sim::Preload;
use baton::lab::testbed::cluster::API_TIMEOUT;
use baton::lab::testbed::processes::ChildProcess;
use baton::lab::testbed::{INTERFACE, Side, Testbed};
use baton::limits::GENERATION_BLOCK;
use baton::sla::percentile;
use baton::sys::clock;
use baton::sys::mapping::boot_id;
use baton::sys::process::User;
use baton::table::file::snapshot::Snapshot;
use baton::table::{Capacity, OwnerId, Table};
use baton::wire::Domain;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Conferences over four domains, and members of each.
const MEETINGS: u32 = 2_000;
const MEMBERS: u16 = 10;
const DOMAINS: u32 = 4;
/// The device number of a domain's first terminal, and terminals of a domain, as `baton load` takes
/// them.
pub const BASE: &str = "1001";
pub const TERMINALS: &str = "5000";
const PATIENCE: Duration = Duration::from_secs(20);
/// Questions to the control thread, and the pause between two.
const QUESTIONS: usize = 400;
const PAUSE: Duration = Duration::from_millis(5);

pub struct Server {
    keeper: ChildProcess,
    api: BlockingClient,
    table: Arc<Table>,
    configuration: PathBuf,
}

impl Server {
    /// Starts it with its worker on core 1, and waits until it controls and has a standby.
    pub fn start(testbed: &Testbed, wait: Wait) -> Result<Self, Box<dyn Error>> {
        let configuration = testbed.data().join("baton.toml");
        let secret = testbed.data().join("domains.secret");
        let mut text = format!(
            "[dispatch]\naddress = \"1000/1\"\n[interface]\nname = \"{INTERFACE}\"\n[table]\npath = {:?}\nmeetings = 4000\n\
             terminals = 40000\n[database]\npath = {:?}\n[runtime]\ndir = {:?}\n[worker]\ncores = [1]\nwait = {}\n",
            testbed.table(),
            testbed.database(),
            testbed.run(),
            json!(wait),
        );
        for number in 1..=DOMAINS {
            text.push_str(&format!("[[domain]]\nnumber = {number}\nsecret_file = {secret:?}\n"));
        }
        write_once(&secret, &format!("{}\n", "5a".repeat(32)))?;
        fs::write(&configuration, text)?;
        let table = match Table::open_at(&testbed.table()) {
            Ok(table) => Arc::new(table),
            Err(_) => fill(testbed)?,
        };
        let arguments = ["run".to_owned(), "--config".to_owned(), configuration.display().to_string()];
        let keeper = ChildProcess::start(testbed, Side::Dispatch, "dispatch", Some("0-1"), &arguments)?;
        let mut server = Self {
            keeper,
            api: BlockingClient::new(testbed.run().join("api.sock"), API_TIMEOUT),
            table,
            configuration,
        };
        let begun = Instant::now();
        while !server.api.get("/status").is_ok_and(|status| status["standby"] == "ready") {
            server.keeper.must_live()?;
            if begun.elapsed() > PATIENCE {
                return Err("the dispatch server has no standby in time; its log is in the testbed's folder".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Ends it in order.
    pub fn stop(&mut self) -> Result<(), Box<dyn Error>> {
        self.keeper.signal(Signal::TERM)?;
        let status = self.keeper.wait()?;
        if status.success() { Ok(()) } else { Err(self.keeper.ended(status).into()) }
    }

    /// What all of its processes have had of the processors.
    pub fn processor_time(&self) -> Result<Duration, Box<dyn Error>> {
        let mut ran_ns = 0;
        for pid in self.keeper.engines().into_iter().chain([self.keeper.pid()]) {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // Time on a processor, time waiting for one, turns
                // (Documentation/scheduler/sched-stats.rst).
                let told = fs::read_to_string(task?.path().join("schedstat"))?;
                ran_ns += told.split_whitespace().next().ok_or("a thread has times")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_nanos(ran_ns))
    }

    /// How long the control thread takes to answer a client.
    pub fn control_times(&self) -> Result<Value, Box<dyn Error>> {
        let mut times = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            let begun = clock::now();
            self.api.get("/recovery/last")?;
            times.push(clock::now().since(begun).as_secs_f64() * 1e6);
            thread::sleep(PAUSE);
        }
        times.sort_by(f64::total_cmp);
        Ok(json!({ "p50_us": percentile(&times, 0.5), "p99_us": percentile(&times, 0.99) }))
    }

    /// What the table holds.
    pub fn content(&self) -> Result<Snapshot, Box<dyn Error>> {
        let flaws = self.table.verify();
        if flaws.is_empty() { Ok(Snapshot::of(&self.table)) } else { Err(flaws.join("; ").into()) }
    }

    /// Parts and terminals that are not as they were.
    pub fn changes_since(&self, before: &Snapshot) -> Result<usize, Box<dyn Error>> {
        let now = self.content()?;
        let missing = before.parts.len().abs_diff(now.parts.len());
        let changed = before.parts.iter().zip(&now.parts).map(|(was, is)| {
            usize::from(was.0 != is.0)
                + was.1.len().abs_diff(is.1.len())
                + was.1.iter().zip(&is.1).filter(|(was, is)| was != is).count()
        });
        Ok(missing + changed.sum::<usize>())
    }
}

fn write_once(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

/// Makes database and table.
fn fill(testbed: &Testbed) -> Result<Arc<Table>, Box<dyn Error>> {
    let file = testbed.database();
    let folder = file.parent().ok_or("the database has a folder")?;
    fs::create_dir_all(folder)?;
    let reservation = Database::open(&file)?.reserve_generations(GENERATION_BLOCK)?;
    let engine = User::find("nobody")?;
    for path in [folder, &file] {
        chown(path, Some(engine.uid), Some(engine.gid))?;
    }
    Table::create_at(&testbed.table(), Capacity { meetings: 4_000, terminals: 40_000 }, boot_id()?)?;
    let table = Arc::new(Table::open_at(&testbed.table())?);
    table.set_reservation(reservation.epoch(), reservation.end);
    let preload = Preload::new(MEETINGS, MEMBERS, None, DOMAINS)?;
    let mut writer = table.writer(OwnerId::CONTROL);
    for position in 0..DOMAINS {
        let number = Domain::new(u64::from(position) + 1).ok_or("a domain's number")?;
        preload.domain(position, number, BASE.parse()?).enter(&mut writer)?;
    }
    Ok(table)
}
