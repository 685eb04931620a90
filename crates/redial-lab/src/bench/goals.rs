//! The goals, and whether they were reached.

use serde::Serialize;

use super::{
    plan::{AWAKE, BUSY, BenchSubject, SHAPES, Shape},
    results::Measurements,
    stats::Spread,
};

/// One goal.
#[derive(Serialize)]
pub(crate) struct Goal {
    pub(crate) text: String,
    /// What is wanted, as text: `at least 0.40`.
    pub(crate) wanted: String,
    pub(crate) measured: Option<Spread>,
    pub(crate) is_reached: Option<bool>,
    /// Why it is not judged, if it was measured and isn't.
    #[serde(skip)]
    pub(crate) unjudged: &'static str,
}

/// What the columns are called.
pub(crate) const HEADINGS: [&str; 4] = ["goal", "verdict", "wanted", "measured (all rounds)"];

/// A bound on a ratio.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// All goals that these results can be held against.
pub(crate) fn goals(results: &Measurements) -> Vec<Goal> {
    let [single, deep, busy, awake] = SHAPES;
    let speed = |what, shape, bound| {
        let measured = results.speed_ratio(what, BenchSubject::Echo, shape);
        let name = match what {
            BenchSubject::Client => "client and server",
            BenchSubject::Plain => "server, plain ids",
            _ => "server, sessions",
        };
        goal(
            &format!("{name}, calls/s of the echo's"),
            shape,
            measured,
            bound,
        )
    };
    let query = |shape| {
        let measured = results.speed_ratio(BenchSubject::Session, BenchSubject::Query, shape);
        let text = "sessions, calls/s of the same method as a query";
        goal(text, shape, measured, AtLeast(0.9))
    };
    let tls = |what, plain, name, shape| {
        let measured = results.speed_ratio(what, plain, shape);
        let text = format!("{name} over TLS, calls/s of those over TCP");
        goal(&text, shape, measured, AtLeast(0.8))
    };
    let cpu = results.cpu_ratio(BenchSubject::Session, BenchSubject::Echo, AWAKE);
    let client = results.client_to_server(BUSY);
    let mut goals = vec![
        speed(BenchSubject::Session, awake, AtLeast(0.40)),
        goal(
            "server, sessions, CPU per call of the echo's",
            awake,
            cpu,
            AtMost(3.0),
        ),
        speed(BenchSubject::Plain, awake, AtLeast(0.33)),
        speed(BenchSubject::Session, deep, AtLeast(0.60)),
        speed(BenchSubject::Session, single, AtLeast(0.97)),
        query(awake),
        query(busy),
        query(deep),
        speed(BenchSubject::Client, busy, AtLeast(0.30)),
        speed(BenchSubject::Client, deep, AtLeast(0.45)),
        speed(BenchSubject::Client, single, AtLeast(0.95)),
        goal(
            "client, CPU per call of the server's",
            busy,
            client,
            AtMost(1.3),
        ),
        tls(BenchSubject::Tls, BenchSubject::Session, "sessions", awake),
        tls(BenchSubject::Tls, BenchSubject::Session, "sessions", busy),
        tls(
            BenchSubject::ClientTls,
            BenchSubject::Client,
            "client and server",
            busy,
        ),
    ];
    if !results.can_be_compared() {
        goals.iter_mut().for_each(|goal| goal.is_reached = None);
    }
    goals
}

fn goal(text: &str, shape: Shape, measured: Option<Spread>, bound: Bound) -> Goal {
    Goal::new(format!("{}: {text}", shape.name()), measured, bound)
}

impl Goal {
    /// Holds what was measured against a bound.
    pub(crate) fn new(text: String, measured: Option<Spread>, bound: Bound) -> Self {
        let (wanted, is_within): (_, Box<dyn Fn(f64) -> bool>) = match bound {
            AtLeast(least) => (
                format!("at least {least:.2}"),
                Box::new(move |value| value >= least),
            ),
            AtMost(most) => (
                format!("at most {most:.2}"),
                Box::new(move |value| value <= most),
            ),
        };
        Self {
            text,
            wanted,
            measured,
            is_reached: measured.map(|spread| is_within(spread.median)),
            unjudged: "too few rounds",
        }
    }

    /// As a row of a table.
    pub(crate) fn row(&self) -> [String; 4] {
        let verdict = self.verdict().to_owned();
        [
            self.text.clone(),
            verdict,
            self.wanted.clone(),
            self.found(),
        ]
    }

    /// In a word.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.is_reached {
            Some(true) => "ok",
            Some(false) => "missed",
            None if self.measured.is_some() => self.unjudged,
            None => "not known here",
        }
    }

    /// The middle of all rounds, and how far apart they were.
    pub(crate) fn found(&self) -> String {
        self.measured.map_or_else(String::new, |it| {
            it.text(|ratio| format!("{ratio:.2}"), |ratio| format!("{ratio:.2}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::results;

    #[test]
    fn one_round_reaches_no_goal_and_misses_none() {
        for goal in goals(&results(&[1e6])) {
            assert_eq!((goal.is_reached, goal.verdict()), (None, "too few rounds"));
            assert!(!goal.found().contains(" to "), "{}", goal.found());
        }
    }

    #[test]
    fn goals_are_held_against_the_middle_of_the_rounds() {
        // Everything has half of the echo's speed at twice its cost.
        let goals = goals(&results(&[1e6, 2e6, 1.5e6]));
        let verdict = |part: &str, shape: &str| {
            let mut goals = goals.iter();
            let found = goals.find(|it| it.text.contains(part) && it.text.starts_with(shape));
            found.expect("it is a goal").verdict()
        };
        assert_eq!(verdict("server, sessions, calls/s", "8 x 32"), "ok");
        assert_eq!(verdict("server, sessions, CPU", "8 x 32"), "ok");
        assert_eq!(verdict("server, sessions, calls/s", "1 x 64"), "missed");
        assert_eq!(verdict("as a query", "8 x 32"), "ok");
        assert_eq!(verdict("client, CPU", "8 x 32"), "ok");
        assert!(
            goals
                .iter()
                .all(|goal| goal.found().starts_with(['0', '1', '2', '3']))
        );
    }
}
