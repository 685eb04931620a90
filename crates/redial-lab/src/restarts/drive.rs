//! Servers that are killed in the middle of the load of several clients.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use indicatif::ProgressBar;

use super::{clients::Clients, plan::RestartPlan};
use crate::{
    crash::{lives::ServerLives, results::CrashResults},
    harness::{
        balancer::{Balancer, Trick},
        clock::Deadline,
        programs::Programs,
    },
};

/// How often to look whether it is time for the next kill.
const LOOK: Duration = Duration::from_millis(2);
/// For so long a server stays away, by turns: sometimes its clients hardly notice, sometimes all
/// of them lose their connections and wait.
const AWAY_MS: [u64; 4] = [0, 20, 200, 60];

/// Of so many successors of a server with a store, one is killed while it starts, 0 to 9 ms old: in the
/// middle of its recovery, if it has come so far.
const YOUNG_EVERY: usize = 4;

/// How a run went.
pub(crate) struct Driven {
    pub(crate) crash: CrashResults,
    /// What the balancer did, if there was one.
    pub(crate) tricks: Vec<Trick>,
    /// How many servers were killed while they started.
    pub(crate) young: usize,
}

/// Runs the plan. Ledgers and event files are left in `folder`.
pub(crate) fn drive(
    programs: &Programs,
    folder: &Path,
    plan: &RestartPlan,
    bar: &ProgressBar,
) -> Result<Driven> {
    let deadline = Deadline::after(plan.limit);
    let ledger = format!("{}-ledger", plan.name);
    let mut lives = ServerLives::new(programs, folder, &ledger)?.with_store(plan.store);
    let mut server = lives.start(&plan.server)?;
    let tricks = Arc::<Mutex<Vec<Trick>>>::default();
    let observed = Arc::clone(&tricks);
    let observe = move |trick| lock(&observed).push(trick);
    let balancer = (plan.is_balanced)
        .then(|| Balancer::start(lives.address.clone(), plan.seed, observe))
        .transpose()?;
    let address = balancer.map_or_else(|| lives.address.clone(), |balancer| balancer.address);
    let mut clients = Clients::start(programs, plan, folder, &address)?;
    for kill in 1..=plan.kills {
        let share = plan.total() * kill as u64 / (plan.kills as u64 + 1);
        if !run_until(share, &mut clients, deadline, bar)? {
            break;
        }
        let away = Duration::from_millis(AWAY_MS[kill % AWAY_MS.len()]);
        let young = plan.store.is_some() && kill.is_multiple_of(YOUNG_EVERY);
        let young = young.then(|| Duration::from_millis((kill / YOUNG_EVERY % 10) as u64));
        server = lives.restart(|| server.kill(), young, away, &plan.server)?;
    }
    run_until(u64::MAX, &mut clients, deadline, bar)?;
    let histories = clients.finish(plan, deadline)?;
    server.stop()?;
    let tricks = std::mem::take(&mut *lock(&tricks));
    Ok(Driven {
        young: lives.killed_young(),
        crash: CrashResults::judge(histories, lives.finish()?),
        tricks,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until so many calls have ended, or until all clients have, and returns whether any client is
/// still running.
fn run_until(
    calls: u64,
    clients: &mut Clients,
    deadline: Deadline,
    bar: &ProgressBar,
) -> Result<bool> {
    loop {
        let running = clients.count_running()?;
        let ended = clients.count_ended_calls()?;
        bar.set_position(ended);
        if running == 0 || ended >= calls {
            return Ok(running > 0);
        }
        ensure!(
            !deadline.has_passed(),
            "{running} clients did not end in time; {ended} calls have"
        );
        thread::sleep(LOOK);
    }
}
