//! What everything in a storm shares.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Instant,
};

use super::{
    Conditions,
    call_ledger::CallLedger,
    control::Remote,
    figures::Figure,
    fleet::Fleet,
    record::{Mark, StormRecord},
    recorder::Recorder,
    series::Series,
};
use crate::{
    clock,
    rng::{Rng, Stream},
};

/// What everything in a storm shares.
pub(crate) struct Ground {
    pub(crate) conditions: Conditions,
    pub(crate) start: Instant,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) ledger: Arc<CallLedger>,
    pub(crate) hosting: Hosting,
    marks: Mutex<Vec<Mark>>,
}

/// Where the servers of a storm are.
pub(crate) enum Hosting {
    /// In this process, in virtual time.
    Virtual,
    /// In this process, in real time, with the clients in another one.
    Serving,
    /// In another process, in real time.
    Calling(Remote),
}

/// Ends when everything that holds the other end has ended.
pub(crate) struct Ends(Receiver<()>);

/// Held by what is to be waited for.
pub(crate) type Hold = Sender<()>;

impl Ground {
    pub(crate) fn new(conditions: Conditions, hosting: Hosting) -> Arc<Self> {
        let start = clock::now();
        Arc::new(Self {
            conditions,
            start,
            recorder: Arc::new(Recorder::new(start)),
            ledger: Arc::default(),
            hosting,
            marks: Mutex::default(),
        })
    }

    pub(crate) fn fleet(&self) -> Fleet {
        self.conditions.fleet
    }

    /// One of the storm's streams of random numbers.
    pub(crate) fn rng(&self, number: u32) -> Rng {
        Rng::new(self.conditions.seed, Stream::Storm(number))
    }

    /// How many clients there are, where more than `most` would show nothing new.
    pub(crate) fn clients(&self, most: u32) -> u32 {
        self.conditions.clients.min(most)
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::now() - self.start
    }

    /// What happens meanwhile, for the picture.
    pub(crate) fn mark(&self, from: Duration, until: Duration, text: &str) {
        self.marks().push(Mark {
            from_s: from.as_secs_f64(),
            until_s: until.as_secs_f64(),
            text: text.to_owned(),
        });
    }

    /// Whether a second takes a second.
    pub(crate) fn is_real(&self) -> bool {
        !matches!(self.hosting, Hosting::Virtual)
    }

    /// The one, or the other where time is real and short.
    pub(crate) fn or_real<T>(&self, simulated: T, real: T) -> T {
        if self.is_real() { real } else { simulated }
    }

    /// What is left of it.
    pub(crate) fn record(&self, figures: Vec<Figure>) -> StormRecord {
        let Conditions {
            storm, fleet, seed, ..
        } = self.conditions;
        StormRecord {
            letter: storm.letter(),
            title: storm.title(),
            fleet,
            seed,
            lasted_s: self.elapsed().as_secs_f64(),
            marks: self.marks().clone(),
            figures,
            count: self.ledger.count(),
            violations: self.ledger.violations(fleet == Fleet::Redial),
            series: Series::of(&self.recorder),
        }
    }

    fn marks(&self) -> MutexGuard<'_, Vec<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    pub(crate) fn new() -> (Hold, Self) {
        let (hold, ends) = channel(1);
        (hold, Self(ends))
    }

    pub(crate) async fn wait(mut self) {
        while self.0.recv().await.is_some() {}
    }
}
