//! Counts of what happened in one world or many.

use std::{ops::AddAssign, time::Duration};

use serde::Serialize;

use crate::{
    journal::{End, Event},
    world::Run,
};

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of what happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
            /// How long the worlds lasted, in milliseconds of their own time.
            pub virtual_ms: u64,
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
                self.virtual_ms += other.virtual_ms;
            }
        }
    };
}

tally! {
    /// Waits of callers: for calls, and for the outcomes of earlier calls.
    waits,
    /// Waits that ended with a value.
    ok,
    /// Waits that ended with the handler's error.
    failed,
    /// Waits that ended knowing that nothing was executed.
    not_executed,
    /// Waits that ended without knowing whether anything was executed.
    unknown,
    /// Waits that their callers gave up, or that ended with their process.
    abandoned,
    /// Changes of counters.
    effects,
    /// Requests that clients sent, `rpc.*` requests included.
    requests,
    /// Requests that the middlebox copied or forged.
    copies,
    /// Connections that were made.
    connections,
    /// Connections that were cut.
    cuts,
    /// Deaths and restarts of servers.
    server_ends,
    /// Deaths of clients.
    client_deaths,
    /// Times that a server, a client or all of them stood still.
    freezes,
    /// Messages that no client had asked for.
    unasked,
    /// Connections on which the server said that it has read nothing more.
    goodbyes,
    /// Attempts that joined a running call.
    joined,
    /// Attempts that got the recorded reply.
    replayed,
    /// Attempts that were refused.
    refused,
}

impl Tally {
    /// What happened in one world.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let mut tally = Self {
            virtual_ms: millis(run.lasted),
            ..Self::default()
        };
        for entry in &run.entries {
            tally.count(&entry.event);
        }
        tally
    }

    fn count(&mut self, event: &Event) {
        let counter = match event {
            Event::Invoked(_) => &mut self.waits,
            Event::Ended { end, .. } => match end {
                End::Ok(_) => &mut self.ok,
                End::Failed(..) => &mut self.failed,
                End::NotExecuted(_) | End::Never => &mut self.not_executed,
                End::Unknown(_) => &mut self.unknown,
                End::Dropped | End::Crashed => &mut self.abandoned,
            },
            Event::Froze(..) => &mut self.freezes,
            Event::Effect { .. } => &mut self.effects,
            Event::Sent(frame) if frame.is_copy => &mut self.copies,
            Event::Sent(_) => &mut self.requests,
            Event::Server { what, .. } => match what.as_str() {
                "Joined" => &mut self.joined,
                "Replayed" => &mut self.replayed,
                refused if refused.starts_with("Refused") => &mut self.refused,
                _ => return,
            },
            Event::Remark(text) => match text.split(' ').collect::<Vec<_>>()[..] {
                ["wire", .., "is", "connected"] => &mut self.connections,
                ["wire", _, "is", ..] => &mut self.cuts,
                ["server", "dies," | "is", ..] if !text.starts_with("server is down") => {
                    &mut self.server_ends
                }
                ["server", _, "dies," | "is", ..] if !text.contains(" is down") => {
                    &mut self.server_ends
                }
                ["client", _, "dies"] => &mut self.client_deaths,
                ["wire", _, "carries", ..] => &mut self.unasked,
                _ => return,
            },
            Event::Notified(frame) if frame.is_last => &mut self.goodbyes,
            Event::Answered(_)
            | Event::Notified(_)
            | Event::Swallowed(_)
            | Event::Started { .. }
            | Event::LifeEnds { .. }
            | Event::Accepted { .. }
            | Event::Reachable { .. }
            | Event::Closed { .. }
            | Event::Began { .. }
            | Event::Finished { .. } => return,
        };
        *counter += 1;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
