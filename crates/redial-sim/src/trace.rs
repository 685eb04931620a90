//! The trace of one call: every entry of the journal that concerns it, in order.

use std::{collections::BTreeSet, fmt::Write};

use crate::{
    journal::{Entry, Event, Frame, Frozen},
    world::Run,
};

/// What happened to a call: its waits, its frames and their copies, the server's reports, its
/// effects, and what happened to its connections and the server meanwhile.
#[must_use]
pub fn trace(run: &Run, tag: u32) -> String {
    let about = Participants::of(run, tag);
    let mut text = format!("call {tag} in the world of seed {}:\n", run.seed);
    let is_included = |entry: &&Entry| about.includes(&entry.event);
    let first = run
        .entries
        .iter()
        .position(|entry| is_included(&entry) && !is_remark(entry));
    for (position, entry) in run.entries.iter().enumerate() {
        let is_before = first.is_some_and(|first| position < first);
        if about.includes(&entry.event) && !(is_before && is_remark(entry)) {
            writeln!(text, "{entry}").expect("a string takes everything");
        }
    }
    text
}

/// The numbers of all calls in the journal, forged ones included.
#[must_use]
pub fn calls(run: &Run) -> BTreeSet<u32> {
    let tag = |entry: &Entry| match &entry.event {
        Event::Invoked(what) => Some(what.tag),
        Event::Sent(frame) => frame.tag,
        _ => None,
    };
    run.entries.iter().filter_map(tag).collect()
}

fn is_remark(entry: &Entry) -> bool {
    matches!(entry.event, Event::Remark(_))
}

/// The ids, the connections and the client of a call.
struct Participants {
    tag: u32,
    ids: BTreeSet<String>,
    wires: BTreeSet<u32>,
    client: Option<u32>,
}

impl Participants {
    fn of(run: &Run, tag: u32) -> Self {
        let mut about = Self {
            tag,
            ids: BTreeSet::new(),
            wires: BTreeSet::new(),
            client: None,
        };
        for entry in &run.entries {
            match &entry.event {
                Event::Sent(frame) if frame.tag == Some(tag) => {
                    about.ids.extend(frame.id.clone());
                    about.wires.insert(frame.wire);
                }
                Event::Invoked(what) if what.tag == tag => about.client = Some(what.client),
                _ => {}
            }
        }
        about
    }

    fn includes(&self, event: &Event) -> bool {
        match event {
            Event::Invoked(what) => what.tag == self.tag,
            Event::Ended { tag, .. }
            | Event::Began { tag, .. }
            | Event::Effect { tag, .. }
            | Event::Finished { tag, .. } => *tag == self.tag,
            Event::Sent(frame) | Event::Swallowed(frame) | Event::Answered(frame) => {
                self.involves(frame)
            }
            Event::Notified(frame) => self.wires.contains(&frame.wire),
            Event::Accepted { wire, .. } => self.wires.contains(wire),
            Event::Started { .. } | Event::LifeEnds { .. } | Event::Reachable { .. } => true,
            Event::Closed { wire } => self.wires.contains(wire),
            Event::Server { id, .. } => id.as_ref().is_some_and(|id| self.ids.contains(id)),
            Event::Remark(text) => self.concerns(text),
            Event::Froze(Frozen::Client(client), _) => self.client == Some(*client),
            Event::Froze(..) => true,
        }
    }

    /// Attempts of the call and their replies, and requests that name it in their params.
    fn involves(&self, frame: &Frame) -> bool {
        frame.tag == Some(self.tag) || self.ids.iter().any(|id| frame.text.contains(&**id))
    }

    fn concerns(&self, remark: &str) -> bool {
        let mut words = remark.split([' ', ',']);
        let (subject, number) = (
            words.next(),
            words.next().and_then(|word| word.parse().ok()),
        );
        match (subject, number) {
            (Some("wire"), Some(wire)) => self.wires.contains(&wire),
            (Some("client"), Some(client)) => self.client == Some(client),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Subject, run};

    #[test]
    fn every_call_has_a_trace_and_an_unknown_call_does_not() {
        let run = run(7, Subject::Real);
        let calls = calls(&run);
        assert!(calls.contains(&1) && !calls.contains(&0), "{calls:?}");
        for call in calls {
            assert!(trace(&run, call).contains(&format!("call {call}")));
        }
    }
}
