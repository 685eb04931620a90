//! Storms: load at and beyond a server's limit, sent by a fleet of the real clients, with what holds
//! against overload and without it.
//!
//! Start reading here: [`storm`] plays one storm in virtual time. What happens in it is in `cases`, one
//! file each; how the two fleets differ is in `fleet`, and nowhere else.

mod call_ledger;
mod cases;
mod commit;
mod control;
mod figures;
mod fleet;
mod ground;
mod load;
mod member;
mod record;
mod recorder;
mod series;
mod site;
mod workers;

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::Serialize;

pub use self::{
    call_ledger::Count,
    figures::{Bound, Figure, Unit},
    fleet::Fleet,
    record::{Mark, StormRecord},
    series::Series,
};
use self::{
    cases::{backend, play},
    control::Remote,
    ground::{Ground, Hosting},
    site::Site,
};

/// What a server has to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storm {
    /// A short stall at 93 % of capacity, after which timeouts and retries may keep the server down.
    Metastable,
    /// Steps to 1.4 and 3 times the capacity.
    Steps,
    /// One principal that sends twelve times its share.
    Greedy,
    /// Every attempt takes longer than its timeout.
    Timeouts,
    /// All clients say hello to a server that has just been restarted.
    Hello,
    /// One of several endpoints swallows all that is sent to it.
    DeadEndpoint,
    /// One of several endpoints is ten times slower than the others.
    SlowEndpoint,
    /// Duplicates of one call.
    Duplicates,
    /// A database whose commits, which calls share, become slow.
    Database,
}

/// One storm, to be played from one seed.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// What happens.
    pub storm: Storm,
    /// To whom.
    pub fleet: Fleet,
    /// What decides everything random.
    pub seed: u64,
    /// How many clients there are at most. Storms in which more of them would show nothing new have fewer.
    pub clients: u32,
}

impl Storm {
    /// All of them, in the order of their letters.
    pub const ALL: [Self; 9] = [
        Self::Metastable,
        Self::Steps,
        Self::Greedy,
        Self::Timeouts,
        Self::Hello,
        Self::DeadEndpoint,
        Self::SlowEndpoint,
        Self::Duplicates,
        Self::Database,
    ];

    /// The letter by which it is asked for.
    #[must_use]
    pub fn letter(self) -> char {
        let at = Self::ALL.iter().position(|storm| *storm == self);
        char::from(b'a' + at.map_or(0, |at| at as u8))
    }

    /// The storm of a letter.
    #[must_use]
    pub fn of(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|storm| storm.letter() == letter)
    }

    /// What happens in it, in one line.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Metastable => "a stall of some seconds at 93 % of capacity",
            Self::Steps => "1.4 and 3 times the capacity",
            Self::Greedy => "one principal at 12 times its share",
            Self::Timeouts => "calls slower than their attempts' timeout",
            Self::Hello => "hello after a restart",
            Self::DeadEndpoint => "one endpoint of ten is dead",
            Self::SlowEndpoint => "one endpoint of ten is ten times slower",
            Self::Duplicates => "duplicates of one call",
            Self::Database => "commits of the database become slow",
        }
    }
}

/// Plays a storm to its end: on this thread, in a runtime and a time of its own.
///
/// # Panics
///
/// If the system gives no runtime.
#[must_use]
pub fn storm(conditions: &Conditions) -> StormRecord {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(async {
        let ground = Ground::new(*conditions, Hosting::Virtual);
        let figures = play(&ground).await;
        ground.record(figures)
    })
}

/// Serves a storm of another process on loopback, in real time, until this process ends.
///
/// # Errors
///
/// If the storm is not one that is played so (a, b and c are), or the system refuses something.
pub fn serve(conditions: &Conditions, announce: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    real()?.block_on(async {
        let ground = Ground::new(*conditions, Hosting::Serving);
        let backend = backend(&ground).context("only a, b and c are played in real time")?;
        Site::open(&ground, 0, backend).serve(announce).await
    })
}

/// Plays a storm against a server in another process, in real time.
///
/// # Errors
///
/// If there is no such server.
pub fn call(conditions: &Conditions, server: SocketAddr) -> anyhow::Result<StormRecord> {
    real()?.block_on(async {
        let remote = Remote::connect(server).await?;
        let ground = Ground::new(*conditions, Hosting::Calling(remote));
        let figures = play(&ground).await;
        Ok(ground.record(figures))
    })
}

fn real() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
