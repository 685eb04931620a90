//! A client process: its workers make calls, save tokens, give up, and ask what happened to calls.
//! When it dies, the next process finds the saved tokens.

mod wait;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use redial_client::{CallToken, Client, ClientBuilder, Config, Connector, Endpoint};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use self::wait::WaitGuard;
use crate::{
    bug::Bug,
    clock,
    cluster::Knock,
    discovery::{self, Discovery},
    early_ack::EarlyAck,
    host::Subject,
    journal::{End, Method, Way},
    meddler::{Meddler, Misreading},
    misrouter::{Misrouter, Routes},
    net::Whose,
    rng::{Rng, Stream},
    scenario::ClientPlan,
    world::World,
};

/// The longest pause between the death of a process and the start of the next.
const DEAD_MS: u64 = 300;

/// The longest that an impatient caller waits.
const PATIENCE_MS: u64 = 60;

/// How late calls end under [`Bug::Overdue`].
const OVERDUE: Duration = Duration::from_millis(30);

/// The disk of a client's machine: the saved calls whose outcomes are not known yet.
#[derive(Default)]
struct ClientDisk(Mutex<Vec<SavedCall>>);

/// A call whose token was saved.
#[derive(Clone)]
struct SavedCall {
    tag: u32,
    method: Method,
    key: u32,
    token: String,
}

/// One life of a client's process.
struct Process<'a> {
    world: &'a World,
    number: u32,
    life: u32,
    plan: &'a ClientPlan,
    client: Client,
    disk: &'a ClientDisk,
    /// How many calls each worker still has to make.
    left: &'a [Mutex<u32>],
}

/// The next method to call.
fn next_method(rng: &mut Rng) -> Method {
    match rng.number(0..=19) {
        0..=10 => Method::Inc,
        11..=13 => Method::Get,
        14 => Method::PassOn,
        15 => Method::FailAfter,
        16 => Method::FailBefore,
        17 => Method::Panic,
        _ => Method::NoEffect,
    }
}

/// Makes connections through the simulated network.
pub(crate) struct Dialer {
    world: Arc<World>,
    number: u32,
    /// Where to, if there are several addresses.
    pub(crate) address: Option<u32>,
    rng: Mutex<Rng>,
}

/// Runs a client through all its lives.
pub(crate) async fn live(world: Arc<World>, number: u32) {
    let plan = world.scenario.clients[number as usize].clone();
    let disk = ClientDisk::default();
    let left: Vec<_> = (0..plan.workers)
        .map(|_| Mutex::new(plan.calls_per_worker))
        .collect();
    let mut deaths = plan.dies_at.clone();
    deaths.sort_unstable();
    deaths.reverse();
    for life in 1.. {
        let process = Process {
            world: &world,
            number,
            life,
            plan: &plan,
            client: connect(&world, number, life, &plan),
            disk: &disk,
            left: &left,
        };
        let death = deaths.pop().map(|at| world.start + at);
        if process.lives_until(death).await {
            return;
        }
        sleep(Rng::new(world.seed, Stream::Worker(number, life, 99)).ms(0..=DEAD_MS)).await;
    }
}

fn connect(world: &Arc<World>, number: u32, life: u32, plan: &ClientPlan) -> Client {
    let mut rng = Rng::new(world.seed, Stream::Worker(number, life, 100));
    let config = Config {
        seed: Some(rng.seed()),
        ..plan.config.clone()
    };
    let builder = Client::builder().config(config);
    if world.scenario.endpoints.is_some() {
        return connect_endpoints(world, builder, number, &mut rng);
    }
    let dialer = Dialer {
        world: world.clone(),
        number,
        address: None,
        rng: Mutex::new(rng),
    };
    let client = match world.subject {
        Subject::Buggy(Bug::EarlyAck) => builder.connect_lazy_with(EarlyAck(dialer)),
        Subject::Buggy(Bug::MessageMeansReply) => {
            builder.connect_lazy_with(Meddler(dialer, Misreading::Messages))
        }
        Subject::Buggy(Bug::SilenceMeansPlain) => {
            builder.connect_lazy_with(Meddler(dialer, Misreading::Silence))
        }
        _ => builder.connect_lazy_with(dialer),
    };
    client.expect("the scenario makes sense")
}

/// A client with a list of addresses.
fn connect_endpoints(
    world: &Arc<World>,
    builder: ClientBuilder,
    number: u32,
    rng: &mut Rng,
) -> Client {
    let dialer = {
        let (world, seed) = (world.clone(), rng.seed());
        move |endpoint: &Endpoint| {
            let address = discovery::number(endpoint);
            let rng = Rng::new(seed, Stream::Worker(number, 0, address));
            Dialer {
                world: world.clone(),
                number,
                address: Some(address),
                rng: Mutex::new(rng),
            }
        }
    };
    let discovery = Discovery::new(world.clone());
    let client = match world.subject {
        Subject::Buggy(Bug::GoawayMeansUnread) => builder
            .connect_endpoints_lazy_with(discovery, move |endpoint| {
                Meddler(dialer(endpoint), Misreading::Goaway)
            }),
        Subject::Buggy(bug) if Misrouter::has(bug) => {
            let routes = Routes::new(bug, world.scenario.endpoints.as_ref());
            builder.connect_endpoints_lazy_with(discovery, move |endpoint| {
                Misrouter::new(dialer(endpoint), routes.clone())
            })
        }
        _ => builder.connect_endpoints_lazy_with(discovery, dialer),
    };
    client.expect("the scenario makes sense")
}

impl Process<'_> {
    /// Works until all calls are made, or until the process dies. True if all were made.
    async fn lives_until(self, death: Option<Instant>) -> bool {
        let frost = self.world.frosts[self.number as usize].clone();
        let work = frost.around(self.work());
        let death = death.map(|death| death.max(clock::now()));
        let death = async {
            match death {
                Some(death) => sleep_until(death).await,
                None => std::future::pending().await,
            }
        };
        let is_done = tokio::select! {
            biased;
            () = death => {
                self.world.journal.remark(format!("client {} dies", self.number));
                // Dropping the client must not send anything: the process is dead.
                self.world.net.break_all(Whose::Client(self.number));
                false
            }
            () = work => true,
        };
        if is_done {
            sleep(self.plan.lingers).await;
            self.client.close().await;
        }
        is_done
    }

    async fn work(&self) {
        let workers =
            (0..self.plan.workers).map(|worker| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
                Box::pin(self.worker(worker))
            });
        join_all(workers.collect()).await;
    }

    async fn worker(&self, worker: u32) {
        let mut rng = Rng::new(
            self.world.seed,
            Stream::Worker(self.number, self.life, worker),
        );
        if worker == 0 {
            let saved_calls = self.disk.lock().clone();
            for saved in saved_calls {
                self.ask_about(saved, &mut rng).await;
            }
        }
        while self.claim_call(worker) {
            sleep(rng.ms(0..=self.plan.think_ms)).await;
            self.call(&mut rng).await;
        }
    }

    fn claim_call(&self, worker: u32) -> bool {
        let mut left = self.left[worker as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_left = *left > 0;
        *left = left.saturating_sub(1);
        is_left
    }

    async fn call(&self, rng: &mut Rng) {
        let mut method = next_method(rng);
        let is_transactional = self.world.subject.is_transactional(self.world.seed);
        if is_transactional && !matches!(method, Method::Get | Method::FailBefore) {
            // A transaction that fails has no effect.
            method = Method::Inc;
        }
        let tag = self.world.new_tag();
        let key = rng.small(0..=self.world.scenario.keys - 1);
        let params = self.params(tag, key, rng);
        let call = match method {
            Method::Get => self.client.query(method.name(), params),
            _ => self.client.request(method.name(), params),
        };
        let saved = SavedCall {
            tag,
            method,
            key,
            token: String::new(),
        };
        let patience = rng
            .happens(self.plan.dropped)
            .then(|| rng.ms(0..=PATIENCE_MS));
        let saves = method != Method::Get && rng.happens(self.plan.saved);
        let mut wait = WaitGuard::new(self, &saved, Way::Call, saves);
        let token = wait.call(call, saved.clone(), saves, patience).await;
        if let Some(token) = token
            && method != Method::Get
            && rng.happens(0.5)
        {
            sleep(rng.ms(0..=100)).await;
            self.follow_up(saved, token, rng).await;
        }
    }

    fn params(&self, tag: u32, key: u32, rng: &mut Rng) -> Value {
        let mut pause = |share| {
            if rng.happens(share) {
                rng.number(1..=self.plan.slow_ms)
            } else {
                0
            }
        };
        json!({
            "key": key,
            "delta": 1 + i64::from(tag % 3),
            "call": tag,
            "before_ms": pause(0.3),
            "after_ms": pause(0.2),
        })
    }

    /// Asks for the outcome of a call that an earlier process made.
    async fn ask_about(&self, saved: SavedCall, rng: &mut Rng) {
        let token = serde_json::from_str(&saved.token).expect("it was written by a client");
        self.follow_up(saved, token, rng).await;
    }

    async fn follow_up(&self, saved: SavedCall, token: CallToken, rng: &mut Rng) {
        if rng.happens(0.5) {
            let wait = WaitGuard::new(self, &saved, Way::Resume, false);
            wait.resume(token).await;
        } else {
            let wait = WaitGuard::new(self, &saved, Way::Resolve, false);
            wait.resolve(token).await;
        }
    }
}

impl ClientDisk {
    fn lock(&self) -> MutexGuard<'_, Vec<SavedCall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, saved: SavedCall) {
        self.lock().push(saved);
    }

    /// Removes the saved call if its outcome is now known, and returns it.
    fn settle(&self, tag: u32, end: &End) -> Option<SavedCall> {
        if matches!(end, End::Unknown(_) | End::Dropped | End::Crashed) {
            return None;
        }
        let mut saved_calls = self.lock();
        let index = saved_calls.iter().position(|saved| saved.tag == tag)?;
        Some(saved_calls.remove(index))
    }
}

impl Dialer {
    /// What connects to another address.
    pub(crate) fn to(&self, address: u32) -> Self {
        let seed = (self.rng.lock().unwrap_or_else(PoisonError::into_inner)).seed();
        Self {
            world: self.world.clone(),
            number: self.number,
            address: Some(address),
            rng: Mutex::new(Rng::new(seed, Stream::Worker(self.number, 0, address))),
        }
    }
}

impl Connector for Dialer {
    type Io = crate::net::Wire;

    async fn connect(&self) -> io::Result<Self::Io> {
        let (world, number) = (&self.world, self.number);
        let delay = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            world.net.dial(number, &mut rng)?
        };
        sleep(delay).await;
        match world.cluster.knock(self.address) {
            Knock::Answered => {}
            Knock::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
            // The client gives up after its `connect_timeout`.
            Knock::Silence => std::future::pending().await,
        }
        let frost = &world.frosts[number as usize];
        let (near, far) = world.net.connection(Some(number), self.address, frost);
        if world.cluster.accept(far) {
            Ok(near)
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }
}

/// Polls all of these in the current task, so that they are dropped together, at once.
async fn join_all(mut futures: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>>) {
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
