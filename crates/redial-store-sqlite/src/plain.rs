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
    /// Nothing is appended any more. Its life begins with this tick.
    Closing(u64),
    /// Its life has begun, at this time awake.
    Closed(Duration),
}

/// The life of a closed generation begins with the second tick after its closing. What
/// the batch before waited for may have told the time before the latest records were durable; what comes
/// after is handed in when all that was written up to the closing has been committed.
const TELLINGS: u64 = 2;

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
    /// How often it has told one, once at most each time that the writer takes jobs. Batches that run
    /// what was left over, or again what was undone, know no later time than the one before.
    ticks: u64,
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
            ticks: 0,
            ttl,
        }
    }

    /// As for a file that is opened again.
    pub(crate) fn renew(&self) -> Self {
        Self::new(self.ttl, self.awake)
    }

    /// Takes over the generations of a file. Those with rows begin a new life.
    pub(crate) fn recover(&mut self, has_rows: [bool; GENERATIONS]) {
        let closing = self.closing();
        self.generations = has_rows.map(
            |has_rows| {
                if has_rows { closing } else { Generation::Empty }
            },
        );
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

    /// The writer has taken jobs, of which the latest says that the server has been awake for so long; `None`
    /// if none says it.
    pub(crate) fn tell(&mut self, awake: Option<Duration>) {
        let Some(awake) = awake else { return };
        self.awake = self.awake.max(awake);
        self.ticks += 1;
    }

    fn closing(&self) -> Generation {
        Generation::Closing(self.ticks + TELLINGS)
    }

    /// When [`turn`](Self::turn) has something to do.
    pub(crate) fn due(&self) -> Duration {
        let closed = self
            .generations
            .iter()
            .filter_map(|generation| match generation {
                Generation::Closed(since) => Some(since.saturating_add(self.ttl)),
                Generation::Closing(_) => Some(Duration::ZERO),
                Generation::Empty | Generation::Current => None,
            });
        let current = self.since.map(|since| since.saturating_add(self.ttl / 4));
        closed.chain(current).min().unwrap_or(Duration::MAX)
    }

    /// Closes what is due. Returns a generation that is to be emptied; the others' turn comes with the
    /// next batches. If the batch is undone, its rows live longer.
    pub(crate) fn turn(&mut self) -> Option<usize> {
        for generation in &mut self.generations {
            if matches!(generation, Generation::Closing(ticks) if self.ticks >= *ticks) {
                *generation = Generation::Closed(self.awake);
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
            self.generations[self.current] = self.closing();
            self.generations[next] = Generation::Current;
            self.current = next;
            self.since = None;
        }
        let expired = self.generations.iter().position(|generation| {
            matches!(generation, Generation::Closed(since) if self.awake >= since.saturating_add(self.ttl))
        })?;
        // The time of a call that runs has not begun.
        let runs = |row: &Row| row.generation == expired && row.state == State::Running;
        if self.started.values().any(runs) {
            self.generations[expired] = self.closing();
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
        let turn = || {
            plain.tell(Some(s(until)));
            plain.turn()
        };
        std::iter::repeat_with(turn)
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

    /// When the generation is emptied at the latest time, with a telling every second from then on.
    fn gone(plain: &mut Plain, generation: usize, from: u64) -> u64 {
        (from..)
            .find(|at| pass(plain, *at).contains(&generation))
            .unwrap()
    }

    /// The kind of fault: a life that begins before its records are durable, since a batch dates them by
    /// an earlier tick.
    #[test]
    fn what_was_left_over_closes_nothing_as_of_before_its_records() {
        let mut plain = Plain::new(s(100), s(0));
        let mut has_rows = [true; GENERATIONS];
        has_rows[1] = false;
        plain.recover(has_rows);
        pass(&mut plain, 99);
        let generation = plain.append();
        // A batch that finds no empty generation, and makes one. Its handlers take until 190.
        plain.generations = plain.generations.map(|one| match one {
            Generation::Empty => Generation::Closed(s(99)),
            other => other,
        });
        plain.generations[0] = Generation::Closed(s(0));
        plain.tell(Some(s(130)));
        assert_eq!(plain.turn(), Some(0));
        assert_eq!(plain.append(), generation);
        // What it has left over: one batch closes the generation, the next would date it.
        plain.turn();
        assert_ne!(plain.append(), generation);
        plain.turn();
        // Handed in while the first batch ran.
        plain.tell(Some(s(150)));
        plain.turn();
        assert!(gone(&mut plain, generation, 190) >= 290);
    }

    #[test]
    fn a_batch_that_runs_again_dates_nothing_by_the_time_that_it_began_with() {
        let mut plain = Plain::new(s(100), s(0));
        let generation = plain.append();
        // Handed in at 30, while the batch with that row ran, which took until 60.
        plain.tell(Some(s(30)));
        plain.turn();
        // Undone, and run again with savepoints.
        plain.turn();
        assert_ne!(plain.append(), generation);
        assert!(gone(&mut plain, generation, 60) >= 160);
    }

    #[test]
    fn a_batch_that_tells_no_time_dates_nothing() {
        let mut plain = Plain::new(s(100), s(0));
        let generation = plain.append();
        plain.tell(Some(s(30)));
        plain.turn();
        // Acknowledgements alone, at 60.
        plain.tell(None);
        plain.turn();
        assert!(gone(&mut plain, generation, 60) >= 160);
    }
}
