//! Several addresses: a call is executed by one table alone, whatever the client has to go on with, and ends as
//! *unknown* only where its table is gone or can't be reached. Where nothing goes wrong but with servers and
//! addresses, a server that can be reached answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Violation,
    history::{CallHistory, History, Position, Wait},
    shared::is_forged,
    violation,
};
use crate::journal::{End, Method, Way};

/// How long a table has to be within reach until a client that does not give up has an answer of it.
const REACH: Duration = Duration::from_secs(4);

/// How long before its deadline a call may end, since no pause is worth while any more.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The only table, where servers share one.
const SHARED: u32 = 0;

pub(super) fn check(history: &History, found: &mut Vec<Violation>) {
    if !history.has_endpoints {
        return;
    }
    for (tag, call) in history.calls.iter().filter(|(_, call)| !call.is_query()) {
        if let Some(detail) = executed_by_two(history, call) {
            found.push(violation(
                "a call is executed by one table alone",
                *tag,
                detail,
            ));
        }
        let is_judged = history.is_patient && !call.is_plain && !is_forged(history, call);
        let waits = call.waits.iter().filter(|_| is_judged);
        for wait in waits.filter(|wait| wait.what.way == Way::Call) {
            found.extend(given_up(history, *tag, call, wait));
        }
    }
}

/// The table of a life of a server.
fn table(history: &History, life: u32) -> u32 {
    if history.is_shared { SHARED } else { life }
}

fn executed_by_two(history: &History, call: &CallHistory) -> Option<String> {
    // A handler that reports no effect may run again anywhere.
    if call.method == Some(Method::NoEffect) {
        return None;
    }
    // No server knows plain ids of the one before it at its address.
    let is_excused = call.is_plain && leads_to_several(history, call);
    let whose = |life: u32| match history.started.get(&life) {
        Some(server) if call.is_plain && !history.is_shared => *server,
        _ => table(history, life),
    };
    // A copy of a refused call with a plain id may run: refusals are not recorded there.
    let copied = call
        .copied
        .filter(|_| call.is_plain)
        .unwrap_or(Position::MAX);
    let begun = call.begun.iter().filter(|begun| begun.position < copied);
    let tables: BTreeSet<_> = begun.map(|begun| whose(begun.life)).collect();
    let lives = call.begun.iter().map(|begun| (begun.at, begun.life));
    (tables.len() > 1 && !is_excused)
        .then(|| format!("it began at, in lives: {:?}", lives.collect::<Vec<_>>()))
}

/// Whether some address that the call was sent to has led to several servers.
fn leads_to_several(history: &History, call: &CallHistory) -> bool {
    let all = history.accepted.values();
    let mut servers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (_, address, life) in all {
        let server = history.started.get(life);
        servers.entry(address).or_default().insert(server);
    }
    let mut own = sent_to(history, call, Position::MAX);
    own.any(|(_, address, _)| servers[&address].len() > 1)
}

/// Where, to which address, and to which life the client has sent the call before a position.
fn sent_to<'a>(
    history: &'a History,
    call: &'a CallHistory,
    before: Position,
) -> impl Iterator<Item = (Position, Option<u32>, u32)> + 'a {
    let sent = call.sent.iter().filter(move |(at, _)| *at < before);
    sent.filter_map(|(at, wire)| {
        let (_, address, life) = history.accepted.get(wire)?;
        Some((*at, *address, *life))
    })
}

/// A patient client has given a call up, and should not have.
fn given_up(history: &History, tag: u32, call: &CallHistory, wait: &Wait) -> Option<Violation> {
    let (when, end) = wait.end.as_ref()?;
    let took = when.at - wait.from.at;
    // To get the token of a call may take as long as the call.
    let times = if wait.what.is_saved { 2 } else { 1 };
    let deadline = wait.what.deadline / times;
    let is_in_time = took + LAST_PAUSE < deadline;
    let broken = |rule, why: &String| {
        let detail = format!("after {took:?} of {deadline:?}: {why}");
        Some(violation(rule, tag, detail))
    };
    // A handler that reports no effect ends the call, and says nothing of its other attempts.
    let ends_itself = call.method == Some(Method::NoEffect);
    match end {
        End::Unknown(why) if !history.is_shared && is_in_time && !ends_itself => {
            let rule = "unknown only when its table is gone or out of reach";
            if is_home_lost(history, call, when.position) {
                return None;
            }
            broken(rule, why)
        }
        End::Unknown(why) if history.is_smooth && !ends_itself => {
            let homes: BTreeSet<_> = sent_to(history, call, when.position)
                .map(|(.., life)| table(history, life))
                .collect();
            let is_reached = |reachable: &[(u32, u32)]| {
                let tables: BTreeSet<_> = reachable.iter().map(|(_, table)| *table).collect();
                tables.is_superset(&homes)
            };
            if is_in_time || !always(history, when.at, is_reached) {
                return None;
            }
            broken("a table within reach answers", why)
        }
        // A call that has one id for good ends with its session.
        End::NotExecuted(why) if history.is_smooth && !ends_itself && !wait.what.is_saved => {
            if !always(history, when.at, |reachable| !reachable.is_empty()) {
                return None;
            }
            broken("a server within reach takes calls", why)
        }
        _ => None,
    }
}

/// Whether this was so for long enough, until then.
fn always(history: &History, until: Duration, is_so: impl Fn(&[(u32, u32)]) -> bool) -> bool {
    let from = until.saturating_sub(REACH);
    let states = &history.reachable;
    let first = states.partition_point(|(at, _)| *at <= from).max(1) - 1;
    let mut during = states[first..].iter().take_while(|(at, _)| *at <= until);
    during.all(|(_, reachable)| is_so(reachable))
}

/// Whether a server that the call was sent to has ended by then, or its address has led to another one, too, or
/// is listed no longer while another one leads to that server, and to others, too.
fn is_home_lost(history: &History, call: &CallHistory, end: Position) -> bool {
    let begun = call.seen.unwrap_or_default();
    sent_to(history, call, end).any(|(_, address, life)| {
        let leads_elsewhere = |from: Position, address: Option<u32>| {
            let mut accepted = history.accepted.values();
            accepted.any(|(at, other, elsewhere)| {
                *other == address && *elsewhere != life && (from..end).contains(at)
            })
        };
        let is_unlisted = || {
            let lists = &history.listed;
            let first = lists.partition_point(|(at, _)| *at <= begun).max(1) - 1;
            let mut during = lists[first..].iter().take_while(|(at, _)| *at < end);
            during.any(|(_, listed)| !listed.iter().any(|one| Some(*one) == address))
        };
        let leads_there_too = || {
            let before = history.accepted.values().filter(|(at, ..)| *at < end);
            let mut alike = before.filter(|(.., other)| *other == life);
            alike.any(|(_, other, _)| *other != address && leads_elsewhere(0, *other))
        };
        // Another connection to a balancer may stand already.
        leads_elsewhere(0, address)
            || history.ended.get(&life).is_some_and(|at| *at < end)
            || is_unlisted() && leads_there_too()
    })
}
