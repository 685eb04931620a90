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
        if self.alarms.len() <= keeper {
            self.alarms.resize_with(keeper + 1, Alarms::default);
        }
        let alarms = &mut self.alarms[keeper];
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
        let alarms = alarms.get_mut(keeper)?;
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
