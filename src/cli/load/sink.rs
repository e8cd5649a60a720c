//! `baton load sink`: counts what arrives, and drops it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::options::{Failure, duration};
use crate::cli::sim::ethertype;
use crate::lab::load::sink::Sink;
use crate::lab::load::{By, LoadError};
use crate::output::{self, say, tell};
use crate::sdk::{Endpoint, EndpointSettings};
use crate::sys::bpf::Mode;
use crate::sys::interface::Interface;
use crate::sys::{clock, signals::StopSignals, threads};
use crate::time::Nanos;
use crate::wire::{DEFAULT_ETHERTYPE, Frame};

/// Between two looks at what came.
const LOOK: Duration = Duration::from_millis(5);

/// Count the V2V frames that arrive, and drop them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where they arrive
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Where they are counted: by a program before the kernel has them, or by this process behind
    /// AF_XDP rings
    #[arg(long, value_name = "WAY", default_value = "xdp")]
    by: By,
    /// How long to count [default: until it is told to stop]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// So many frames are enough
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// The EtherType of V2V frames
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_ETHERTYPE, value_parser = ethertype)]
    ethertype: u16,
    /// The core to count on, for rings
    #[arg(long, value_name = "NUMBER")]
    core: Option<u16>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default)]
struct Came {
    frames: u64,
    bytes: u64,
    malformed: u64,
    dropped: u64,
}

enum Place {
    Program(Sink),
    Rings(Box<Endpoint>, Came),
}

impl Place {
    fn open(args: &Args) -> Result<Self, LoadError> {
        if let Some(core) = args.core.filter(|&core| !threads::pin(core)) {
            return Err(LoadError::Core(core));
        }
        Ok(match args.by {
            By::Xdp => Self::Program(Sink::attach(&Interface::find(&args.interface)?, args.ethertype)?),
            By::Rings => {
                let settings =
                    EndpointSettings { ethertype: args.ethertype, receive: 16_384, ..EndpointSettings::default() };
                Self::Rings(Box::new(Endpoint::open(&args.interface, &settings)?), Came::default())
            }
        })
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Program(sink) => sink.mode(),
            Self::Rings(endpoint, _) => endpoint.mode(),
        }
    }

    /// Waits a moment, or takes what is there; gives what came so far.
    fn look(&mut self, ethertype: u16) -> Result<Came, LoadError> {
        match self {
            Self::Program(sink) => {
                std::thread::sleep(LOOK);
                let sunk = sink.sunk()?;
                Ok(Came { frames: sunk.frames, bytes: sunk.bytes, ..Came::default() })
            }
            Self::Rings(endpoint, came) => {
                endpoint.receive(LOOK, |bytes, _| {
                    came.frames += 1;
                    came.bytes += bytes.len() as u64;
                    came.malformed += u64::from(Frame::parse(bytes, ethertype).is_err());
                })?;
                Ok(*came)
            }
        }
    }

    fn dropped(&self) -> Result<u64, LoadError> {
        let Self::Rings(endpoint, _) = self else { return Ok(0) };
        let lost = endpoint.statistics()?;
        Ok(lost.receive_dropped + lost.receive_ring_full + lost.fill_ring_empty)
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let stop = StopSignals::install().map_err(|error| LoadError::System { what: "setting signals up", error })?;
    let mut place = Place::open(args)?;
    tell!("baton: counting on {} ({:?} mode)", args.interface, place.mode());
    let style = ProgressStyle::with_template("{spinner} {human_pos} frames in {elapsed}").expect("a constant template");
    let bar = ProgressBar::new_spinner().with_style(style);
    let begin = clock::now();
    let (mut came, mut first, mut last) = (Came::default(), None, begin);
    loop {
        let before = came;
        came = place.look(args.ethertype)?;
        let now = clock::now();
        if came.frames > before.frames {
            // What came before the first look is not timed: when its first frame came is not known.
            first.get_or_insert((now, came.frames));
            last = now;
            bar.set_position(came.frames);
        }
        let over = args.time.is_some_and(|time| now.since(begin) >= time);
        if over || args.count.is_some_and(|count| came.frames >= count) || stop.take() > 0 {
            break;
        }
    }
    bar.finish_and_clear();
    came.dropped = place.dropped()?;
    show(args, came, first, last);
    Ok(())
}

fn show(args: &Args, came: Came, first: Option<(Nanos, u64)>, last: Nanos) {
    let (begin, before) = first.unwrap_or((last, 0));
    let seconds = last.since(begin).as_secs_f64();
    let rate = if seconds > 0.0 { (came.frames - before) as f64 / seconds } else { 0.0 };
    let Came { frames, bytes, malformed, dropped } = came;
    if args.json {
        let result = json!({
            "frames": frames, "bytes": bytes, "malformed": malformed, "dropped": dropped, "rate": rate, "seconds": seconds,
        });
        output::json(&result);
    } else {
        say!("received    {frames} frames, {rate:.0} a second for {seconds:.3} s, {bytes} bytes");
        if malformed > 0 {
            say!("malformed   {malformed} are no whole V2V packets");
        }
        if dropped > 0 {
            say!("dropped     {dropped} came faster than they were counted");
        }
    }
}
