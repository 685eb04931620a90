//! What `rpc.stats` answers, and what has happened between two answers.

use std::time::Duration;

use serde_json::Value;

/// What counts up, as the protocol names it.
const COUNTERS: [&str; 15] = [
    "started",
    "finished",
    "timed_out",
    "joined",
    "replayed",
    "refused",
    "failed_handshakes",
    "dequeued",
    "queue_delay_us",
    "shed",
    "queue_full",
    "displaced",
    "given_up",
    "commits",
    "committed",
];

/// An answer. A member that is missing is 0, and one that is unknown is left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    members: serde_json::Map<String, Value>,
}

/// How long the executions of a method take, of those that have to wait for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MethodTime {
    pub(super) method: String,
    pub(super) count: u64,
    pub(super) mean_us: u64,
    pub(super) max_us: u64,
}

impl Answer {
    pub(super) fn read(value: &Value) -> Self {
        Self {
            members: value.as_object().cloned().unwrap_or_default(),
        }
    }

    /// A number by its name.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.members
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// Whether something holds, by its name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.members.get(name) == Some(&Value::Bool(true))
    }

    pub(super) fn awake(&self) -> Duration {
        Duration::from_millis(self.get("awake_ms"))
    }

    /// How often each error code was a refusal's.
    pub(super) fn refusals(&self) -> Vec<(i64, u64)> {
        let read = |refusal: &Value| Some((refusal["code"].as_i64()?, refusal["count"].as_u64()?));
        self.array("refusals").iter().filter_map(read).collect()
    }

    pub(super) fn slowest(&self) -> Vec<MethodTime> {
        let read = |time: &Value| {
            Some(MethodTime {
                method: time["method"].as_str()?.to_owned(),
                count: time["count"].as_u64()?,
                mean_us: time["mean_us"].as_u64()?,
                max_us: time["max_us"].as_u64().unwrap_or_default(),
            })
        };
        self.array("slowest").iter().filter_map(read).collect()
    }

    fn array(&self, name: &str) -> &[Value] {
        let array = self.members.get(name).and_then(Value::as_array);
        array.map_or(&[], Vec::as_slice)
    }

    /// What has been counted since an answer before. A server that was started again has counted all that
    /// it says since then.
    pub(super) fn since(&self, before: &Self) -> Growth {
        let is_restarted = self.awake() < before.awake()
            || COUNTERS
                .iter()
                .any(|name| self.get(name) < before.get(name));
        if is_restarted {
            return Growth {
                now: self.clone(),
                before: Self::default(),
                is_restarted,
            };
        }
        Growth {
            now: self.clone(),
            before: before.clone(),
            is_restarted,
        }
    }
}

/// What has happened between two answers.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    now: Answer,
    before: Answer,
    /// The server was started in between.
    pub(super) is_restarted: bool,
}

impl Growth {
    /// How much a counter has grown.
    pub(super) fn of(&self, name: &str) -> u64 {
        self.now.get(name).saturating_sub(self.before.get(name))
    }

    /// The same per second.
    pub(super) fn per_s(&self, name: &str) -> f64 {
        let took = self
            .now
            .awake()
            .saturating_sub(self.before.awake())
            .as_secs_f64();
        if took > 0.0 {
            self.of(name) as f64 / took
        } else {
            0.0
        }
    }

    /// One amount for each of another, where there is any.
    pub(super) fn mean(&self, of: &str, per: &str) -> Option<f64> {
        let count = self.of(per);
        (count > 0).then(|| self.of(of) as f64 / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(awake_ms: u64, finished: u64) -> Answer {
        Answer::read(&json!({
            "awake_ms": awake_ms, "finished": finished, "queue_delay_us": 3000, "dequeued": 2
        }))
    }

    #[test]
    fn what_has_happened_is_the_difference_of_two_answers() {
        let growth = answer(3000, 500).since(&answer(1000, 100));
        assert_eq!(
            (growth.of("finished"), growth.per_s("finished")),
            (400, 200.0)
        );
        assert_eq!(growth.mean("queue_delay_us", "dequeued"), None);
        let all = answer(3000, 500).since(&Answer::default());
        assert_eq!(all.mean("queue_delay_us", "dequeued"), Some(1500.0));
        assert_eq!(
            answer(1000, 100)
                .since(&answer(1000, 100))
                .per_s("finished"),
            0.0
        );
    }

    /// A counter that fell would give rates beyond belief.
    #[test]
    fn a_server_that_was_started_again_has_counted_from_0() {
        for (before, now) in [((90_000, 9), (2000, 500)), ((1000, 900), (2000, 500))] {
            let growth = answer(now.0, now.1).since(&answer(before.0, before.1));
            assert!(growth.is_restarted);
            assert_eq!(
                (growth.of("finished"), growth.per_s("finished")),
                (500, 250.0)
            );
        }
    }

    #[test]
    fn an_answer_of_another_version_is_read_as_far_as_it_goes() {
        let odd = json!({
            "awake_ms": 5, "finished": -1, "new": {"a": 1}, "refusals": [{"code": -32001, "count": 3}, {}, 7],
            "slowest": [{"method": "inc", "count": 2, "mean_us": 1200}, {"method": 5}]
        });
        let answer = Answer::read(&odd);
        assert_eq!((answer.get("finished"), answer.get("missing")), (0, 0));
        assert_eq!(answer.refusals(), [(-32001, 3)]);
        assert_eq!(answer.slowest().len(), 1);
        assert_eq!(Answer::read(&json!("text")), Answer::default());
    }
}
