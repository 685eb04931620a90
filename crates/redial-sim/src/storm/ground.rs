//! What everything in a storm shares.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
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
    /// Whether a server had calls left when the oracle judged.
    is_unsettled: AtomicBool,
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
            is_unsettled: AtomicBool::default(),
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

    /// A server still has calls, whose effects the oracle won't see.
    pub(crate) fn note_unsettled(&self) {
        self.is_unsettled.store(true, Relaxed);
    }

    /// What the oracle found wrong. That all of it has come to an end is Redial's to hold; a naive queue may be longer
    /// than anyone waits for.
    fn violations(&self) -> Vec<String> {
        let is_redial = self.fleet() == Fleet::Redial;
        let mut violations = self.ledger.violations(is_redial);
        if is_redial && self.is_unsettled.load(Relaxed) {
            violations.push("a server still had calls when their effects were counted".to_owned());
        }
        violations
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
            violations: self.violations(),
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

#[cfg(test)]
mod tests {
    use super::{super::Storm, *};

    /// Kind of fault: an oracle that judges before all has happened. Instance: a server that has calls left.
    #[tokio::test(start_paused = true)]
    async fn effects_that_were_counted_too_early_are_no_pass() {
        for (fleet, violations) in [(Fleet::Redial, 1), (Fleet::Naive, 0)] {
            let conditions = Conditions {
                storm: Storm::Steps,
                fleet,
                seed: 1,
                clients: 20,
            };
            let ground = Ground::new(conditions, Hosting::Virtual);
            assert_eq!(ground.record(Vec::new()).violations, [""; 0]);
            ground.note_unsettled();
            assert_eq!(ground.record(Vec::new()).violations.len(), violations);
        }
    }
}
