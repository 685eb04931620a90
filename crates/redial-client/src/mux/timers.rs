//! When calls are to be woken whatever happens: their timeouts, deadlines and pauses.
//!
//! Almost every call is answered long before its time, so a timer for each would be set in vain.
//! One task per runtime keeps a list instead and sleeps until its earliest entry; an entry that its
//! call has replaced by then is skipped.

use std::{cmp::Reverse, collections::BinaryHeap, task::Waker, time::Instant};

use super::{
    pending::PendingCall,
    slab::{Key, Slab},
};
use crate::wake_list::replace_waker;

/// A list is swept when it has more than two entries per call, and this many.
const SLACK: usize = 64;

/// The timers of all calls, one list per timer task.
#[derive(Debug, Default)]
pub(super) struct Timers(Vec<TimerList>);

/// When the calls of one runtime are to be woken.
#[derive(Debug, Default)]
struct TimerList {
    /// An entry counts if it is the `timer_entry` of its call.
    entries: BinaryHeap<Reverse<(Instant, Key)>>,
    /// The task that waits for the earliest entry, and until when it sleeps.
    task: Option<Waker>,
    sleeps_until: Option<Instant>,
}

impl Timers {
    /// Has the timer task wake the call then, and not at the time that was set before. Gives the
    /// task's waker if it sleeps for too long.
    pub(super) fn set(
        &mut self,
        task: usize,
        key: Key,
        at: Instant,
        calls: &mut Slab<PendingCall>,
    ) -> Option<Waker> {
        let call = calls.get_mut(key).expect("the call is pending");
        call.wake_at = Some(at);
        // A later time gets its entry when the earlier one has come.
        let is_covered = |(list, first)| list == task && first <= at;
        if call.timer_entry.is_some_and(is_covered) {
            return None;
        }
        call.timer_entry = Some((task, at));
        let list = self.list(task);
        list.entries.push(Reverse((at, key)));
        let mut waker = None;
        if list.sleeps_until.is_none_or(|until| at < until) {
            list.sleeps_until = Some(at);
            waker = list.task.take();
        }
        if list.entries.len() > 2 * calls.len() + SLACK {
            list.entries.retain(|Reverse((at, key))| {
                let call = calls.get(*key);
                call.is_some_and(|call| call.timer_entry == Some((task, *at)))
            });
        }
        waker
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
        while let Some(Reverse((at, key))) = list.entries.peek().copied()
            && at <= now
        {
            list.entries.pop();
            let call = calls.get_mut(key);
            let Some(call) = call.filter(|call| call.timer_entry == Some((task, at))) else {
                continue;
            };
            call.timer_entry = None;
            match call.wake_at {
                Some(later) if later > now => {
                    call.timer_entry = Some((task, later));
                    list.entries.push(Reverse((later, key)));
                }
                _ => wakers.extend(call.waker.take()),
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
            if call
                .timer_entry
                .take_if(|(list, _)| *list == task)
                .is_some()
            {
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
        let slow = open(&mut mux, 0);
        mux.set_timer(0, slow, now + Duration::from_secs(1));
        for n in 1..10_000 {
            let key = open(&mut mux, n);
            mux.set_timer(0, key, now + Duration::from_secs(1));
            mux.remove(key, crate::mux::sessions::Disposition::Acknowledge);
            assert!(
                mux.timers.0[0].entries.len() <= SLACK + 8,
                "after {n} calls"
            );
        }
        let later = now + Duration::from_secs(2);
        mux.listen(slow, &Waker::from(Arc::new(Count::default())));
        mux.wakers.clear();
        assert_eq!(mux.handle_timeout(0, later, Waker::noop()), None);
        assert_eq!(mux.wakers.len(), 1, "the slow one is still there");
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
