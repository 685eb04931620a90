//! One run from its connection to its report.

use std::{
    future::Future,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use redial_client::{Call, Client};
use serde::de::IgnoredAny;

use super::{
    collect::{Collected, Collector},
    drive::{Driver, Moment, Pacing, RunEnd, Start},
    live::{Goal, View},
    page,
    params::Params,
    schedule::Schedule,
    summary::{LoadSummary, Setup},
    table,
    tally::{CallEnd, Tally},
    timer::Timer,
    verify::Counter,
};
use crate::{
    connect::Reach,
    failure::{Exit, Failure},
    output, runtime,
    signals::Signals,
};

/// Everything that the flags have said.
pub(crate) struct Run {
    pub(crate) setup: Setup,
    pub(crate) goal: Goal,
    pub(crate) pacing: Pacing,
    pub(crate) params: Params,
    pub(crate) is_query: bool,
    /// What each call says beside the params.
    pub(crate) meta: Vec<(String, String)>,
    pub(crate) counter: Option<Counter>,
    pub(crate) reports: Reports,
}

/// In what form a run is reported.
pub(crate) struct Reports {
    pub(crate) html: Option<PathBuf>,
    pub(crate) is_json: bool,
}

impl Run {
    /// Connects, makes the calls, and says how they went.
    pub(crate) async fn run(self, reach: &Reach) -> Result<ExitCode, Failure> {
        let client = reach.connect().await?;
        let counter = self.counter.as_ref();
        let before = count(counter, &client).await;
        let before = before.map_err(|error| {
            Failure::new(
                Exit::NotExecuted,
                anyhow::anyhow!("{error:#}; no call was made"),
            )
        })?;
        let signals = runtime::signals()?;
        let calls = Calls {
            client: client.clone(),
            // Once for the whole run: then a call need not allocate it.
            method: self.setup.method.clone().leak(),
            params: self.params,
            is_query: self.is_query,
            meta: self.meta,
        };
        let schedule = self.goal.schedule.clone();
        // A task of its own: to wake what the runtime itself waits for costs a system call.
        let made = tokio::spawn(calls.make(self.pacing, self.goal, stop(signals))).await;
        let made = made.map_err(anyhow::Error::new).flatten();
        let (end, collected) = made.map_err(|error| Failure::new(Exit::Unknown, error))?;
        let after = count(counter, &client).await;
        let read = after.as_ref().ok().copied().flatten();
        let effects = counter.zip(before).zip(read);
        let counts = &collected.total.counts;
        let effects =
            effects.map(|((counter, before), after)| counter.judge(before, after, counts));
        let connects = client.stats().connects;
        let summary = LoadSummary::new(self.setup, &collected, &end, connects, effects);
        self.reports
            .write(&summary, &collected, schedule.as_ref())?;
        client.close().await;
        match after {
            Err(error) => Err(Failure::new(Exit::Unknown, error)),
            Ok(_) => Ok(summary.exit().into()),
        }
    }
}

/// How many effects there have been, if that is to be known.
async fn count(counter: Option<&Counter>, client: &Client) -> Result<Option<i64>> {
    match counter {
        Some(counter) => counter.read(client).await.map(Some),
        None => Ok(None),
    }
}

impl Reports {
    fn write(
        &self,
        summary: &LoadSummary,
        collected: &Collected,
        schedule: Option<&Schedule>,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::Failed, error);
        if self.is_json {
            let text = serde_json::to_string(summary);
            output::print(&text.map_err(|error| failed(error.into()))?)?;
        } else {
            output::show(&table::text(summary))?;
        }
        match &self.html {
            Some(html) => page::write(html, summary, collected, schedule).map_err(failed),
            None => Ok(()),
        }
    }
}

/// What makes the calls.
struct Calls {
    client: Client,
    method: &'static str,
    params: Params,
    is_query: bool,
    meta: Vec<(String, String)>,
}

impl Calls {
    /// Makes all calls, and shows meanwhile how they go.
    async fn make(
        mut self,
        pacing: Pacing,
        goal: Goal,
        stop: Arc<AtomicBool>,
    ) -> Result<(RunEnd, Collected)> {
        let length = goal.length;
        let mut view = View::new(goal);
        let bar = view.bar();
        let show = move |collected: &_, slice: &_, moment| view.show(collected, slice, moment);
        let mut collector = Collector::start(show)?;
        let call = |start| self.call(start);
        let on_slice = |slice: &mut Tally, moment: Moment| collector.take(slice, moment);
        let driver = Driver::new((pacing, length), Timer::new(), stop, call, on_slice);
        let end = driver.run().await;
        let collected = collector.finish(&end.rest, end.elapsed);
        bar.finish_and_clear();
        Ok((end, collected?))
    }

    fn call(&mut self, start: Start) -> impl Future<Output = (Start, CallEnd)> + use<> {
        let params = self.params.next(start.number);
        let call = if self.is_query {
            self.client.query(self.method, params)
        } else {
            self.client.request(self.method, params)
        };
        let say = |call: Call<_>, (key, value): &(String, String)| call.meta(key, value);
        let call = self.meta.iter().fold(call, say).returning::<IgnoredAny>();
        async move { (start, CallEnd::of(call.with_report().await)) }
    }
}

/// Set by the first signal; the second one ends the program, whatever is in flight.
fn stop(mut signals: Signals) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        signals.stop_requested().await;
        asked.store(true, Ordering::Relaxed);
        signals.stop_requested().await;
        std::process::exit(Exit::Unknown as i32);
    });
    stop
}
