//! A thousand copies a second of one call that takes two seconds: of a program that was started again and again,
//! of a balancer gone wrong. With plain ids of their own they are a thousand calls.

use std::{sync::Arc, time::Duration};

use redial_client::Client;
use tokio::time::{sleep, sleep_until};

use super::{members, ms, secs, settle};
use crate::storm::{
    call_ledger::Heard,
    figures::{Bound, CallRecords, Figure, Unit, times},
    ground::{Ends, Ground, Hold},
    load::open_loop,
    member::{Member, Work},
    recorder::Cohort,
    site::{Backend, Site, Task, WORK},
    workers::Workers,
};

/// 800 calls a second.
const WORKERS: usize = 8;
const SERVICE: Duration = ms(10);
/// Calls a second of the others.
const LOAD: f64 = 400.0;
/// What is called again and again takes this long.
const LONG: Duration = secs(2);
/// Copies a second.
const COPIES: f64 = 1_000.0;
const STORM_AT: Duration = secs(12);
const END: Duration = secs(24);
const SETTLING: Duration = secs(1);
const PATIENCE: Duration = secs(2);
/// How many clients make the others' calls at most.
const CLIENTS: u32 = 200;
/// How many send the copies.
const COPIERS: u32 = 20;

pub(super) async fn play(ground: &Arc<Ground>) -> Vec<Figure> {
    let workers = Workers::new(WORKERS, SERVICE);
    let sites = [Site::open(ground, 0, Backend::Workers(workers))];
    let members = members(ground, ground.clients(CLIENTS) + COPIERS, &sites);
    let (copiers, others) = members.split_at(COPIERS as usize);
    let (hold, ends) = Ends::new();
    ground.mark(STORM_AT, END, "a thousand copies a second of one call");
    let most = others.len() as u64 - 1;
    let work = Work::watched(PATIENCE);
    let calls = open_loop(
        ground,
        0,
        END,
        |_| LOAD,
        |rng| {
            others[rng.number(0..=most) as usize].begin(ground, work, &hold);
        },
    );
    tokio::join!(calls, storm(ground, copiers, &hold));
    settle(ground, hold, ends, &sites).await;
    figures(ground)
}

/// The call and its copies.
async fn storm(ground: &Arc<Ground>, copiers: &[Member], hold: &Hold) {
    sleep_until(ground.start + STORM_AT).await;
    let most = copiers.len() as u64 - 1;
    match &copiers[0] {
        Member::Naive(_) => {
            let work = Work {
                cohort: Cohort::Other,
                ms: Some(LONG.as_millis() as u64),
                patience: PATIENCE,
            };
            let copy = |rng: &mut crate::rng::Rng| {
                copiers[rng.number(0..=most) as usize].begin(ground, work, hold);
            };
            open_loop(ground, 1, END, |_| COPIES, copy).await;
        }
        Member::Redial(first) => {
            let clients: Vec<_> = copiers.iter().filter_map(Member::client).collect();
            copies(ground, first, &clients, hold).await;
        }
    }
}

/// The same where each copy has the id of the call. All of them are one call in the ledger, whose first caller
/// says how it ended.
async fn copies(ground: &Arc<Ground>, first: &Client, clients: &[&Client], hold: &Hold) {
    let task = Task {
        call: ground.ledger.begin(),
        ms: Some(LONG.as_millis() as u64),
    };
    let mut call = first.request(WORK, task);
    let token = call.token().await.expect("the server is there");
    let (ledger, held) = (ground.ledger.clone(), hold.clone());
    tokio::spawn(async move {
        let ended = call.await;
        let heard = ended.as_ref().err().map_or(Heard::Ok, Heard::from);
        ledger.end(task.call, heard);
        drop(held);
    });
    // Before any copy of it arrives.
    sleep(ms(1)).await;
    let most = clients.len() as u64 - 1;
    open_loop(
        ground,
        1,
        END,
        |_| COPIES,
        |rng| {
            let client = clients[rng.number(0..=most) as usize];
            let (copy, hold) = (client.resume(token.clone()), hold.clone());
            tokio::spawn(async move {
                // Some are refused, once enough of them wait for the call.
                let _ = copy.deadline(PATIENCE).await;
                drop(hold);
            });
        },
    )
    .await;
    drop(token);
}

fn figures(ground: &Ground) -> Vec<Figure> {
    let calls = CallRecords::of(ground);
    let (before, storm) = (SETTLING..STORM_AT, STORM_AT + SETTLING..END);
    let p99 = |within| calls.slowest(within, 0.99);
    let ratio = times(p99(&storm), p99(&before));
    let effects = ground.ledger.effects();
    let all: u32 = effects.iter().sum();
    let watched = calls.begun(&(Duration::ZERO..Duration::MAX));
    let of_others: u32 = watched.map(|call| effects[call.call as usize]).sum();
    let executions = all - of_others;
    vec![
        Figure::wanted(
            "executions of the one",
            Unit::Count,
            Some(f64::from(executions)),
            Bound::AtMost(1.0),
        ),
        Figure::wanted(
            "others' p99, of before",
            Unit::Times,
            ratio,
            Bound::AtMost(1.2),
        ),
        Figure::told("others' calls ok", Unit::Share, calls.good(&storm)),
    ]
}
