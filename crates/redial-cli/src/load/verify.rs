//! Whether the calls of a run took effect as often as they say: a counter is read before and after.

use anyhow::{Context, Result, anyhow};
use redial_client::{CallError, Client};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::tally::Counts;

/// How often a query that reads the counter may be sent: the server may inject faults.
const ATTEMPTS: u32 = 100;

/// A method that says how many effects there were.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) method: String,
    pub(crate) params: Option<Box<RawValue>>,
    /// Where the number stands in the result, as a JSON pointer (RFC 6901).
    pub(crate) at: String,
    /// What each call adds to it.
    pub(crate) effect: i64,
}

/// What the counter shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Effects {
    /// The method that was asked.
    method: String,
    /// The counter before the first call.
    before: i64,
    /// The counter after the last one.
    after: i64,
    /// How many effects that are; null if it is no whole number of them.
    effects: Option<i64>,
    /// How many there must be: those of the calls that are ok.
    least: u64,
    /// How many there may be: those that failed or are unknown as well.
    most: u64,
    /// Whether there were so many.
    is_right: bool,
}

impl Counter {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// The call's, or that its result has no whole number in that place.
    pub(crate) async fn read(&self, client: &Client) -> Result<i64> {
        let query = client.query(self.method.clone(), &self.params);
        let result = query.max_attempts(ATTEMPTS).await;
        let value = result.map_err(|error: CallError| anyhow!("--verify: {error}"))?;
        self.number(&value).with_context(|| {
            let expected = "expected a whole number there (--verify-at /POINTER says where)";
            format!("--verify: {} returned {value}; {expected}", self.method)
        })
    }

    /// The number in a result: in its place or, if that is not named, the result itself or its `value`.
    fn number(&self, value: &Value) -> Option<i64> {
        if self.at.is_empty() {
            return value.as_i64().or_else(|| value.get("value")?.as_i64());
        }
        value.pointer(&self.at)?.as_i64()
    }

    /// Compares what the counter shows with how the calls ended.
    pub(crate) fn judge(&self, before: i64, after: i64, counts: &Counts) -> Effects {
        let change = after.checked_sub(before);
        // None, too, for what a server may say that counts down: -2^63 effects of -1 are more than there are numbers.
        let whole = change.filter(|change| change.checked_rem(self.effect) == Some(0));
        let effects = whole.map(|change| change / self.effect);
        let (least, most) = (counts.ok, counts.ok + counts.failed + counts.unknown);
        let fits = |effects| u64::try_from(effects).is_ok_and(|one| (least..=most).contains(&one));
        Effects {
            method: self.method.clone(),
            before,
            after,
            effects,
            least,
            most,
            is_right: effects.is_some_and(fits),
        }
    }
}

impl Effects {
    pub(crate) fn is_right(&self) -> bool {
        self.is_right
    }

    /// One line.
    pub(crate) fn text(&self) -> String {
        let Self { least, most, .. } = self;
        let expected = if least == most {
            format!("{least}")
        } else {
            format!("{least} to {most}")
        };
        let found = match self.effects {
            Some(effects) => effects.to_string(),
            None => format!("no whole number of ({} -> {})", self.before, self.after),
        };
        let verdict = if self.is_right { "exact" } else { "WRONG" };
        let verdict = if self.is_right && least < most {
            "within bounds"
        } else {
            verdict
        };
        format!(
            "{verdict}: {} shows {found} effects; expected {expected}",
            self.method
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counter(at: &str, effect: i64) -> Counter {
        Counter {
            method: "get".to_owned(),
            params: None,
            at: at.to_owned(),
            effect,
        }
    }

    fn counts(ok: u64, not_executed: u64, failed: u64, unknown: u64) -> Counts {
        Counts {
            ok,
            not_executed,
            failed,
            unknown,
            ..Counts::default()
        }
    }

    #[test]
    fn the_number_is_found_where_counters_have_it_or_where_the_flag_says() {
        for (at, result, expected) in [
            ("", json!(7), Some(7)),
            ("", json!({"key": "k", "value": -7}), Some(-7)),
            ("", json!({"count": 7}), None),
            ("", json!(7.5), None),
            ("/count", json!({"count": 7, "value": 1}), Some(7)),
            ("/a/1", json!({"a": [1, 2]}), Some(2)),
            ("/count", json!([]), None),
        ] {
            assert_eq!(counter(at, 1).number(&result), expected, "{at} {result}");
        }
    }

    #[test]
    fn there_are_as_many_effects_as_ok_calls_and_at_most_those_of_uncertain_ones_more() {
        let judge = |before, after, counts| counter("", 2).judge(before, after, &counts);
        for (after, is_right) in [
            (5, false),
            (6, false),
            (26, true),
            (28, true),
            (30, true),
            (32, false),
        ] {
            let effects = judge(6, after, counts(10, 100, 1, 1));
            assert_eq!(effects.is_right(), is_right, "{effects:?}");
        }
        assert!(
            !judge(0, 21, counts(10, 0, 0, 5)).is_right(),
            "half an effect"
        );
        assert!(!judge(0, -20, counts(10, 0, 0, 0)).is_right());
        assert!(!judge(i64::MIN, i64::MAX, counts(10, 0, 0, 0)).is_right());
        let down = counter("", -1).judge(0, i64::MIN, &counts(10, 0, 0, 0));
        assert!(!down.is_right(), "{down:?}");
    }

    #[test]
    fn the_line_says_what_was_expected() {
        let text = |after, counts| counter("", 1).judge(0, after, &counts).text();
        assert_eq!(
            text(9, counts(9, 0, 0, 0)),
            "exact: get shows 9 effects; expected 9"
        );
        assert_eq!(
            text(10, counts(9, 0, 0, 3)),
            "within bounds: get shows 10 effects; expected 9 to 12"
        );
        assert_eq!(
            text(8, counts(9, 0, 0, 3)),
            "WRONG: get shows 8 effects; expected 9 to 12"
        );
    }
}
