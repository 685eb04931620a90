//! Admission: how many calls run at once, how many wait for a place, and when to try again.
//!
//! Pure bookkeeping: what a job is, and how it is run, is the caller's business. The common case,
//! a free place and nobody waiting, is two atomic steps without a lock.

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

/// A place that was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Run now, and [`leave`](Admission::leave) in the end.
    Run,
    /// A place in the queue is kept: [`enqueue`](Admission::enqueue) the job, or
    /// [`give_up_place`](Admission::give_up_place).
    Queue,
}

/// No place: running ones and queue are full.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) retry_after: Duration,
}

#[derive(Debug)]
pub(crate) struct Admission<J> {
    max_running: usize,
    max_queued: usize,
    running: AtomicUsize,
    /// Places in the queue that are taken or kept.
    queued: AtomicUsize,
    queue: Mutex<VecDeque<J>>,
    /// A moving average of how long a waiting execution held its place.
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

    /// Asks for a place. Nobody overtakes those who wait.
    pub(crate) fn enter(&self) -> Result<Ticket, Refused> {
        if self.queued.load(SeqCst) == 0 && self.try_run() {
            return Ok(Ticket::Run);
        }
        match self
            .queued
            .try_update(SeqCst, SeqCst, |n| (n < self.max_queued).then_some(n + 1))
        {
            Ok(_) => Ok(Ticket::Queue),
            Err(_) => Err(Refused {
                retry_after: self.retry_after(),
            }),
        }
    }

    /// Puts the job in the place that was kept for it, and hands out whatever may run now: a
    /// place may have become free since the ticket was given.
    pub(crate) fn enqueue(&self, job: J) -> Vec<J> {
        self.lock().push_back(job);
        self.runnable()
    }

    /// Gives a kept place in the queue back.
    pub(crate) fn give_up_place(&self) {
        self.queued.fetch_sub(1, SeqCst);
    }

    /// Gives a running place back, and hands out whatever may run now.
    pub(crate) fn leave(&self) -> Vec<J> {
        self.running.fetch_sub(1, SeqCst);
        // `enqueue` counts its place before it looks for a free one, and this frees one before it
        // looks at the count, so at least one of the two sees the other.
        if self.queued.load(SeqCst) == 0 {
            Vec::new()
        } else {
            self.runnable()
        }
    }

    /// Takes all jobs out of the queue, for a server that is about to stop.
    pub(crate) fn drain(&self) -> Vec<J> {
        let jobs: Vec<J> = self.lock().drain(..).collect();
        self.queued.fetch_sub(jobs.len(), SeqCst);
        jobs
    }

    /// Takes note of how long an execution held its place.
    pub(crate) fn observe(&self, service: Duration) {
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

    fn runnable(&self) -> Vec<J> {
        let mut jobs = Vec::new();
        let mut queue = self.lock();
        while !queue.is_empty() && self.try_run() {
            jobs.extend(queue.pop_front());
            self.queued.fetch_sub(1, SeqCst);
        }
        jobs
    }

    /// How long the queue as it stands will take: it grows with the queue (Little's law).
    fn retry_after(&self) -> Duration {
        let rounds = self.queued().div_ceil(self.max_running.max(1)).max(1);
        let mean = Duration::from_micros(self.mean_service_us.load(SeqCst));
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

    #[test]
    fn places_are_given_until_both_limits_are_reached() {
        let admission = Admission::<u32>::new(2, 1);
        assert_eq!(admission.enter(), Ok(Ticket::Run));
        assert_eq!(admission.enter(), Ok(Ticket::Run));
        assert_eq!(admission.enter(), Ok(Ticket::Queue));
        assert!(admission.enter().is_err());
        assert_eq!(admission.enqueue(7), Vec::<u32>::new());
        assert_eq!(admission.leave(), [7]);
        assert_eq!((admission.running(), admission.queued()), (2, 0));
        assert_eq!(admission.leave(), Vec::<u32>::new());
        assert_eq!(admission.leave(), Vec::<u32>::new());
        assert_eq!((admission.running(), admission.queued()), (0, 0));
    }

    #[test]
    fn a_place_that_became_free_before_the_job_was_queued_is_not_lost() {
        let admission = Admission::<u32>::new(1, 1);
        assert_eq!(admission.enter(), Ok(Ticket::Run));
        assert_eq!(admission.enter(), Ok(Ticket::Queue));
        assert_eq!(admission.leave(), Vec::<u32>::new());
        assert_eq!(admission.enqueue(7), [7]);
        assert_eq!((admission.running(), admission.queued()), (1, 0));
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let admission = Admission::<u32>::new(1, 2);
        assert_eq!(admission.enter(), Ok(Ticket::Run));
        assert_eq!(admission.enter(), Ok(Ticket::Queue));
        assert_eq!(admission.leave(), Vec::<u32>::new());
        assert_eq!(admission.enter(), Ok(Ticket::Queue));
        assert_eq!(admission.enqueue(1), [1]);
        assert_eq!(admission.enqueue(2), Vec::<u32>::new());
        assert_eq!(admission.leave(), [2]);
    }

    #[test]
    fn a_place_can_be_given_up_and_the_queue_be_emptied() {
        let admission = Admission::<u32>::new(1, 2);
        assert_eq!(admission.enter(), Ok(Ticket::Run));
        assert_eq!(admission.enter(), Ok(Ticket::Queue));
        assert_eq!(admission.enter(), Ok(Ticket::Queue));
        admission.give_up_place();
        assert_eq!(admission.enqueue(3), Vec::<u32>::new());
        assert_eq!(admission.drain(), [3]);
        assert_eq!((admission.running(), admission.queued()), (1, 0));
    }

    #[test]
    fn the_longer_the_queue_the_later_the_retry() {
        let waits = [4, 40].map(|max_queued| {
            let admission = Admission::<u32>::new(2, max_queued);
            admission.observe(Duration::from_millis(50));
            while admission.enter().is_ok() {}
            admission.enter().unwrap_err().retry_after
        });
        assert_eq!(waits, [Duration::from_millis(100), Duration::from_secs(1)]);
    }
}
