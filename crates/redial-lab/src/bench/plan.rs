//! What is measured, and in which order.

use serde::Serialize;

/// Connections, and calls in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    /// Whether the generator asks for replies all the time instead of sleeping until there are
    /// some. Waking a process up on the same machine takes as long as several calls. A busy server
    /// whose peers are many, or elsewhere, does not pay for that; nor does the echo, which keeps
    /// the generator busy.
    pub(crate) is_awake: bool,
}

/// From one call at a time to as many as a busy service has.
pub(crate) const SHAPES: [Shape; 4] = [
    Shape::new(1, 1),
    Shape::new(1, 64),
    Shape::new(8, 32),
    Shape::new(8, 32).awake(),
];

/// The shape that the goals of client and server together are mostly about.
pub(crate) const BUSY: Shape = SHAPES[2];

/// The one that those of the server alone are mostly about.
pub(crate) const AWAKE: Shape = SHAPES[3];

/// A peer, and what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BenchSubject {
    /// The limit: the same bytes, sent back.
    Echo,
    /// The method as a query, in the requests of a session.
    Query,
    /// The method as a query, in requests with plain ids.
    PlainQuery,
    /// The method as a mutation under plain ids.
    Plain,
    /// The method as a mutation in sessions.
    Session,
    /// The same, one call in twenty sent twice.
    Duplicates,
    /// The same as `Session`, over TLS.
    Tls,
    /// Redial's client instead of the generator.
    Client,
    /// The same over TLS.
    ClientTls,
    /// Sessions, server and generator both free to run on any core; one server thread.
    OneThread,
    /// The same with two server threads.
    TwoThreads,
}

/// What is measured in every shape, if it can be.
const EVERYWHERE: [BenchSubject; 9] = [
    BenchSubject::Echo,
    BenchSubject::PlainQuery,
    BenchSubject::Query,
    BenchSubject::Plain,
    BenchSubject::Session,
    BenchSubject::Tls,
    BenchSubject::Duplicates,
    BenchSubject::Client,
    BenchSubject::ClientTls,
];

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct BenchCell {
    pub(crate) what: BenchSubject,
    #[serde(flatten)]
    pub(crate) shape: Shape,
}

impl Shape {
    const fn new(connections: usize, in_flight: usize) -> Self {
        Self {
            connections,
            in_flight,
            is_awake: false,
        }
    }

    const fn awake(self) -> Self {
        Self {
            is_awake: true,
            ..self
        }
    }

    /// As in `8 x 32: 8 connections, 32 calls in flight on each`.
    pub(crate) fn in_words(self) -> String {
        let many = |count, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let each = if self.connections == 1 {
            ""
        } else {
            " on each"
        };
        let awake = if self.is_awake {
            "; the generator never sleeps"
        } else {
            ""
        };
        format!(
            "{}: {}, {} in flight{each}{awake}",
            self.name(),
            many(self.connections, "connection"),
            many(self.in_flight, "call"),
        )
    }

    /// As in `8 x 32`.
    pub(crate) fn name(self) -> String {
        let awake = if self.is_awake { ", awake" } else { "" };
        format!("{} x {}{awake}", self.connections, self.in_flight)
    }
}

impl BenchSubject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "bare echo",
            Self::Query => "query",
            Self::PlainQuery => "query, plain ids",
            Self::Plain => "plain ids",
            Self::Session => "session",
            Self::Duplicates => "session, 5 % twice",
            Self::Tls => "session, TLS",
            Self::Client => "client",
            Self::ClientTls => "client, TLS",
            Self::OneThread => "1 thread, unpinned",
            Self::TwoThreads => "2 threads, unpinned",
        }
    }

    /// Whether it goes over TLS.
    pub(crate) fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::ClientTls)
    }

    /// Whether Redial's client makes the calls.
    pub(crate) fn has_client(self) -> bool {
        matches!(self, Self::Client | Self::ClientTls)
    }

    /// Whether the programs are kept on a core each.
    pub(crate) fn is_pinned(self) -> bool {
        !matches!(self, Self::OneThread | Self::TwoThreads)
    }

    /// What colour it is drawn in.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Echo => "soft-bar",
            Self::Query | Self::PlainQuery => "query",
            Self::Plain => "plain",
            Self::Session | Self::Tls | Self::Duplicates | Self::OneThread | Self::TwoThreads => {
                "session"
            }
            Self::Client | Self::ClientTls => "client",
        }
    }
}

/// All measurements of a round, shape by shape, so that what is compared is measured within
/// seconds.
pub(crate) fn cells() -> Vec<BenchCell> {
    let everywhere = SHAPES
        .into_iter()
        .flat_map(|shape| EVERYWHERE.map(|what| BenchCell { what, shape }))
        // Redial's client sleeps when it has nothing to do.
        .filter(|cell| !cell.what.has_client() || !cell.shape.is_awake)
        .filter(|cell| !cell.what.is_encrypted() || cell.shape.connections > 1);
    let threads = [BenchSubject::OneThread, BenchSubject::TwoThreads];
    let threads = threads.map(|what| BenchCell { what, shape: BUSY });
    everywhere.chain(threads).collect()
}

/// The order of a round: each begins elsewhere, so that nothing always comes first, or always
/// after the same thing as the machine warms up.
pub(crate) fn order(cells: usize, round: usize) -> Vec<usize> {
    // Has no divisor in common with the number of cells, and is more than a shape's.
    const STEP: usize = 11;
    let mut order: Vec<_> = (0..cells).collect();
    order.rotate_left(round * STEP % cells);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_measures_every_cell_once_and_begins_elsewhere() {
        let count = cells().len();
        let mut firsts = Vec::new();
        for round in 0..count {
            let mut order = order(count, round);
            firsts.push(order[0]);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
        firsts.sort_unstable();
        assert_eq!(firsts, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn everything_has_an_echo_of_its_shape_to_be_compared_to() {
        let cells = cells();
        for cell in &cells {
            let what = BenchSubject::Echo;
            assert!(cells.contains(&BenchCell { what, ..*cell }), "{cell:?}");
        }
    }
}
