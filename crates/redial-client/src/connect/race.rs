//! Which address of a name is tried when: Happy Eyeballs (RFC 8305), without a clock or a socket.
//!
//! The two families take turns, beginning with the one that the system's resolver prefers. An
//! address is tried when the attempt before it has failed, or has had [`ATTEMPT_DELAY`] to itself;
//! earlier attempts go on meanwhile. The first connection wins, and the caller drops the others.

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use redial_protocol::unmapped;

/// How long an attempt runs before the next one joins it: what RFC 8305 recommends (section 8).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most addresses that an error lists: a name may have any number.
const MAX_LISTED: usize = 8;

/// The addresses of one name, and what happened to the attempts on them.
pub(super) struct Race {
    candidates: Vec<Candidate>,
    /// How many of them have been started.
    started: usize,
    running: usize,
    /// When the next one may be started. `None`: at once.
    next_at: Option<Instant>,
}

struct Candidate {
    address: SocketAddr,
    failure: Option<io::Error>,
}

/// What a race asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RaceStep {
    /// Connect to this address, beside the attempts that run.
    Start(SocketAddr),
    /// Wait until an attempt ends, or until this time if there is another address to try.
    Wait(Option<Instant>),
    /// No address is left.
    Exhausted,
}

impl Race {
    /// A race among the addresses of a name, in the order that the resolver prefers.
    pub(super) fn new(resolved: impl IntoIterator<Item = SocketAddr>) -> Self {
        let candidates = interleaved(resolved).map(|address| Candidate {
            address,
            failure: None,
        });
        Self {
            candidates: candidates.collect(),
            started: 0,
            running: 0,
            next_at: None,
        }
    }

    pub(super) fn next(&mut self, now: Instant) -> RaceStep {
        let untried = self.candidates.get(self.started);
        match (untried, self.next_at) {
            (None, _) if self.running == 0 => RaceStep::Exhausted,
            (None, _) => RaceStep::Wait(None),
            (Some(_), Some(at)) if at > now => RaceStep::Wait(Some(at)),
            (Some(attempt), _) => {
                self.started += 1;
                self.running += 1;
                self.next_at = Some(now + ATTEMPT_DELAY);
                RaceStep::Start(attempt.address)
            }
        }
    }

    /// An attempt has ended without a connection.
    pub(super) fn failed(&mut self, address: SocketAddr, error: io::Error) {
        let started = &mut self.candidates[..self.started];
        let Some(at) = started.iter().rposition(|a| a.address == address) else {
            return;
        };
        started[at].failure = Some(error);
        self.running -= 1;
        // An older attempt's end says nothing about the one that has its time now.
        if at + 1 == self.started {
            self.next_at = None;
        }
    }

    /// Why there is no connection: every address failed, or the time `limit` is up.
    pub(super) fn into_error(self, limit: Option<Duration>) -> io::Error {
        let last = self
            .candidates
            .iter()
            .rev()
            .find_map(|a| a.failure.as_ref());
        let kind = match (limit, last) {
            (Some(_), _) => io::ErrorKind::TimedOut,
            (None, Some(error)) => error.kind(),
            (None, None) => io::ErrorKind::NotFound,
        };
        io::Error::new(kind, NoConnection { race: self, limit })
    }
}

/// What was tried, in the order of trying.
struct NoConnection {
    race: Race,
    limit: Option<Duration>,
}

impl std::error::Error for NoConnection {}

impl fmt::Debug for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoConnection({self})")
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let candidates = &self.race.candidates;
        match self.limit {
            Some(limit) => write!(f, "no connection within {limit:?}")?,
            None if candidates.is_empty() => return f.write_str("the name has no address"),
            None => f.write_str("no address takes connections")?,
        }
        for (at, attempt) in candidates.iter().take(MAX_LISTED).enumerate() {
            let separator = if at == 0 { " (" } else { "; " };
            write!(f, "{separator}{}: ", attempt.address)?;
            match &attempt.failure {
                Some(error) => write!(f, "{error}")?,
                None if at < self.race.started => f.write_str("no answer")?,
                None => f.write_str("not tried")?,
            }
        }
        match candidates.len().saturating_sub(MAX_LISTED) {
            0 if candidates.is_empty() => Ok(()),
            0 => f.write_str(")"),
            more => write!(f, "; and {more} more)"),
        }
    }
}

/// Each address once, the two families by turns (RFC 8305, section 4). An IPv4 address in IPv6's
/// clothes counts as what it is.
fn interleaved(resolved: impl IntoIterator<Item = SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let mut queues: [VecDeque<SocketAddr>; 2] = Default::default();
    let mut is_v6_first = None;
    for mut address in resolved {
        address = unmapped(address);
        let is_v6 = address.is_ipv6();
        let queue = &mut queues[usize::from(is_v6 != *is_v6_first.get_or_insert(is_v6))];
        if !queue.contains(&address) {
            queue.push_back(address);
        }
    }
    std::iter::from_fn(move || {
        queues.rotate_left(1);
        let [after, turn] = &mut queues;
        turn.pop_front().or_else(|| after.pop_front())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    fn addresses(list: &str) -> Vec<SocketAddr> {
        let parse = |text: &str| text.parse().expect("an address");
        list.split_whitespace().map(parse).collect()
    }

    fn order(list: &str) -> String {
        let order = interleaved(addresses(list)).map(|address| address.to_string());
        order.collect::<Vec<_>>().join(" ")
    }

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    #[test]
    fn the_families_take_turns_beginning_with_the_preferred_one() {
        for (resolved, expected) in [
            ("", ""),
            ("1.1.1.1:1", "1.1.1.1:1"),
            (
                "[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1",
                "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1",
            ),
            (
                "1.1.1.1:1 2.2.2.2:1 3.3.3.3:1 [::1]:1",
                "1.1.1.1:1 [::1]:1 2.2.2.2:1 3.3.3.3:1",
            ),
        ] {
            assert_eq!(order(resolved), expected);
        }
    }

    #[test]
    fn an_address_is_tried_once_however_often_and_in_whatever_clothes_it_comes() {
        let resolved = "[::1]:1 1.1.1.1:1 [::ffff:1.1.1.1]:1 1.1.1.1:1 [::1]:1 [::ffff:2.2.2.2]:1";
        assert_eq!(order(resolved), "[::1]:1 1.1.1.1:1 2.2.2.2:1");
        // Two interfaces are two ways.
        let scoped = "[fe80::1%1]:1 [fe80::1%2]:1";
        assert_eq!(order(scoped), scoped);
    }

    #[test]
    fn a_silent_address_is_joined_by_the_next_after_250_ms() {
        let (now, list) = (clock::now(), addresses("1.1.1.1:1 2.2.2.2:1"));
        let mut race = Race::new(list.clone());
        assert_eq!(race.next(now), RaceStep::Start(list[0]));
        let at = now + 250 * MS;
        assert_eq!(race.next(now), RaceStep::Wait(Some(at)));
        assert_eq!(race.next(at - MS), RaceStep::Wait(Some(at)));
        assert_eq!(race.next(at), RaceStep::Start(list[1]));
        assert_eq!(race.next(at + 250 * MS), RaceStep::Wait(None));
    }

    #[test]
    fn the_next_address_does_not_wait_once_the_latest_attempt_has_failed() {
        let (now, list) = (clock::now(), addresses("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1"));
        let mut race = Race::new(list.clone());
        assert_eq!(race.next(now), RaceStep::Start(list[0]));
        race.failed(list[0], refused());
        assert_eq!(race.next(now), RaceStep::Start(list[1]));
        race.failed(list[1], refused());
        assert_eq!(race.next(now), RaceStep::Start(list[2]));
        race.failed(list[2], refused());
        assert_eq!(race.next(now), RaceStep::Exhausted);
    }

    #[test]
    fn the_end_of_an_older_attempt_hurries_none() {
        let (now, list) = (clock::now(), addresses("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1"));
        let mut race = Race::new(list.clone());
        race.next(now);
        let second = now + ATTEMPT_DELAY;
        assert_eq!(race.next(second), RaceStep::Start(list[1]));
        race.failed(list[0], refused());
        assert_eq!(
            race.next(second),
            RaceStep::Wait(Some(second + ATTEMPT_DELAY))
        );
    }

    #[test]
    fn an_error_lists_what_was_tried_and_how_it_ended() {
        let (now, list) = (clock::now(), addresses("1.1.1.1:1 2.2.2.2:1 3.3.3.3:1"));
        let mut race = Race::new(list.clone());
        race.next(now);
        race.failed(list[0], refused());
        race.next(now);
        let error = race.into_error(Some(5 * MS));
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            "no connection within 5ms (1.1.1.1:1: connection refused; \
             2.2.2.2:1: no answer; 3.3.3.3:1: not tried)"
        );
    }

    #[test]
    fn an_error_of_many_addresses_is_short() {
        let many = (0..1000).map(|port| SocketAddr::from(([1, 1, 1, 1], port)));
        let text = Race::new(many).into_error(Some(MS)).to_string();
        assert!(text.ends_with("; and 992 more)"), "{text}");
        let none = Race::new([]).into_error(None).to_string();
        assert_eq!(none, "the name has no address");
    }

    proptest! {
        /// Whatever fails when: every address is tried once, never two within the delay unless the
        /// one before has failed, and the race is exhausted exactly when all have failed.
        #[test]
        fn every_address_gets_its_turn(
            count in 0..12_u16,
            lifetimes in proptest::collection::vec(0..900_u32, 12),
        ) {
            let list: Vec<_> = (0..count).map(|n| SocketAddr::from(([1, 1, 1, 1], n))).collect();
            let (start, mut race) = (clock::now(), Race::new(list.clone()));
            let (mut now, mut running, mut tried) = (start, Vec::new(), Vec::new());
            let (mut latest, mut latest_failed) = (start, true);
            loop {
                let ends = running.iter().min().copied();
                now = match (race.next(now), ends) {
                    (RaceStep::Start(address), _) => {
                        prop_assert!(latest_failed || now >= latest + ATTEMPT_DELAY);
                        let lifetime = lifetimes[tried.len()] * MS;
                        tried.push(address);
                        running.push((now + lifetime, address));
                        (latest, latest_failed) = (now, false);
                        now
                    }
                    (RaceStep::Exhausted, ends) => {
                        prop_assert_eq!(ends, None);
                        break;
                    }
                    (RaceStep::Wait(None), None) => panic!("nothing to wait for"),
                    (RaceStep::Wait(Some(at)), ends) if ends.is_none_or(|(end, _)| at < end) => at,
                    (RaceStep::Wait(_), ends) => {
                        let (end, address) = ends.expect("one ends");
                        running.retain(|(_, other)| *other != address);
                        latest_failed |= Some(&address) == tried.last();
                        race.failed(address, refused());
                        end.max(now)
                    }
                };
            }
            prop_assert_eq!(tried, list);
        }
    }
}
