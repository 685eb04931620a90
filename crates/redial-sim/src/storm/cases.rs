//! What happens in each storm, and what it is judged by.

mod database;
mod dead_endpoint;
mod duplicates;
mod greedy;
mod hello;
mod metastable;
mod slow_endpoint;
mod steps;
mod timeouts;

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Storm,
    figures::Figure,
    ground::{Ends, Ground, Hold},
    load::open_loop,
    member::{Member, Work},
    site::{Backend, Site},
};

/// How long what is left of a storm may take to end: the longest queue of a naive fleet.
const AFTERMATH: Duration = secs(600);

/// Plays the ground's storm to its end.
pub(crate) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    match ground.conditions.storm {
        Storm::Metastable => metastable::play(ground).await,
        Storm::Steps => steps::play(ground).await,
        Storm::Greedy => greedy::play(ground).await,
        Storm::Timeouts => timeouts::play(ground).await,
        Storm::Hello => hello::play(ground).await,
        Storm::DeadEndpoint => dead_endpoint::play(ground).await,
        Storm::SlowEndpoint => slow_endpoint::play(ground).await,
        Storm::Duplicates => duplicates::play(ground).await,
        Storm::Database => database::play(ground).await,
    }
}

/// So many clients of these servers.
fn members(ground: &Ground, count: u32, sites: &[Site]) -> Vec<Member> {
    (0..count)
        .map(|number| Member::new(ground, number, sites, None))
        .collect()
}

/// Calls of random members in an open loop, until then.
async fn calls(
    ground: &Arc<Ground>,
    members: &[Member],
    work: Work,
    until: Duration,
    rate: impl Fn(Duration) -> f64,
    hold: &Hold,
) {
    let most = members.len() as u64 - 1;
    open_loop(ground, 0, until, rate, |rng| {
        members[rng.number(0..=most) as usize].begin(ground, work, hold);
    })
    .await;
}

/// Waits until all calls have ended and no server has anything left to do.
async fn settle(ground: &Ground, hold: Hold, ends: Ends, sites: &[Site]) {
    drop(hold);
    ends.wait().await;
    let until = ground.elapsed() + ground.or_real(AFTERMATH, secs(5));
    for site in sites {
        while !site.is_idle().await && ground.elapsed() < until {
            sleep(ms(500)).await;
        }
        if !site.is_idle().await {
            ground.note_unsettled();
        }
        site.collect().await;
    }
}

/// What a server has that the ground's storm comes over.
pub(crate) fn backend(ground: &Ground) -> Option<Backend> {
    match ground.conditions.storm {
        Storm::Metastable => Some(metastable::backend(ground)),
        Storm::Steps => Some(steps::backend(ground)),
        Storm::Greedy => Some(greedy::backend(ground)),
        _ => None,
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
