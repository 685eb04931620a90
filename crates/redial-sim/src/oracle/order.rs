//! The counters are linearizable: some order of all operations explains every value, and agrees
//! with real time.
//!
//! Additions commute, but each returns the value that it made, and deltas are positive: the order
//! of the values is the only candidate. Comparing it with real time takes one pass, where a checker
//! of registers would have to search. An addition whose result no caller heard may take place at
//! any time after its call began.

use std::collections::BTreeMap;

use super::{
    Violation,
    history::{History, Position},
    violation,
};
use crate::journal::{Change, End};

/// An addition to a counter, or a read of it.
struct Operation {
    tag: u32,
    from: Position,
    /// Where its caller heard the result, if it did.
    to: Option<Position>,
    value: i64,
    reads: bool,
}

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    let (mut counters, mut effects) = (BTreeMap::new(), BTreeMap::new());
    for (tag, call) in &history.calls {
        let Some(from) = call.seen else { continue };
        let heard = |value: i64| {
            let ends = call.waits.iter().filter_map(|wait| wait.end.as_ref());
            let mut ends = ends.filter(|(_, end)| *end == End::Ok(value));
            ends.next().map(|(when, _)| when.position)
        };
        for (when, effect) in &call.effects {
            let operation = Operation {
                tag: *tag,
                from,
                to: heard(effect.value),
                value: effect.value,
                reads: false,
            };
            put(&mut counters, effect.key, operation);
            put(&mut effects, effect.key, (when.position, *tag, *effect));
        }
        if call.is_query() {
            for (key, operation) in reads(*tag, &call.waits) {
                put(&mut counters, key, operation);
            }
        }
    }
    for effects in effects.values_mut() {
        effects.sort_by_key(|(position, ..)| *position);
        adds_up(effects, found);
    }
    for operations in counters.values_mut() {
        in_order(operations, found);
    }
}

fn put<T>(map: &mut BTreeMap<u32, Vec<T>>, key: u32, value: T) {
    map.entry(key).or_default().push(value);
}

fn reads(tag: u32, waits: &[super::history::Wait]) -> impl Iterator<Item = (u32, Operation)> {
    waits.iter().filter_map(move |wait| match wait.end {
        Some((to, End::Ok(value))) => Some((
            wait.what.key,
            Operation {
                tag,
                from: wait.from.position,
                to: Some(to.position),
                value,
                reads: true,
            },
        )),
        _ => None,
    })
}

/// Each addition starts from the value of the one before.
fn adds_up(effects: &[(Position, u32, Change)], found: &mut Vec<Violation>) {
    let mut before = 0;
    for (_, tag, effect) in effects {
        if effect.value != before + effect.delta {
            let detail = format!("{effect:?}, and the counter was {before}");
            found.push(violation("additions add up", *tag, detail));
        }
        before = effect.value;
    }
}

/// The order of the values agrees with real time.
fn in_order(operations: &mut [Operation], found: &mut Vec<Violation>) {
    operations.sort_by_key(|operation| operation.from);
    let mut made: Vec<(i64, Position)> = operations
        .iter()
        .filter(|operation| !operation.reads)
        .map(|operation| (operation.value, operation.from))
        .collect();
    made.sort_unstable();
    let mut ended: Vec<_> = operations
        .iter()
        .filter(|operation| operation.to.is_some())
        .collect();
    ended.sort_by_key(|operation| operation.to);
    let (mut ended, mut highest) = (ended.into_iter().peekable(), None::<&Operation>);
    for operation in operations.iter() {
        while let Some(earlier) = ended.next_if(|earlier| earlier.to < Some(operation.from)) {
            highest = highest
                .filter(|highest| highest.value >= earlier.value)
                .or(Some(earlier));
        }
        let least = highest.map_or(0, |highest| highest.value);
        let is_too_low = if operation.reads {
            operation.value < least
        } else {
            operation.value <= least
        };
        if let Some(highest) = highest.filter(|_| is_too_low) {
            let detail = format!(
                "its value is {}, and call {} ended before it began, with {}",
                operation.value, highest.tag, highest.value
            );
            found.push(violation("linearizable", operation.tag, detail));
        }
        if operation.reads && !was_made(&made, operation) {
            let detail = format!("it read {}, which no addition had made", operation.value);
            found.push(violation("linearizable", operation.tag, detail));
        }
    }
}

/// Whether an addition that began before the end of the read made its value.
fn was_made(made: &[(i64, Position)], read: &Operation) -> bool {
    let began = made.binary_search_by_key(&read.value, |(value, _)| *value);
    read.value == 0 || began.is_ok_and(|at| Some(made[at].1) < read.to)
}
