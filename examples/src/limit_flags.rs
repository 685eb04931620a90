//! The flags for every limit of a server; see [`Config`] for what each costs.

use std::time::Duration;

use anyhow::Context;
use redial_server::{Config, Limits, Overload};

use crate::flags::{DAY_MS, Whole, whole};

/// How long a record with a plain id is kept, in milliseconds: 20 days at most.
const TTL_MS: Whole = 1..=20 * DAY_MS;

/// How long a session is kept, in milliseconds: a year at most.
const LEASES_MS: Whole = 1..=365 * DAY_MS;

/// How long a shutdown waits for running calls, in milliseconds.
const DRAINS_MS: Whole = 0..=DAY_MS;

/// How old a connection may get, in seconds: up to a year.
const AGES_S: Whole = 1..=31_536_000;

/// Records, of about 180 bytes each.
const RECORDS: Whole = 1..=10_000_000_000;

/// Memory, in MiB: 16 TiB at most.
const MEBIBYTES: Whole = 1..=16 * 1024 * 1024;

/// Sessions, of less than 1 KiB each.
const SESSIONS: Whole = 1..=10_000_000;

/// A call of these counters, with all that a client may add to it, has somewhat less than the least:
/// in frames that are much smaller there would be none. The most is what 4 bytes can say.
const FRAME_BYTES: Whole = 256..=u32::MAX as i128;

/// Calls that run at once.
const RUNNING: Whole = 1..=1_000_000;

/// What is left to others, in per cent.
const RESERVES: Whole = 0..=90;

/// Calls that wait for it.
const QUEUED: Whole = 0..=10_000_000;

/// Connections, each of which is a socket.
const CONNECTIONS: Whole = 1..=1_000_000;

/// 30 minutes, in milliseconds.
const LEASE_MS: u64 = 30 * 60 * 1000;

/// Times of less than a day, in milliseconds.
const TIMES_MS: Whole = 1..=DAY_MS;

/// How deep JSON may nest.
const DEPTHS: Whole = 1..=128;

/// Calls of one connection, and of one session, for all of which a session may take memory at once.
const WINDOWS: Whole = 1..=65_536;

/// Counts of what one connection or one call may have.
const COUNTS: Whole = 1..=1_000_000;

/// Every limit.
#[derive(Clone, Debug, clap::Args)]
pub struct LimitFlags {
    /// How long the record of a finished call with a plain id is kept, in milliseconds
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(TTL_MS)
    )]
    pub ttl_ms: u64,
    /// The most records of calls with plain ids
    #[arg(long, value_name = "N", default_value = "1000000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(RECORDS))]
    pub table_records: usize,
    /// The most memory for those records, in MiB
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(MEBIBYTES))]
    pub table_mb: usize,
    /// How long a session outlives its last connection, in milliseconds
    #[arg(long, value_name = "N", default_value_t = LEASE_MS, help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(LEASES_MS))]
    pub lease_ms: u64,
    /// The most sessions
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(SESSIONS))]
    pub max_sessions: usize,
    /// The largest frame, in bytes
    #[arg(long, value_name = "N", default_value = "1048576", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(FRAME_BYTES))]
    pub max_frame: usize,
    /// The most calls that run at once
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(RUNNING))]
    pub max_running: usize,
    /// What the calls of one method from one address leave to others, in per cent of the run permits
    /// that those don't have
    #[arg(long, value_name = "PERCENT", default_value = "25", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u32>(RESERVES))]
    pub running_reserve: u32,
    /// The most calls that wait to run
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<usize>(QUEUED)
    )]
    pub queue: usize,
    /// Whether calls are refused early where more come than can be served, and priorities count
    #[arg(long, value_name = "on|off", default_value = "on", help_heading = "Limits", value_parser = ["on", "off"])]
    pub overload: String,
    /// How long calls may be queued all the time, in milliseconds [default: 5]
    #[arg(long, value_name = "N", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub queue_target_ms: Option<u64>,
    /// How long a queue may last before it counts as overload, in milliseconds [default: 100]
    #[arg(long, value_name = "N", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub queue_interval_ms: Option<u64>,
    /// The fewest calls that may run at once where more of them come to nothing [default: 4]
    #[arg(long, value_name = "N", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(RUNNING))]
    pub min_running: Option<usize>,
    /// The most connections
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(CONNECTIONS))]
    pub max_connections: usize,
    /// How long a shutdown waits for running calls, in milliseconds
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(DRAINS_MS)
    )]
    pub drain_ms: u64,
    /// How old a connection may get, in seconds, give or take a tenth: then its client is asked to make
    /// another
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        allow_negative_numbers = true,
        value_parser = whole::<u64>(AGES_S)
    )]
    pub max_connection_age_s: Option<u64>,
    /// The most unanswered calls of one connection, and the window of a session
    #[arg(long, value_name = "N", default_value = "512", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(WINDOWS))]
    pub max_in_flight: usize,
    /// The most attempts that wait for one running call
    #[arg(long, value_name = "N", default_value = "64", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(COUNTS))]
    pub max_joined: usize,
    /// The most memory for the records of one session, in MiB
    #[arg(long, value_name = "N", default_value = "16", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(MEBIBYTES))]
    pub max_session_mb: usize,
    /// The most memory for the records of all sessions, in MiB
    #[arg(long, value_name = "N", default_value = "256", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(MEBIBYTES))]
    pub max_all_session_mb: usize,
    /// How long a handler may run, in milliseconds; then it is stopped, and its call ends as interrupted [default: for ever]
    #[arg(long, value_name = "N", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub execution_timeout_ms: Option<u64>,
    /// The most requests in one batch
    #[arg(long, value_name = "N", default_value = "100", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(COUNTS))]
    pub max_batch: usize,
    /// How deep a message may nest
    #[arg(long, value_name = "N", default_value = "128", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(DEPTHS))]
    pub max_depth: usize,
    /// How much may wait for a peer to take it before its connection is read no more, in KiB
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<usize>(MEBIBYTES))]
    pub unsent_kb: usize,
    /// How long a peer may take none of what waits for it, in milliseconds
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub write_timeout_ms: u64,
    /// How long a frame may take to arrive whole, in milliseconds
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub frame_timeout_ms: u64,
    /// How long a connection may be idle, in milliseconds
    #[arg(long, value_name = "N", default_value = "300000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub idle_timeout_ms: u64,
    /// The most messages of one connection that are no requests
    #[arg(long, value_name = "N", default_value = "10", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u32>(COUNTS))]
    pub max_protocol_errors: u32,
    /// How long a connection may take to show a token, in milliseconds
    #[arg(long, value_name = "N", default_value = "10000", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u64>(TIMES_MS))]
    pub auth_timeout_ms: u64,
    /// The most wrong tokens of one connection
    #[arg(long, value_name = "N", default_value = "10", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u32>(COUNTS))]
    pub max_auth_failures: u32,
    /// The most wrong tokens of one address at once
    #[arg(long, value_name = "N", default_value = "512", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u32>(COUNTS))]
    pub max_peer_auth_failures: u32,
    /// The most TLS handshakes of one address at once
    #[arg(long, value_name = "N", default_value = "512", help_heading = "Limits", allow_negative_numbers = true, value_parser = whole::<u32>(COUNTS))]
    pub max_peer_handshakes: u32,
}

impl LimitFlags {
    /// The configuration that they say; all else is as by default.
    ///
    /// # Errors
    ///
    /// Names the flag that no machine can hold.
    pub fn config(&self) -> anyhow::Result<Config> {
        let ms = Duration::from_millis;
        let mebibytes = |flag: &str, number: usize| {
            let bytes = number.checked_mul(1024 * 1024);
            bytes.with_context(|| format!("{flag} is larger than any memory"))
        };
        Ok(Config {
            limits: Limits {
                max_frame_bytes: self.max_frame,
                max_batch_entries: self.max_batch,
                max_depth: self.max_depth,
            },
            ttl: ms(self.ttl_ms),
            max_records: self.table_records,
            max_record_bytes: mebibytes("--table-mb", self.table_mb)?,
            session_lease: ms(self.lease_ms),
            max_sessions: self.max_sessions,
            max_session_bytes: mebibytes("--max-session-mb", self.max_session_mb)?,
            max_all_session_bytes: mebibytes("--max-all-session-mb", self.max_all_session_mb)?,
            max_joined: self.max_joined,
            max_running: self.max_running,
            execution_timeout: self.execution_timeout_ms.map(ms),
            running_reserve_percent: self.running_reserve,
            max_queued: self.queue,
            overload: self.overload()?,
            max_connections: self.max_connections,
            max_in_flight: self.max_in_flight,
            unsent_pause_bytes: self.unsent_kb.saturating_mul(1024),
            write_timeout: ms(self.write_timeout_ms),
            frame_timeout: ms(self.frame_timeout_ms),
            idle_timeout: ms(self.idle_timeout_ms),
            max_connection_age: self.max_connection_age_s.map(Duration::from_secs),
            max_protocol_errors: self.max_protocol_errors,
            auth_timeout: ms(self.auth_timeout_ms),
            max_auth_failures: self.max_auth_failures,
            max_peer_auth_failures: self.max_peer_auth_failures,
            max_peer_handshakes: self.max_peer_handshakes,
            drain_timeout: ms(self.drain_ms),
            insecure: false,
        })
    }

    fn overload(&self) -> anyhow::Result<Overload> {
        if self.overload == "off" {
            for (flag, is_given) in [
                ("--queue-target-ms", self.queue_target_ms.is_some()),
                ("--queue-interval-ms", self.queue_interval_ms.is_some()),
                ("--min-running", self.min_running.is_some()),
            ] {
                anyhow::ensure!(
                    !is_given,
                    "{flag} does nothing with --overload off; expected one of them alone"
                );
            }
            return Ok(Overload::off());
        }
        let usual = Overload::default();
        let ms = |given: Option<u64>, usual| given.map_or(usual, Duration::from_millis);
        let target = ms(self.queue_target_ms, usual.target);
        let interval = ms(self.queue_interval_ms, usual.interval);
        anyhow::ensure!(
            target <= interval,
            "--queue-target-ms is {}; expected at most {}, as --queue-interval-ms says",
            target.as_millis(),
            interval.as_millis()
        );
        Ok(Overload {
            target,
            interval,
            min_running: self.min_running.unwrap_or(usual.min_running),
            ..usual
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        limits: LimitFlags,
    }

    /// Kind: a flag that does nothing, and is passed over in silence. Instances: what tunes an overload control that
    /// is off.
    #[test]
    fn what_tunes_an_overload_control_that_is_off_is_refused_by_its_name() {
        for flag in ["--queue-target-ms", "--queue-interval-ms", "--min-running"] {
            let config = |overload| {
                let args = Args::parse_from(["x", "--overload", overload, flag, "50"]);
                args.limits.config()
            };
            // 50 ms may be the target if the interval is 100.
            assert!(config("on").is_ok(), "{flag}");
            let error = config("off").map_err(|error| error.to_string());
            assert!(error.is_err_and(|text| text.contains(flag)), "{flag}");
        }
    }

    /// Kind: a default that is said twice and differs.
    #[test]
    fn without_flags_the_limits_are_the_librarys() {
        let args = Args::parse_from(["x"]);
        assert_eq!(args.limits.config().unwrap(), Config::default());
    }
}
