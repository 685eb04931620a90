//! `redial load`: many calls, at the pace of their callers or at a rate of their own, and how long they took.

mod chart;
mod collect;
mod drive;
mod live;
mod markup;
mod page;
mod params;
mod run;
mod schedule;
mod summary;
mod table;
mod tally;
mod template;
mod timer;
mod verify;

use std::{ops::RangeInclusive, path::PathBuf, process::ExitCode, time::Duration};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use redial_client::{Addresses, Hedge};
use serde_json::value::RawValue;

use self::{
    drive::{Length, Pacing},
    live::Goal,
    params::Params,
    run::{Reports, Run},
    schedule::{Arrivals, MOST_PER_S, Ramp, Schedule},
    summary::Setup,
    verify::Counter,
};
use crate::{
    call::input::{self, Words, pair},
    clock,
    connect::{ConnectArgs, Reach},
    failure::Failure,
    flags::{SEEDS, Whole, duration, number, whole},
    runtime,
    settings::file_path,
};

/// How long a run is if nothing says it.
const DEFAULT_TIME: Duration = Duration::from_secs(10);

/// How many callers a closed loop has if nothing says it.
const DEFAULT_CALLERS: usize = 16;

/// How many callers, connections, and calls in flight there may be. A call in flight costs 2 KiB or so.
const CALLERS: Whole = 1..=1_000_000;
const CONNECTIONS: Whole = 1..=65_536;

/// How many calls a run may have.
const CALLS: Whole = 1..=1_000_000_000_000;

/// Calls per second.
const RATES: RangeInclusive<f64> = 0.001..=MOST_PER_S;

/// What each call adds to a counter, but for 0.
const EFFECTS: Whole = i64::MIN as i128..=i64::MAX as i128;

const AFTER_HELP: &str = "\
In PARAMS: {{ n }}, the number of the call; {{n%100}}; {{random:100}}; {{uuid}}.
The flags of a connection are those of redial call.
Exit codes: 0 all ok, 1 failed, or --verify is wrong, 2 usage, 3 not executed,
4 unknown";

/// What to call, how often, and how fast.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, mut_args(brief))]
pub(crate) struct LoadArgs {
    /// HOST:PORT, unix:/path, A,B,C or @PROFILE
    addr: Option<String>,
    /// The method's name
    method: Option<String>,
    /// JSON, or lines of JSON in turn; @FILE, or - for standard input
    params: Option<String>,
    /// Callers, one call at a time each [default: 16]
    #[arg(short, long, value_name = "N", value_parser = whole::<usize>(CALLERS), conflicts_with_all = ["rate", "ramp"])]
    callers: Option<usize>,
    /// How many calls
    #[arg(short = 'n', long, value_name = "N", value_parser = whole::<u64>(CALLS))]
    calls: Option<u64>,
    /// For how long calls start [default: 10s]
    #[arg(short = 'z', long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Open loop: calls per second, come what may
    #[arg(short, long, value_name = "PER_S", value_parser = number("a rate", RATES))]
    rate: Option<f64>,
    /// Open loop: from one rate to another; repeatable
    #[arg(long, value_name = "FROM:TO:TIME", value_parser = Ramp::parse, conflicts_with = "rate")]
    ramp: Vec<Ramp>,
    /// Open loop: random starts, as of many callers
    #[arg(long)]
    poisson: bool,
    /// Open loop: most calls in flight [default: 10000]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(CALLERS))]
    max_in_flight: Option<usize>,
    /// How many connections [default: 1; 2 with --hedge]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(CONNECTIONS))]
    connections: Option<usize>,
    /// The method has no effect
    #[arg(long)]
    query: bool,
    /// Say this beside the params; repeatable
    #[arg(long, value_name = "K=V", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Send a copy if there is no reply by then
    #[arg(long, value_name = "TIME", value_parser = duration)]
    hedge: Option<Duration>,
    /// Seed of what is random [default: from the clock]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(SEEDS))]
    seed: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a report, one HTML file
    #[arg(long, value_name = "FILE", value_parser = file_path)]
    html: Option<PathBuf>,
    /// A method that counts effects
    #[arg(long, value_name = "METHOD")]
    verify: Option<String>,
    /// What that takes [default: PARAMS]
    #[arg(long, value_name = "JSON", requires = "verify")]
    verify_params: Option<String>,
    /// Where its number is [default: itself or /value]
    #[arg(long, value_name = "POINTER", requires = "verify", value_parser = pointer)]
    verify_at: Option<String>,
    /// What a call adds to it
    #[arg(long, value_name = "N", requires = "verify", default_value = "1", value_parser = effect, allow_negative_numbers = true)]
    effect: i64,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The help has room for what is particular to a run.
fn brief(flag: clap::Arg) -> clap::Arg {
    let is_connection = flag.get_help_heading() == Some("Connection");
    flag.hide(is_connection)
}

impl LoadArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let words = Words::of([&self.addr, &self.method, &self.params])?;
        let mut reach = self.connect.reach(words.address)?;
        let method = words.method.ok_or_else(|| {
            Failure::usage("METHOD is missing; expected redial load [ADDR] METHOD [PARAMS]")
        })?;
        let seed = self.seed.unwrap_or_else(clock::seed);
        let params = self.params(&words, random(seed, 0))?;
        let counter = self.counter(&params)?;
        let schedule = self.schedule()?;
        reach.takes(&self.meta)?;
        self.shape(&mut reach);
        let run = Run {
            setup: self.setup(&reach, method, seed),
            goal: Goal {
                length: self.length(schedule.as_ref()),
                schedule: schedule.clone(),
            },
            pacing: self.pacing(schedule, random(seed, 1)),
            params,
            is_query: self.query,
            meta: self.meta,
            counter,
            reports: Reports {
                html: self.html,
                is_json: self.json,
            },
        };
        if let Some(html) = &run.reports.html {
            page::check(html)?;
        }
        runtime::run(run.run(&reach))
    }

    fn params(&self, words: &Words<'_>, rng: ChaCha8Rng) -> Result<Params, Failure> {
        let (text, place) = match words.params {
            None => ("null".into(), "PARAMS".to_owned()),
            Some(text) => input::text(text)?,
        };
        let params = Params::parse(&text, rng);
        params.map_err(|error| words.explain(Failure::usage(format!("{place}: {error}"))))
    }

    /// The method that counts the effects.
    fn counter(&self, params: &Params) -> Result<Option<Counter>, Failure> {
        let Some(method) = self.verify.clone() else {
            return Ok(None);
        };
        let constant = || {
            let text = params.constant().ok_or_else(|| {
                Failure::usage(format!(
                    "--verify-params is missing, since PARAMS differ from call to call; expected what \
                     {method} takes"
                ))
            })?;
            RawValue::from_string(text).map_err(|error| Failure::usage(error.to_string()))
        };
        let params = match &self.verify_params {
            Some(text) => input::json(text, "--verify-params")?,
            None => constant()?,
        };
        Ok(Some(Counter {
            method,
            params: Some(params),
            at: self.verify_at.clone().unwrap_or_default(),
            effect: self.effect,
        }))
    }

    /// The rates of an open loop.
    fn schedule(&self) -> Result<Option<Schedule>, Failure> {
        let schedule = match self.rate {
            Some(rate) => Some(Schedule::constant(rate)),
            None if self.ramp.is_empty() => None,
            None => Some(Schedule::ramps(self.ramp.clone())),
        };
        let flags = [
            (self.poisson, "--poisson"),
            (self.max_in_flight.is_some(), "--max-in-flight"),
        ];
        match flags.iter().find(|(is_set, _)| *is_set) {
            Some((_, flag)) if schedule.is_none() => Err(Failure::usage(format!(
                "{flag} is for an open loop; expected --rate or --ramp with it"
            ))),
            _ => Ok(schedule),
        }
    }

    fn length(&self, schedule: Option<&Schedule>) -> Length {
        let ramps = schedule
            .map(Schedule::length)
            .filter(|length| !length.is_zero());
        let default = self.calls.is_none().then(|| ramps.unwrap_or(DEFAULT_TIME));
        Length {
            calls: self.calls,
            time: self.time.or(default),
        }
    }

    fn pacing(&self, schedule: Option<Schedule>, rng: ChaCha8Rng) -> Pacing {
        let arrivals = if self.poisson {
            Arrivals::Poisson
        } else {
            Arrivals::Even
        };
        match schedule {
            Some(schedule) => Pacing::Open {
                starts: Box::new(schedule.starts(arrivals, rng)),
                max_in_flight: self.max_in_flight.unwrap_or(10_000),
            },
            None => Pacing::Closed {
                callers: self.callers.unwrap_or(DEFAULT_CALLERS),
            },
        }
    }

    fn connections(&self) -> usize {
        // A copy goes out on another connection.
        self.connections
            .unwrap_or(1 + usize::from(self.hedge.is_some()))
    }

    /// What the flags say of the client.
    fn shape(&self, reach: &mut Reach) {
        let config = &mut reach.config;
        config.connections = self.connections();
        // All callers at once, where the server allows it.
        let callers = self.callers.unwrap_or_default();
        let callers = callers.div_ceil(config.connections);
        config.max_in_flight = config.max_in_flight.max(callers);
        if let Some(after) = self.hedge {
            config.call.hedge = Hedge::After(after);
        }
    }

    fn setup(&self, reach: &Reach, method: &str, seed: u64) -> Setup {
        let ramps: Vec<_> = self.ramp.iter().map(Ramp::to_string).collect();
        let ramps = Some(ramps.join(", ")).filter(|ramps| !ramps.is_empty());
        let rate = self.rate.map(|rate| rate.to_string()).or(ramps);
        let is_open = rate.is_some();
        Setup {
            address: spelled(&reach.doors.addresses),
            method: method.to_owned(),
            mode: if is_open { "open" } else { "closed" },
            callers: (!is_open).then(|| self.callers.unwrap_or(DEFAULT_CALLERS)),
            rate,
            connections: self.connections(),
            seed,
        }
    }
}

fn spelled(addresses: &Addresses) -> String {
    let addresses: Vec<_> = addresses.iter().map(|one| one.as_str()).collect();
    addresses.join(",")
}

/// One of the independent streams of random numbers of a seed.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

fn pointer(text: &str) -> Result<String, String> {
    let is_pointer = text.starts_with('/');
    let expected = || "expected a JSON pointer, such as /value or /counts/0".to_owned();
    is_pointer.then(|| text.to_owned()).ok_or_else(expected)
}

fn effect(text: &str) -> Result<i64, String> {
    let expected = |_| "expected a whole number other than 0".to_owned();
    let effect = whole::<i64>(EFFECTS)(text).map_err(expected)?;
    Some(effect)
        .filter(|effect| *effect != 0)
        .ok_or_else(|| expected(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_any_number_but_0() {
        assert_eq!((effect("-3"), effect("7")), (Ok(-3), Ok(7)));
        for wrong in ["0", "1.5", "x", ""] {
            assert_eq!(
                effect(wrong).unwrap_err(),
                "expected a whole number other than 0"
            );
        }
    }

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        use rand_chacha::rand_core::Rng;
        let [first, second, again] = [(1, 0), (1, 1), (1, 0)].map(|(seed, stream)| {
            let mut rng = random(seed, stream);
            rng.next_u64()
        });
        assert!(first == again && first != second);
    }
}
