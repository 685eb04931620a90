//! One client of a fleet, and a call as it makes one.

use std::{sync::Arc, time::Duration};

use redial_client::{Addresses, Client, Endpoint, Report};
use redial_server::Principal;

use super::{
    call_ledger::Heard,
    fleet::{Fleet, NAIVE_TIMEOUT},
    ground::{Ground, Hold},
    recorder::{CallRecord, Cohort},
    site::{Site, Task, WORK},
};
use crate::rng::Rng;

/// The first stream of random numbers that is a client's.
const STREAMS: u32 = 1000;

/// One client. All clones are the same one.
#[derive(Clone)]
pub(crate) enum Member {
    /// With a client for each server, one of which each try takes.
    Naive(Arc<[Client]>),
    Redial(Client),
}

/// A call, before it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) cohort: Cohort,
    /// How long its handler takes, instead of what others take.
    pub(crate) ms: Option<u64>,
    /// After this its caller has no use for its value.
    pub(crate) patience: Duration,
}

/// How a call went.
struct Went {
    heard: Heard,
    last_attempt: Duration,
    retries: Vec<Duration>,
}

impl Work {
    /// A call that is to be served well.
    pub(crate) fn watched(patience: Duration) -> Self {
        Self {
            cohort: Cohort::Watched,
            ms: None,
            patience,
        }
    }
}

impl Member {
    /// Connects to these servers when the first call needs it.
    pub(crate) fn new(
        ground: &Ground,
        number: u32,
        sites: &[Site],
        principal: Option<&Principal>,
    ) -> Self {
        let mut rng = ground.rng(STREAMS + number);
        match (ground.fleet(), sites) {
            (Fleet::Naive, _) => {
                let clients = sites.iter().map(|site| {
                    let config = Fleet::Naive.client(rng.seed());
                    let dial = site.dial(number, principal);
                    let client = Client::builder().config(config).connect_lazy_with(dial);
                    client.expect("the limits make sense")
                });
                Self::Naive(clients.collect())
            }
            (Fleet::Redial, _) => Self::Redial(redial(&mut rng, number, sites, principal)),
        }
    }

    /// Redial's own client.
    pub(crate) fn client(&self) -> Option<&Client> {
        match self {
            Self::Naive(_) => None,
            Self::Redial(client) => Some(client),
        }
    }

    /// Makes a call in a task of its own, which holds `hold` until it has ended.
    pub(crate) fn begin(&self, ground: &Arc<Ground>, work: Work, hold: &Hold) {
        let (member, ground, hold) = (self.clone(), ground.clone(), hold.clone());
        tokio::spawn(async move {
            member.call(&ground, work).await;
            drop(hold);
        });
    }

    /// Makes a call, and notes how it went.
    pub(crate) async fn call(&self, ground: &Ground, work: Work) {
        let (call, begun) = (ground.ledger.begin(), ground.elapsed());
        let task = Task { call, ms: work.ms };
        let went = match self {
            Self::Naive(clients) => tries(ground, clients, task, begun + work.patience).await,
            Self::Redial(client) => attempts(client, task, begun, work.patience).await,
        };
        note(ground, call, work, begun, went);
    }
}

/// Notes the end of a call.
fn note(ground: &Ground, call: u32, work: Work, begun: Duration, went: Went) {
    let ended = ground.elapsed();
    ground.ledger.end(call, went.heard);
    ground.recorder.ended(CallRecord {
        call,
        cohort: work.cohort,
        begun,
        ended,
        is_good: went.heard == Heard::Ok && ended - begun <= work.patience,
        last_attempt: went.last_attempt,
        retries: went.retries,
    });
}

fn redial(rng: &mut Rng, number: u32, sites: &[Site], principal: Option<&Principal>) -> Client {
    let builder = Client::builder().config(Fleet::Redial.client(rng.seed()));
    let client = if let [site] = sites {
        builder.connect_lazy_with(site.dial(number, principal))
    } else {
        let names: Vec<_> = (1..=sites.len())
            .map(|at| format!("10.1.0.{at}:7077"))
            .collect();
        let (sites, principal) = (sites.to_vec(), principal.cloned());
        let addresses = Addresses::from(names.clone());
        builder.connect_endpoints_lazy_with(addresses, move |endpoint: &Endpoint| {
            let name = endpoint.address().as_str();
            let at = names.iter().position(|known| known == name);
            sites[at.expect("it is one of them")].dial(number, principal.as_ref())
        })
    };
    client.expect("the limits make sense")
}

/// A call as the naive fleet makes it: each try is a request of its own, until its caller has no use for its value.
async fn tries(ground: &Ground, clients: &[Client], task: Task, until: Duration) -> Went {
    let mut retries = Vec::new();
    let mut heard = Heard::NotExecuted;
    let mut sent = ground.elapsed();
    for number in 1.. {
        let now = ground.elapsed();
        // A server that refuses at once would be asked for ever in one moment of virtual time.
        if now >= until || number > 1 && now == sent {
            break;
        }
        sent = now;
        retries.extend((number > 1).then_some(sent));
        let client = &clients[(task.call + number) as usize % clients.len()];
        let request = client.request(WORK, task).max_attempts(1);
        let request = request.attempt_timeout(NAIVE_TIMEOUT);
        match request.deadline(NAIVE_TIMEOUT).await {
            Ok(_) => {
                heard = Heard::Ok;
                break;
            }
            Err(error) if heard == Heard::NotExecuted => heard = Heard::from(&error),
            Err(_) => {}
        }
    }
    Went {
        heard,
        last_attempt: ground.elapsed() - sent,
        retries,
    }
}

/// A call as Redial makes it.
async fn attempts(client: &Client, task: Task, begun: Duration, patience: Duration) -> Went {
    let call = client.request(WORK, task).deadline(patience);
    match call.with_report().await {
        Ok(reply) => Went::of(Heard::Ok, &reply.report, begun),
        Err(error) => Went::of(Heard::from(&error), error.report(), begun),
    }
}

impl Went {
    fn of(heard: Heard, report: &Report, begun: Duration) -> Self {
        let retries = report.history().filter(|attempt| attempt.number > 1);
        let winner = report.winner();
        Self {
            heard,
            last_attempt: winner.map_or(Duration::ZERO, |winner| winner.ended - winner.started),
            retries: retries.map(|attempt| begun + attempt.started).collect(),
        }
    }
}
