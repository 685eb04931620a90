//! `redial ping`: how long a server takes to answer what costs it nothing.

use std::{io::Write, process::ExitCode, time::Duration};

use redial_client::{CallError, Client};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::MissedTickBehavior;

use crate::{
    connect::{ConnectArgs, Reach, sent_once},
    failure::{Exit, Failure},
    flags::{Whole, duration, whole},
    numbers::ms,
    output::{self, Reader},
    runtime,
};

/// How many pings.
const COUNTS: Whole = 1..=1_000_000;

/// Which server to ask, and how often.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all were answered, 1 some were not, 2 usage, 3 none was",
    mut_args(sent_once)
)]
pub(crate) struct PingArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    /// How many pings
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = whole::<u64>(COUNTS))]
    count: u64,
    /// From one ping to the next
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What `--json` prints. **Stable**: members are added, never changed.
#[derive(Debug, Default, Serialize, PartialEq)]
struct PingSummary {
    sent: u64,
    answered: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<Milliseconds>,
}

/// Of the pings that were answered, by nearest rank.
#[derive(Debug, Serialize, PartialEq)]
struct Milliseconds {
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl PingArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        // A hello is nothing that the first ping should wait for, and a lost ping is a lost ping.
        let reach = self.connect.reach_once(self.addr.as_deref())?;
        runtime::run(self.ping(&reach))
    }

    async fn ping(self, reach: &Reach) -> Result<ExitCode, Failure> {
        let client = reach.connect().await?;
        let mut signals = runtime::signals()?;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut took = Vec::new();
        let mut sent = 0;
        while sent < self.count {
            tokio::select! {
                _ = ticks.tick() => {}
                () = signals.stop_requested() => break,
            }
            sent += 1;
            let answer = tokio::select! {
                answer = once(&client) => answer,
                () = signals.stop_requested() => break,
            };
            if self.note(answer, &mut took)? == Reader::HasGone {
                break;
            }
        }
        let summary = PingSummary::of(sent, took);
        self.print(&summary)?;
        client.close().await;
        Ok(summary.exit().into())
    }

    fn note(
        &self,
        answer: Result<(Duration, String), CallError>,
        took: &mut Vec<Duration>,
    ) -> Result<Reader, Failure> {
        let is_answered = answer.is_ok();
        let line = match answer {
            Ok((time, text)) => {
                took.push(time);
                format!("{:.3} ms, {text}", ms(time))
            }
            Err(error) => format!("no answer: {}", error.details()),
        };
        if self.json {
            // Why is for people, and stdout is the object's alone.
            if !is_answered {
                let _ = writeln!(std::io::stderr(), "{}", output::one_line(&line));
            }
            Ok(Reader::Reads)
        } else {
            output::print(&output::one_line(&line))
        }
    }

    fn print(&self, summary: &PingSummary) -> Result<Reader, Failure> {
        if self.json {
            let text = serde_json::to_string(summary);
            return output::print(&text.map_err(|error| Failure::new(Exit::Failed, error))?);
        }
        let PingSummary { sent, answered, ms } = summary;
        let mut text = format!("{sent} sent, {answered} answered");
        if let Some(Milliseconds {
            min,
            p50,
            p90,
            p99,
            max,
        }) = ms
        {
            text += &format!(
                ": min {min:.3}, p50 {p50:.3}, p90 {p90:.3}, p99 {p99:.3}, max {max:.3} ms"
            );
        }
        output::print(&text)
    }
}

/// One ping: how long it took, and who answered what. A server that doesn't know the method has answered,
/// too.
async fn once(client: &Client) -> Result<(Duration, String), CallError> {
    let call = client.query("rpc.ping", ()).returning::<Box<RawValue>>();
    let (answer, report) = match call.with_report().await {
        Ok(reply) => (reply.value.get().to_owned(), reply.report),
        Err(error) => match error.server_error() {
            Some(answer) => (format!("error {answer}"), error.report().clone()),
            None => return Err(error),
        },
    };
    // From the moment it was handed to a connection: a ping that had to wait for one is no slow ping.
    let time = report
        .winner()
        .map(|attempt| attempt.ended.saturating_sub(attempt.started));
    let endpoint = report.endpoint().unwrap_or("the server");
    Ok((
        time.unwrap_or(report.total()),
        format!("{answer} from {endpoint}"),
    ))
}

impl PingSummary {
    fn of(sent: u64, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        // By nearest rank: the smallest that so many per cent are not above.
        let rank = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
        let ms = (!took.is_empty()).then(|| Milliseconds {
            min: ms(took[0]),
            p50: ms(rank(50)),
            p90: ms(rank(90)),
            p99: ms(rank(99)),
            max: ms(rank(100)),
        });
        Self {
            sent,
            answered: took.len() as u64,
            ms,
        }
    }

    fn exit(&self) -> Exit {
        match self.answered {
            0 => Exit::NotExecuted,
            answered if answered < self.sent => Exit::Failed,
            _ => Exit::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Percentiles that are off by one.
    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let took = (1..=10).rev().map(Duration::from_millis).collect();
        let ms = PingSummary::of(11, took).ms.unwrap();
        let expected = Milliseconds {
            min: 1.0,
            p50: 5.0,
            p90: 9.0,
            p99: 10.0,
            max: 10.0,
        };
        assert_eq!(ms, expected);
        let one = PingSummary::of(1, vec![Duration::from_millis(7)])
            .ms
            .unwrap();
        assert_eq!((one.min, one.p50, one.max), (7.0, 7.0, 7.0));
        assert_eq!(
            PingSummary::of(3, Vec::new()),
            PingSummary {
                sent: 3,
                answered: 0,
                ms: None
            }
        );
    }
}
