//! One endpoint of ten becomes ten times slower. It answers, so it is not dead; but nothing should wait for it.

use std::{sync::Arc, time::Duration};

use super::{calls, members, ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit, times},
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Site},
    workers::Workers,
};

const ENDPOINTS: u32 = 10;
/// 800 calls a second, at each.
const WORKERS: usize = 4;
const SERVICE: Duration = ms(5);
const SLOW: Duration = ms(50);
/// Calls a second, of all clients: half of what all endpoints can do.
const LOAD: f64 = 4_000.0;
const SLOW_AT: Duration = secs(10);
const END: Duration = secs(25);
const SETTLING: Duration = secs(1);
const PATIENCE: Duration = secs(2);
/// How many clients make these calls at most: each has to find out by itself.
const CLIENTS: u32 = 100;

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let workers: Vec<_> = (0..ENDPOINTS)
        .map(|_| Workers::new(WORKERS, SERVICE))
        .collect();
    let site = |(number, workers): (u32, &Workers)| {
        Site::open(ground, number, Backend::Workers(workers.clone()))
    };
    let sites: Vec<_> = (0..).zip(&workers).map(site).collect();
    let members = members(ground, ground.clients(CLIENTS), &sites);
    let (hold, ends) = Ends::new();
    ground.mark(SLOW_AT, END, "one endpoint of ten is ten times slower");
    tokio::spawn({
        let (slow, start) = (workers[0].clone(), ground.start);
        async move {
            tokio::time::sleep_until(start + SLOW_AT).await;
            slow.set_service(SLOW);
        }
    });
    let work = Work::watched(PATIENCE);
    calls(ground, &members, work, END, |_| LOAD, &hold).await;
    settle(ground, hold, ends, &sites).await;
    figures(ground)
}

fn figures(ground: &Ground) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let (before, slow) = (SETTLING..SLOW_AT, SLOW_AT + SETTLING..END);
    let p99 = |within| calls.slowest(within, 0.99);
    let ratio = times(p99(&slow), p99(&before));
    vec![
        Figure::wanted("p99, of without it", Unit::Times, ratio, Bound::AtMost(1.5)),
        Figure::told("ok", Unit::Share, calls.good(&slow)),
    ]
}
