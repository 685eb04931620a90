//! What runs, what is queued, and whose turn it is.

use std::{collections::VecDeque, net::Ipv4Addr};

use proptest::prelude::*;

use super::*;

const METHODS: usize = 3;

/// What an admission lets in, with nothing reserved for others.
fn admission(max_running: usize, max_queued: usize) -> Admission<u32> {
    with_reserve(max_running, max_queued, 0)
}

fn with_reserve(max_running: usize, max_queued: usize, reserve_percent: u32) -> Admission<u32> {
    let limits = AdmissionLimits {
        max_running,
        max_queued,
        reserve_percent,
    };
    Admission::new(limits, [usize::MAX; METHODS].into())
}

fn peer(number: u8) -> Peer {
    Peer::V4(Ipv4Addr::new(192, 0, 2, number))
}

/// The calls of a method that a peer sends; the peer stays.
fn lane(admission: &Admission<u32>, number: u8, method: usize) -> Lane {
    let peer = admission.enter(&peer(number));
    Lane { peer, method }
}

fn admit(admission: &Admission<u32>, lane: Lane) -> Result<Ticket, QueueFull> {
    let (ticket, displaced) = admission.admit(lane)?;
    assert_eq!(displaced, None);
    Ok(ticket)
}

/// All that may run now.
fn runnable(admission: &Admission<u32>) -> Vec<u32> {
    std::iter::from_fn(|| admission.next_runnable()).collect()
}

fn enqueue(admission: &Admission<u32>, lane: Lane, job: u32) -> Vec<u32> {
    admission.enqueue(lane, job);
    runnable(admission)
}

fn release(admission: &Admission<u32>, lane: Lane) -> Vec<u32> {
    admission.release_run_permit(lane);
    runnable(admission)
}

/// Queues jobs of a lane; those that are displaced come back.
fn queue_all(admission: &Admission<u32>, lane: Lane, jobs: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut displaced = Vec::new();
    for job in jobs {
        let (ticket, gone) = admission.admit(lane).unwrap();
        assert_eq!(ticket, Ticket::Queue);
        displaced.extend(gone.map(|gone| gone.job));
        assert_eq!(enqueue(admission, lane, job), Vec::<u32>::new());
    }
    displaced
}

#[test]
fn calls_are_admitted_until_both_limits_are_reached() {
    let admission = admission(2, 1);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    assert!(admission.admit(one).is_err());
    assert_eq!(enqueue(&admission, one, 7), Vec::<u32>::new());
    assert_eq!(release(&admission, one), [7]);
    assert_eq!((admission.running(), admission.queued()), (2, 0));
    assert_eq!(release(&admission, one), Vec::<u32>::new());
    assert_eq!(release(&admission, one), Vec::<u32>::new());
    assert_eq!((admission.running(), admission.queued()), (0, 0));
}

#[test]
fn a_permit_that_became_free_before_the_job_was_queued_is_not_lost() {
    let admission = admission(1, 1);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    assert_eq!(release(&admission, one), Vec::<u32>::new());
    assert_eq!(enqueue(&admission, one, 7), [7]);
    assert_eq!((admission.running(), admission.queued()), (1, 0));
}

#[test]
fn no_call_overtakes_those_of_its_lane() {
    let admission = admission(1, 2);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    assert_eq!(release(&admission, one), Vec::<u32>::new());
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    assert_eq!(enqueue(&admission, one, 1), [1]);
    assert_eq!(enqueue(&admission, one, 2), Vec::<u32>::new());
    assert_eq!(release(&admission, one), [2]);
}

#[test]
fn a_slot_can_be_released_and_the_queue_be_emptied() {
    let admission = admission(1, 2);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    admission.release_queue_slot(one);
    assert_eq!(enqueue(&admission, one, 3), Vec::<u32>::new());
    assert_eq!(admission.drain(), [3]);
    assert_eq!((admission.running(), admission.queued()), (1, 0));
}

#[test]
fn the_longer_the_queue_the_later_the_retry() {
    let waits = [4, 40].map(|max_queued| {
        let admission = admission(2, max_queued);
        let one = lane(&admission, 1, 0);
        while admission.admit(one).is_ok() {}
        admission.admit(one).unwrap_err().retry_after
    });
    assert_eq!(waits, [Duration::from_millis(100), Duration::from_secs(1)]);
}

/// Handlers that hang hold all that they may: other methods of the same peer run beside them, and
/// the same method for other peers.
#[test]
fn what_hangs_leaves_permits_for_other_methods_and_other_peers() {
    for max_running in [4, 8, 256] {
        let admission = with_reserve(max_running, 1_000, 25);
        let hung = lane(&admission, 1, 0);
        let held = (0..).take_while(|_| admit(&admission, hung) == Ok(Ticket::Run));
        assert_eq!(held.count(), max_running * 3 / 4);
        for other in [lane(&admission, 1, 1), lane(&admission, 2, 0)] {
            assert_eq!(admit(&admission, other), Ok(Ticket::Run), "{max_running}");
            admission.release_run_permit(other);
        }
        // The queue holds calls of the method that hangs, and they block no others.
        assert_eq!(enqueue(&admission, hung, 1), Vec::<u32>::new());
        for other in [lane(&admission, 1, 1), lane(&admission, 2, 1)] {
            assert_eq!(admit(&admission, other), Ok(Ticket::Run), "{max_running}");
            admission.release_run_permit(other);
        }
        assert_eq!(release(&admission, hung), [1]);
    }
}

/// One peer tries with all methods, and one method for all peers: something is left.
#[test]
fn a_peer_with_all_methods_and_a_method_of_all_peers_leave_something() {
    let admission = with_reserve(256, 0, 25);
    for method in 0..3 {
        let hung = lane(&admission, 1, method);
        while admission.admit(hung).is_ok() {}
    }
    assert_eq!(admission.running(), 224);
    assert_eq!(admit(&admission, lane(&admission, 2, 2)), Ok(Ticket::Run));

    let admission = with_reserve(256, 0, 25);
    for number in 1..=10 {
        let hung = lane(&admission, number, 0);
        while admission.admit(hung).is_ok() {}
    }
    assert_eq!(admission.running(), 224);
    assert_eq!(admit(&admission, lane(&admission, 1, 1)), Ok(Ticket::Run));
}

/// A method with a limit of its own: its calls wait while permits are free, and block no others.
#[test]
fn a_method_takes_no_more_permits_than_it_may() {
    let limits = admission(4, 10).limits;
    let admission = Admission::new(limits, [2, usize::MAX, 1].into());
    let [one, other] = [1, 2].map(|number| lane(&admission, number, 0));
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, other), Ok(Ticket::Run));
    queue_all(&admission, one, 0..2);
    queue_all(&admission, other, 2..3);
    let free = lane(&admission, 1, 1);
    assert_eq!(admit(&admission, free), Ok(Ticket::Run));
    assert_eq!(admit(&admission, lane(&admission, 1, 2)), Ok(Ticket::Run));
    assert_eq!(release(&admission, free), Vec::<u32>::new());
    assert_eq!(release(&admission, other), [0]);
    assert_eq!(release(&admission, one), [2]);
}

/// Jobs that are looked at: those that stay keep their slots.
#[test]
fn what_is_put_back_keeps_its_place() {
    let admission = admission(1, 10);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    queue_all(&admission, one, 0..6);
    let dequeued = admission.take_where(|job| job % 2 == 1);
    assert_eq!((dequeued.len(), admission.queued()), (3, 6));
    assert!(admission.take_where(|job| job % 2 == 1).is_empty());
    let mut gone = 0;
    for mut dequeued in dequeued {
        if dequeued.job == 1 {
            admission.release_queue_slot(dequeued.lane);
            gone += 1;
        } else {
            dequeued.at -= gone;
            admission.put_back(dequeued);
        }
    }
    let order: Vec<u32> = (0..5).flat_map(|_| release(&admission, one)).collect();
    assert_eq!(order, [0, 2, 3, 4, 5]);
    assert_eq!((admission.running(), admission.queued()), (1, 0));
}

/// A peer with a long queue: another one's call runs next.
#[test]
fn freed_permits_go_round_the_peers_and_the_methods() {
    let admission = admission(1, 100);
    let [one, other, third] =
        [(1, 0), (2, 0), (1, 1)].map(|(number, method)| lane(&admission, number, method));
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    queue_all(&admission, one, 10..14);
    queue_all(&admission, other, 20..22);
    queue_all(&admission, third, 30..32);
    let mut order = Vec::new();
    let mut running = one;
    for _ in 0..8 {
        let next = release(&admission, running);
        running = match next[0] / 10 {
            1 => one,
            2 => other,
            _ => third,
        };
        order.extend(next);
    }
    assert_eq!(order, [10, 30, 20, 31, 11, 21, 12, 13]);
}

/// One peer has filled the queue: others get slots up to an equal share, and the newest calls go.
#[test]
fn a_full_queue_is_divided_among_peers_and_their_methods() {
    let admission = admission(1, 6);
    let hog = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, hog), Ok(Ticket::Run));
    queue_all(&admission, hog, 0..6);
    assert!(admission.admit(hog).is_err());
    let own_other_method = lane(&admission, 1, 1);
    assert_eq!(queue_all(&admission, own_other_method, 10..11), [5]);
    let other = lane(&admission, 2, 0);
    assert_eq!(queue_all(&admission, other, 20..23), [4, 3, 2]);
    assert!(admission.admit(other).is_err(), "shares are equal");
    let third = lane(&admission, 3, 2);
    assert_eq!(queue_all(&admission, third, 30..32), [22, 1]);
    assert_eq!(admission.queued(), 6);
    let mut left = admission.drain();
    left.sort_unstable();
    assert_eq!(left, [0, 10, 20, 21, 30, 31]);
}

/// What is known of a peer goes with its last connection and its last call.
#[test]
fn a_peer_is_known_while_it_has_connections_or_calls() {
    let admission = admission(1, 1);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    assert_eq!(admit(&admission, one), Ok(Ticket::Queue));
    admission.enqueue(one, 7);
    admission.leave(one.peer);
    assert_eq!(admission.enter(&peer(1)), one.peer);
    admission.leave(one.peer);
    assert_eq!(release(&admission, one), [7]);
    admission.release_run_permit(one);
    assert!(admission.lock().peers.is_empty());
    // Its slot is another peer's now.
    assert_eq!(admission.enter(&peer(2)), one.peer);
}

#[derive(Clone, Copy, Debug)]
enum AdmissionStep {
    Admit(u8, usize),
    ReleasePermit(usize),
    ReleaseSlot(u8, usize),
    Remove(usize),
    /// Looks at every job of a peer, and lets every second one go.
    Clear(u8),
    Drain,
}

fn event() -> impl Strategy<Value = AdmissionStep> {
    let lane = || (1u8..4, 0usize..3);
    prop_oneof![
        8 => lane().prop_map(|(peer, method)| AdmissionStep::Admit(peer, method)),
        6 => (0usize..8).prop_map(AdmissionStep::ReleasePermit),
        1 => lane().prop_map(|(peer, method)| AdmissionStep::ReleaseSlot(peer, method)),
        1 => (0usize..8).prop_map(AdmissionStep::Remove),
        1 => (1u8..4).prop_map(AdmissionStep::Clear),
        1 => Just(AdmissionStep::Drain),
    ]
}

/// A list of what runs and a list of what is queued.
struct AdmissionWorld {
    admission: Admission<u32>,
    limits: AdmissionLimits,
    max_running_of: [usize; METHODS],
    running: Vec<Lane>,
    waiting: VecDeque<(Lane, u32)>,
}

impl AdmissionWorld {
    fn running(&self, is_it: impl Fn(Lane) -> bool) -> usize {
        self.running.iter().filter(|lane| is_it(**lane)).count()
    }

    /// Whether the shares of a lane, its peer and its method allow another call.
    fn may_run(&self, lane: Lane) -> bool {
        let free = self.limits.max_running - self.running.len();
        let share = self.limits.share();
        let of_method = self.running(|other| other.method == lane.method);
        of_method < self.max_running_of[lane.method]
            && share.allows(self.running(|other| other == lane), free)
            && (share.larger()).allows(self.running(|other| other.peer == lane.peer), free)
            && (share.larger()).allows(of_method, free)
    }

    /// Lets everything run that may: each is the oldest of its lane, and nothing is left that could.
    fn run_all(&mut self) {
        for job in runnable(&self.admission) {
            let at = self.waiting.iter().position(|(_, other)| *other == job);
            let (lane, _) = self.waiting[at.expect("it was queued")];
            let oldest = self.waiting.iter().find(|(other, _)| *other == lane);
            assert_eq!(oldest, Some(&(lane, job)));
            assert!(self.may_run(lane));
            self.waiting.remove(at.unwrap());
            self.running.push(lane);
        }
        assert!(self.waiting.iter().all(|(lane, _)| !self.may_run(*lane)));
        assert_eq!(self.admission.running(), self.running.len());
        assert_eq!(self.admission.queued(), self.waiting.len());
        assert!(self.running.len() <= self.limits.max_running);
        assert!(self.waiting.len() <= self.limits.max_queued);
    }

    fn admit(&mut self, lane: Lane, job: u32) {
        let is_first = self.waiting.iter().all(|(other, _)| *other != lane);
        let is_full = self.waiting.len() == self.limits.max_queued;
        match self.admission.admit(lane) {
            Ok((Ticket::Run, None)) => {
                assert!(is_first && self.may_run(lane));
                self.running.push(lane);
            }
            Ok((Ticket::Queue, displaced)) => {
                assert!(!(is_first && self.may_run(lane)));
                assert_eq!(displaced.is_some(), is_full);
                if let Some(Displaced { job, .. }) = displaced {
                    self.displace(lane, job);
                }
                self.waiting.push_back((lane, job));
                self.admission.enqueue(lane, job);
            }
            Err(QueueFull { retry_after }) => {
                assert!(is_full);
                assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&retry_after));
            }
            Ok((Ticket::Run, Some(gone))) => panic!("{gone:?} was displaced for nothing"),
        }
    }

    fn clear(&mut self, peer: PeerSlot) {
        let queued = self.admission.queued();
        let (waiting, mut gone) = (&mut self.waiting, Vec::new());
        let is_it = |job: &u32| {
            waiting
                .iter()
                .any(|one| one.1 == *job && one.0.peer == peer)
        };
        for (turn, mut dequeued) in self.admission.take_where(is_it).into_iter().enumerate() {
            let before = gone.iter().filter(|(lane, _)| *lane == dequeued.lane);
            dequeued.at -= before.count();
            if turn % 2 == 0 {
                gone.push((dequeued.lane, dequeued.job));
                self.admission.release_queue_slot(dequeued.lane);
            } else {
                self.admission.put_back(dequeued);
            }
        }
        waiting.retain(|one| !gone.contains(one));
        assert_eq!(self.admission.queued(), queued - gone.len());
    }

    /// It is the newest of its lane, and its peer, or its lane, has more than the one that came.
    fn displace(&mut self, by: Lane, job: u32) {
        let at = self.waiting.iter().position(|(_, other)| *other == job);
        let (lane, _) = self.waiting.remove(at.expect("it was queued")).unwrap();
        let left = |is_it: &dyn Fn(Lane) -> bool| {
            self.waiting.iter().filter(|(lane, _)| is_it(*lane)).count()
        };
        if lane.peer == by.peer {
            assert!(left(&|other| other == lane) > left(&|other| other == by));
        } else {
            let of = |peer: PeerSlot| left(&move |other: Lane| other.peer == peer);
            assert!(of(lane.peer) > of(by.peer));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// Against two lists: no limit and no share is exceeded, no job is overtaken in its lane, no job
    /// stays queued that may run, and nothing is counted that isn't there.
    #[test]
    fn it_behaves_like_two_lists(
        (max_running, max_queued) in (1usize..9, 0usize..6),
        reserve_percent in prop_oneof![Just(0u32), Just(25), Just(60)],
        max_running_of in [0usize..9, 0usize..9, 0usize..9].prop_map(|of| of.map(|of| of.max(1))),
        events in prop::collection::vec(event(), 0..80),
    ) {
        let limits = with_reserve(max_running, max_queued, reserve_percent).limits;
        let mut world = AdmissionWorld {
            admission: Admission::new(limits, max_running_of.into()),
            limits,
            max_running_of,
            running: Vec::new(),
            waiting: VecDeque::new(),
        };
        for (job, event) in (0..).zip(events) {
            match event {
                AdmissionStep::Admit(peer, method) => {
                    let lane = lane(&world.admission, peer, method);
                    world.admit(lane, job);
                }
                AdmissionStep::ReleasePermit(at) if at < world.running.len() => {
                    let lane = world.running.remove(at);
                    world.admission.release_run_permit(lane);
                }
                AdmissionStep::ReleaseSlot(peer, method)
                    if world.waiting.len() < max_queued =>
                {
                    let lane = lane(&world.admission, peer, method);
                    match world.admission.admit(lane) {
                        Ok((Ticket::Queue, None)) => world.admission.release_queue_slot(lane),
                        Ok((Ticket::Run, None)) => world.admission.release_run_permit(lane),
                        other => panic!("there is room: {other:?}"),
                    }
                }
                AdmissionStep::Remove(at) => {
                    let job = world.waiting.get(at).map_or(u32::MAX, |(_, job)| *job);
                    let expected = world.waiting.remove(at).map(|(_, job)| job);
                    prop_assert_eq!(world.admission.remove(|other| *other == job), expected);
                }
                AdmissionStep::Clear(number) => world.clear(lane(&world.admission, number, 0).peer),
                AdmissionStep::Drain => {
                    let mut drained = world.admission.drain();
                    drained.sort_unstable();
                    let mut expected: Vec<u32> =
                        std::mem::take(&mut world.waiting).into_iter().map(|(_, job)| job).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(drained, expected);
                }
                AdmissionStep::ReleasePermit(_) | AdmissionStep::ReleaseSlot(..) => {}
            }
            world.run_all();
        }
    }
}
