//! One endpoint of ten dies without a word: what is sent to it disappears. Clients have to find out, and to
//! leave it alone.

use std::{sync::Arc, time::Duration};

use super::{calls, members, ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit, share},
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Site},
    workers::Workers,
};

const ENDPOINTS: u32 = 10;
/// 800 calls a second, at each.
const WORKERS: usize = 4;
const SERVICE: Duration = ms(5);
/// Calls a second, of all clients.
const LOAD: f64 = 2_000.0;
const DEATH: Duration = secs(10);
const END: Duration = secs(40);
const PATIENCE: Duration = secs(5);
/// A call that takes longer than this has met the dead one.
const TOUCHED: Duration = ms(250);
/// How many clients make these calls at most: each has to find out by itself.
const CLIENTS: u32 = 20;

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let sites = endpoints(ground, ENDPOINTS);
    let members = members(ground, ground.clients(CLIENTS), &sites);
    let (hold, ends) = Ends::new();
    ground.mark(DEATH, END, "one endpoint of ten is dead");
    let work = Work::watched(PATIENCE);
    tokio::spawn({
        let (dead, start) = (sites[0].clone(), ground.start);
        async move {
            tokio::time::sleep_until(start + DEATH).await;
            dead.die();
        }
    });
    calls(ground, &members, work, END, |_| LOAD, &hold).await;
    settle(ground, hold, ends, &sites).await;
    figures(ground)
}

fn endpoints(ground: &Arc<Ground>, count: u32) -> Vec<Site> {
    let site = |number| {
        let workers = Workers::new(WORKERS, SERVICE);
        Site::open(ground, number, Backend::Workers(workers))
    };
    (0..count).map(site).collect()
}

fn figures(ground: &Ground) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let dead = DEATH..END;
    let touched = share(calls.begun(&dead), |call| {
        !call.is_good || !call.retries.is_empty() || call.ended - call.begun > TOUCHED
    });
    let bad = calls.begun(&dead).filter(|call| !call.is_good).count() as f64;
    vec![
        Figure::wanted("calls touched", Unit::Share, touched, Bound::AtMost(0.005)),
        Figure::told("calls that failed", Unit::Count, Some(bad)),
    ]
}
