//! The table against a model that knows to the millisecond what is there and to the byte how much:
//! small tables, short and long lives, keys of every kind, and hashes that are the same.

use super::*;

/// A moment at which the table's milliseconds are about to go round.
const LATE: Duration = Duration::from_millis((1 << 32) - 90_000);

#[derive(Clone, Debug)]
enum ExactStep {
    Decision {
        name: usize,
        params: u8,
    },
    Finish {
        name: usize,
        bytes: usize,
    },
    Release(usize),
    /// In parts of a TTL, and milliseconds beyond that.
    Pass {
        parts: u32,
        ms: u64,
    },
    Sweep,
}

#[derive(Clone, Debug)]
enum ModelRecord {
    Running {
        params: u8,
    },
    Finished {
        params: u8,
        outcome: Vec<u8>,
        expires: u128,
    },
}

const NAMES: usize = 14;

fn steps() -> impl Strategy<Value = Vec<ExactStep>> {
    let name = 0..NAMES;
    let step = prop_oneof![
        8 => (name.clone(), 0u8..5).prop_map(|(name, params)| ExactStep::Decision { name, params: params / 4 }),
        6 => (name.clone(), prop_oneof![0usize..40, 900usize..1_100])
            .prop_map(|(name, bytes)| ExactStep::Finish { name, bytes }),
        1 => name.prop_map(ExactStep::Release),
        3 => (0u32..5, 0u64..3).prop_map(|(parts, ms)| ExactStep::Pass { parts, ms }),
        1 => Just(ExactStep::Sweep),
    ];
    prop::collection::vec(step, 1..150)
}

/// Keys of every kind. There are two shards, in each of which there are two hashes.
fn key(name: usize) -> PlainKey {
    let long = "k".repeat(128);
    let key = match name % 7 {
        0 => CallKey::Uuid([name as u8 + 1; 16]),
        1 => CallKey::Uuid((name as u128).to_be_bytes()),
        2 => CallKey::Text(name.to_string().into()),
        3 => CallKey::Integer(name.to_string().into()),
        4 => CallKey::Text((name - 1).to_string().into()),
        5 => CallKey::Text(format!("{}{name}", &long[..120]).into()),
        // What a short text would look like if it were taken for a UUID.
        _ => CallKey::Uuid((u128::from(name as u8 % 3) << 2).to_be_bytes()),
    };
    let (shard, hash) = (name as u64 % 2, name as u64 / 2 % 2);
    PlainKey {
        hash: ((shard * 31) << 32) | (hash * 0xffff_ffff),
        key,
    }
}

struct Exact {
    table: PlainTable<u32>,
    limits: PlainLimits,
    epoch: Instant,
    now: Instant,
    known: std::collections::BTreeMap<usize, ModelRecord>,
}

impl Exact {
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary moment to count from"
    )]
    fn new(limits: PlainLimits, is_expired: bool) -> Self {
        let epoch = Instant::now();
        let now = if is_expired { epoch + LATE } else { epoch };
        let table = PlainTable::new(limits, epoch);
        table.set_horizon(now);
        Self {
            table,
            limits,
            epoch,
            now,
            known: std::collections::BTreeMap::new(),
        }
    }

    fn ms(&self) -> u128 {
        (self.now - self.epoch).as_millis()
    }

    fn forget_expired(&mut self) {
        let now = self.ms();
        self.known.retain(
            |_, known| !matches!(known, ModelRecord::Finished { expires, .. } if *expires <= now),
        );
    }

    fn held(&self) -> (usize, usize) {
        let bytes = self.known.iter().map(|(name, known)| {
            let outcome = match known {
                ModelRecord::Running { .. } => 0,
                ModelRecord::Finished { outcome, .. } => outcome.len(),
            };
            record_bytes(&key(*name).key, outcome)
        });
        (self.known.len(), bytes.sum())
    }

    fn expected(&self, name: usize, params: u8) -> PlainDecision {
        let key = key(name);
        match self.known.get(&name) {
            Some(
                ModelRecord::Running { params: known }
                | ModelRecord::Finished { params: known, .. },
            ) if *known != params => Decision::IdReused,
            Some(ModelRecord::Running { .. }) => Decision::Joined,
            Some(ModelRecord::Finished { .. }) => Decision::Replayed,
            None => {
                let (records, bytes) = self.held();
                let bytes = bytes + record_bytes(&key.key, 0);
                if records < self.limits.max_records && bytes <= self.limits.max_bytes {
                    Decision::Start(())
                } else {
                    let retry_after = self.room_in();
                    Decision::Full { retry_after }
                }
            }
        }
    }

    fn room_in(&self) -> Duration {
        let expiries = self.known.values().filter_map(|known| match known {
            ModelRecord::Running { .. } => None,
            ModelRecord::Finished { expires, .. } => Some(*expires),
        });
        match expiries.min() {
            Some(next) => Duration::from_millis((next - self.ms()) as u64),
            None => self.limits.ttl,
        }
    }

    fn begin(&mut self, name: usize, params: u8) {
        self.forget_expired();
        let attempt = Attempt {
            fingerprint: Fingerprint::new(1, &params.to_string()),
            deadline: None,
            now: self.now,
            number: 1,
            is_numbered: true,
            ack: None,
            deferred: None,
        };
        let (should, mut replay) = (self.expected(name, params), Vec::new());
        let admit = || Ok::<(), &'static str>(());
        let look = || {
            self.table.set_horizon(self.now);
            self.now
        };
        let did = self
            .table
            .begin(&key(name), &attempt, admit, || 7, look, &mut replay);
        assert_eq!(did, should, "{name} at {} ms", self.ms());
        match self.known.get(&name) {
            Some(ModelRecord::Finished { outcome, .. }) if did == Decision::Replayed => {
                assert_eq!(&replay, outcome);
            }
            _ => assert!(replay.is_empty()),
        }
        if did == Decision::Start(()) {
            self.known.insert(name, ModelRecord::Running { params });
        }
    }

    fn finish(&mut self, name: usize, bytes: usize) {
        if let Some(ModelRecord::Running { params }) = self.known.get(&name) {
            let (params, outcome) = (*params, vec![(name * 7 + bytes) as u8; bytes]);
            self.table.finish(&key(name), &outcome, self.now);
            // Not before a whole TTL has passed since a moment that is rounded down.
            let expires = self.ms() + self.limits.ttl.as_millis() + 1;
            self.known.insert(
                name,
                ModelRecord::Finished {
                    params,
                    outcome,
                    expires,
                },
            );
        }
    }

    fn release(&mut self, name: usize) {
        if let Some(ModelRecord::Running { .. }) = self.known.get(&name) {
            self.table.release(&key(name));
            self.known.remove(&name);
        }
    }

    fn sweep(&mut self) {
        self.table.set_horizon(self.now);
        self.table.expire();
        self.forget_expired();
        assert_eq!((self.table.records(), self.table.bytes()), self.held());
    }

    /// An idle server sweeps often, and a record's moment must not go round.
    fn pass(&mut self, mut time: Duration) {
        let day = Duration::from_secs(24 * 60 * 60);
        while time > day {
            self.now += day;
            time -= day;
            self.sweep();
        }
        self.now += time;
    }
}

/// Two outcomes are kept though there is room for one; when one goes there is room for none still.
#[test]
fn what_goes_makes_no_room_where_there_is_too_much() {
    let limits = PlainLimits {
        max_bytes: 1_000,
        ..LIMITS
    };
    let mut exact = Exact::new(limits, false);
    // All of one shard.
    exact.begin(0, 0);
    exact.begin(2, 0);
    exact.finish(0, 900);
    exact.pass(TTL / 2);
    exact.finish(2, 900);
    exact.pass(TTL / 2 + Duration::from_millis(1));
    exact.begin(4, 0);
    assert!(!exact.known.contains_key(&4));
    exact.pass(TTL / 2);
    exact.begin(4, 0);
    assert!(exact.known.contains_key(&4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_refuses_and_forgets_exactly_when_it_must(
        steps in steps(),
        ttl in prop::sample::select(vec![1, 2, 63, 64, 65, 1_000, 20 * 24 * 60 * 60 * 1_000]),
        max_records in prop::sample::select(vec![1, 2, 5, 10, 33, 100_000]),
        max_bytes in prop::sample::select(vec![90, 300, 2_000, 20_000, 1 << 28]),
        is_expired: bool,
    ) {
        let ttl = Duration::from_millis(ttl);
        let limits = PlainLimits { ttl, max_records, max_bytes, max_joined: 1_000 };
        let mut exact = Exact::new(limits, is_expired);
        for step in steps {
            match step {
                ExactStep::Decision { name, params } => exact.begin(name, params),
                ExactStep::Finish { name, bytes } => exact.finish(name, bytes),
                ExactStep::Release(name) => exact.release(name),
                ExactStep::Pass { parts, ms } => {
                    exact.pass(ttl * parts / 4 + Duration::from_millis(ms));
                    exact.pass(Duration::from_micros(ms * 300));
                }
                ExactStep::Sweep => exact.sweep(),
            }
        }
        exact.pass(ttl + Duration::from_millis(2));
        exact.sweep();
    }
}
