//! What a seed stands for: who calls what, on what server, over which network, and what befalls
//! them.

use std::time::Duration;

use redial_client::{
    Backoff, CallLimits, Config as ClientConfig, Dialect, Hedge, Jitter, RetryBudget,
};
use redial_server::{Config as ServerConfig, CutPoint, Delay, Fault, FaultRule};

use crate::dice::{Dice, Stream};

/// A world before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) keys: u32,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) server: ServerPlan,
    pub(crate) net: NetPlan,
    pub(crate) disasters: Vec<Disaster>,
}

/// What a client is, and what it does.
#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) config: ClientConfig,
    pub(crate) workers: u32,
    pub(crate) calls_per_worker: u32,
    /// How long a worker thinks between calls, at most.
    pub(crate) think_ms: u64,
    /// When the process dies.
    pub(crate) dies_at: Vec<Duration>,
    /// How many calls are written down before they are sent.
    pub(crate) written_down: f64,
    /// How many calls are given up by their callers.
    pub(crate) dropped: f64,
    /// The longest that a handler is asked to take.
    pub(crate) slow_ms: u64,
    /// How long it stays connected when it has nothing to do any more.
    pub(crate) lingers: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) config: ServerConfig,
    pub(crate) faults: Vec<FaultRule>,
}

#[derive(Clone, Debug)]
pub(crate) struct NetPlan {
    pub(crate) latency: Latency,
    /// Whether what is written in one piece arrives in several.
    pub(crate) cuts_up: bool,
    /// How many connections break after some bytes, and how many of those without a word.
    pub(crate) cut: f64,
    pub(crate) silent_cut: f64,
    pub(crate) refuse: f64,
    pub(crate) partitions: Vec<Partition>,
    /// How many requests are copied, and how long the copies are held back at most.
    pub(crate) copy: f64,
    pub(crate) hold_ms: u64,
    /// How many requests are copied with other params.
    pub(crate) forge: f64,
    /// How many calls something on the way takes back.
    pub(crate) cancel: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Latency {
    Fixed(u64),
    Uniform(u64, u64),
    /// Heavy-tailed, from and to.
    Tail(u64, u64),
}

/// While it lasts nothing gets through to a client, or from it; or to and from any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) whom: Option<u32>,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// What happens to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disaster {
    /// It dies, and comes back after a while.
    Crash { at: Duration, down: Duration },
    /// It is shut down in order, and comes back.
    Restart { at: Duration, down: Duration },
    /// Every connection breaks.
    CutAll { at: Duration },
}

impl Disaster {
    pub(crate) fn at(self) -> Duration {
        match self {
            Self::Crash { at, .. } | Self::Restart { at, .. } | Self::CutAll { at } => at,
        }
    }
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, Stream::Scenario);
        let dice = &mut dice;
        let lease = dice.pick(&[100, 400, 2000, 30_000]);
        let clients = dice.small(1..=4);
        let clients = (0..clients).map(|_| client(dice)).collect::<Vec<_>>();
        let busy = clients.iter().map(ClientPlan::busy_ms).max().unwrap_or(0);
        Self {
            keys: dice.small(1..=3),
            net: net(dice, clients.len() as u32, busy),
            server: server(dice, lease),
            disasters: disasters(dice, busy),
            clients,
        }
    }
}

impl ClientPlan {
    /// About how long it has something to do.
    fn busy_ms(&self) -> u64 {
        u64::from(self.calls_per_worker) * (self.think_ms / 2 + self.slow_ms / 4 + 15)
    }
}

fn client(dice: &mut Dice) -> ClientPlan {
    let config = client_config(dice);
    let calls_per_worker = dice.small(3..=16);
    let think_ms = dice.pick(&[5, 30, 200]);
    let dies = if dice.happens(0.35) {
        dice.number(1..=2)
    } else {
        0
    };
    let busy_ms = u64::from(calls_per_worker) * (think_ms / 2 + 20);
    ClientPlan {
        config,
        workers: dice.small(1..=5),
        calls_per_worker,
        think_ms,
        dies_at: (0..dies).map(|_| dice.ms(5..=busy_ms)).collect(),
        written_down: if dies > 0 {
            0.7
        } else {
            dice.pick(&[0.0, 0.1])
        },
        dropped: dice.pick(&[0.0, 0.05, 0.15]),
        slow_ms: dice.pick(&[4, 30, 150]),
        lingers: Duration::from_secs(dice.pick(&[0, 0, 8, 25])),
    }
}

fn client_config(dice: &mut Dice) -> ClientConfig {
    let ms = Duration::from_millis;
    ClientConfig {
        call: call_limits(dice),
        dialect: dice.pick(&[Dialect::JsonRpc2, Dialect::JsonRpc2, Dialect::Notebook]),
        extensions: !dice.happens(0.08),
        sessions: !dice.happens(0.1),
        connections: dice.small(1..=3) as usize,
        connect_timeout: ms(dice.pick(&[100, 1000])),
        reconnect: Backoff::new(ms(5), 2.0, ms(200), Jitter::Full).expect("the numbers are right"),
        keepalive: ms(dice.pick(&[150, 1000, 10_000])),
        max_in_flight: dice.pick(&[2, 16, 512]),
        resend_window: ms(dice.pick(&[60, 400, 8000])),
        retry_budget: match dice.happens(0.7) {
            true => RetryBudget::unlimited(),
            false => RetryBudget::default(),
        },
        ..ClientConfig::default()
    }
}

fn call_limits(dice: &mut Dice) -> CallLimits {
    let ms = Duration::from_millis;
    let attempt_ms = dice.pick(&[15, 40, 100, 300]);
    let backoff_ms = dice.pick(&[2, 10, 40]);
    let jitter = dice.pick(&[
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::None,
        Jitter::Proportional(0.3),
    ]);
    let backoff = Backoff::new(ms(backoff_ms), 2.0, ms(backoff_ms * 16), jitter);
    CallLimits {
        attempt_timeout: ms(attempt_ms),
        max_attempts: dice.small(1..=8),
        deadline: ms(attempt_ms * dice.number(2..=20)),
        backoff: backoff.expect("the numbers are right"),
        hedge: match dice.number(0..=3) {
            0 => Hedge::After(ms(attempt_ms / 3)),
            1 => Hedge::P95 { at_least: ms(2) },
            _ => Hedge::Off,
        },
    }
}

fn server(dice: &mut Dice, lease_ms: u64) -> ServerPlan {
    let ms = Duration::from_millis;
    let config = ServerConfig {
        ttl: ms(dice.pick(&[500, 3000, 10_000])),
        session_lease: ms(lease_ms),
        max_in_flight: dice.pick(&[4, 16, 512, 512]),
        max_running: dice.pick(&[1, 4, 256, 256]),
        max_queued: dice.pick(&[0, 4, 1024]),
        max_joined: dice.pick(&[1, 64]),
        max_sessions: dice.pick(&[2, 10_000, 10_000, 10_000]) as usize,
        max_session_bytes: dice.pick(&[900, 16 << 20, 16 << 20, 16 << 20]) as usize,
        max_records: dice.pick(&[4, 1_000_000, 1_000_000, 1_000_000]) as usize,
        drain_timeout: ms(dice.pick(&[0, 20, 1000])),
        ..ServerConfig::default()
    };
    let rate = dice.pick(&[0.0, 0.03, 0.12]);
    let faults = if rate == 0.0 {
        Vec::new()
    } else {
        faults(dice, rate)
    };
    ServerPlan { config, faults }
}

fn faults(dice: &mut Dice, rate: f64) -> Vec<FaultRule> {
    let ms = Duration::from_millis;
    let uniform = |max| Delay::Uniform {
        min: ms(1),
        max: ms(max),
    };
    let all = [
        Fault::DropRequest,
        Fault::DropReply,
        Fault::DelayExecution(uniform(60)),
        Fault::DelayReply(uniform(120)),
        Fault::Cut(CutPoint::BeforeExecution),
        Fault::Cut(CutPoint::BeforeReply),
        Fault::Cut(CutPoint::MidReply),
        Fault::Cut(CutPoint::AfterReply),
        Fault::Duplicate,
    ];
    let chosen = all.into_iter().filter(|_| dice.happens(0.4));
    chosen
        .map(|fault| FaultRule::new(fault, rate).expect("the numbers are right"))
        .collect()
}

fn net(dice: &mut Dice, clients: u32, busy_ms: u64) -> NetPlan {
    let latency = match dice.number(0..=2) {
        0 => Latency::Fixed(dice.pick(&[0, 1, 10])),
        1 => Latency::Uniform(0, dice.pick(&[3, 20, 60])),
        _ => Latency::Tail(1, dice.pick(&[100, 1000])),
    };
    let partitions = (0..dice.pick(&[0, 0, 1, 3])).map(|_| {
        let from = dice.ms(0..=busy_ms);
        Partition {
            whom: Some(dice.small(0..=clients)).filter(|whom| *whom < clients),
            from,
            to: from + dice.ms(10..=1500),
        }
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by_key(|partition| partition.from);
    NetPlan {
        latency,
        partitions,
        cuts_up: dice.happens(0.6),
        cut: dice.pick(&[0.0, 0.3, 0.7]),
        silent_cut: dice.pick(&[0.0, 0.3]),
        refuse: dice.pick(&[0.0, 0.0, 0.2]),
        copy: dice.pick(&[0.0, 0.1, 0.4]),
        hold_ms: dice.pick(&[5, 100, 4000, 60_000]),
        forge: dice.pick(&[0.0, 0.0, 0.05]),
        cancel: dice.pick(&[0.0, 0.0, 0.05]),
    }
}

fn disasters(dice: &mut Dice, busy_ms: u64) -> Vec<Disaster> {
    let mut disasters: Vec<_> = (0..dice.pick(&[0, 0, 1, 3]))
        .map(|_| {
            let at = dice.ms(5..=busy_ms.max(6));
            let down = dice.ms(0..=400);
            match dice.number(0..=3) {
                0 | 1 => Disaster::Crash { at, down },
                2 => Disaster::Restart { at, down },
                _ => Disaster::CutAll { at },
            }
        })
        .collect();
    disasters.sort_by_key(|disaster| disaster.at());
    disasters
}
