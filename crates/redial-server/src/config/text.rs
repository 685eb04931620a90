//! A configuration as a file says it: in TOML, JSON, or what else serde reads.

use std::{fmt, time::Duration};

use redial_protocol::{DurationText, Limits};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::Config;
use crate::overload::Overload;

/// The fields by their names; what is left out is as by default.
#[derive(Deserialize)]
#[serde(remote = "Config", default = "Config::default", deny_unknown_fields)]
struct ConfigText {
    limits: Limits,
    #[serde(deserialize_with = "DurationText::read")]
    ttl: Duration,
    max_records: usize,
    max_record_bytes: usize,
    #[serde(deserialize_with = "DurationText::read")]
    session_lease: Duration,
    max_sessions: usize,
    max_session_bytes: usize,
    max_all_session_bytes: usize,
    max_joined: usize,
    max_running: usize,
    #[serde(deserialize_with = "DurationText::read_optional")]
    execution_timeout: Option<Duration>,
    running_reserve_percent: u32,
    max_queued: usize,
    overload: Overload,
    max_connections: usize,
    max_in_flight: usize,
    unsent_pause_bytes: usize,
    #[serde(deserialize_with = "DurationText::read")]
    write_timeout: Duration,
    #[serde(deserialize_with = "DurationText::read")]
    frame_timeout: Duration,
    #[serde(deserialize_with = "DurationText::read")]
    idle_timeout: Duration,
    #[serde(deserialize_with = "DurationText::read_optional")]
    max_connection_age: Option<Duration>,
    max_protocol_errors: u32,
    #[serde(deserialize_with = "DurationText::read")]
    auth_timeout: Duration,
    max_auth_failures: u32,
    max_peer_auth_failures: u32,
    max_peer_handshakes: u32,
    #[serde(deserialize_with = "DurationText::read")]
    drain_timeout: Duration,
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(
    remote = "Overload",
    default = "Overload::default",
    deny_unknown_fields
)]
struct OverloadText {
    #[serde(deserialize_with = "target")]
    target: Duration,
    #[serde(deserialize_with = "DurationText::read")]
    interval: Duration,
    priorities: bool,
    adaptive: bool,
    min_running: usize,
}

/// A duration, or `off` for `Duration::MAX`.
fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Target;

    impl Visitor<'_> for Target {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as \"5ms\", or \"off\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            if text == "off" {
                return Ok(Duration::MAX);
            }
            let target = text.parse().map(|DurationText(target)| target);
            target.map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_str(Target)
}

/// By the names of its fields; a `target` of `"off"` is `Duration::MAX`.
impl<'de> Deserialize<'de> for Overload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OverloadText::deserialize(deserializer)
    }
}

/// Each field by its name, and durations with their units, such as `"250ms"`. What is left out is as by
/// default; an unknown field, and a limit that [`build`](crate::ServerBuilder::build) would refuse, are errors.
///
/// ```
/// use std::time::Duration;
/// use redial_server::Config;
///
/// let text = r#"{"ttl": "30s", "max_running": 64, "limits": {"max_depth": 32}}"#;
/// let config: Config = serde_json::from_str(text)?;
/// assert_eq!((config.ttl, config.max_running), (Duration::from_secs(30), 64));
/// let error = serde_json::from_str::<Config>(r#"{"ttl": "0s"}"#).unwrap_err();
/// assert!(error.to_string().starts_with("ttl is 0ns; expected 1 ms to 20 days"));
/// # Ok::<(), serde_json::Error>(())
/// ```
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = ConfigText::deserialize(deserializer)?;
        config.check().map_err(D::Error::custom)?;
        Ok(config)
    }
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
            limits: Limits {
                max_frame_bytes: 1,
                max_batch_entries: 2,
                max_depth: 3,
            },
            ttl: s(4),
            max_records: 5,
            max_record_bytes: 6,
            session_lease: s(7),
            max_sessions: 8,
            max_session_bytes: 9,
            max_all_session_bytes: 10,
            max_joined: 11,
            max_running: 12,
            execution_timeout: Some(s(13)),
            running_reserve_percent: 14,
            max_queued: 15,
            overload: Overload {
                target: Duration::MAX,
                interval: s(29),
                priorities: false,
                adaptive: false,
                min_running: 30,
            },
            max_connections: 16,
            max_in_flight: 17,
            unsent_pause_bytes: 18,
            write_timeout: s(19),
            frame_timeout: s(20),
            idle_timeout: s(21),
            max_connection_age: Some(s(22)),
            max_protocol_errors: 23,
            auth_timeout: s(24),
            max_auth_failures: 25,
            max_peer_auth_failures: 26,
            max_peer_handshakes: 27,
            drain_timeout: s(28),
            insecure: true,
        };
        let text = r#"
            ttl = "4s"
            max_records = 5
            max_record_bytes = 6
            session_lease = "7000ms"
            max_sessions = 8
            max_session_bytes = 9
            max_all_session_bytes = 10
            max_joined = 11
            max_running = 12
            execution_timeout = "13s"
            running_reserve_percent = 14
            max_queued = 15
            max_connections = 16
            max_in_flight = 17
            unsent_pause_bytes = 18
            write_timeout = "19s"
            frame_timeout = "20s"
            idle_timeout = "0.35m"
            max_connection_age = "22s"
            max_protocol_errors = 23
            auth_timeout = "24s"
            max_auth_failures = 25
            max_peer_auth_failures = 26
            max_peer_handshakes = 27
            drain_timeout = "28s"
            insecure = true
            [overload]
            target = "off"
            interval = "29s"
            priorities = false
            adaptive = false
            min_running = 30
            [limits]
            max_frame_bytes = 1
            max_batch_entries = 2
            max_depth = 3
        "#;
        assert_eq!(read(text).unwrap(), expected);
        assert_eq!(read("").unwrap(), Config::default());
    }

    /// Kind: a setting that is not what its writer meant. Instances: a misspelled name, a number without a
    /// unit, one out of range, and a limit of another kind.
    #[test]
    fn what_makes_no_sense_is_refused_with_its_name_and_what_would_be_right() {
        for (text, words) in [
            (
                "max_runing = 1",
                ["unknown field `max_runing`", "`max_running`"],
            ),
            (
                "[limits]\nmax_deepth = 1",
                ["unknown field `max_deepth`", "`max_depth`"],
            ),
            (
                "ttl = 10",
                ["ttl = 10", "expected a duration with its unit"],
            ),
            (
                "ttl = \"10\"",
                ["ttl = ", "expected a duration with its unit"],
            ),
            ("ttl = \"481h\"", ["ttl is 1731600s", "1 ms to 20 days"]),
            (
                "overload.target = \"soon\"",
                ["overload.target = \"soon\"", "such as \"5ms\", or \"off\""],
            ),
            (
                "overload.target = 5",
                ["overload.target = 5", "such as \"5ms\", or \"off\""],
            ),
            (
                "overload.target = \"1s\"",
                ["overload.target is 1s", "at most overload.interval"],
            ),
            ("max_running = 0", ["max_running is 0", "1 or more"]),
            ("max_running = -1", ["max_running = -1", "expected usize"]),
            (
                "running_reserve_percent = 91",
                ["running_reserve_percent is 91", "at most 90"],
            ),
            (
                "limits = { max_frame_bytes = 4294967296 }",
                ["limits.max_frame_bytes is 4294967296", "4294967295"],
            ),
            (
                "execution_timeout = \"0s\"",
                ["execution_timeout is 0ns", "more than 0"],
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                words.iter().all(|word| error.contains(word)),
                "{text}: {error}"
            );
        }
    }
}
