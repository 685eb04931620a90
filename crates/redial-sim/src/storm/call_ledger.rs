//! The oracle of storms: it counts the effects of every call and how the call ended, and shares no code with
//! client or server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redial_client::CallError;
use serde::Serialize;

/// How many violations are listed one by one.
const LISTED: usize = 5;

/// What the caller of a call heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Ok,
    Failed,
    NotExecuted,
    Unknown,
}

/// All calls of a storm.
#[derive(Debug, Default)]
pub(crate) struct CallLedger(Mutex<Vec<Entered>>);

/// One call, by its place.
#[derive(Clone, Copy, Debug, Default)]
struct Entered {
    effects: u32,
    heard: Option<Heard>,
}

/// How many calls there were, and what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Calls that were begun.
    pub calls: u64,
    /// Those that gave a value.
    pub ok: u64,
    /// Those that certainly had no effect.
    pub not_executed: u64,
    /// Those of which the caller doesn't know whether they had one.
    pub unknown: u64,
    /// How often anything was executed.
    pub effects: u64,
    /// Calls that were executed more than once.
    pub repeated: u64,
}

impl From<&CallError> for Heard {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::NotExecuted { .. } => Self::NotExecuted,
            CallError::Failed { .. } => Self::Failed,
            CallError::Unknown { .. } => Self::Unknown,
        }
    }
}

impl CallLedger {
    /// Enters a call, and gives its number.
    pub(crate) fn begin(&self) -> u32 {
        let mut calls = self.lock();
        calls.push(Entered::default());
        u32::try_from(calls.len() - 1).expect("a storm has fewer calls")
    }

    /// The call has had its effect, once more.
    pub(crate) fn effect(&self, call: u32) {
        let (mut calls, at) = (self.lock(), call as usize);
        if calls.len() <= at {
            // It was begun in another process.
            calls.resize(at + 1, Entered::default());
        }
        calls[at].effects += 1;
    }

    /// How many effects each call has had, by its number.
    pub(crate) fn effects(&self) -> Vec<u32> {
        self.lock().iter().map(|call| call.effects).collect()
    }

    /// Calls have had these effects in another process.
    pub(crate) fn add_effects(&self, effects: &[u32]) {
        let mut calls = self.lock();
        for (call, effects) in calls.iter_mut().zip(effects) {
            call.effects += effects;
        }
    }

    /// The caller has heard this.
    pub(crate) fn end(&self, call: u32, heard: Heard) {
        self.lock()[call as usize].heard = Some(heard);
    }

    pub(crate) fn count(&self) -> Count {
        let calls = self.lock();
        let heard = |what| calls.iter().filter(|call| call.heard == Some(what)).count() as u64;
        Count {
            calls: calls.len() as u64,
            ok: heard(Heard::Ok),
            not_executed: heard(Heard::NotExecuted),
            unknown: heard(Heard::Unknown),
            effects: calls.iter().map(|call| u64::from(call.effects)).sum(),
            repeated: calls.iter().filter(|call| call.effects > 1).count() as u64,
        }
    }

    /// What is wrong, once nothing runs any more. Without Redial's ids a call may be executed as often as it is
    /// sent, but what is said about it still has to be true.
    pub(crate) fn violations(&self, is_exactly_once: bool) -> Vec<String> {
        let calls = self.lock();
        let wrong = |(number, call): (usize, &Entered)| {
            let problem = call.problem(is_exactly_once)?;
            Some(format!("call {number} {problem}: {} effects", call.effects))
        };
        let mut all = calls.iter().enumerate().filter_map(wrong);
        let mut listed: Vec<_> = all.by_ref().take(LISTED).collect();
        let rest = all.count();
        listed.extend((rest > 0).then(|| format!("and {rest} calls more")));
        listed
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    fn problem(self, is_exactly_once: bool) -> Option<&'static str> {
        let Self { effects, heard } = self;
        match heard {
            None => Some("never ended"),
            _ if is_exactly_once && effects > 1 => Some("was executed more than once"),
            Some(Heard::Ok) if effects == 0 => Some("is ok"),
            // No handler of a storm fails.
            Some(Heard::Failed) => Some("failed"),
            Some(Heard::NotExecuted) if is_exactly_once && effects > 0 => {
                Some("was not executed, its caller heard")
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(effects: u32, heard: Option<Heard>, is_exactly_once: bool) -> usize {
        let ledger = CallLedger::default();
        let call = ledger.begin();
        (0..effects).for_each(|_| ledger.effect(call));
        heard.into_iter().for_each(|heard| ledger.end(call, heard));
        ledger.violations(is_exactly_once).len()
    }

    /// A checker that finds nothing wrong whatever happens.
    #[test]
    fn each_broken_promise_is_found() {
        for (effects, heard, found) in [
            (1, Some(Heard::Ok), 0),
            (0, Some(Heard::NotExecuted), 0),
            (0, Some(Heard::Unknown), 0),
            (1, Some(Heard::Unknown), 0),
            (0, Some(Heard::Ok), 1),
            (2, Some(Heard::Ok), 1),
            (2, Some(Heard::Unknown), 1),
            (1, Some(Heard::NotExecuted), 1),
            (1, Some(Heard::Failed), 1),
            (1, None, 1),
        ] {
            assert_eq!(
                violations(effects, heard, true),
                found,
                "{effects} {heard:?}"
            );
        }
        assert_eq!(violations(2, Some(Heard::Ok), false), 0);
        assert_eq!(violations(0, Some(Heard::Ok), false), 1);
    }

    #[test]
    fn many_violations_are_not_told_one_by_one() {
        let ledger = CallLedger::default();
        for _ in 0..100 {
            ledger.begin();
        }
        let listed = ledger.violations(true);
        assert_eq!(listed.len(), LISTED + 1);
        assert_eq!(listed[LISTED], "and 95 calls more");
    }
}
