//! The story of one call: everything in the record that has to do with it, in order.

use std::{collections::BTreeSet, fmt::Write};

use crate::{
    journal::{Entry, Event, Frame},
    world::Run,
};

/// What happened to a call: its waits, its frames and their copies, what the server said of it,
/// its effects; and what happened to its connections and to the server meanwhile.
#[must_use]
pub fn story(run: &Run, tag: u32) -> String {
    let cast = Cast::of(run, tag);
    let mut text = format!(
        "the story of call {tag} in the world of seed {}:\n",
        run.seed
    );
    let is_in = |entry: &&Entry| cast.is_in(&entry.event);
    let first = run
        .entries
        .iter()
        .position(|entry| is_in(&entry) && !is_remark(entry));
    for (place, entry) in run.entries.iter().enumerate() {
        let is_before = first.is_some_and(|first| place < first);
        if cast.is_in(&entry.event) && !(is_before && is_remark(entry)) {
            writeln!(text, "{entry}").expect("a string takes everything");
        }
    }
    text
}

/// The numbers of all calls in the record, those that were forged on the way among them.
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

/// Who takes part.
struct Cast {
    tag: u32,
    ids: BTreeSet<String>,
    wires: BTreeSet<u32>,
    client: Option<u32>,
}

impl Cast {
    fn of(run: &Run, tag: u32) -> Self {
        let mut cast = Self {
            tag,
            ids: BTreeSet::new(),
            wires: BTreeSet::new(),
            client: None,
        };
        for entry in &run.entries {
            match &entry.event {
                Event::Sent(frame) if frame.tag == Some(tag) => {
                    cast.ids.extend(frame.id.clone());
                    cast.wires.insert(frame.wire);
                }
                Event::Invoked(what) if what.tag == tag => cast.client = Some(what.client),
                _ => {}
            }
        }
        cast
    }

    fn is_in(&self, event: &Event) -> bool {
        match event {
            Event::Invoked(what) => what.tag == self.tag,
            Event::Ended { tag, .. }
            | Event::Began { tag, .. }
            | Event::Effect { tag, .. }
            | Event::Finished { tag, .. } => *tag == self.tag,
            Event::Sent(frame) | Event::Answered(frame) => self.is_about(frame),
            Event::Over { wire } => self.wires.contains(wire),
            Event::Server { id, .. } => id.as_ref().is_some_and(|id| self.ids.contains(id)),
            Event::Remark(text) => self.concerns(text),
        }
    }

    /// Also those that name it in their params, to ask for it or to take it back.
    fn is_about(&self, frame: &Frame) -> bool {
        frame.tag == Some(self.tag) || self.ids.iter().any(|id| frame.text.contains(&**id))
    }

    fn concerns(&self, remark: &str) -> bool {
        let mut words = remark.split([' ', ',']);
        match (
            words.next(),
            words.next().and_then(|word| word.parse().ok()),
        ) {
            (Some("wire"), Some(wire)) => self.wires.contains(&wire),
            (Some("client"), Some(client)) => self.client == Some(client),
            (Some("seed"), _) => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Subject, run};

    #[test]
    fn every_call_has_a_story_and_a_call_that_never_was_has_none() {
        let run = run(7, Subject::Real);
        let calls = calls(&run);
        assert!(calls.contains(&1) && !calls.contains(&0), "{calls:?}");
        for call in calls {
            assert!(story(&run, call).contains(&format!("call {call}")));
        }
    }
}
