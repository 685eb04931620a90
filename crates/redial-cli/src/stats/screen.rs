//! How answers are shown, in 80 columns.

use std::fmt::Write as _;

use redial_client::ErrorCode;
use serde_json::Value;

use super::answer::{Answer, Growth};
use crate::{
    numbers::{bytes, fit, latency, rate, thousands},
    output::one_line,
};

/// How wide a line may be.
const COLUMNS: usize = 80;

/// To the top left corner, and to the end of the line and of the screen.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\n";
const END_OF_SCREEN: &str = "\x1b[J";

/// Shows one answer after another.
pub(super) struct Screen {
    is_terminal: bool,
    before: Option<Answer>,
}

impl Screen {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            before: None,
        }
    }

    /// What a server has done in all, and holds.
    pub(super) fn once(answer: &Answer, health: Option<&Value>) -> String {
        let all = answer.since(&Answer::default());
        text(answer, &all, "in all", health)
    }

    /// What it has done since the answer before.
    pub(super) fn next(&mut self, answer: Answer, health: Option<&Value>) -> String {
        let text = match &self.before {
            None => Self::once(&answer, health),
            Some(before) => {
                let growth = answer.since(before);
                let period = if growth.is_restarted {
                    "since its start"
                } else {
                    "since then"
                };
                text(&answer, &growth, period, health)
            }
        };
        let is_first = self.before.replace(answer).is_none();
        if !self.is_terminal {
            return text + "\n";
        }
        // Overwritten and not erased first, so that it doesn't flicker.
        let clear = if is_first { "\x1b[2J" } else { "" };
        let lines = text.replace('\n', END_OF_LINE);
        format!("{clear}{HOME}{lines}{END_OF_SCREEN}")
    }
}

/// `growth` is what has happened in the `period`.
fn text(answer: &Answer, growth: &Growth, period: &str, health: Option<&Value>) -> String {
    let mut text = head(answer, growth, health);
    let _ = writeln!(text, "\n                          now");
    let held = [
        ("in flight", thousands(answer.get("in_flight"))),
        ("of at most", thousands(answer.get("running_limit"))),
        ("queued", thousands(answer.get("queued"))),
        ("connections", thousands(answer.get("connections"))),
        ("sessions", thousands(answer.get("sessions"))),
        (
            "their records",
            with_bytes(answer, "session_records", "session_bytes"),
        ),
        (
            "plain records",
            with_bytes(answer, "records", "record_bytes"),
        ),
    ];
    for (name, value) in held {
        let _ = writeln!(text, "{name:<16}{value:>13}");
    }
    let _ = writeln!(text, "\n                       per s{period:>17}");
    let counted = [
        ("executions", "finished"),
        ("timed out", "timed_out"),
        ("replayed", "replayed"),
        ("joined", "joined"),
        ("refused", "refused"),
        ("  queued too long", "shed"),
        ("  queue full", "queue_full"),
        ("  displaced", "displaced"),
        ("gave up queued", "given_up"),
        ("commits", "commits"),
        ("bad handshakes", "failed_handshakes"),
    ];
    for (name, member) in counted {
        let (per_s, count) = (rate(growth.per_s(member)), thousands(growth.of(member)));
        let _ = writeln!(text, "{name:<17}{per_s:>11}{count:>17}");
    }
    let delay = growth.mean("queue_delay_us", "dequeued").map(latency);
    let steps = growth
        .mean("committed", "commits")
        .map(|steps| format!("{steps:.1}"));
    let most = thousands(answer.get("largest_commit"));
    let none = || "-".to_owned();
    let _ = writeln!(
        text,
        "{:<16}{:>12}{}",
        "queue delay",
        delay.unwrap_or_else(none),
        if answer.is("overloaded") {
            "   OVERLOAD: calls are queued for too long"
        } else {
            ""
        }
    );
    let steps = steps.unwrap_or_else(none);
    let _ = writeln!(
        text,
        "{:<16}{steps:>12}   at most {most} ever",
        "steps a commit"
    );
    text + &refusals(answer) + &slowest(answer)
}

/// How the server is, and since when.
fn head(answer: &Answer, growth: &Growth, health: Option<&Value>) -> String {
    let seconds = answer.awake().as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let awake = format!("awake for {hours}:{minutes:02}:{:02}", seconds % 60);
    let is_ready = health.and_then(|health| health["ready"].as_bool());
    let why = health.and_then(|health| health["detail"].as_str().or(health["why"].as_str()));
    let health = match (is_ready, why) {
        (Some(true), _) => "ready".to_owned(),
        (Some(false), why) => format!("NOT READY: {}", why.unwrap_or("it says no reason")),
        (None, _) => "health unknown".to_owned(),
    };
    let restarted = if growth.is_restarted {
        ", started again"
    } else {
        ""
    };
    let line = format!("{awake}{restarted}   {health}");
    fit(&one_line(&line), COLUMNS) + "\n"
}

fn with_bytes(answer: &Answer, count: &str, size: &str) -> String {
    let count = thousands(answer.get(count));
    format!("{count:>13}   {}", bytes(answer.get(size)))
}

fn refusals(answer: &Answer) -> String {
    let mut text = String::new();
    for (code, count) in answer.refusals() {
        let name = match i32::try_from(code) {
            Ok(0) | Err(_) => "other codes".to_owned(),
            Ok(code) => format!("{code} {}", ErrorCode::from(code).name()),
        };
        let heading = if text.is_empty() {
            "\nrefused in all\n"
        } else {
            ""
        };
        let _ = writeln!(text, "{heading}  {name:<32}{:>11}", thousands(count));
    }
    text
}

fn slowest(answer: &Answer) -> String {
    let mut text = String::new();
    for time in answer.slowest() {
        if text.is_empty() {
            text = "\nslowest methods, of executions that waited for something\n".to_owned();
            text += "  method                                    count        mean     slowest\n";
        }
        let (mean, most) = (latency(time.mean_us as f64), latency(time.max_us as f64));
        let (method, count) = (fit(&one_line(&time.method), 34), thousands(time.count));
        let _ = writeln!(text, "  {method:<34}{count:>13}{mean:>12}{most:>12}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(finished: u64) -> Answer {
        Answer::read(&json!({
            "awake_ms": 3_661_000 + finished, "started": finished, "finished": finished, "refused": 3,
            "refusals": [{"code": -32001, "count": 2}, {"code": 0, "count": 1}],
            "in_flight": 7, "queued": 2, "dequeued": finished, "queue_delay_us": finished * 1500,
            "sessions": 5, "session_records": 1234, "session_bytes": 5 * 1024 * 1024,
            "shed": 4, "overloaded": true, "running_limit": 256,
            "commits": 10, "committed": 25, "largest_commit": 9,
            "slowest": [{"method": "x".repeat(60), "count": 10_000_000_000u64, "mean_us": 1200, "max_us": 1900}],
        }))
    }

    #[test]
    fn every_line_fits_80_columns_and_says_what_there_is() {
        let ready = json!({"live": true, "ready": true});
        let text = Screen::once(&answer(1000), Some(&ready));
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
        for line in [
            "awake for 1:01:02   ready",
            "in flight                   7",
            "their records           1,234   5.0 MiB",
            "executions               0.3            1,000",
            "of at most                256",
            "queued too long       <0.1                4",
            "queue delay          1.50 ms   OVERLOAD: calls are queued for too long",
            "steps a commit           2.5   at most 9 ever",
            "  -32001 Overloaded                         2",
            "  other codes                               1",
            "1.20 ms     1.90 ms",
        ] {
            assert!(text.contains(line), "{line}\n\n{text}");
        }
    }

    #[test]
    fn a_server_that_is_not_ready_says_why() {
        for (health, expected) in [
            (
                json!({"ready": false, "why": "draining"}),
                "NOT READY: draining",
            ),
            (
                json!({"ready": false, "why": "w", "detail": "the file is full"}),
                "the file is full",
            ),
            (json!({"ready": false}), "NOT READY: it says no reason"),
            (json!(null), "health unknown"),
        ] {
            let text = Screen::once(&answer(1), Some(&health));
            assert!(text.lines().next().unwrap().contains(expected), "{text}");
        }
        assert!(Screen::once(&answer(1), None).contains("health unknown"));
    }

    #[test]
    fn the_next_answer_shows_what_has_happened_since_then() {
        let mut screen = Screen::new(false);
        screen.next(answer(1000), None);
        let text = screen.next(answer(3000), None);
        assert!(
            text.contains("executions             1,000            2,000"),
            "{text}"
        );
        assert!(
            text.contains("since then") && !text.contains('\x1b'),
            "{text}"
        );
        let text = screen.next(answer(500), None);
        assert!(
            text.contains("started again") && text.contains("since its start"),
            "{text}"
        );
    }

    #[test]
    fn a_terminal_is_overwritten() {
        let mut screen = Screen::new(true);
        assert!(screen.next(answer(1), None).starts_with("\x1b[2J\x1b[H"));
        let text = screen.next(answer(2), None);
        assert!(
            text.starts_with("\x1b[Hawake") && text.ends_with("\x1b[J"),
            "{text:?}"
        );
        assert!(
            text.lines()
                .all(|line| line.ends_with("\x1b[K") || line == "\x1b[J"),
            "{text:?}"
        );
    }
}
