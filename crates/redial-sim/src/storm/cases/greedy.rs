//! One principal of eight sends twelve times its share, so that there is twice as much as the server can do. The
//! others have half of theirs, and are not to notice.

use std::{sync::Arc, time::Duration};

use redial_server::Principal;

use super::{ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit, share, times},
    ground::{Ends, Ground},
    load::open_loop,
    member::{Member, Work},
    recorder::Cohort,
    site::{Backend, Site},
    workers::Workers,
};

/// 800 calls a second.
const WORKERS: usize = 16;
const SERVICE: Duration = ms(20);
const CAPACITY: f64 = 800.0;
const PRINCIPALS: u32 = 8;
/// What the others send of their shares, and what the greedy one does.
const MODEST: f64 = 0.5;
const GREEDY: f64 = 12.0;
/// When the greedy one comes.
const ALONE: Duration = secs(15);
const REAL_ALONE: Duration = secs(8);
/// How long after a change it is not yet looked at.
const SETTLING: Duration = secs(2);
const PATIENCE: Duration = secs(2);
/// How many clients there are at most.
const CLIENTS: u32 = 400;

pub(super) fn backend(ground: &Ground) -> Backend {
    Backend::Workers(Workers::new(WORKERS, SERVICE).real(ground.is_real()))
}

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let alone = ground.or_real(ALONE, REAL_ALONE);
    let end = 2 * alone;
    let sites = [Site::open(ground, 0, backend(ground))];
    let clients = ground.clients(CLIENTS).max(PRINCIPALS);
    let members: Vec<_> = (0..clients)
        .map(|number| {
            let name = Principal::new(&format!("principal-{}", number % PRINCIPALS));
            Member::new(ground, number, &sites, Some(&name.expect("it is a name")))
        })
        .collect();
    let (greedy, others): (Vec<_>, Vec<_>) = (0..)
        .zip(members)
        .partition(|(number, _)| number % PRINCIPALS == 0);
    let (hold, ends) = Ends::new();
    ground.mark(alone, end, "one principal sends 12 times its share");
    let share = CAPACITY / f64::from(PRINCIPALS);
    let of_others = MODEST * share * f64::from(PRINCIPALS - 1);
    let work = Work::watched(PATIENCE);
    let watched = open_loop(
        ground,
        0,
        end,
        |_| of_others,
        |rng| {
            let at = rng.number(0..=others.len() as u64 - 1) as usize;
            others[at].1.begin(ground, work, &hold);
        },
    );
    let work = Work {
        cohort: Cohort::Other,
        ..work
    };
    let greed = async {
        tokio::time::sleep_until(ground.start + alone).await;
        open_loop(
            ground,
            1,
            end,
            |_| GREEDY * share,
            |rng| {
                let at = rng.number(0..=greedy.len() as u64 - 1) as usize;
                greedy[at].1.begin(ground, work, &hold);
            },
        )
        .await;
    };
    tokio::join!(watched, greed);
    settle(ground, hold, ends, &sites).await;
    figures(ground, alone, end)
}

fn figures(ground: &Ground, alone: Duration, end: Duration) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let (alone, beside) = (SETTLING..alone, alone + SETTLING..end);
    let p99 = |within| calls.slowest(within, 0.99);
    let ratio = times(p99(&beside), p99(&alone));
    let ok = calls.good(&beside);
    let retried = share(calls.begun(&beside), |call| !call.retries.is_empty());
    vec![
        Figure::wanted("others' calls ok", Unit::Share, ok, Bound::AtLeast(0.999)),
        Figure::wanted(
            "others' p99, of alone",
            Unit::Times,
            ratio,
            Bound::AtMost(2.0),
        ),
        Figure::told("others' calls retried", Unit::Share, retried),
        Figure::told(
            "goodput",
            Unit::Share,
            Some(calls.goodput(&beside) / CAPACITY),
        ),
    ]
}
