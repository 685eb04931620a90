//! Steps to 1.4 and 3 times the capacity, with calls that take 1 ms: what is too much has to go at once, and
//! what is admitted has to be quick.

use std::{ops::Range, sync::Arc, time::Duration};

use super::{calls, members, ms, secs, settle};
use crate::storm::{
    figures::{Bound, CallRecords, Figure, Unit, millis},
    ground::{Ends, Ground},
    member::Work,
    site::{Backend, Site},
    workers::Workers,
};

const WORKERS: usize = 4;
/// 4,000 calls a second; in real time, in which threads are woken late, 800.
const SERVICE: Duration = ms(1);
const REAL_SERVICE: Duration = ms(5);
/// The load in parts of the capacity, and until when, in parts of the whole time.
const STEPS: [(f64, f64); 5] = [
    (0.7, 4.0 / 22.0),
    (1.4, 10.0 / 22.0),
    (0.7, 13.0 / 22.0),
    (3.0, 19.0 / 22.0),
    (0.7, 1.0),
];
const END: Duration = secs(22);
/// How long after a step it is not yet looked at: until the running limit is full, calls wait in their handlers, where
/// the server sees no queue. Its 256 calls fill in 0.16 s at 1.4 times 4,000 a second, and in 0.8 s at 1.4 times 800.
const SETTLING: Duration = secs(1);
const REAL_SETTLING: Duration = secs(2);
/// So many times the service time may the slowest of a hundred take that are admitted.
const SLOWEST: f64 = 20.0;
const PATIENCE: Duration = secs(2);
/// How many clients make these calls at most.
const CLIENTS: u32 = 500;

pub(super) fn backend(ground: &Ground) -> Backend {
    Backend::Workers(Workers::new(WORKERS, service(ground)).real(ground.is_real()))
}

fn service(ground: &Ground) -> Duration {
    ground.or_real(SERVICE, REAL_SERVICE)
}

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let sites = [Site::open(ground, 0, backend(ground))];
    let members = members(ground, ground.clients(CLIENTS), &sites);
    let capacity = WORKERS as f64 / service(ground).as_secs_f64();
    let (hold, ends) = Ends::new();
    for (step, text) in [(1, "1.4 times the capacity"), (3, "3 times")] {
        let Range { start, end } = within(step);
        ground.mark(start, end, text);
    }
    let rate = |at: Duration| {
        let step = (0..STEPS.len()).find(|step| within(*step).contains(&at));
        step.map_or(1.0, |step| STEPS[step].0) * capacity
    };
    calls(ground, &members, Work::watched(PATIENCE), END, rate, &hold).await;
    settle(ground, hold, ends, &sites).await;
    let mut figures = figures(ground, 1, ["goodput at 1.4 x", "p99 admitted at 1.4 x"]);
    figures.extend(self::figures(
        ground,
        3,
        ["goodput at 3 x", "p99 admitted at 3 x"],
    ));
    figures
}

fn within(step: usize) -> Range<Duration> {
    let from = step.checked_sub(1).map_or(0.0, |before| STEPS[before].1);
    END.mul_f64(from)..END.mul_f64(STEPS[step].1)
}

fn figures(ground: &Ground, step: usize, [goodput, p99]: [&'static str; 2]) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let Range { start, end } = within(step);
    let settling = ground.or_real(SETTLING, REAL_SETTLING);
    let (within, service) = (start + settling..end, service(ground).as_secs_f64());
    let share = calls.goodput(&within) * service / WORKERS as f64;
    let slowest = millis(calls.slowest_admitted(&within, 0.99));
    let most = SLOWEST * service * 1e3;
    vec![
        Figure::wanted(goodput, Unit::Share, Some(share), Bound::AtLeast(0.95)),
        Figure::wanted(p99, Unit::Millis, slowest, Bound::AtMost(most)),
    ]
}
