//! A database that makes calls durable in groups, and whose commits take forty times as long for a while: a
//! disk that does something else. What waits for it then is more than it can do for its callers.

use std::{sync::Arc, time::Duration};

use super::{calls, members, ms, secs, settle};
use crate::storm::{
    commit::GroupCommit,
    figures::{Bound, CallRecords, Figure, Unit},
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Site},
};

/// 3,200 calls a second, and 80.
const COMMIT: Duration = ms(5);
const SLOW: Duration = ms(200);
/// Calls a second.
const LOAD: f64 = 2_000.0;
const SLOW_AT: Duration = secs(10);
const SLOW_UNTIL: Duration = secs(15);
const END: Duration = secs(30);
const PATIENCE: Duration = secs(2);
/// How many clients make these calls at most.
const CLIENTS: u32 = 500;

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let database = GroupCommit::start(COMMIT, ground.ledger.clone());
    let sites = [Site::open(ground, 0, Backend::Database(database.clone()))];
    let members = members(ground, ground.clients(CLIENTS), &sites);
    let (hold, ends) = Ends::new();
    ground.mark(SLOW_AT, SLOW_UNTIL, "a commit takes 200 ms instead of 5");
    tokio::spawn({
        let start = ground.start;
        async move {
            tokio::time::sleep_until(start + SLOW_AT).await;
            database.set_commit(SLOW);
            tokio::time::sleep_until(start + SLOW_UNTIL).await;
            database.set_commit(COMMIT);
        }
    });
    let work = Work::watched(PATIENCE);
    calls(ground, &members, work, END, |_| LOAD, &hold).await;
    settle(ground, hold, ends, &sites).await;
    figures(ground)
}

fn figures(ground: &Ground) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let slow = SLOW_AT + secs(1)..SLOW_UNTIL;
    let goodput = calls.goodput(&slow) / GroupCommit::capacity(SLOW);
    let back = calls.back_after(SLOW_UNTIL, END, GroupCommit::capacity(COMMIT));
    vec![
        Figure::wanted(
            "back at full goodput",
            Unit::Seconds,
            back,
            Bound::AtMost(2.0),
        ),
        Figure::told("goodput meanwhile", Unit::Share, Some(goodput)),
    ]
}
