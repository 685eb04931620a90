//! The records of plain ids: rows that are only ever appended to one of several tables, the current
//! generation, which is closed after a while and emptied as a whole when all of its records have expired.

use std::{collections::HashMap, time::Duration};

use crate::{memory::State, schema::GENERATIONS};

/// Where the record of a call that has not ended lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) generation: usize,
    pub(crate) row: i64,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Empty,
    /// Rows are appended to it.
    Current,
    /// Since when, in the time that the server was awake. It is known from the batch after: only what is
    /// handed in after the latest commit is no earlier than its records.
    Closed(Option<Duration>),
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Plain {
    /// Calls that have not ended, by their key's bytes.
    pub(crate) started: HashMap<Box<[u8]>, Row>,
    generations: [Generation; GENERATIONS],
    current: usize,
    /// When the first row was appended to the current generation, if one was.
    since: Option<Duration>,
    /// The latest time that the server has told.
    awake: Duration,
    ttl: Duration,
}

impl Default for Plain {
    fn default() -> Self {
        Self::new(Duration::from_secs(10), Duration::ZERO)
    }
}

impl Plain {
    pub(crate) fn new(ttl: Duration, awake: Duration) -> Self {
        let mut generations = [Generation::Empty; GENERATIONS];
        generations[0] = Generation::Current;
        Self {
            started: HashMap::new(),
            generations,
            current: 0,
            since: None,
            awake,
            ttl,
        }
    }

    /// As for a file that is opened again.
    pub(crate) fn renew(&self) -> Self {
        Self::new(self.ttl, self.awake)
    }

    /// Takes over the generations of a file. Those with rows begin a new life.
    pub(crate) fn recover(&mut self, has_rows: [bool; GENERATIONS]) {
        self.generations = has_rows.map(|has_rows| {
            if has_rows {
                Generation::Closed(None)
            } else {
                Generation::Empty
            }
        });
        // Where there is no empty one, rows join the last: their lives can only be longer.
        let empty = has_rows.iter().position(|has_rows| !has_rows);
        self.current = empty.unwrap_or(GENERATIONS - 1);
        self.generations[self.current] = Generation::Current;
        self.since = empty.is_none().then_some(self.awake);
    }

    /// The generation for a new row.
    pub(crate) fn append(&mut self) -> usize {
        self.since.get_or_insert(self.awake);
        self.current
    }

    /// The server has been awake for so long.
    pub(crate) fn set_awake(&mut self, awake: Duration) {
        self.awake = self.awake.max(awake);
    }

    /// When [`turn`](Self::turn) has something to do.
    pub(crate) fn due(&self) -> Duration {
        let closed = self
            .generations
            .iter()
            .filter_map(|generation| match generation {
                Generation::Closed(Some(since)) => Some(since.saturating_add(self.ttl)),
                Generation::Closed(None) => Some(Duration::ZERO),
                Generation::Empty | Generation::Current => None,
            });
        let current = self.since.map(|since| since.saturating_add(self.ttl / 4));
        closed.chain(current).min().unwrap_or(Duration::MAX)
    }

    /// Closes what is due. Returns a generation that is to be emptied; the others' turn comes with the
    /// next batches. If the batch is undone, its rows live longer.
    pub(crate) fn turn(&mut self) -> Option<usize> {
        for generation in &mut self.generations {
            if *generation == Generation::Closed(None) {
                *generation = Generation::Closed(Some(self.awake));
            }
        }
        if self
            .since
            .is_some_and(|since| self.awake >= since.saturating_add(self.ttl / 4))
            && let Some(next) = self
                .generations
                .iter()
                .position(|one| *one == Generation::Empty)
        {
            self.generations[self.current] = Generation::Closed(None);
            self.generations[next] = Generation::Current;
            self.current = next;
            self.since = None;
        }
        let expired = self.generations.iter().position(|generation| {
            matches!(generation, Generation::Closed(Some(since)) if self.awake >= since.saturating_add(self.ttl))
        })?;
        // The time of a call that runs has not begun.
        let runs = |row: &Row| row.generation == expired && row.state == State::Running;
        if self.started.values().any(runs) {
            self.generations[expired] = Generation::Closed(None);
            return None;
        }
        self.started.retain(|_, row| row.generation != expired);
        self.generations[expired] = Generation::Empty;
        Some(expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Lets time pass; returns the generations that were emptied.
    fn pass(plain: &mut Plain, until: u64) -> Vec<usize> {
        plain.set_awake(s(until));
        std::iter::repeat_with(|| plain.turn())
            .take(GENERATIONS)
            .flatten()
            .collect()
    }

    #[test]
    fn a_record_lives_for_its_ttl_at_least_and_not_much_longer() {
        let mut plain = Plain::new(s(100), s(0));
        for at in 0..1000 {
            let emptied = pass(&mut plain, at);
            let generation = plain.append();
            assert!(!emptied.contains(&generation), "at {at}");
            let mut later = Plain {
                started: HashMap::new(),
                ..plain
            };
            let gone = (at..)
                .find(|at| pass(&mut later, *at).contains(&generation))
                .unwrap();
            assert!((at + 100..=at + 127).contains(&gone), "{at} to {gone}");
            plain = Plain {
                started: HashMap::new(),
                ..plain
            };
        }
    }

    #[test]
    fn without_an_empty_generation_records_live_longer() {
        let mut plain = Plain::new(s(100), s(0));
        plain.recover([true; GENERATIONS]);
        assert_eq!(plain.append(), GENERATIONS - 1);
        assert!(pass(&mut plain, 99).is_empty());
        assert_eq!(pass(&mut plain, 199).len(), GENERATIONS - 1);
    }

    #[test]
    fn a_call_that_runs_keeps_its_generation() {
        let mut plain = Plain::new(s(100), s(0));
        let generation = plain.append();
        let row = Row {
            generation,
            row: 1,
            state: State::Running,
        };
        plain.started.insert(Box::from(*b"x"), row);
        for at in 0..1000 {
            assert!(!pass(&mut plain, at).contains(&generation));
        }
        plain.started.clear();
        assert!((1000..1200).any(|at| pass(&mut plain, at).contains(&generation)));
    }

    #[test]
    fn an_idle_store_has_nothing_due() {
        let mut plain = Plain::new(s(100), s(0));
        assert_eq!(plain.due(), Duration::MAX);
        plain.append();
        assert_eq!(plain.due(), s(25));
        pass(&mut plain, 25);
        assert_eq!(plain.due(), s(125));
        assert_eq!(pass(&mut plain, 125).len(), 1);
        assert_eq!(plain.due(), Duration::MAX);
    }
}
