//! A stall at 93 % of capacity. Where each call that has timed out is sent again as a new one, the server then
//! has twice the load, does nothing but what its callers have given up, and never comes back (Bronson et al.,
//! "Metastable Failures in Distributed Systems", HotOS '21).

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::time::sleep_until;

use super::{calls, members, ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit},
    fleet::Fleet,
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Site},
    workers::Workers,
};

/// 300 calls a second.
const WORKERS: usize = 3;
const SERVICE: Duration = ms(10);
/// Calls a second.
const LOAD: f64 = 280.0;
/// When it stalls, for how long, and when the storm ends.
const TIMES: [Duration; 3] = [secs(10), secs(5), secs(60)];
const REAL_TIMES: [Duration; 3] = [secs(4), secs(4), secs(24)];
const PATIENCE: Duration = secs(2);
/// How many clients make these calls at most.
const CLIENTS: u32 = 1_000;

pub(super) fn backend(ground: &Ground) -> Backend {
    Backend::Workers(Workers::new(WORKERS, SERVICE).real(ground.is_real()))
}

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let [stall_at, stall, end] = ground.or_real(TIMES, REAL_TIMES);
    let sites = [Site::open(ground, 0, backend(ground))];
    let members = members(ground, ground.clients(CLIENTS), &sites);
    let (hold, ends) = Ends::new();
    ground.mark(stall_at, stall_at + stall, "nothing gets on");
    tokio::spawn({
        let (start, site) = (ground.start, sites[0].clone());
        async move {
            sleep_until(start + stall_at).await;
            site.stall(stall).await;
        }
    });
    let work = Work::watched(PATIENCE);
    calls(ground, &members, work, end, |_| LOAD, &hold).await;
    settle(ground, hold, ends, &sites).await;
    figures(ground, stall_at..stall_at + stall, end)
}

fn figures(ground: &Ground, stall: Range<Duration>, end: Duration) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let back = calls.back_after(stall.end, end, WORKERS as f64 / SERVICE.as_secs_f64());
    let good = calls.good(&(end - end / 6..end));
    let retries = calls.retries(&(stall.start..end));
    let (name, in_the_end) = ("back at full goodput", "ok in the end");
    let judged = match ground.fleet() {
        Fleet::Naive => [
            Figure::told(name, Unit::Seconds, back),
            // A fleet that comes back by itself would prove nothing.
            Figure::wanted(in_the_end, Unit::Share, good, Bound::AtMost(0.1)),
        ],
        Fleet::Redial => [
            Figure::wanted(name, Unit::Seconds, back, Bound::AtMost(2.0)),
            Figure::wanted(in_the_end, Unit::Share, good, Bound::AtLeast(0.99)),
        ],
    };
    let [back, good] = judged;
    let soon = stall.end + secs(2);
    let meanwhile = calls.good(&(soon..soon + secs(5)));
    let meanwhile = Figure::told("ok 2 s to 7 s after it", Unit::Share, meanwhile);
    let retries = Figure::told("retries per call", Unit::Times, retries);
    vec![back, meanwhile, good, retries]
}
