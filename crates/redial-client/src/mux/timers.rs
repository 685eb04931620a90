//! When calls are to be woken whatever happens: their timeouts, deadlines and pauses.
//!
//! Almost every call is answered long before its time, so a timer for each would be set in vain.
//! One task per runtime keeps a list instead and sleeps until its earliest entry. An entry belongs
//! to a slot of the slab, and outlives the call that set it: most calls have a time that is no
//! earlier than that of the call before them in their slot, and set nothing.

use std::{cmp::Reverse, collections::BinaryHeap, task::Waker, time::Instant};

use super::{
    pending_call::PendingCall,
    slab::{Key, Slab},
};
use crate::wake_list::replace_waker;

/// A list is swept when it has more than two entries per slot, and this many.
const SLACK: usize = 64;

/// The timers of all calls, one list per timer task.
#[derive(Debug, Default)]
pub(super) struct Timers(Vec<TimerList>);

/// When the calls of one runtime are to be woken.
#[derive(Debug, Default)]
struct TimerList {
    /// By time, each with its slot. An entry counts if it is the slot's earliest.
    entries: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The earliest entry of each slot.
    earliest: Vec<Option<Instant>>,
    /// The task that waits for the earliest entry of all, and until when it sleeps.
    task: Option<Waker>,
    sleeps_until: Option<Instant>,
}

impl Timers {
    /// Has the timer task wake the call then, and not at the time that was set before. Gives the
    /// task's waker if it sleeps for too long.
    #[inline]
    pub(super) fn set(
        &mut self,
        task: usize,
        key: Key,
        at: Instant,
        calls: &mut Slab<PendingCall>,
    ) -> Option<Waker> {
        let call = calls.get_mut(key).expect("the call is pending");
        call.wake_at = Some((task, at));
        let list = self.list(task);
        match list.earliest.get(key.slot()) {
            // A later time gets its entry when the earlier one has come.
            Some(Some(first)) if *first <= at => None,
            _ => list.insert(key.slot(), at),
        }
    }

    /// Wakes the calls whose time has come, and gives the time of the task's next entry. With none
    /// the task sleeps until it is woken, as it is for an earlier one.
    pub(super) fn expire(
        &mut self,
        task: usize,
        now: Instant,
        waker: &Waker,
        calls: &mut Slab<PendingCall>,
        wakers: &mut Vec<Waker>,
    ) -> Option<Instant> {
        let list = self.list(task);
        while let Some(Reverse((at, slot))) = list.entries.peek().copied()
            && at <= now
        {
            list.entries.pop();
            if list.earliest[slot].take_if(|first| *first == at).is_none() {
                continue;
            }
            let Some(call) = calls.get_slot_mut(slot) else {
                continue;
            };
            match call.wake_at {
                Some((by, later)) if by == task && later > now => {
                    list.earliest[slot] = Some(later);
                    list.entries.push(Reverse((later, slot)));
                }
                Some((by, _)) if by == task => {
                    call.wake_at = None;
                    wakers.extend(call.waker.take());
                }
                _ => {}
            }
        }
        list.sleeps_until = list.entries.peek().map(|Reverse((at, _))| *at);
        wakers.extend(replace_waker(&mut list.task, waker));
        list.sleeps_until
    }

    /// When the task is to fire, if it is.
    pub(super) fn due(&self, task: usize) -> Option<Instant> {
        self.0.get(task)?.sleeps_until
    }

    /// The task is gone, with its runtime. Wakes the calls that relied on it, so that they find
    /// another.
    pub(super) fn remove_task(
        &mut self,
        task: usize,
        calls: &mut Slab<PendingCall>,
        wakers: &mut Vec<Waker>,
    ) {
        let Some(list) = self.0.get_mut(task) else {
            return;
        };
        wakers.extend(std::mem::take(list).task);
        for call in calls.values_mut() {
            if call.wake_at.take_if(|(by, _)| *by == task).is_some() {
                wakers.extend(call.waker.take());
            }
        }
    }

    #[inline]
    fn list(&mut self, task: usize) -> &mut TimerList {
        if self.0.len() <= task {
            self.0.resize_with(task + 1, TimerList::default);
        }
        &mut self.0[task]
    }
}

impl TimerList {
    /// Makes an entry. Gives the task's waker if it sleeps for too long.
    fn insert(&mut self, slot: usize, at: Instant) -> Option<Waker> {
        if self.earliest.len() <= slot {
            self.earliest.resize(slot + 1, None);
        }
        self.earliest[slot] = Some(at);
        self.entries.push(Reverse((at, slot)));
        if self.entries.len() > 2 * self.earliest.len() + SLACK {
            let earliest = &self.earliest;
            self.entries
                .retain(|Reverse((at, slot))| earliest[*slot] == Some(*at));
        }
        if self.sleeps_until.is_some_and(|until| until <= at) {
            return None;
        }
        self.sleeps_until = Some(at);
        self.task.take()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::mux::{
        Mux,
        tests::{mux, open},
    };

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wake_all(mux: &mut Mux) {
        mux.wakers.drain(..).for_each(Waker::wake);
    }

    #[test]
    fn calls_are_woken_when_their_latest_word_says_so() {
        let (mut mux, now) = mux(crate::config::Config::default());
        let ms = |ms| now + Duration::from_millis(ms);
        let timer_task = Arc::new(Count::default());
        let calls = [(); 3].map(|()| Arc::new(Count::default()));
        let keys = [0, 1, 2].map(|n| open(&mut mux, n));
        for (key, call) in keys.iter().zip(&calls) {
            mux.listen(*key, &call.clone().into());
        }
        let wakers = || [0, 1, 2].map(|n: usize| calls[n].0.load(Ordering::Relaxed));
        assert_eq!(mux.handle_timeout(0, now, &timer_task.clone().into()), None);
        mux.set_timer(0, keys[0], ms(50));
        mux.set_timer(0, keys[1], ms(60));
        mux.set_timer(0, keys[2], ms(20));
        // Said again: one sooner, one later.
        mux.set_timer(0, keys[1], ms(30));
        mux.set_timer(0, keys[2], ms(70));
        wake_all(&mut mux);
        assert_eq!(
            timer_task.0.load(Ordering::Relaxed),
            1,
            "once for all of them"
        );
        let waker = Waker::from(timer_task);
        for (at, expected, next) in [
            (20, [0, 0, 0], Some(ms(30))),
            (30, [0, 1, 0], Some(ms(50))),
            (55, [1, 1, 0], Some(ms(60))),
            (60, [1, 1, 0], Some(ms(70))),
            (70, [1, 1, 1], None),
        ] {
            assert_eq!(mux.handle_timeout(0, ms(at), &waker), next, "at {at} ms");
            wake_all(&mut mux);
            assert_eq!(wakers(), expected, "at {at} ms");
        }
    }

    #[test]
    fn the_list_does_not_grow_with_calls_that_are_over() {
        let (mut mux, now) = mux(crate::config::Config::default());
        // Each call has less time than the one before it, so that each makes an entry.
        for n in 1..10_000 {
            let key = open(&mut mux, n.into());
            mux.set_timer(0, key, now + Duration::from_secs(u64::from(20_000_u32 - n)));
            mux.remove(key, crate::mux::sessions::Disposition::Acknowledge);
            let entries = mux.timers.0[0].entries.len();
            assert!(entries <= SLACK + 2, "{entries} after {n} calls");
        }
    }

    /// What happens to three slots, each of which always has a call.
    #[derive(Clone, Debug)]
    enum Event {
        /// The slot's call is to be woken by this task in so many milliseconds.
        Set(usize, usize, u64),
        /// The slot's call ends, and the next one begins.
        Next(usize),
        /// So many milliseconds pass.
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => (0..3usize, 0..2usize, 1..40u64).prop_map(|(slot, task, ms)| Event::Set(slot, task, ms)),
            2 => (0..3usize).prop_map(Event::Next),
            1 => (1..30u64).prop_map(Event::Pass),
        ]
    }

    proptest! {
        /// A timer that fires for a call that has ended, or not for the one that came after it in its
        /// slot.
        #[test]
        fn each_call_is_woken_at_its_own_time(events in prop::collection::vec(event(), 0..300)) {
            let (mut mux, mut now) = mux(crate::config::Config::default());
            let mut keys = [0, 1, 2].map(|n| open(&mut mux, n));
            let mut times: [Option<(usize, Instant)>; 3] = [None; 3];
            let wakers = [(); 3].map(|()| Waker::from(Arc::new(Count::default())));
            for (n, event) in (3..).zip(events) {
                match event {
                    Event::Set(slot, task, ms) => {
                        let at = now + Duration::from_millis(ms);
                        mux.set_timer(task, keys[slot], at);
                        times[slot] = Some((task, at));
                    }
                    Event::Next(slot) => {
                        mux.remove(keys[slot], crate::mux::sessions::Disposition::Acknowledge);
                        (keys[slot], times[slot]) = (open(&mut mux, n), None);
                    }
                    Event::Pass(ms) => now += Duration::from_millis(ms),
                }
                keys.iter().zip(&wakers).for_each(|(key, waker)| mux.listen(*key, waker));
                for task in [0, 1] {
                    mux.wakers.clear();
                    let next = mux.handle_timeout(task, now, Waker::noop());
                    for (time, waker) in times.iter_mut().zip(&wakers) {
                        let is_due = time.take_if(|(by, at)| *by == task && *at <= now).is_some();
                        let is_woken = mux.wakers.iter().any(|woken| woken.will_wake(waker));
                        prop_assert_eq!(is_woken, is_due);
                    }
                    let mine = times.iter().flatten().filter(|(by, _)| *by == task);
                    prop_assert!(mine.clone().all(|(_, at)| next.is_some_and(|next| next <= *at)));
                }
            }
        }
    }

    #[test]
    fn without_its_keeper_a_call_looks_for_another() {
        let (mut mux, now) = mux(crate::config::Config::default());
        let key = open(&mut mux, 0);
        mux.listen(key, &Waker::from(Arc::new(Count::default())));
        mux.set_timer(0, key, now + Duration::from_secs(1));
        mux.remove_timer_task(0);
        assert_eq!(mux.wakers.len(), 1);
        mux.set_timer(1, key, now + Duration::from_secs(1));
        assert_eq!(
            mux.handle_timeout(1, now, Waker::noop()),
            Some(now + Duration::from_secs(1))
        );
    }
}
