//! Admission: how many calls run at once, how many are queued, and when to try again.
//!
//! Pure bookkeeping: what a job is, and how it is run, is the caller's business. The common case,
//! a free run permit and an empty queue, is two atomic steps without a lock.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// The shortest time a refused caller is asked to stay away.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(10);

/// The longest, since a queue that takes longer says more about the past than about the future.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a call is assumed to take before any has ended.
const ASSUMED_SERVICE: Duration = Duration::from_millis(50);

/// How a call was admitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Run now, and [`release`](Admission::release_run_permit) the permit in the end.
    Run,
    /// A slot in the queue is reserved: [`enqueue`](Admission::enqueue) the job, or
    /// [release](Admission::release_queue_slot) the slot.
    Queue,
}

/// All run permits and all slots of the queue are taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    pub(crate) retry_after: Duration,
}

#[derive(Debug)]
pub(crate) struct Admission<J> {
    max_running: usize,
    max_queued: usize,
    running: AtomicUsize,
    /// Slots in the queue that are taken or reserved.
    queued: AtomicUsize,
    queue: Mutex<VecDeque<J>>,
    /// A moving average of how long executions on tasks held their run permits; 0 before the first.
    mean_service_us: AtomicU64,
}

impl<J> Admission<J> {
    pub(crate) fn new(max_running: usize, max_queued: usize) -> Self {
        Self {
            max_running,
            max_queued,
            running: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queue: Mutex::new(VecDeque::new()),
            mean_service_us: AtomicU64::new(0),
        }
    }

    /// Takes a run permit, or reserves a slot in the queue. No call overtakes the queue.
    pub(crate) fn admit(&self) -> Result<Ticket, QueueFull> {
        if self.queued.load(SeqCst) == 0 && self.try_run() {
            return Ok(Ticket::Run);
        }
        match self
            .queued
            .try_update(SeqCst, SeqCst, |n| (n < self.max_queued).then_some(n + 1))
        {
            Ok(_) => Ok(Ticket::Queue),
            Err(_) => Err(QueueFull {
                retry_after: self.retry_after(),
            }),
        }
    }

    /// Puts the job into the slot that was reserved for it. Ask for the [`next_runnable`]
    /// afterwards: a run permit may have become free since.
    ///
    /// [`next_runnable`]: Self::next_runnable
    pub(crate) fn enqueue(&self, job: J) {
        self.lock().push_back(job);
    }

    /// Releases a reserved slot in the queue.
    pub(crate) fn release_queue_slot(&self) {
        self.queued.fetch_sub(1, SeqCst);
    }

    /// Releases a run permit. Ask for the [`next_runnable`](Self::next_runnable) afterwards.
    pub(crate) fn release_run_permit(&self) {
        self.running.fetch_sub(1, SeqCst);
    }

    /// A queued job that may run now, with its run permit.
    pub(crate) fn next_runnable(&self) -> Option<J> {
        // A slot in the queue is counted before its job looks for a free run permit, and a permit is
        // freed before this looks at the count, so at least one of the two sees the other.
        if self.queued.load(SeqCst) == 0 {
            return None;
        }
        let mut queue = self.lock();
        if queue.is_empty() || !self.try_run() {
            return None;
        }
        self.queued.fetch_sub(1, SeqCst);
        queue.pop_front()
    }

    /// Takes a job out of the queue.
    pub(crate) fn remove(&self, is_it: impl Fn(&J) -> bool) -> Option<J> {
        let mut queue = self.lock();
        let at = queue.iter().position(is_it)?;
        self.queued.fetch_sub(1, SeqCst);
        queue.remove(at)
    }

    /// Takes all jobs out of the queue, for a server that is about to stop.
    pub(crate) fn drain(&self) -> Vec<J> {
        let jobs: Vec<J> = self.lock().drain(..).collect();
        self.queued.fetch_sub(jobs.len(), SeqCst);
        jobs
    }

    /// Takes note of how long an execution held its run permit.
    pub(crate) fn record_service(&self, service: Duration) {
        let sample = u64::try_from(service.as_micros()).unwrap_or(u64::MAX);
        let mean = self.mean_service_us.load(SeqCst);
        let next = if mean == 0 {
            sample
        } else {
            mean - mean / 8 + sample / 8
        };
        self.mean_service_us.store(next, SeqCst);
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    fn try_run(&self) -> bool {
        self.running
            .try_update(SeqCst, SeqCst, |n| (n < self.max_running).then_some(n + 1))
            .is_ok()
    }

    /// How long the queue as it stands will take: it grows with the queue (Little's law).
    fn retry_after(&self) -> Duration {
        let rounds = self.queued().div_ceil(self.max_running.max(1)).max(1);
        let mean = match self.mean_service_us.load(SeqCst) {
            0 => ASSUMED_SERVICE,
            mean_us => Duration::from_micros(mean_us),
        };
        let wait = mean.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        wait.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that may run now.
    fn runnable(admission: &Admission<u32>) -> Vec<u32> {
        std::iter::from_fn(|| admission.next_runnable()).collect()
    }

    fn enqueue(admission: &Admission<u32>, job: u32) -> Vec<u32> {
        admission.enqueue(job);
        runnable(admission)
    }

    fn release(admission: &Admission<u32>) -> Vec<u32> {
        admission.release_run_permit();
        runnable(admission)
    }

    #[test]
    fn calls_are_admitted_until_both_limits_are_reached() {
        let admission = Admission::<u32>::new(2, 1);
        assert_eq!(admission.admit(), Ok(Ticket::Run));
        assert_eq!(admission.admit(), Ok(Ticket::Run));
        assert_eq!(admission.admit(), Ok(Ticket::Queue));
        assert!(admission.admit().is_err());
        assert_eq!(enqueue(&admission, 7), Vec::<u32>::new());
        assert_eq!(release(&admission), [7]);
        assert_eq!((admission.running(), admission.queued()), (2, 0));
        assert_eq!(release(&admission), Vec::<u32>::new());
        assert_eq!(release(&admission), Vec::<u32>::new());
        assert_eq!((admission.running(), admission.queued()), (0, 0));
    }

    #[test]
    fn a_permit_that_became_free_before_the_job_was_queued_is_not_lost() {
        let admission = Admission::<u32>::new(1, 1);
        assert_eq!(admission.admit(), Ok(Ticket::Run));
        assert_eq!(admission.admit(), Ok(Ticket::Queue));
        assert_eq!(release(&admission), Vec::<u32>::new());
        assert_eq!(enqueue(&admission, 7), [7]);
        assert_eq!((admission.running(), admission.queued()), (1, 0));
    }

    #[test]
    fn no_call_overtakes_the_queue() {
        let admission = Admission::<u32>::new(1, 2);
        assert_eq!(admission.admit(), Ok(Ticket::Run));
        assert_eq!(admission.admit(), Ok(Ticket::Queue));
        assert_eq!(release(&admission), Vec::<u32>::new());
        assert_eq!(admission.admit(), Ok(Ticket::Queue));
        assert_eq!(enqueue(&admission, 1), [1]);
        assert_eq!(enqueue(&admission, 2), Vec::<u32>::new());
        assert_eq!(release(&admission), [2]);
    }

    #[test]
    fn a_slot_can_be_released_and_the_queue_be_emptied() {
        let admission = Admission::<u32>::new(1, 2);
        assert_eq!(admission.admit(), Ok(Ticket::Run));
        assert_eq!(admission.admit(), Ok(Ticket::Queue));
        assert_eq!(admission.admit(), Ok(Ticket::Queue));
        admission.release_queue_slot();
        assert_eq!(enqueue(&admission, 3), Vec::<u32>::new());
        assert_eq!(admission.drain(), [3]);
        assert_eq!((admission.running(), admission.queued()), (1, 0));
    }

    #[test]
    fn the_longer_the_queue_the_later_the_retry() {
        let waits = [4, 40].map(|max_queued| {
            let admission = Admission::<u32>::new(2, max_queued);
            while admission.admit().is_ok() {}
            admission.admit().unwrap_err().retry_after
        });
        assert_eq!(waits, [Duration::from_millis(100), Duration::from_secs(1)]);
    }

    #[derive(Clone, Copy, Debug)]
    enum AdmissionStep {
        Admit,
        ReleasePermit,
        ReleaseSlot,
        Remove(usize),
        Drain,
    }

    fn event() -> impl Strategy<Value = AdmissionStep> {
        prop_oneof![
            4 => Just(AdmissionStep::Admit),
            3 => Just(AdmissionStep::ReleasePermit),
            1 => Just(AdmissionStep::ReleaseSlot),
            1 => (0usize..8).prop_map(AdmissionStep::Remove),
            1 => Just(AdmissionStep::Drain),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Against a number and a list: no limit is ever exceeded, no job is overtaken, no job stays
        /// queued while a permit is free, and nothing is counted that isn't there.
        #[test]
        fn it_behaves_like_a_number_and_a_list(
            (max_running, max_queued) in (1usize..4, 0usize..4),
            events in prop::collection::vec(event(), 0..60),
        ) {
            let admission = Admission::<u32>::new(max_running, max_queued);
            let (mut running, mut waiting) = (0, VecDeque::new());
            for (job, event) in (0..).zip(events) {
                match event {
                    AdmissionStep::Admit => match admission.admit() {
                        Ok(Ticket::Run) => {
                            prop_assert!(running < max_running && waiting.is_empty());
                            running += 1;
                        }
                        Ok(Ticket::Queue) => {
                            prop_assert!(running == max_running && waiting.len() < max_queued);
                            waiting.push_back(job);
                            prop_assert_eq!(enqueue(&admission, job), Vec::<u32>::new());
                        }
                        Err(QueueFull { retry_after }) => {
                            prop_assert_eq!((running, waiting.len()), (max_running, max_queued));
                            prop_assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&retry_after));
                        }
                    },
                    AdmissionStep::ReleasePermit if running > 0 => {
                        let next = waiting.pop_front();
                        running -= usize::from(next.is_none());
                        prop_assert_eq!(release(&admission), Vec::from_iter(next));
                    }
                    AdmissionStep::ReleaseSlot if running == max_running && waiting.len() < max_queued => {
                        prop_assert_eq!(admission.admit(), Ok(Ticket::Queue));
                        admission.release_queue_slot();
                    }
                    AdmissionStep::Remove(at) => {
                        let job = waiting.get(at).copied().unwrap_or(u32::MAX);
                        let expected = waiting.remove(at);
                        prop_assert_eq!(admission.remove(|other| *other == job), expected);
                    }
                    AdmissionStep::Drain => {
                        prop_assert_eq!(std::mem::take(&mut waiting), admission.drain());
                    }
                    AdmissionStep::ReleasePermit | AdmissionStep::ReleaseSlot => {}
                }
                prop_assert_eq!(admission.running(), running);
                prop_assert_eq!(admission.queued(), waiting.len());
            }
        }
    }
}
