//! A client's process: workers that call, write tokens down, give up, and ask what became of
//! calls; and its deaths, after which another process finds what was written down.

mod wait;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use redial_client::{CallToken, Client, Config, Connector};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use self::wait::Wait;
use crate::{
    bug::Bug,
    clock,
    dice::{Dice, Stream},
    early_ack::EarlyAck,
    host::Subject,
    journal::{End, Method, Way},
    scenario::ClientPlan,
    world::World,
};

/// How long a process stays dead, at most.
const DEAD_MS: u64 = 300;

/// When a caller gives up who does, at the latest.
const PATIENCE_MS: u64 = 60;

/// How much later a caller with the bug for it is told.
const OVERDUE: Duration = Duration::from_millis(30);

/// The files of a client's machine: the calls whose outcome is not known there.
#[derive(Default)]
struct Disk(Mutex<Vec<Note>>);

/// A call that was written down.
#[derive(Clone)]
struct Note {
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
    disk: &'a Disk,
    /// How many calls each worker has yet to make.
    left: &'a [Mutex<u32>],
}

/// Which method is called next.
fn which(dice: &mut Dice) -> Method {
    match dice.number(0..=19) {
        0..=10 => Method::Inc,
        11..=14 => Method::Get,
        15 => Method::FailAfter,
        16 => Method::FailBefore,
        17 => Method::Panic,
        _ => Method::NoEffect,
    }
}

/// Makes connections through the simulated network.
struct Dialer {
    world: Arc<World>,
    number: u32,
    dice: Mutex<Dice>,
}

/// Runs a client, over all its lives.
pub(crate) async fn live(world: Arc<World>, number: u32) {
    let plan = world.scenario.clients[number as usize].clone();
    let disk = Disk::default();
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
        sleep(Dice::new(world.seed, Stream::Worker(number, life, 99)).ms(0..=DEAD_MS)).await;
    }
}

fn connect(world: &Arc<World>, number: u32, life: u32, plan: &ClientPlan) -> Client {
    let mut dice = Dice::new(world.seed, Stream::Worker(number, life, 100));
    let config = Config {
        seed: Some(dice.seed()),
        ..plan.config.clone()
    };
    let dialer = Dialer {
        world: world.clone(),
        number,
        dice: Mutex::new(dice),
    };
    let builder = Client::builder().config(config);
    let client = match world.subject {
        Subject::Buggy(Bug::EarlyAck) => builder.connect_lazy_with(EarlyAck(dialer)),
        _ => builder.connect_lazy_with(dialer),
    };
    client.expect("the scenario makes sense")
}

impl Process<'_> {
    /// Works until everything is done, or until it dies. Says whether it is done.
    async fn lives_until(self, death: Option<Instant>) -> bool {
        let work = self.work();
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
                // Whatever its end makes it want to say, it can't.
                self.world.net.break_all(Some(self.number));
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
        all(workers.collect()).await;
    }

    async fn worker(&self, worker: u32) {
        let mut dice = Dice::new(
            self.world.seed,
            Stream::Worker(self.number, self.life, worker),
        );
        if worker == 0 {
            let notes = self.disk.lock().clone();
            for note in notes {
                self.ask_about(note, &mut dice).await;
            }
        }
        while self.takes_one(worker) {
            sleep(dice.ms(0..=self.plan.think_ms)).await;
            self.call(&mut dice).await;
        }
    }

    fn takes_one(&self, worker: u32) -> bool {
        let mut left = self.left[worker as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let takes = *left > 0;
        *left = left.saturating_sub(1);
        takes
    }

    async fn call(&self, dice: &mut Dice) {
        let method = which(dice);
        let tag = self.world.new_tag();
        let key = dice.small(0..=self.world.scenario.keys - 1);
        let params = self.params(tag, key, dice);
        let call = match method {
            Method::Get => self.client.query(method.name(), params),
            _ => self.client.request(method.name(), params),
        };
        let note = Note {
            tag,
            method,
            key,
            token: String::new(),
        };
        let gives_up = dice
            .happens(self.plan.dropped)
            .then(|| dice.ms(0..=PATIENCE_MS));
        let writes_down = method != Method::Get && dice.happens(self.plan.written_down);
        let mut wait = Wait::new(self, &note, Way::Call, writes_down);
        let token = wait.call(call, note.clone(), writes_down, gives_up).await;
        if let Some(token) = token
            && method != Method::Get
            && dice.happens(0.5)
        {
            sleep(dice.ms(0..=100)).await;
            self.follow_up(note, token, dice).await;
        }
    }

    fn params(&self, tag: u32, key: u32, dice: &mut Dice) -> Value {
        let mut pause = |share| match dice.happens(share) {
            true => dice.number(1..=self.plan.slow_ms),
            false => 0,
        };
        json!({
            "key": key,
            "delta": 1 + i64::from(tag % 3),
            "call": tag,
            "before_ms": pause(0.3),
            "after_ms": pause(0.2),
        })
    }

    /// A call of a process that died.
    async fn ask_about(&self, note: Note, dice: &mut Dice) {
        let token = serde_json::from_str(&note.token).expect("it was written by a client");
        self.follow_up(note, token, dice).await;
    }

    async fn follow_up(&self, note: Note, token: CallToken, dice: &mut Dice) {
        match dice.happens(0.5) {
            true => {
                Wait::new(self, &note, Way::Resume, false)
                    .resume(token)
                    .await
            }
            false => {
                Wait::new(self, &note, Way::Resolve, false)
                    .resolve(token)
                    .await
            }
        }
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Vec<Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, note: Note) {
        self.lock().push(note);
    }

    /// The outcome of a call is known. Gives what was written down of it.
    fn settle(&self, tag: u32, end: &End) -> Option<Note> {
        if matches!(end, End::Unknown(_) | End::Dropped | End::Crashed) {
            return None;
        }
        let mut notes = self.lock();
        let place = notes.iter().position(|note| note.tag == tag)?;
        Some(notes.remove(place))
    }
}

impl Connector for Dialer {
    type Io = crate::net::Wire;

    async fn connect(&self) -> io::Result<Self::Io> {
        let (world, number) = (&self.world, self.number);
        let takes = {
            let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
            world.net.dial(number, &mut dice)?
        };
        sleep(takes).await;
        let (near, far) = world.net.connection(Some(number));
        match world.host.accept(far) {
            true => Ok(near),
            false => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// Waits for all of these, in this very task: when it is dropped, so are they, at once.
async fn all(mut futures: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>>) {
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        match futures.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}
