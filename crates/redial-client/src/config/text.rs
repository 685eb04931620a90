//! A configuration as a file says it: in TOML, JSON, or what else serde reads.

use std::time::Duration;

use redial_protocol::{Dialect, DurationText, Priority};
use serde::{Deserialize, Deserializer, de::Error};

use super::{CallLimits, Config};
use crate::policy::{
    adaptive_timeout::AdaptiveTimeout,
    backoff::{Backoff, Jitter},
    budget::RetryBudget,
    hedge::Hedge,
};

/// The fields by their names; what is left out is as by default.
#[derive(Deserialize)]
#[serde(remote = "Config", default = "Config::default", deny_unknown_fields)]
struct ConfigText {
    call: CallLimits,
    #[serde(deserialize_with = "priority")]
    priority: Priority,
    #[serde(with = "DialectText")]
    dialect: Dialect,
    extensions: bool,
    sessions: bool,
    assume_plain: bool,
    connections: usize,
    #[serde(deserialize_with = "DurationText::read")]
    connect_timeout: Duration,
    reconnect: Backoff,
    max_endpoint_failures: u32,
    #[serde(deserialize_with = "DurationText::read")]
    keepalive: Duration,
    max_frame_bytes: usize,
    max_skipped_frame_bytes: usize,
    max_protocol_errors: u32,
    max_buffered_bytes: usize,
    max_in_flight: usize,
    max_retained_calls: usize,
    retry_budget: RetryBudget,
    #[serde(deserialize_with = "DurationText::read")]
    resend_window: Duration,
    seed: Option<u64>,
    jitter_seed: Option<u64>,
}

#[derive(Deserialize)]
#[serde(
    remote = "CallLimits",
    default = "CallLimits::default",
    deny_unknown_fields
)]
struct CallText {
    #[serde(deserialize_with = "DurationText::read")]
    attempt_timeout: Duration,
    adaptive_timeout: Option<AdaptiveTimeout>,
    max_attempts: u32,
    #[serde(deserialize_with = "DurationText::read")]
    deadline: Duration,
    backoff: Backoff,
    hedge: Hedge,
    fail_fast: bool,
}

#[derive(Deserialize)]
#[serde(
    remote = "AdaptiveTimeout",
    default = "AdaptiveTimeout::default",
    deny_unknown_fields
)]
struct AdaptiveTimeoutText {
    #[serde(deserialize_with = "DurationText::read")]
    floor: Duration,
    multiplier: f64,
}

#[derive(Deserialize)]
#[serde(
    remote = "RetryBudget",
    default = "RetryBudget::default",
    deny_unknown_fields
)]
struct BudgetText {
    percent_of_calls: f64,
    min_per_second: f64,
    burst: f64,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BackoffText {
    base: DurationText,
    factor: f64,
    cap: DurationText,
    jitter: Jitter,
}

#[derive(Deserialize)]
#[serde(remote = "Dialect")]
enum DialectText {
    #[serde(rename = "notebook")]
    Notebook,
    #[serde(rename = "jsonrpc-2.0")]
    JsonRpc2,
}

impl Default for BackoffText {
    fn default() -> Self {
        let backoff = Backoff::default();
        Self {
            base: DurationText(backoff.base()),
            factor: backoff.factor(),
            cap: DurationText(backoff.cap()),
            jitter: backoff.jitter(),
        }
    }
}

/// Each field by its name, and durations with their units, such as `"250ms"`. What is left out is as by
/// default; an unknown field, and a number that makes no sense, are errors. The dialect is `"jsonrpc-2.0"` or
/// `"notebook"`.
///
/// ```
/// use std::time::Duration;
/// use redial_client::{Config, Hedge};
///
/// let text = r#"{
///     "connections": 2,
///     "call": {"deadline": "5s", "hedge": "p95:10ms", "backoff": {"base": "20ms", "jitter": "equal"}}
/// }"#;
/// let config: Config = serde_json::from_str(text)?;
/// assert_eq!(config.call.deadline, Duration::from_secs(5));
/// assert_eq!(config.call.hedge, Hedge::P95 { at_least: Duration::from_millis(10) });
/// let error = serde_json::from_str::<Config>(r#"{"connections": 0}"#).unwrap_err();
/// assert!(error.to_string().starts_with("connections is 0; expected more than 0"));
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = ConfigText::deserialize(deserializer)?;
        checked(config.problem())?;
        Ok(config)
    }
}

/// As of a [`Config`].
impl<'de> Deserialize<'de> for CallLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limits = CallText::deserialize(deserializer)?;
        checked(limits.problem())?;
        Ok(limits)
    }
}

/// By the names of its fields.
impl<'de> Deserialize<'de> for AdaptiveTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let timeout = AdaptiveTimeoutText::deserialize(deserializer)?;
        checked(timeout.problem())?;
        Ok(timeout)
    }
}

/// By the names of its fields; `burst` may be infinite.
impl<'de> Deserialize<'de> for RetryBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let budget = BudgetText::deserialize(deserializer)?;
        let problem = budget.problem();
        checked(problem.map(|text| format!("retry_budget: {text}")))?;
        Ok(budget)
    }
}

/// By the names `base`, `factor`, `cap` and `jitter`.
impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = BackoffText::deserialize(deserializer)?;
        Self::new(text.base.0, text.factor, text.cap.0, text.jitter).map_err(D::Error::custom)
    }
}

/// As its text.
impl<'de> Deserialize<'de> for Jitter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// `off`, after how long, such as `50ms`, or `p95:` and at least how long, such as `p95:10ms`.
impl<'de> Deserialize<'de> for Hedge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hedge(&text).ok_or_else(|| {
            let expected = "expected off, a duration such as 50ms, or p95:10ms";
            D::Error::custom(format!("hedge is {text:?}; {expected}"))
        })
    }
}

/// Of a file it is said more strictly than of a message, which may come from a later version.
fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    let name = String::deserialize(deserializer)?;
    Priority::from_name(&name).ok_or_else(|| {
        let expected = "expected critical, default or sheddable";
        D::Error::custom(format!("priority is {name:?}; {expected}"))
    })
}

fn hedge(text: &str) -> Option<Hedge> {
    if text == "off" {
        return Some(Hedge::Off);
    }
    let is_p95 = text.strip_prefix("p95:");
    let DurationText(wait) = is_p95.unwrap_or(text).parse().ok()?;
    Some(match is_p95 {
        Some(_) => Hedge::P95 { at_least: wait },
        None => Hedge::After(wait),
    })
}

fn checked<E: Error>(problem: Option<String>) -> Result<(), E> {
    problem.map_or(Ok(()), |problem| Err(E::custom(problem)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Kind: a field that can't be said, or is passed over. Instance: all of them, none as by default.
    #[test]
    fn every_field_is_read_by_its_name() {
        let s = Duration::from_secs;
        let expected = Config {
            call: CallLimits {
                attempt_timeout: s(1_000),
                max_attempts: 2,
                deadline: s(3),
                backoff: Backoff::new(s(4), 5.0, s(6), Jitter::Proportional(0.5)).unwrap(),
                hedge: Hedge::After(s(7)),
                adaptive_timeout: Some(AdaptiveTimeout {
                    floor: s(24),
                    multiplier: 25.0,
                }),
                fail_fast: true,
            },
            priority: Priority::Sheddable,
            dialect: Dialect::Notebook,
            extensions: false,
            sessions: false,
            assume_plain: true,
            connections: 8,
            connect_timeout: s(9),
            reconnect: Backoff::new(s(1), 10.0, s(2), Jitter::Full).unwrap(),
            max_endpoint_failures: 11,
            keepalive: s(12),
            max_frame_bytes: 13,
            max_skipped_frame_bytes: 14,
            max_protocol_errors: 15,
            max_buffered_bytes: 16,
            max_in_flight: 17,
            max_retained_calls: 18,
            retry_budget: RetryBudget {
                percent_of_calls: 19.0,
                min_per_second: 20.0,
                burst: f64::INFINITY,
            },
            resend_window: s(21),
            seed: Some(22),
            jitter_seed: Some(23),
        };
        let text = r#"
            priority = "sheddable"
            dialect = "notebook"
            extensions = false
            sessions = false
            assume_plain = true
            connections = 8
            connect_timeout = "9s"
            reconnect = { base = "1s", factor = 10 }
            max_endpoint_failures = 11
            keepalive = "12s"
            max_frame_bytes = 13
            max_skipped_frame_bytes = 14
            max_protocol_errors = 15
            max_buffered_bytes = 16
            max_in_flight = 17
            max_retained_calls = 18
            retry_budget = { percent_of_calls = 19, min_per_second = 20, burst = inf }
            resend_window = "21s"
            seed = 22
            jitter_seed = 23
            [call]
            attempt_timeout = "1000s"
            max_attempts = 2
            deadline = "3s"
            backoff = { base = "4s", factor = 5.0, cap = "6s", jitter = "proportional:0.5" }
            hedge = "7s"
            adaptive_timeout = { floor = "24s", multiplier = 25 }
            fail_fast = true
        "#;
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("").unwrap(), Config::default());
        let hedges = [
            ("off", Hedge::Off),
            ("p95:5s", Hedge::P95 { at_least: s(5) }),
        ];
        for (text, expected) in hedges {
            let config = read(&format!("call.hedge = \"{text}\"")).unwrap();
            assert_eq!(config.call.hedge, expected);
        }
    }

    /// Kind: a setting that is not what its writer meant. Instances: misspelled names, numbers without
    /// units and out of range, and words that are not known.
    #[test]
    fn what_makes_no_sense_is_refused_with_its_name_and_what_would_be_right() {
        for (text, words) in [
            (
                "conections = 1",
                ["unknown field `conections`", "`connections`"],
            ),
            (
                "call.dead_line = 1",
                ["unknown field `dead_line`", "`deadline`"],
            ),
            ("keepalive = 10", ["keepalive = 10", "with its unit"]),
            ("keepalive = \"0s\"", ["keepalive is 0", "more than 0"]),
            (
                "connections = 65537",
                ["connections is 65537", "at most 65536"],
            ),
            (
                "call.max_attempts = 0",
                ["max_attempts is 0", "more than 0"],
            ),
            (
                "call.hedge = \"p99\"",
                [
                    "hedge is \"p99\"",
                    "off, a duration such as 50ms, or p95:10ms",
                ],
            ),
            (
                "reconnect.jitter = \"some\"",
                ["\"some\" is no kind of jitter", "expected full"],
            ),
            ("reconnect.base = \"3s\"", ["base 3s", "above its cap 2s"]),
            ("reconnect.limit = 1", ["unknown field `limit`", "`cap`"]),
            (
                "retry_budget.burst = 0.5",
                ["retry_budget: burst is 0.5", "1 or more"],
            ),
            (
                "priority = \"high\"",
                ["priority is \"high\"", "critical, default or sheddable"],
            ),
            (
                "call.adaptive_timeout = { floor = \"0s\" }",
                ["adaptive_timeout.floor is 0", "more than 0"],
            ),
            ("dialect = \"xml\"", ["`xml`", "`jsonrpc-2.0`"]),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                words.iter().all(|word| error.contains(word)),
                "{text}: {error}"
            );
        }
    }
}
