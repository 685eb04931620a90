//! Every call takes longer than an attempt may: the server becomes slow without being short of anything. Each
//! retry that is a call of its own is work for nothing.

use std::{sync::Arc, time::Duration};

use super::{calls, members, ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit},
    fleet::Fleet,
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Site},
    workers::Workers,
};

/// More than are needed for the slow calls, if each is executed once.
const WORKERS: usize = 200;
const SERVICE: Duration = ms(20);
/// Longer than the timeout of an attempt, of either fleet.
const SLOW: Duration = ms(1_200);
/// Calls a second.
const LOAD: f64 = 100.0;
const SLOW_AT: Duration = secs(10);
const SLOW_UNTIL: Duration = secs(30);
const END: Duration = secs(45);
const PATIENCE: Duration = secs(2);
/// How many clients make these calls at most.
const CLIENTS: u32 = 100;

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let workers = Workers::new(WORKERS, SERVICE);
    let sites = [Site::open(ground, 0, Backend::Workers(workers.clone()))];
    let members = members(ground, ground.clients(CLIENTS), &sites);
    let (hold, ends) = Ends::new();
    ground.mark(SLOW_AT, SLOW_UNTIL, "a call takes 1.2 s");
    tokio::spawn({
        let start = ground.start;
        async move {
            tokio::time::sleep_until(start + SLOW_AT).await;
            workers.set_service(SLOW);
            tokio::time::sleep_until(start + SLOW_UNTIL).await;
            workers.set_service(SERVICE);
        }
    });
    let work = Work::watched(PATIENCE);
    calls(ground, &members, work, END, |_| LOAD, &hold).await;
    settle(ground, hold, ends, &sites).await;
    figures(ground)
}

fn figures(ground: &Ground) -> Vec<Figure> {
    let (calls, count) = (CallRecords::of(ground), ground.ledger.count());
    let slow = SLOW_AT + secs(1)..SLOW_UNTIL;
    let ok = calls.good(&slow);
    let executions = count.effects as f64 / count.calls.max(1) as f64;
    let retries = calls.retries(&slow);
    let ok_name = "ok while all are slow";
    vec![
        match ground.fleet() {
            Fleet::Naive => Figure::told(ok_name, Unit::Share, ok),
            Fleet::Redial => Figure::wanted(ok_name, Unit::Share, ok, Bound::AtLeast(0.99)),
        },
        Figure::wanted(
            "executions per call",
            Unit::Times,
            Some(executions),
            Bound::AtMost(1.0),
        ),
        Figure::told("retries per call", Unit::Times, retries),
    ]
}
