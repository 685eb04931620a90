//! A server is restarted, and all clients come back at once: each needs a connection and a session before it
//! can call. The server takes so many connections a second, as many as handshakes let it.

use std::{sync::Arc, time::Duration};

use super::{members, ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit},
    fleet::Fleet,
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Gate, Site},
    workers::Workers,
};

const WORKERS: usize = 32;
const SERVICE: Duration = ms(1);
/// 4,000 connections a second, of which as many wait as a listener's backlog has by default.
const GATE: Gate = Gate {
    each: Duration::from_micros(250),
    backlog: 4_096,
};
/// The clients come one after the other at first.
const COMING: Duration = secs(10);
const CRASH: Duration = secs(12);
const DOWN: Duration = secs(1);
const END: Duration = secs(30);
/// Each client has a call to make while the server is away.
const PATIENCE: Duration = secs(20);

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let backend = Backend::Workers(Workers::new(WORKERS, SERVICE));
    let sites = [Site::behind(ground, 0, backend, Some(GATE))];
    let count = ground.conditions.clients;
    let members = members(ground, count, &sites);
    let (hold, ends) = Ends::new();
    let up = CRASH + DOWN;
    ground.mark(CRASH, up, "the server is away");
    let work = Work::watched(PATIENCE);
    for (number, member) in (0..).zip(&members) {
        tokio::time::sleep_until(ground.start + COMING * number / count).await;
        member.begin(ground, work, &hold);
    }
    tokio::time::sleep_until(ground.start + CRASH).await;
    sites[0].crash();
    let mut rng = ground.rng(0);
    let mut moments: Vec<_> = members.iter().map(|_| rng.ms(0..=999)).collect();
    moments.sort_unstable();
    for (moment, member) in moments.into_iter().zip(&members) {
        tokio::time::sleep_until(ground.start + CRASH + moment).await;
        member.begin(ground, work, &hold);
    }
    tokio::time::sleep_until(ground.start + up).await;
    sites[0].start();
    tokio::time::sleep_until(ground.start + END).await;
    settle(ground, hold, ends, &sites).await;
    figures(ground)
}

fn figures(ground: &Ground) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let (crash, up) = (CRASH..END, CRASH + DOWN);
    let good = calls.begun(&crash).filter(|call| call.is_good);
    let last = good.map(|call| call.ended.saturating_sub(up)).max();
    let served = last.map(|last| last.as_secs_f64());
    let refused = calls.begun(&crash).filter(|call| !call.is_good).count() as f64;
    let (all, for_good) = ("all served after", "refused for good");
    match ground.fleet() {
        Fleet::Naive => vec![
            Figure::told(all, Unit::Seconds, served.filter(|_| refused == 0.0)),
            Figure::told(for_good, Unit::Count, Some(refused)),
        ],
        Fleet::Redial => vec![
            Figure::wanted(all, Unit::Seconds, served, Bound::AtMost(5.0)),
            Figure::wanted(for_good, Unit::Count, Some(refused), Bound::AtMost(0.0)),
        ],
    }
}
