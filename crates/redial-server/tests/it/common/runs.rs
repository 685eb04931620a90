//! A service that counts how often each call has run, and seeds for tests that leave to chance
//! what comes when.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_server::{Config, Context, Server};

/// How often each call has run, by the number in its params.
#[derive(Clone, Default)]
pub struct Runs(Arc<Mutex<HashMap<u64, u64>>>);

impl Runs {
    pub fn of(&self, call: u64) -> u64 {
        self.0.lock().unwrap().get(&call).copied().unwrap_or(0)
    }

    /// Nothing has run twice.
    pub fn check(&self, at: &str) {
        for (call, runs) in self.0.lock().unwrap().iter() {
            assert_eq!(*runs, 1, "{at}: call {call} was executed {runs} times");
        }
    }

    fn count(&self, call: u64) {
        *self.0.lock().unwrap().entry(call).or_default() += 1;
    }

    /// `run` ends at once, `wait` after some turns or a moment.
    pub fn server(&self, config: Config) -> Server {
        let (at_once, later) = (self.clone(), self.clone());
        let server = Server::builder()
            .mutation("run", move |(call,): (u64,), _: Context| {
                let runs = at_once.clone();
                async move {
                    runs.count(call);
                    Ok(call)
                }
            })
            .mutation("wait", move |(call,): (u64,), _: Context| {
                let runs = later.clone();
                async move {
                    runs.count(call);
                    match call % 5 {
                        0 => tokio::time::sleep(Duration::from_micros(200)).await,
                        1 | 2 => tokio::task::yield_now().await,
                        _ => {}
                    }
                    Ok(call)
                }
            });
        server.config(config).build().unwrap()
    }
}

/// Another seed in each run; it is printed, and `SEED=<it>` repeats what was chosen by it.
pub fn seed() -> u64 {
    let given = std::env::var("SEED").ok();
    let given = given.map(|seed| seed.parse().expect("SEED is a number"));
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761);
    println!("SEED={seed}");
    seed
}
