//! What a seed stands for: the clients and their calls, the server, the network, and the disasters.

mod endpoints;
mod sharing;
mod summary;

use std::time::Duration;

use redial_client::{
    AdaptiveTimeout, Backoff, CallLimits, Config as ClientConfig, Dialect, Hedge, Jitter,
    RetryBudget,
};
use redial_server::{Config as ServerConfig, CutPoint, Delay, Fault};

pub(crate) use self::endpoints::{AddressChange, EndpointsPlan};
pub(crate) use self::sharing::{DatabasePlan, SharingPlan};
use crate::{
    journal::Frozen,
    rng::{Rng, Stream},
};

/// The plan of a world.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) keys: u32,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) server: ServerPlan,
    pub(crate) net: NetPlan,
    pub(crate) disasters: Vec<Disaster>,
    /// Where there are several servers.
    pub(crate) sharing: Option<SharingPlan>,
    /// Where clients have a list of addresses.
    pub(crate) endpoints: Option<EndpointsPlan>,
}

/// The plan of one client: its configuration, its calls, its deaths.
#[derive(Clone)]
pub(crate) struct ClientPlan {
    pub(crate) config: ClientConfig,
    /// Nothing but time limits how often a call is sent.
    pub(crate) is_patient: bool,
    pub(crate) workers: u32,
    pub(crate) calls_per_worker: u32,
    /// How long a worker pauses between calls, at most.
    pub(crate) think_ms: u64,
    /// When the process dies.
    pub(crate) dies_at: Vec<Duration>,
    /// The share of calls whose token is saved before they are sent.
    pub(crate) saved: f64,
    /// The share of calls whose callers give up.
    pub(crate) dropped: f64,
    /// The longest pause that a handler is asked to make.
    pub(crate) slow_ms: u64,
    /// How long the client stays connected after its last call.
    pub(crate) lingers: Duration,
}

#[derive(Clone)]
pub(crate) struct ServerPlan {
    pub(crate) config: ServerConfig,
    /// What the server's own fault rules inject, each at this rate.
    pub(crate) faults: Vec<Fault>,
    pub(crate) fault_rate: f64,
}

#[derive(Clone)]
pub(crate) struct NetPlan {
    pub(crate) latency: Latency,
    /// Whether writes arrive in several pieces.
    pub(crate) splits_writes: bool,
    /// The share of connections that break after some bytes, and of those, the share where neither
    /// end notices.
    pub(crate) cut: f64,
    pub(crate) silent_cut: f64,
    /// The share of connections that swallow the bytes of one direction, or of both, from some point
    /// on, without an end.
    pub(crate) hole: f64,
    /// How many messages that no client asked for there are for each that a server sends.
    pub(crate) unasked: f64,
    pub(crate) refuse: f64,
    pub(crate) partitions: Vec<Partition>,
    /// The share of requests that are copied, and how long a copy is held back at most.
    pub(crate) copy: f64,
    pub(crate) hold_ms: u64,
    /// The share of requests that are copied with other params.
    pub(crate) forge: f64,
    /// The share of calls that the middlebox cancels.
    pub(crate) cancel: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Latency {
    Fixed(u64),
    Uniform(u64, u64),
    /// Heavy-tailed, from and to.
    Tail(u64, u64),
}

/// While it lasts no bytes get through to or from one client, or any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) client: Option<u32>,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// Something that happens to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disaster {
    /// The process dies, and starts again after `down`.
    Crash { at: Duration, down: Duration },
    /// The server shuts down gracefully, and starts again after `down`.
    Restart { at: Duration, down: Duration },
    /// Every connection breaks.
    BreakAll { at: Duration },
    /// Something stands still for `time`.
    Freeze {
        at: Duration,
        what: Frozen,
        time: Duration,
    },
}

impl Disaster {
    pub(crate) fn at(self) -> Duration {
        match self {
            Self::Crash { at, .. }
            | Self::Restart { at, .. }
            | Self::BreakAll { at }
            | Self::Freeze { at, .. } => at,
        }
    }
}

impl Scenario {
    /// Draws the scenario of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, Stream::Scenario);
        let rng = &mut rng;
        let lease = rng.pick(&[100, 400, 2000, 30_000]);
        let clients = rng.small(1..=4);
        let clients = (0..clients).map(|_| client(rng)).collect::<Vec<_>>();
        let busy = clients.iter().map(ClientPlan::busy_ms).max().unwrap_or(0);
        let mut scenario = Self {
            keys: rng.small(1..=3),
            net: net(rng, clients.len() as u32, busy),
            server: server(rng, lease),
            disasters: disasters(rng, busy),
            clients,
            sharing: None,
            endpoints: None,
        };
        scenario.add_oddities(&mut Rng::new(seed, Stream::Oddities), busy);
        scenario
    }

    /// Draws what stands still, which connections swallow bytes, and who speaks unasked.
    fn add_oddities(&mut self, rng: &mut Rng, busy_ms: u64) {
        self.net.hole = rng.pick(&[0.0, 0.0, 0.1, 0.4]);
        self.net.unasked = rng.pick(&[0.0, 0.0, 0.05, 0.3]);
        let clients = self.clients.len() as u32;
        for _ in 0..rng.pick(&[0, 0, 1, 3]) {
            let freeze = freeze(rng, &self.server.config, clients, busy_ms);
            self.disasters.push(freeze);
        }
        self.disasters.sort_by_key(|disaster| disaster.at());
    }
}

/// The longest pause between two attempts of a patient client. A call ends when there is no time for another.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl ClientPlan {
    /// Lets nothing but time limit how often a call is sent, until shortly before its deadline.
    pub(crate) fn be_patient(&mut self) {
        self.is_patient = true;
        (self.config.call.max_attempts, self.config.call.fail_fast) = (1_000, false);
        let backoff = Backoff::new(Duration::from_millis(2), 2.0, LONGEST_PAUSE, Jitter::Full);
        self.config.call.backoff = backoff.expect("these numbers are in range");
        self.config.retry_budget = RetryBudget::unlimited();
    }

    /// Lets its calls be tried for as long as their deadline, which is at least this, whatever happens.
    fn be_stubborn(&mut self, deadline: Duration) {
        let call = &mut self.config.call;
        (call.max_attempts, call.deadline) = (100_000, call.deadline.max(deadline));
        call.fail_fast = false;
        self.config.retry_budget = RetryBudget::unlimited();
        self.config.sessions = true;
        self.config.extensions = true;
    }

    /// About how long its calls take together.
    fn busy_ms(&self) -> u64 {
        u64::from(self.calls_per_worker) * (self.think_ms / 2 + self.slow_ms / 4 + 15)
    }
}

fn client(rng: &mut Rng) -> ClientPlan {
    let config = client_config(rng);
    let calls_per_worker = rng.small(3..=16);
    let think_ms = rng.pick(&[5, 30, 200]);
    let dies = if rng.happens(0.35) {
        rng.number(1..=2)
    } else {
        0
    };
    let busy_ms = u64::from(calls_per_worker) * (think_ms / 2 + 20);
    ClientPlan {
        config,
        is_patient: false,
        workers: rng.small(1..=5),
        calls_per_worker,
        think_ms,
        dies_at: (0..dies).map(|_| rng.ms(5..=busy_ms)).collect(),
        saved: if dies > 0 { 0.7 } else { rng.pick(&[0.0, 0.1]) },
        dropped: rng.pick(&[0.0, 0.05, 0.15]),
        slow_ms: rng.pick(&[4, 30, 150]),
        lingers: Duration::from_secs(rng.pick(&[0, 0, 8, 25])),
    }
}

fn client_config(rng: &mut Rng) -> ClientConfig {
    let ms = Duration::from_millis;
    ClientConfig {
        call: call_limits(rng),
        dialect: rng.pick(&[Dialect::JsonRpc2, Dialect::JsonRpc2, Dialect::Notebook]),
        extensions: !rng.happens(0.08),
        sessions: !rng.happens(0.1),
        connections: rng.small(1..=3) as usize,
        connect_timeout: ms(rng.pick(&[100, 1000])),
        reconnect: Backoff::new(ms(5), 2.0, ms(200), Jitter::Full)
            .expect("the scenario's numbers are in range"),
        keepalive: ms(rng.pick(&[150, 1000, 10_000])),
        max_in_flight: rng.pick(&[2, 16, 512]),
        resend_window: ms(rng.pick(&[60, 400, 8000])),
        retry_budget: if rng.happens(0.7) {
            RetryBudget::unlimited()
        } else {
            RetryBudget::default()
        },
        ..ClientConfig::default()
    }
}

fn call_limits(rng: &mut Rng) -> CallLimits {
    let ms = Duration::from_millis;
    let attempt_ms = rng.pick(&[15, 40, 100, 300]);
    let backoff_ms = rng.pick(&[2, 10, 40]);
    let jitter = rng.pick(&[
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::None,
        Jitter::Proportional(0.3),
    ]);
    let backoff = Backoff::new(ms(backoff_ms), 2.0, ms(backoff_ms * 16), jitter);
    let max_attempts = rng.small(1..=8);
    let timeouts = rng.number(2..=20);
    let adaptive = AdaptiveTimeout {
        floor: ms(5),
        multiplier: 2.0,
    };
    CallLimits {
        attempt_timeout: ms(attempt_ms),
        // Of numbers that are drawn anyway, so that the worlds of before stay what they were.
        adaptive_timeout: timeouts.is_multiple_of(3).then_some(adaptive),
        fail_fast: timeouts % 4 == 1,
        max_attempts,
        deadline: ms(attempt_ms * timeouts),
        backoff: backoff.expect("the scenario's numbers are in range"),
        hedge: match rng.number(0..=3) {
            0 => Hedge::After(ms(attempt_ms / 3)),
            1 => Hedge::P95 { at_least: ms(2) },
            _ => Hedge::Off,
        },
    }
}

fn server(rng: &mut Rng, lease_ms: u64) -> ServerPlan {
    let ms = Duration::from_millis;
    let mut config = ServerConfig {
        ttl: ms(rng.pick(&[500, 3000, 10_000])),
        session_lease: ms(lease_ms),
        max_in_flight: rng.pick(&[4, 16, 512, 512]),
        max_running: rng.pick(&[1, 4, 256, 256]),
        max_queued: rng.pick(&[0, 4, 1024]),
        max_joined: rng.pick(&[1, 64]),
        max_sessions: rng.pick(&[2, 10_000, 10_000, 10_000]) as usize,
        max_session_bytes: rng.pick(&[900, 16 << 20, 16 << 20, 16 << 20]) as usize,
        max_records: rng.pick(&[4, 1_000_000, 1_000_000, 1_000_000]) as usize,
        drain_timeout: ms(rng.pick(&[0, 20, 1000])),
        ..ServerConfig::default()
    };
    if config.max_in_flight < 512 {
        // With a small window and no other session, a client lets go of calls that are asked for later.
        config.max_sessions = 10_000;
    }
    let fault_rate = rng.pick(&[0.0, 0.03, 0.12]);
    let faults = if fault_rate == 0.0 {
        Vec::new()
    } else {
        faults(rng)
    };
    ServerPlan {
        config,
        faults,
        fault_rate,
    }
}

fn faults(rng: &mut Rng) -> Vec<Fault> {
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
    all.into_iter().filter(|_| rng.happens(0.4)).collect()
}

fn net(rng: &mut Rng, clients: u32, busy_ms: u64) -> NetPlan {
    let latency = match rng.number(0..=2) {
        0 => Latency::Fixed(rng.pick(&[0, 1, 10])),
        1 => Latency::Uniform(0, rng.pick(&[3, 20, 60])),
        _ => Latency::Tail(1, rng.pick(&[100, 1000])),
    };
    let partitions = (0..rng.pick(&[0, 0, 1, 3])).map(|_| {
        let from = rng.ms(0..=busy_ms);
        Partition {
            client: Some(rng.small(0..=clients)).filter(|client| *client < clients),
            from,
            to: from + rng.ms(10..=1500),
        }
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_by_key(|partition| partition.from);
    NetPlan {
        latency,
        partitions,
        splits_writes: rng.happens(0.6),
        cut: rng.pick(&[0.0, 0.3, 0.7]),
        silent_cut: rng.pick(&[0.0, 0.3]),
        hole: 0.0,
        unasked: 0.0,
        refuse: rng.pick(&[0.0, 0.0, 0.2]),
        copy: rng.pick(&[0.0, 0.1, 0.4]),
        hold_ms: rng.pick(&[5, 100, 4000, 60_000]),
        forge: rng.pick(&[0.0, 0.0, 0.05]),
        cancel: rng.pick(&[0.0, 0.0, 0.05]),
    }
}

/// For some attempts, or for longer than the server keeps a session or a plain id.
fn freeze(rng: &mut Rng, server: &ServerConfig, clients: u32, busy_ms: u64) -> Disaster {
    let what = match rng.number(0..=4) {
        0 | 1 => Frozen::Server,
        2 | 3 => Frozen::Client(rng.small(0..=clients - 1)),
        _ => Frozen::All,
    };
    let beyond = |time: Duration, rng: &mut Rng| time.mul_f64(1.05 + rng.unit());
    let time = match rng.number(0..=3) {
        0 => rng.ms(10..=400),
        1 => beyond(server.session_lease.min(server.ttl), rng),
        _ => beyond(server.ttl, rng),
    };
    let at = rng.ms(5..=busy_ms.max(6));
    Disaster::Freeze { at, what, time }
}

fn disasters(rng: &mut Rng, busy_ms: u64) -> Vec<Disaster> {
    let mut disasters: Vec<_> = (0..rng.pick(&[0, 0, 1, 3]))
        .map(|_| {
            let at = rng.ms(5..=busy_ms.max(6));
            let down = rng.ms(0..=400);
            match rng.number(0..=3) {
                0 | 1 => Disaster::Crash { at, down },
                2 => Disaster::Restart { at, down },
                _ => Disaster::BreakAll { at },
            }
        })
        .collect();
    disasters.sort_by_key(|disaster| disaster.at());
    disasters
}
