//! What runs, what is queued, and whose turn it is.

mod load;
mod model;

use std::net::Ipv4Addr;

use super::*;
use crate::clock;

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
        overload: Overload::off(),
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
    let (ticket, displaced) = admission.admit(lane, Priority::Default)?;
    assert_eq!(displaced, None);
    Ok(ticket)
}

/// All that may run now.
fn runnable(admission: &Admission<u32>) -> Vec<u32> {
    let next = || match admission.next(clock::now())? {
        Dequeued::Run { job, .. } => Some(job),
        Dequeued::Shed(shed) => panic!("{shed:?} was refused for nothing"),
    };
    std::iter::from_fn(next).collect()
}

fn enqueue(admission: &Admission<u32>, lane: Lane, job: u32) -> Vec<u32> {
    admission.enqueue(lane, Priority::Default, clock::now(), job);
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
        let (ticket, gone) = admission.admit(lane, Priority::Default).unwrap();
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
    assert!(admit(&admission, one).is_err());
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
        while admit(&admission, one).is_ok() {}
        admit(&admission, one).unwrap_err().retry_after
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
        while admit(&admission, hung).is_ok() {}
    }
    assert_eq!(admission.running(), 224);
    assert_eq!(admit(&admission, lane(&admission, 2, 2)), Ok(Ticket::Run));

    let admission = with_reserve(256, 0, 25);
    for number in 1..=10 {
        let hung = lane(&admission, number, 0);
        while admit(&admission, hung).is_ok() {}
    }
    assert_eq!(admission.running(), 224);
    assert_eq!(admit(&admission, lane(&admission, 1, 1)), Ok(Ticket::Run));
}

/// A method with a limit of its own: its calls wait while permits are free, and block no others.
#[test]
fn a_method_takes_no_more_permits_than_it_may() {
    let limits = admission(4, 10).lock().limits;
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

/// Kind: what a call costs grows with the queue. Instance: a queue that is full of calls of a method that hangs,
/// each of another peer, whenever a call of another method ends.
#[test]
fn calls_that_may_not_run_are_not_looked_at_one_by_one() {
    const PEERS: u32 = 20_000;
    let limits = AdmissionLimits {
        max_queued: PEERS as usize,
        ..admission(4, 0).lock().limits
    };
    let admission = Admission::new(limits, [1, usize::MAX, usize::MAX].into());
    assert_eq!(admit(&admission, lane(&admission, 1, 0)), Ok(Ticket::Run));
    let now = clock::now();
    for number in 0..PEERS {
        let peer = admission.enter(&Peer::V4(Ipv4Addr::from_bits(number)));
        let hung = Lane { peer, method: 0 };
        assert_eq!(admit(&admission, hung), Ok(Ticket::Queue));
        admission.enqueue(hung, Priority::Default, now, number);
    }
    let began = clock::now();
    for _ in 0..PEERS {
        assert_eq!(admission.next(now), None);
    }
    let took = clock::now() - began;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// Kind: a call is passed over by mistaking its method for another one. Instance: two methods that share a bit of
/// what is known of a peer, one of which has no jobs any more.
#[test]
fn methods_that_are_64_apart_are_distinguished() {
    let limits = admission(2, 10).lock().limits;
    let mut most = [usize::MAX; 130];
    most[0] = 1;
    let admission = Admission::new(limits, most.into());
    let [hung, free] = [(1, 0), (3, 2)].map(|(number, method)| lane(&admission, number, method));
    assert_eq!(admit(&admission, hung), Ok(Ticket::Run));
    assert_eq!(admit(&admission, free), Ok(Ticket::Run));
    queue_all(&admission, hung, 0..1);
    for (method, job) in [(1, 1), (65, 65), (129, 129)] {
        queue_all(&admission, lane(&admission, 2, method), job..job + 1);
    }
    assert_eq!(admission.remove(|job| *job == 1), Some(1));
    assert_eq!(release(&admission, free), [65]);
    assert_eq!(release(&admission, lane(&admission, 2, 65)), [129]);
}

/// Jobs that are looked at: those that stay keep their places.
#[test]
fn what_is_put_back_keeps_its_place() {
    let admission = admission(1, 10);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    queue_all(&admission, one, 0..6);
    let (taken, _) = admission.take_where(|job, _| job % 2 == 1);
    assert_eq!((taken.len(), admission.queued()), (3, 6));
    assert!(admission.take_where(|job, _| job % 2 == 1).0.is_empty());
    for taken in taken {
        if taken.job == 1 {
            assert_eq!(admission.give_up(taken), 1);
        } else {
            admission.put_back(taken);
        }
    }
    let order: Vec<u32> = (0..5).flat_map(|_| release(&admission, one)).collect();
    assert_eq!(order, [0, 2, 3, 4, 5]);
    assert_eq!((admission.running(), admission.queued()), (1, 0));
}

/// A peer with a long queue: another one's call runs next.
#[test]
fn freed_permits_go_round_the_peers_and_their_methods() {
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
    assert_eq!(order, [10, 20, 30, 21, 11, 31, 12, 13]);
}

/// One peer has filled the queue: others get slots up to an equal share, and the newest calls go.
#[test]
fn a_full_queue_is_divided_among_peers_and_their_methods() {
    let admission = admission(1, 6);
    let hog = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, hog), Ok(Ticket::Run));
    queue_all(&admission, hog, 0..6);
    assert!(admit(&admission, hog).is_err());
    let own_other_method = lane(&admission, 1, 1);
    assert_eq!(queue_all(&admission, own_other_method, 10..11), [5]);
    let other = lane(&admission, 2, 0);
    assert_eq!(queue_all(&admission, other, 20..23), [4, 3, 2]);
    assert!(admit(&admission, other).is_err(), "shares are equal");
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
    admission.enqueue(one, Priority::Default, clock::now(), 7);
    admission.leave(one.peer);
    assert_eq!(admission.enter(&peer(1)), one.peer);
    admission.leave(one.peer);
    assert_eq!(release(&admission, one), [7]);
    admission.release_run_permit(one);
    assert!(admission.lock().peers.is_empty());
    // Its slot is another peer's now.
    assert_eq!(admission.enter(&peer(2)), one.peer);
}

/// Kind: what matters waits behind what doesn't. Instance: a caller's critical call after its others; and
/// another caller's, which it does not get ahead of.
#[test]
fn within_a_peer_the_most_important_run_first() {
    let admission = admission(1, 100);
    let [one, same, other] =
        [(1, 0), (1, 1), (2, 0)].map(|(number, method)| lane(&admission, number, method));
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    for (lane, priority, job) in [
        (one, Priority::Sheddable, 10),
        (one, Priority::Default, 11),
        (same, Priority::Default, 12),
        (other, Priority::Sheddable, 20),
        (same, Priority::Critical, 13),
    ] {
        assert!(admission.admit(lane, priority).is_ok());
        admission.enqueue(lane, priority, clock::now(), job);
    }
    let mut order = Vec::new();
    let mut running = one;
    while let Some(Dequeued::Run { job, .. }) = {
        admission.release_run_permit(running);
        admission.next(clock::now())
    } {
        running = match job {
            10 | 11 => one,
            20 => other,
            _ => same,
        };
        order.push(job);
    }
    assert_eq!(order, [13, 20, 11, 12, 10]);
}

/// Kind: the same in a full queue. Instance: a peer's critical call takes the place of its sheddable one, and
/// never the other way round.
#[test]
fn a_full_queue_gives_up_what_matters_least() {
    let admission = admission(1, 3);
    let one = lane(&admission, 1, 0);
    assert_eq!(admit(&admission, one), Ok(Ticket::Run));
    let queue = |priority, job| {
        let (_, gone) = admission.admit(one, priority)?;
        admission.enqueue(one, priority, clock::now(), job);
        Ok::<_, QueueFull>(gone.map(|gone| gone.job))
    };
    assert_eq!(queue(Priority::Sheddable, 1), Ok(None));
    assert_eq!(queue(Priority::Default, 2), Ok(None));
    assert_eq!(queue(Priority::Sheddable, 3), Ok(None));
    assert!(queue(Priority::Sheddable, 4).is_err());
    assert_eq!(queue(Priority::Critical, 5), Ok(Some(3)));
    assert_eq!(queue(Priority::Default, 6), Ok(Some(1)));
    assert!(queue(Priority::Default, 7).is_err());
    assert_eq!(queue(Priority::Critical, 8), Ok(Some(6)));
}
