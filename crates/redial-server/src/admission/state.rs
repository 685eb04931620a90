//! What runs and what is queued, and what may run beside it.

use std::time::{Duration, Instant};

use redial_protocol::Priority;

use super::{
    AdmissionLimits,
    codel::{Bounds, Codel},
    limit::RunningLimit,
    peers::{Lane, MethodSet, Peers},
    queue::Turns,
    service::{Epochs, ServiceTime, Throughput},
};
use crate::share::Share;

/// The shortest time a refused caller is asked to stay away.
pub(super) const MIN_RETRY_AFTER: Duration = Duration::from_millis(10);

/// The longest, since a queue that takes longer says more about the past than about the future.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a call is assumed to take before any has ended.
const ASSUMED_SERVICE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct State<J> {
    pub(super) limits: AdmissionLimits,
    pub(super) running: usize,
    /// Run permits by method.
    running_of: Box<[usize]>,
    /// How many of those a method may have.
    max_running_of: Box<[usize]>,
    /// How many all methods may have together.
    pub(super) limit: RunningLimit,
    /// Slots in the queue that are taken or reserved.
    pub(super) queued: usize,
    pub(super) peers: Peers<J>,
    pub(super) turns: Turns,
    /// Whether there is overload, over all peers. Each has its own beside this.
    pub(super) codel: Codel,
    /// How long executions on tasks have held their run permits.
    service: ServiceTime,
    epochs: Epochs,
    throughput: Throughput,
    /// The same over many more of them: what a [turn](super::queue) is worth must not depend on whose calls
    /// have just ended.
    mean_turn: Option<Duration>,
}

impl<J> State<J> {
    pub(super) fn new(limits: AdmissionLimits, max_running_of: Box<[usize]>) -> Self {
        let (methods, overload) = (max_running_of.len(), &limits.overload);
        Self {
            running: 0,
            running_of: vec![0; methods].into(),
            max_running_of,
            limit: RunningLimit::new(limits.max_running, overload.min_running, overload.adaptive),
            queued: 0,
            peers: Peers::new(methods),
            turns: Turns::default(),
            codel: Codel::default(),
            service: ServiceTime::default(),
            epochs: Epochs::default(),
            throughput: Throughput::default(),
            mean_turn: None,
            limits,
        }
    }

    /// Whether there is a run permit for a call of the lane.
    pub(super) fn may_run(&self, lane: Lane) -> bool {
        let free = self.limit.current().saturating_sub(self.running);
        self.method_may_run(lane.method, free) && self.peer_may_run(lane, free)
    }

    /// The methods with jobs in the queue for which there are run permits.
    pub(super) fn runnable_methods(&self) -> MethodSet {
        let free = self.limit.current().saturating_sub(self.running);
        let mut methods = MethodSet::default();
        for method in 0..self.peers.methods() {
            if self.peers.are_jobs_of(method) && self.method_may_run(method, free) {
                methods.insert(method);
            }
        }
        methods
    }

    fn method_may_run(&self, method: usize, free: usize) -> bool {
        let running = self.running_of[method];
        running < self.max_running_of[method] && self.share().larger().allows(running, free)
    }

    fn peer_may_run(&self, lane: Lane, free: usize) -> bool {
        let share = self.share();
        let of_peer = self.peers.running(lane.peer);
        let of_lane = self.peers.lane(lane).running;
        share.allows(of_lane, free) && share.larger().allows(of_peer, free)
    }

    /// What a lane may have of the run permits; all lanes of one peer, and all of one method, may
    /// have the [larger](Share::larger) share.
    pub(super) fn share(&self) -> Share {
        Share::all_but_percent(self.limits.reserve_percent)
    }

    /// A call of the lane has to be queued. However it leaves the queue, more would run if more might, unless
    /// it is its method that has all that it may.
    pub(super) fn note_queued(&mut self, lane: Lane) {
        if self.running_of[lane.method] < self.max_running_of[lane.method] {
            self.limit.note_queued();
        }
    }

    /// Takes a run permit.
    pub(super) fn run(&mut self, lane: Lane) {
        self.running += 1;
        self.running_of[lane.method] += 1;
        self.peers.start(lane);
    }

    /// Releases a run permit.
    pub(super) fn stop(&mut self, lane: Lane) {
        self.running -= 1;
        self.running_of[lane.method] -= 1;
        self.peers.stop(lane);
    }

    /// Takes note of how long an execution has held its run permit.
    pub(super) fn record_service(&mut self, lane: Lane, service: Duration, now: Instant) {
        let epoch = self.epochs.at(now);
        self.service.record(service, epoch);
        self.throughput.record(now);
        self.peers.record_service(lane, service, epoch);
        self.mean_turn = Some(match self.mean_turn {
            None => service,
            Some(mean) => mean - mean / 128 + service / 128,
        });
        let interval = self.bounds().interval;
        self.limit.finished(interval, service, self.running, now);
    }

    pub(super) fn mean_service(&self) -> Duration {
        self.service.mean().unwrap_or(ASSUMED_SERVICE)
    }

    /// What a turn is worth, in microseconds: what a call takes on average.
    pub(super) fn quantum_us(&self) -> i64 {
        let mean = self.mean_turn.unwrap_or(ASSUMED_SERVICE).as_micros();
        i64::try_from(mean).unwrap_or(i64::MAX).max(1)
    }

    /// By what the queue is judged, over all lanes.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds_for(self.service.usual().unwrap_or(ASSUMED_SERVICE))
    }

    /// The same for one lane: another method's calls may take another time.
    pub(super) fn bounds_of(&self, lane: Lane) -> Bounds {
        match self.peers.lane(lane).service.usual() {
            Some(usual) => self.bounds_for(usual),
            None => self.bounds(),
        }
    }

    fn bounds_for(&self, service: Duration) -> Bounds {
        let overload = &self.limits.overload;
        let bounds = Bounds {
            target: overload.target,
            interval: overload.interval,
        };
        bounds.for_service(service)
    }

    /// A job comes into the queue. Where it is the first for long, of a peer or of all, what was seen before says
    /// nothing.
    pub(super) fn forget_what_is_over(&mut self, lane: Lane, now: Instant) {
        if self.peers.has_jobs(lane.peer) {
            return;
        }
        let bounds = self.bounds_of(lane);
        self.peers
            .turn(lane.peer)
            .codel
            .forget_if_stale(bounds, now);
        if self.peers.are_without_jobs() {
            self.codel.forget_if_stale(bounds, now);
        }
    }

    /// Whether there is overload now, though nothing may have been taken out of the queue for long.
    pub(super) fn is_overloaded_at(&self, now: Instant) -> bool {
        let is_over = self.peers.are_without_jobs() && self.codel.is_stale(self.bounds(), now);
        self.codel.is_overloaded() && !is_over
    }

    /// Whether the calls of a peer are queued too long.
    pub(super) fn is_overloaded(&mut self, lane: Lane) -> bool {
        self.codel.is_overloaded() || self.peers.turn(lane.peer).codel.is_overloaded()
    }

    /// By what a job of the lane is refused. That all calls together are queued too long is held less against a peer
    /// that has little in the queue: it is not what makes it long, and its turn comes soon.
    pub(super) fn patience_of(&mut self, lane: Lane) -> Bounds {
        let bounds = self.bounds_of(lane);
        let is_its_own = self.peers.turn(lane.peer).codel.is_overloaded();
        if is_its_own || !self.peers.has_little(lane.peer, self.queued) {
            return bounds;
        }
        let target = bounds.target.saturating_add(bounds.target / 2);
        Bounds { target, ..bounds }
    }

    /// Takes a job out of the queue for a call that comes in a full one, if there is one that has to give
    /// way: the newest, or the oldest while that is not what is run next.
    pub(super) fn displace_for(&mut self, lane: Lane, priority: Priority) -> Option<J> {
        let (giver, lowest) = self.peers.giver_for(lane, priority)?;
        let place = if self.is_overloaded(giver) {
            self.peers.oldest(giver, lowest)?
        } else {
            self.peers.newest(giver, lowest)?
        };
        self.queued -= 1;
        self.peers.remove(place)
    }

    /// How long the queue as it stands will take: by how long calls take (Little's law), or by how many finish if that is
    /// less. The first says too much where the limit has just fallen, since calls took that long when more of them ran;
    /// the second where few were made. While there is overload no less than what it takes to see an end of that.
    pub(super) fn retry_after(&self) -> Duration {
        let rounds = self.queued.div_ceil(self.limit.current().max(1)).max(1);
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        let wait = self.mean_service().saturating_mul(rounds);
        // What runs takes its time, too, where nothing may be queued.
        let ahead = self.queued.max(self.running);
        let wait = wait.min(self.throughput.time_for(ahead));
        let least = if self.codel.is_overloaded() {
            self.bounds().interval
        } else {
            MIN_RETRY_AFTER
        };
        wait.max(least).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER)
    }
}
