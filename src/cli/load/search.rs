//! `baton load search`: the highest rate that a server bears.

use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::json;

use super::options::{Failure, Rate, What, duration, rate};
use super::show;
use crate::lab::load::{Plan, Search, SearchSettings, Trial};
use crate::output::{self, say, tell};

/// Look for the highest rate without loss, and with some, by halving.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A trial is a load of its own: it sends at its rate for its time, waits, and counts what was not \
    answered. Reports that a later one's acknowledgement covers count as answered; --ack-now makes each one count."
)]
pub(super) struct Args {
    #[command(flatten)]
    what: What,
    /// The lowest rate to try
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = rate)]
    from: Rate,
    /// The highest rate to try, or `max`: what the sender reaches
    #[arg(long, value_name = "RATE", default_value = "max", value_parser = rate)]
    to: Rate,
    /// The part of frames that the partial-drop rate may lose
    #[arg(long, value_name = "RATIO", default_value_t = 0.001, value_parser = ratio)]
    loss: f64,
    /// How exactly a rate is to be known, as a part of it
    #[arg(long, value_name = "RATIO", default_value_t = 0.02, value_parser = ratio)]
    resolution: f64,
    /// How long a trial sends
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    trial: Duration,
    /// How long after a trial's last frame answers are waited for
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = duration)]
    wait: Duration,
    /// Print trials and result as JSON
    #[arg(long)]
    json: bool,
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..1.0).contains(ratio))
        .ok_or_else(|| format!("`{text}` is no part such as 0.001"))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Some(from) = args.from.of() else {
        return Err(Failure::Wrong("--from: the lowest rate is a number".into()));
    };
    let to = args.to.of();
    if to.is_some_and(|to| to <= from) {
        return Err(Failure::Wrong("--to: the highest rate is above the lowest, --from".into()));
    }
    if args.what.no_answers {
        return Err(Failure::Wrong("--no-answers: a search counts answers".into()));
    }
    let mut sender = args.what.open()?;
    let settings =
        SearchSettings { from: from.get(), to: to.map(Into::into), loss_ratio: args.loss, resolution: args.resolution };
    let mut search = Search::new(settings);
    let mut first = 0;
    if !args.json {
        say!("{:>12}  {:>12}  {:>10}  {:>10}  loss", "asked", "sent at", "sent", "lost");
    }
    while let Some(asked) = search.next() {
        let plan = Plan { first, ..Plan::lasting(asked.and_then(NonZeroU64::new), args.trial, args.wait) };
        let bar = show::bar(&plan);
        let summary = sender.run(&plan, &mut |moment, tally| show::advance(&bar, &plan, moment, tally));
        bar.finish_and_clear();
        let summary = summary?;
        if summary.is_silent() {
            return Err(args.what.silence(summary.sent));
        }
        if summary.dropped_here > 0 {
            tell!(
                "baton: {} answers came faster than this sender takes them, and count as lost: the server bears more",
                summary.dropped_here
            );
        }
        let lost = summary.answers.as_ref().filter(|answers| answers.expected > 0);
        let Some((lost, loss_ratio)) = lost.and_then(|answers| answers.lost.zip(answers.loss_ratio)) else {
            return Err(Failure::Wrong(
                "what is lost cannot be told: these frames are not answered, or are prepared ones that were sent again; \
                 shorten --trial, or send reports or probes"
                    .into(),
            ));
        };
        let trial = Trial { asked, rate: summary.rate, sent: summary.sent, lost, loss_ratio };
        if !args.json {
            show_trial(&trial);
        }
        search.record(trial);
        first = plan.next_first(summary.sent, sender.terminals());
    }
    show_result(args, &search);
    Ok(())
}

fn show_trial(trial: &Trial) {
    let asked = trial.asked.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
    let Trial { rate, sent, lost, loss_ratio, .. } = trial;
    say!("{asked:>12}  {rate:>12.0}  {sent:>10}  {lost:>10}  {:.4} %", loss_ratio * 100.0);
}

fn show_result(args: &Args, search: &Search) {
    let (none_lost, some_lost) = (search.non_drop_rate(), search.partial_drop_rate());
    if args.json {
        let result = json!({
            "what": show::name(&args.what.kind),
            "by": show::name(&args.what.by),
            "trial_seconds": args.trial.as_secs_f64(),
            "resolution": args.resolution,
            "loss_ratio": args.loss,
            "trials": search.trials(),
            "non_drop_rate": none_lost,
            "partial_drop_rate": some_lost,
            "limited_by_sender": search.is_limited_by_sender(),
        });
        output::json(&result);
        return;
    }
    let rate =
        |rate: Option<f64>| rate.map_or_else(|| "none of those tried".to_owned(), |rate| format!("{rate:.0} a second"));
    say!("non-drop rate      {}", rate(none_lost));
    say!("partial-drop rate  {} (at most {} % lost)", rate(some_lost), args.loss * 100.0);
    if search.is_limited_by_sender() {
        say!("nothing was lost at the highest rate tried: the server may bear more");
    }
}
