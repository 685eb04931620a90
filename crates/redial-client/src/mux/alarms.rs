//! When calls are to be woken, whatever happens: their timeouts, deadlines and pauses.
//!
//! Almost every call is answered long before its time, so a timer for each would be set in vain. A
//! list is kept instead for one task per runtime, which sleeps until the earliest of them; what a
//! call wanted to be woken for that is over by then is skipped.

use std::{cmp::Reverse, collections::BinaryHeap, task::Waker, time::Instant};

use super::{Mux, replace, slab::Key};

/// Entries of calls that are over are swept out when there are as many as of others, and these.
const SLACK: usize = 64;

/// When the calls of one runtime are to be woken.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// What is not the `alarm` of its call any more counts for nothing.
    list: BinaryHeap<Reverse<(Instant, Key)>>,
    /// The task that looks after the list, and until when it sleeps.
    keeper: Option<Waker>,
    sleeps_until: Option<Instant>,
}

impl Mux {
    /// The call is to be woken then by the keeper of that list, unless it says something else
    /// before.
    pub(crate) fn wake_at(&mut self, keeper: usize, key: Key, at: Instant) {
        let call = self.calls.get_mut(key).expect("the call is pending");
        call.wakes_at = Some(at);
        // A later time is put into the list when the earlier one has come.
        if call
            .alarm
            .is_some_and(|(list, first)| list == keeper && first <= at)
        {
            return;
        }
        call.alarm = Some((keeper, at));
        let alarms = list_of(&mut self.alarms, keeper);
        alarms.list.push(Reverse((at, key)));
        if alarms.sleeps_until.is_none_or(|until| at < until) {
            alarms.sleeps_until = Some(at);
            self.woken.extend(alarms.keeper.take());
        }
        if alarms.list.len() > 2 * self.calls.len() + SLACK {
            let calls = &self.calls;
            alarms.list.retain(|Reverse((at, key))| {
                let call = calls.get(*key);
                call.is_some_and(|call| call.alarm == Some((keeper, *at)))
            });
        }
    }

    /// Wakes the calls whose time has come, and says until when the keeper may sleep. With nothing
    /// in its list it sleeps until it is woken, as it is for what is earlier.
    pub(crate) fn ring(&mut self, keeper: usize, now: Instant, waker: &Waker) -> Option<Instant> {
        let Self { alarms, calls, .. } = self;
        let alarms = list_of(alarms, keeper);
        while let Some(Reverse((at, key))) = alarms.list.peek().copied()
            && at <= now
        {
            alarms.list.pop();
            let call = calls.get_mut(key);
            let Some(call) = call.filter(|call| call.alarm == Some((keeper, at))) else {
                continue;
            };
            call.alarm = None;
            match call.wakes_at {
                Some(later) if later > now => {
                    call.alarm = Some((keeper, later));
                    alarms.list.push(Reverse((later, key)));
                }
                _ => self.woken.extend(call.waker.take()),
            }
        }
        alarms.sleeps_until = alarms.list.peek().map(|Reverse((at, _))| *at);
        self.woken.extend(replace(&mut alarms.keeper, waker));
        alarms.sleeps_until
    }

    /// The keeper is gone, with its runtime. Whoever relied on it looks for another.
    pub(crate) fn dismiss_keeper(&mut self, keeper: usize) {
        let Some(alarms) = self.alarms.get_mut(keeper) else {
            return;
        };
        let alarms = std::mem::take(alarms);
        self.woken.extend(alarms.keeper);
        for call in self.calls.values_mut() {
            if call.alarm.take_if(|(list, _)| *list == keeper).is_some() {
                self.woken.extend(call.waker.take());
            }
        }
    }
}

#[inline]
fn list_of(all: &mut Vec<Alarms>, keeper: usize) -> &mut Alarms {
    if all.len() <= keeper {
        all.resize_with(keeper + 1, Alarms::default);
    }
    &mut all[keeper]
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
    use crate::mux::tests::{mux, open};

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wake_all(mux: &mut Mux) {
        mux.woken.drain(..).for_each(Waker::wake);
    }

    #[test]
    fn calls_are_woken_when_their_latest_word_says_so() {
        let (mut mux, now) = mux(crate::Config::default());
        let ms = |ms| now + Duration::from_millis(ms);
        let keeper = Arc::new(Count::default());
        let calls = [(); 3].map(|()| Arc::new(Count::default()));
        let keys = [0, 1, 2].map(|n| open(&mut mux, n));
        for (key, call) in keys.iter().zip(&calls) {
            mux.listen(*key, &call.clone().into());
        }
        let woken = || [0, 1, 2].map(|n: usize| calls[n].0.load(Ordering::Relaxed));
        assert_eq!(mux.ring(0, now, &keeper.clone().into()), None);
        mux.wake_at(0, keys[0], ms(50));
        mux.wake_at(0, keys[1], ms(60));
        mux.wake_at(0, keys[2], ms(20));
        // Said again: one sooner, one later.
        mux.wake_at(0, keys[1], ms(30));
        mux.wake_at(0, keys[2], ms(70));
        wake_all(&mut mux);
        assert_eq!(keeper.0.load(Ordering::Relaxed), 1, "once for all of them");
        let waker = Waker::from(keeper);
        for (at, expected, next) in [
            (20, [0, 0, 0], Some(ms(30))),
            (30, [0, 1, 0], Some(ms(50))),
            (55, [1, 1, 0], Some(ms(60))),
            (60, [1, 1, 0], Some(ms(70))),
            (70, [1, 1, 1], None),
        ] {
            assert_eq!(mux.ring(0, ms(at), &waker), next, "at {at} ms");
            wake_all(&mut mux);
            assert_eq!(woken(), expected, "at {at} ms");
        }
    }

    #[test]
    fn the_list_does_not_grow_with_calls_that_are_over() {
        let (mut mux, now) = mux(crate::Config::default());
        let slow = open(&mut mux, 0);
        mux.wake_at(0, slow, now + Duration::from_secs(1));
        for n in 1..10_000 {
            let key = open(&mut mux, n);
            mux.wake_at(0, key, now + Duration::from_secs(1));
            mux.close(key, crate::mux::End::Done);
            assert!(mux.alarms[0].list.len() <= SLACK + 8, "after {n} calls");
        }
        let later = now + Duration::from_secs(2);
        mux.listen(slow, &Waker::from(Arc::new(Count::default())));
        mux.woken.clear();
        assert_eq!(mux.ring(0, later, Waker::noop()), None);
        assert_eq!(mux.woken.len(), 1, "the slow one is still there");
    }

    #[test]
    fn without_its_keeper_a_call_looks_for_another() {
        let (mut mux, now) = mux(crate::Config::default());
        let key = open(&mut mux, 0);
        mux.listen(key, &Waker::from(Arc::new(Count::default())));
        mux.wake_at(0, key, now + Duration::from_secs(1));
        mux.dismiss_keeper(0);
        assert_eq!(mux.woken.len(), 1);
        mux.wake_at(1, key, now + Duration::from_secs(1));
        assert_eq!(
            mux.ring(1, now, Waker::noop()),
            Some(now + Duration::from_secs(1))
        );
    }
}
