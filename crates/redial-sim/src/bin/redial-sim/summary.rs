//! The results of many worlds: figures by what they are about, and the first broken promise.

use redial_sim::{Subject, Tally, Violation};
use serde_json::{Map, Value, json};

/// How many violations are shown; `--seed` shows all of them.
const SHOWN: usize = 10;

const MS_PER_HOUR: f64 = 3.6e6;

/// The figures that are shown, by what they are about. Callers wait for calls, and for the answer
/// to what happened to one.
const GROUPS: [(&str, &str); 4] = [
    ("callers", "waits ok failed not_executed unknown abandoned"),
    ("the server", "effects joined replayed refused"),
    (
        "the network",
        "connections requests copies cuts unasked goodbyes",
    ),
    ("the world", "server_ends client_deaths freezes"),
];

/// The results of many seeds.
pub(crate) struct Summary {
    pub(crate) subject: Subject,
    pub(crate) seeds: u64,
    pub(crate) tally: Tally,
    /// The lowest seed that failed.
    pub(crate) failed: Option<(u64, Vec<Violation>)>,
    pub(crate) seconds: f64,
}

impl Summary {
    fn simulated_hours(&self) -> f64 {
        self.tally.virtual_ms as f64 / MS_PER_HOUR
    }

    fn seeds_per_s(&self) -> f64 {
        self.seeds as f64 / self.seconds
    }

    pub(crate) fn json(&self) -> Value {
        let violations = self.failed.iter().flat_map(|(_, violations)| violations);
        let violations: Vec<_> = violations.map(ToString::to_string).collect();
        json!({
            "seeds": self.seeds,
            "first_failing_seed": self.failed.as_ref().map(|(seed, _)| seed),
            "violations": violations,
            "tally": self.tally,
            "elapsed_s": self.seconds,
            "seeds_per_s": self.seeds_per_s(),
            "simulated_hours": self.simulated_hours(),
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} {} in {:.1} s ({:.0} a second), {:.1} simulated hours",
            thousands(self.seeds),
            if self.seeds == 1 { "seed" } else { "seeds" },
            self.seconds,
            self.seeds_per_s(),
            self.simulated_hours(),
        );
        let tally = serde_json::to_value(self.tally).unwrap_or_default();
        if let Some(tally) = tally.as_object() {
            for (title, names) in GROUPS {
                text.push_str(&format!("\n  {title:<11} {}", figures(tally, names)));
            }
        }
        match &self.failed {
            None => text.push_str("\nno promise was broken"),
            Some((seed, violations)) => text.push_str(&self.failure(*seed, violations)),
        }
        text
    }

    fn failure(&self, seed: u64, violations: &[Violation]) -> String {
        let mut text = String::new();
        for violation in violations.iter().take(SHOWN) {
            text.push_str(&format!("\nVIOLATION {violation}"));
        }
        if violations.len() > SHOWN {
            text.push_str(&format!("\nand {} more", violations.len() - SHOWN));
        }
        let subject = match self.subject {
            Subject::Real => String::new(),
            Subject::Stored => " --subject stored".to_owned(),
            Subject::Shared => " --subject shared".to_owned(),
            Subject::Endpoints => " --subject endpoints".to_owned(),
            Subject::Model => " --subject model".to_owned(),
            Subject::Buggy(bug) => format!(" --subject {}", bug.name()),
        };
        text.push_str(&format!(
            "\nseed {seed} failed; to see it: cargo xtask sim --seed {seed}{subject}"
        ));
        text
    }
}

/// These figures, as in `2 ok, 1 failed`.
fn figures(tally: &Map<String, Value>, names: &str) -> String {
    let one = |name: &str| {
        let value = tally.get(name).and_then(Value::as_u64).unwrap_or(0);
        format!("{} {}", thousands(value), name.replace('_', " "))
    };
    let figures: Vec<_> = names.split_whitespace().map(one).collect();
    figures.join(", ")
}

/// A number with a comma before each three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use redial_sim::Bug;

    use super::*;

    fn summary(failed: Option<(u64, Vec<Violation>)>) -> Summary {
        Summary {
            subject: Subject::Real,
            seeds: 1200,
            tally: Tally {
                waits: 5000,
                client_deaths: 2,
                virtual_ms: 7_200_000,
                ..Tally::default()
            },
            failed,
            seconds: 4.0,
        }
    }

    /// A seed with so many violations.
    fn failed(violations: usize) -> Option<(u64, Vec<Violation>)> {
        let violation = |call| Violation {
            rule: "at most one effect",
            tag: Some(call),
            detail: "2 of them".to_owned(),
        };
        Some((9, (1..=violations as u32).map(violation).collect()))
    }

    #[test]
    fn a_good_run_says_how_fast_and_how_much() {
        let text = summary(None).text();
        for part in [
            "1,200 seeds in 4.0 s (300 a second), 2.0 simulated hours\n",
            "\n  callers     5,000 waits, 0 ok",
            "2 client deaths, 0 freezes\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.ends_with("no promise was broken"), "{text}");
        assert_eq!(summary(None).json()["seeds_per_s"], 300.0);
    }

    #[test]
    fn a_bad_run_says_which_seed_and_shows_only_some_of_it() {
        let text = summary(failed(25)).text();
        assert_eq!(
            text.matches("VIOLATION at most one").count(),
            SHOWN,
            "{text}"
        );
        assert!(text.contains("\nand 15 more\nseed 9 failed"), "{text}");
        let buggy = Summary {
            subject: Subject::Buggy(Bug::NoJoin),
            ..summary(failed(1))
        };
        let end = "cargo xtask sim --seed 9 --subject no-join";
        assert!(buggy.text().ends_with(end), "{}", buggy.text());
        assert_eq!(buggy.json()["first_failing_seed"], 9);
    }
}
