//! Against lists: what runs, what is queued, what is refused, and whose turn it is.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    super::state::{MAX_RETRY_AFTER, MIN_RETRY_AFTER},
    *,
};
use crate::share::Share;

#[derive(Clone, Copy, Debug)]
enum AdmissionStep {
    Admit(u8, usize, Priority),
    ReleasePermit(usize),
    ReleaseSlot(u8, usize),
    Remove(usize),
    /// Looks at every job of a peer, and lets every second one go.
    Clear(u8),
    Drain,
}

fn event() -> impl Strategy<Value = AdmissionStep> {
    let lane = || (1u8..4, 0usize..3);
    let priority = prop::sample::select(&Priority::ALL[..]);
    prop_oneof![
        8 => (lane(), priority)
            .prop_map(|((peer, method), priority)| AdmissionStep::Admit(peer, method, priority)),
        6 => (0usize..8).prop_map(AdmissionStep::ReleasePermit),
        1 => lane().prop_map(|(peer, method)| AdmissionStep::ReleaseSlot(peer, method)),
        1 => (0usize..8).prop_map(AdmissionStep::Remove),
        1 => (1u8..4).prop_map(AdmissionStep::Clear),
        1 => Just(AdmissionStep::Drain),
    ]
}

/// A list of what runs and a list of what is queued, in the order in which it came.
struct AdmissionWorld {
    admission: Admission<u32>,
    limits: AdmissionLimits,
    max_running_of: [usize; METHODS],
    running: Vec<Lane>,
    waiting: VecDeque<(Lane, Priority, u32)>,
}

impl AdmissionWorld {
    fn running(&self, is_it: impl Fn(Lane) -> bool) -> usize {
        self.running.iter().filter(|lane| is_it(**lane)).count()
    }

    /// Whether the shares of a lane, its peer and its method allow another call.
    fn may_run(&self, lane: Lane) -> bool {
        let free = self.limits.max_running - self.running.len();
        let share = Share::all_but_percent(self.limits.reserve_percent);
        let of_method = self.running(|other| other.method == lane.method);
        of_method < self.max_running_of[lane.method]
            && share.allows(self.running(|other| other == lane), free)
            && (share.larger()).allows(self.running(|other| other.peer == lane.peer), free)
            && (share.larger()).allows(of_method, free)
    }

    /// Lets everything run that may: each is the oldest of its lane and priority, and the most important
    /// of its peer that may run; and nothing is left that could.
    fn run_all(&mut self) {
        for job in runnable(&self.admission) {
            let at = self.waiting.iter().position(|(_, _, other)| *other == job);
            let (lane, priority, _) = self.waiting[at.expect("it was queued")];
            let like_it = |(other, of, _): &&_| (*other, *of) == (lane, priority);
            assert_eq!(
                self.waiting.iter().find(like_it),
                Some(&(lane, priority, job))
            );
            assert!(self.may_run(lane));
            for (other, more_important, _) in &self.waiting {
                let is_ahead = other.peer == lane.peer && *more_important < priority;
                assert!(!is_ahead || !self.may_run(*other));
            }
            self.waiting.remove(at.unwrap());
            self.running.push(lane);
        }
        assert!(self.waiting.iter().all(|(lane, ..)| !self.may_run(*lane)));
        assert_eq!(self.admission.running(), self.running.len());
        assert_eq!(self.admission.queued(), self.waiting.len());
        assert!(self.running.len() <= self.limits.max_running);
        assert!(self.waiting.len() <= self.limits.max_queued);
    }

    fn admit(&mut self, lane: Lane, priority: Priority, job: u32) {
        let is_first = self.waiting.iter().all(|(other, ..)| *other != lane);
        let is_full = self.waiting.len() == self.limits.max_queued;
        match self.admission.admit(lane, priority) {
            Ok((Ticket::Run, None)) => {
                assert!(is_first && self.may_run(lane));
                self.running.push(lane);
            }
            Ok((Ticket::Queue, displaced)) => {
                assert!(!(is_first && self.may_run(lane)));
                assert_eq!(displaced.is_some(), is_full);
                if let Some(Displaced { job, .. }) = displaced {
                    self.displace(lane, priority, job);
                }
                self.waiting.push_back((lane, priority, job));
                self.admission.enqueue(lane, priority, clock::now(), job);
            }
            Err(QueueFull { retry_after }) => {
                assert!(is_full);
                assert!((MIN_RETRY_AFTER..=MAX_RETRY_AFTER).contains(&retry_after));
            }
            Ok((Ticket::Run, Some(gone))) => panic!("{gone:?} was displaced for nothing"),
        }
    }

    /// Looks at all jobs of a peer, and lets every second one go.
    fn clear(&mut self, peer: PeerSlot) {
        let (queued, mut gone) = (self.admission.queued(), Vec::new());
        let jobs = self.waiting.iter().filter(|one| one.0.peer == peer);
        let is_it = |job: &u32, _| jobs.clone().any(|one| one.2 == *job);
        for (turn, taken) in self.admission.take_where(is_it).0.into_iter().enumerate() {
            if turn % 2 == 0 {
                gone.push(self.admission.give_up(taken));
            } else {
                self.admission.put_back(taken);
            }
        }
        self.waiting.retain(|(.., job)| !gone.contains(job));
        assert_eq!(self.admission.queued(), queued - gone.len());
    }

    /// It is the newest of its lane and priority, and its peer has nothing that matters less; and either that
    /// peer, or its lane, has more than the one that came, or it matters less.
    fn displace(&mut self, by: Lane, priority: Priority, job: u32) {
        let at = self.waiting.iter().position(|(.., other)| *other == job);
        let (lane, lowest, _) = self.waiting.remove(at.expect("it was queued")).unwrap();
        let later = self.waiting.iter().skip(at.unwrap());
        assert!(
            later
                .clone()
                .all(|(other, of, _)| (*other, *of) != (lane, lowest))
        );
        let mut own = self
            .waiting
            .iter()
            .filter(|(other, ..)| other.peer == lane.peer);
        assert!(own.all(|(_, of, _)| *of <= lowest));
        let left = |is_it: &dyn Fn(Lane) -> bool| {
            let waiting = self.waiting.iter();
            waiting.filter(|(lane, ..)| is_it(*lane)).count()
        };
        if lane.peer == by.peer {
            let is_longer = left(&|other| other == lane) > left(&|other| other == by);
            assert!(lowest > priority || lowest == priority && is_longer);
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
        let limits = with_reserve(max_running, max_queued, reserve_percent).lock().limits;
        let mut world = AdmissionWorld {
            admission: Admission::new(limits, max_running_of.into()),
            limits,
            max_running_of,
            running: Vec::new(),
            waiting: VecDeque::new(),
        };
        for (job, event) in (0..).zip(events) {
            match event {
                AdmissionStep::Admit(peer, method, priority) => {
                    let lane = lane(&world.admission, peer, method);
                    world.admit(lane, priority, job);
                }
                AdmissionStep::ReleasePermit(at) if at < world.running.len() => {
                    let lane = world.running.remove(at);
                    world.admission.release_run_permit(lane);
                }
                AdmissionStep::ReleaseSlot(peer, method)
                    if world.waiting.len() < max_queued =>
                {
                    let lane = lane(&world.admission, peer, method);
                    match world.admission.admit(lane, Priority::Default) {
                        Ok((Ticket::Queue, None)) => world.admission.release_queue_slot(lane),
                        Ok((Ticket::Run, None)) => world.admission.release_run_permit(lane),
                        other => panic!("there is room: {other:?}"),
                    }
                }
                AdmissionStep::Remove(at) => {
                    let job = world.waiting.get(at).map_or(u32::MAX, |(.., job)| *job);
                    let expected = world.waiting.remove(at).map(|(.., job)| job);
                    prop_assert_eq!(world.admission.remove(|other| *other == job), expected);
                }
                AdmissionStep::Clear(number) => world.clear(lane(&world.admission, number, 0).peer),
                AdmissionStep::Drain => {
                    let mut drained = world.admission.drain();
                    drained.sort_unstable();
                    let mut expected: Vec<u32> =
                        std::mem::take(&mut world.waiting).into_iter().map(|(.., job)| job).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(drained, expected);
                }
                AdmissionStep::ReleasePermit(_) | AdmissionStep::ReleaseSlot(..) => {}
            }
            world.run_all();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum TimedStep {
    Come(u8, usize, Priority),
    End(usize),
    Wait(u64),
}

fn timed_step() -> impl Strategy<Value = TimedStep> {
    let priority = prop::sample::select(&Priority::ALL[..]);
    prop_oneof![
        8 => (1u8..4, 0usize..2, priority)
            .prop_map(|(peer, method, priority)| TimedStep::Come(peer, method, priority)),
        6 => (0usize..4).prop_map(TimedStep::End),
        4 => (0u64..6_000).prop_map(TimedStep::Wait),
        1 => (0u64..60_000).prop_map(TimedStep::Wait),
    ]
}

/// A job as it came.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Queued {
    lane: Lane,
    priority: Priority,
    since: Instant,
    job: u32,
}

/// What the queue says next, held against a list of what is in it.
fn check_next(admission: &Admission<u32>, queue: &mut Vec<Queued>, now: Instant) -> Option<Lane> {
    let overloaded: Vec<Lane> = {
        let mut state = admission.lock();
        let lanes = queue.iter().map(|queued| queued.lane);
        lanes.filter(|lane| state.is_overloaded(*lane)).collect()
    };
    let next = admission.next(now)?;
    let (Dequeued::Run { job, .. } | Dequeued::Shed(Shed { job, .. })) = next;
    let at = queue.iter().position(|queued| queued.job == job).unwrap();
    let one = queue.remove(at);
    let is_like = |other: &&Queued| (other.lane, other.priority) == (one.lane, one.priority);
    let (before, after) = queue.split_at(at);
    let is_oldest = !before.iter().any(|other| is_like(&other));
    let is_newest = !after.iter().any(|other| is_like(&other));
    let is_overloaded = overloaded.contains(&one.lane);
    match next {
        Dequeued::Run {
            is_overloaded: said,
            ..
        } => {
            assert_eq!(said, is_overloaded);
            assert!(if said { is_newest } else { is_oldest }, "{one:?}");
            Some(one.lane)
        }
        Dequeued::Shed(Shed {
            waited,
            retry_after,
            ..
        }) => {
            assert!(is_overloaded && is_oldest, "{one:?}");
            assert_eq!(waited, now - one.since);
            assert!(
                waited > Duration::from_micros(7_500) && retry_after >= Duration::from_millis(20)
            );
            check_next(admission, queue, now)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// With time: nothing is refused but under overload and after the patience with it, the newest run first
    /// then and only then, and none is lost.
    #[test]
    fn under_overload_the_newest_run_and_the_oldest_are_refused(
        max_running in 1usize..4,
        steps in prop::collection::vec(timed_step(), 0..200),
    ) {
        let limits = AdmissionLimits {
            max_running,
            max_queued: usize::MAX,
            reserve_percent: 0,
            overload: Overload { interval: Duration::from_millis(20), ..Overload::default() },
        };
        let admission = Admission::new(limits, [usize::MAX; METHODS].into());
        let (mut now, mut queue, mut running) = (clock::now(), Vec::new(), Vec::new());
        for (job, step) in (0..).zip(steps) {
            match step {
                TimedStep::Come(peer, method, priority) => {
                    let lane = lane(&admission, peer, method);
                    match admission.admit(lane, priority) {
                        Ok((Ticket::Run, None)) => running.push(lane),
                        Ok((Ticket::Queue, None)) => {
                            queue.push(Queued { lane, priority, since: now, job });
                            admission.enqueue(lane, priority, now, job);
                        }
                        other => panic!("there is room: {other:?}"),
                    }
                }
                TimedStep::End(at) if at < running.len() => {
                    admission.finish(running.remove(at), Duration::from_millis(1), now);
                }
                TimedStep::End(_) => {}
                TimedStep::Wait(us) => now += Duration::from_micros(us),
            }
            while let Some(lane) = check_next(&admission, &mut queue, now) {
                running.push(lane);
            }
            prop_assert_eq!(admission.running(), running.len());
            prop_assert_eq!(admission.queued(), queue.len());
            prop_assert!(queue.is_empty() || running.len() == max_running);
        }
    }

    /// Peers whose calls take different times, and who always have some in the queue: none has had the permit
    /// for longer than another by more than what one call may cost.
    #[test]
    fn peers_have_the_permit_for_as_long(
        services in prop::collection::vec(1u64..20_000, 2..6),
    ) {
        let admission = admission(1, usize::MAX);
        let lanes: Vec<_> = (1..).zip(&services).map(|(peer, _)| lane(&admission, peer, 0)).collect();
        let mut held = vec![0; services.len()];
        let (mut now, mut most) = (clock::now(), *services.iter().max().unwrap());
        for (peer, lane) in (0..).zip(&lanes) {
            // What each takes is known from before.
            admission.take_run_permit(*lane);
            for _ in 0..200 {
                admission.take_run_permit(*lane);
                admission.finish(*lane, Duration::from_micros(services[peer as usize]), now);
            }
            for _ in 0..4 {
                assert!(admission.admit(*lane, Priority::Default).is_ok());
                admission.enqueue(*lane, Priority::Default, now, peer);
            }
            most = most.max(services[peer as usize]);
        }
        lanes.iter().for_each(|lane| admission.release_run_permit(*lane));
        for _ in 0..2_000 {
            let Some(Dequeued::Run { job, .. }) = admission.next(now) else {
                panic!("there are some in the queue");
            };
            let (at, service) = (job as usize, Duration::from_micros(services[job as usize]));
            held[at] += services[at];
            now += service;
            admission.finish(lanes[at], service, now);
            assert!(admission.admit(lanes[at], Priority::Default).is_ok());
            admission.enqueue(lanes[at], Priority::Default, now, job);
        }
        let (least, longest) = (held.iter().min().unwrap(), held.iter().max().unwrap());
        // Two turns of one call each, and what the averages are off by.
        prop_assert!(longest - least <= 4 * most + longest / 50, "{held:?} of {services:?}");
    }
}
