//! The counters are linearizable: there is an order of all operations that explains every value
//! and in which whatever was over before something else began comes first.
//!
//! Additions commute, but each returns the value that it made, and deltas are positive: the order
//! of the values is the only order there can be. So it is enough to compare it with real time,
//! in one pass, where a checker of registers would have to search. An addition that nobody was told
//! of has its place too, at any time after its call began.

use std::collections::BTreeMap;

use super::{
    Violation,
    books::{Books, Place},
    violation,
};
use crate::journal::{Change, End};

/// Something that was done to a counter.
struct Operation {
    tag: u32,
    from: Place,
    /// Where its caller was told, if it was.
    to: Option<Place>,
    value: i64,
    reads: bool,
}

pub(super) fn check(books: &Books, found: &mut Vec<Violation>) {
    let (mut counters, mut effects) = (BTreeMap::new(), BTreeMap::new());
    for (tag, account) in &books.calls {
        let Some(from) = account.seen else { continue };
        let told = |value: i64| {
            let ends = account.waits.iter().filter_map(|wait| wait.end.as_ref());
            let mut ends = ends.filter(|(_, end)| *end == End::Ok(value));
            ends.next().map(|(when, _)| when.place)
        };
        for (when, effect) in &account.effects {
            let operation = Operation {
                tag: *tag,
                from,
                to: told(effect.value),
                value: effect.value,
                reads: false,
            };
            put(&mut counters, effect.key, operation);
            put(&mut effects, effect.key, (when.place, *tag, *effect));
        }
        if account.is_query() {
            for (key, operation) in reads(*tag, &account.waits) {
                put(&mut counters, key, operation);
            }
        }
    }
    for effects in effects.values_mut() {
        effects.sort_by_key(|(place, ..)| *place);
        adds_up(effects, found);
    }
    for operations in counters.values_mut() {
        in_order(operations, found);
    }
}

fn put<T>(map: &mut BTreeMap<u32, Vec<T>>, key: u32, value: T) {
    map.entry(key).or_default().push(value);
}

fn reads(tag: u32, waits: &[super::books::Wait]) -> impl Iterator<Item = (u32, Operation)> {
    waits.iter().filter_map(move |wait| match wait.end {
        Some((to, End::Ok(value))) => Some((
            wait.what.key,
            Operation {
                tag,
                from: wait.from.place,
                to: Some(to.place),
                value,
                reads: true,
            },
        )),
        _ => None,
    })
}

/// Each addition starts from where the one before it ended.
fn adds_up(effects: &[(Place, u32, Change)], found: &mut Vec<Violation>) {
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
    let mut made: Vec<(i64, Place)> = operations
        .iter()
        .filter(|operation| !operation.reads)
        .map(|operation| (operation.value, operation.from))
        .collect();
    made.sort_unstable();
    let mut over: Vec<_> = operations
        .iter()
        .filter(|operation| operation.to.is_some())
        .collect();
    over.sort_by_key(|operation| operation.to);
    let (mut over, mut highest) = (over.into_iter().peekable(), None::<&Operation>);
    for operation in operations.iter() {
        while let Some(ended) = over.next_if(|ended| ended.to < Some(operation.from)) {
            highest = highest
                .filter(|highest| highest.value >= ended.value)
                .or(Some(ended));
        }
        let least = highest.map_or(0, |highest| highest.value);
        let is_late = match operation.reads {
            true => operation.value < least,
            false => operation.value <= least,
        };
        if let (true, Some(highest)) = (is_late, highest) {
            let detail = format!(
                "its value is {}, and call {} was over before it began, with {}",
                operation.value, highest.tag, highest.value
            );
            found.push(violation("linearizable", operation.tag, detail));
        }
        if operation.reads && !was_there(&made, operation) {
            let detail = format!("it read {}, which nobody had made", operation.value);
            found.push(violation("linearizable", operation.tag, detail));
        }
    }
}

/// Whether a value that was read is that of an addition which had begun by the end of the read.
fn was_there(made: &[(i64, Place)], read: &Operation) -> bool {
    let began = made.binary_search_by_key(&read.value, |(value, _)| *value);
    read.value == 0 || began.is_ok_and(|at| Some(made[at].1) < read.to)
}
