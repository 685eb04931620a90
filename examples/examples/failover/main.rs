//! What servers that are gone cost the calls of a client with a list of servers, over real sockets:
//! `cargo run --release -p redial-examples --example failover`. It takes half a minute, and exits with 1 if a
//! call was executed twice, or if more of them were slow than should be.

mod load;
mod servers;

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redial_client::{Client, Dns};

use self::{
    load::{ATTEMPT_TIMEOUT, Load, builder, clock},
    servers::{CutOffServer, Cuts, balancer},
};

/// How long each part lasts.
const PART: Duration = Duration::from_secs(4);

/// How often the name is looked up.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a call may take that is not slow.
const QUICK: Duration = Duration::from_millis(10);

/// Of 100 calls one may be slow.
const SLOW_PERCENT: f64 = 1.0;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let parts = [
        all_live().await?,
        dead_from_the_beginning().await?,
        killed_under_load().await?,
        silent_under_load().await?,
        name_that_changes().await?,
        two_tables(true).await?,
        two_tables(false).await?,
    ];
    let is_good = parts.iter().all(|is_good| *is_good);
    println!(
        "{}",
        if is_good {
            "as promised"
        } else {
            "NOT as promised"
        }
    );
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn three() -> anyhow::Result<[CutOffServer; 3]> {
    let none = Cuts::None;
    Ok([
        CutOffServer::start(none).await?,
        CutOffServer::start(none).await?,
        CutOffServer::start(none).await?,
    ])
}

async fn client(servers: &[CutOffServer]) -> anyhow::Result<Client> {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    Ok(builder().connect(addresses).await?)
}

async fn all_live() -> anyhow::Result<bool> {
    let servers = three().await?;
    let client = client(&servers).await?;
    let heard = Load::start(&client, "k").run_for(PART).await;
    Ok(heard.report("three servers, all of which live", QUICK, SLOW_PERCENT))
}

async fn dead_from_the_beginning() -> anyhow::Result<bool> {
    let mut servers = three().await?;
    servers[1].kill();
    let client = client(&servers).await?;
    let heard = Load::start(&client, "k").run_for(PART).await;
    Ok(heard.report("one of three refuses connections", QUICK, SLOW_PERCENT))
}

/// All calls count, those too that were on their way to it.
async fn killed_under_load() -> anyhow::Result<bool> {
    let mut servers = three().await?;
    let client = client(&servers).await?;
    let load = Load::start(&client, "k");
    tokio::time::sleep(PART / 4).await;
    let at = clock();
    servers[1].kill();
    let heard = load.run_for(PART).await;
    Ok(heard.since(at).report(
        "from the moment on in which one of three is killed",
        QUICK,
        SLOW_PERCENT,
    ))
}

/// Nothing is refused and nothing is answered. The calls count that begin after the first attempt timeout.
async fn silent_under_load() -> anyhow::Result<bool> {
    let servers = three().await?;
    let client = client(&servers).await?;
    let load = Load::start(&client, "k");
    tokio::time::sleep(PART / 4).await;
    let at = clock();
    servers[1].fall_silent();
    let heard = load.run_for(PART).await;
    let caught = heard.since(at).until(at + ATTEMPT_TIMEOUT);
    let slow = caught.slower_than(QUICK);
    println!(
        "one of three falls silent: {slow} calls were slow that began before the first attempt timeout"
    );
    let after = heard.begun_since(at + ATTEMPT_TIMEOUT);
    Ok(after.report("from the first attempt timeout on", QUICK, SLOW_PERCENT))
}

/// From the moment in which the name leads to another server until that one has answered.
async fn name_that_changes() -> anyhow::Result<bool> {
    let servers = three().await?;
    let answer = Arc::new(Mutex::new(servers[0].address));
    let resolver = {
        let answer = answer.clone();
        move |_| {
            let found: SocketAddr = *answer.lock().unwrap_or_else(PoisonError::into_inner);
            std::future::ready(Ok::<_, io::Error>(vec![found]))
        }
    };
    let name = Dns::new("counter.example:7077")
        .resolver(resolver)
        .interval(INTERVAL);
    let client = builder().connect_endpoints(name).await?;
    let mut longest = Duration::ZERO;
    for round in 1..=6 {
        let server = &servers[round % 3];
        let (changed, before) = (clock(), server.calls());
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = server.address;
        let load = Load::start(&client, &format!("r{round}"));
        while server.calls() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        longest = longest.max(clock() - changed);
        load.run_for(Duration::ZERO).await;
    }
    println!(
        "a name that is looked up every {INTERVAL:?} and changes is followed after {longest:?} at most"
    );
    Ok(longest < INTERVAL + Duration::from_millis(100))
}

/// Servers that know nothing of each other, whose connections are cut: behind one address, or each at its own.
async fn two_tables(is_balanced: bool) -> anyhow::Result<bool> {
    let servers = [
        CutOffServer::start(Cuts::Seed(5)).await?,
        CutOffServer::start(Cuts::Seed(6)).await?,
    ];
    let client = if is_balanced {
        builder().connect(balancer(&servers).await?).await?
    } else {
        client(&servers).await?
    };
    let heard = Load::start(&client, "k").run_for(PART).await;
    let (unknown, calls) = (heard.unknown(), heard.len());
    let (twice, wrong) = heard.check(&servers);
    let how = if is_balanced {
        "behind one address"
    } else {
        "in a list"
    };
    let connects = client.stats().connects;
    println!(
        "two tables {how}, 2 % of calls cut: {calls} calls over {connects} connections, {twice} executed twice, \
         {wrong} not as was heard, {unknown} unknown"
    );
    Ok(twice == 0 && wrong == 0 && (is_balanced || unknown == 0))
}
