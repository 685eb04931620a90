//! Which calls are worth looking at: one for each thing that can happen to an attempt.

use super::{
    run::Run,
    timeline::{ServerLog, Timeline},
};
use crate::harness::{
    events::{AttemptEnd, Event, Outcome},
    mode::Mode,
};

/// Something that a call can show.
pub(crate) struct CallPattern {
    pub(crate) title: &'static str,
    /// What the timeline shows.
    pub(crate) about: &'static str,
    scenario: &'static str,
    pub(crate) mode: Mode,
    shown_by: fn(&Timeline) -> bool,
}

/// A story and the call that shows it.
pub(crate) struct Example {
    pub(crate) pattern: &'static CallPattern,
    pub(crate) scenario: &'static str,
    pub(crate) timeline: Timeline,
}

const ALL: [CallPattern; 7] = [
    CallPattern {
        title: "A late reply counts",
        about: "The server takes longer than any attempt may. The second attempt joins the \
               execution that the first one started; the one reply completes the call, although \
               the attempt that asked for it was given up on.",
        scenario: "notebook",
        mode: Mode::Session,
        shown_by: |call| call.lanes[0].has(Event::Started) && call.has(Event::Joined),
    },
    CallPattern {
        title: "A lost request",
        about: "Nothing has happened at the server, so the next attempt is the one that runs.",
        scenario: "lossy requests",
        mode: Mode::Session,
        shown_by: |call| call.lanes[0].has(Event::RequestDropped) && call.has(Event::Started),
    },
    CallPattern {
        title: "A lost reply, with a session",
        about: "The effect has happened, the caller can't know. The same id comes again and gets \
               the recorded reply, byte for byte; the handler does not run a second time.",
        scenario: "lossy replies",
        mode: Mode::Session,
        shown_by: |call| call.has(Event::ReplyDropped) && call.has(Event::Replayed),
    },
    CallPattern {
        title: "A lost reply, naively",
        about: "The same loss, but the retry has a fresh id. The server takes it for another call: \
               two effects, and the caller, who hears \u{201c}ok\u{201d}, will never learn of it.",
        scenario: "lossy replies",
        mode: Mode::Naive,
        shown_by: |call| call.has(Event::ReplyDropped) && call.executions.len() > 1,
    },
    CallPattern {
        title: "A connection cut after the effect",
        about: "The execution belongs to the session, not to the connection: it is finished and \
               recorded, and the attempt on the next connection finds it.",
        scenario: "cut connections",
        mode: Mode::Session,
        shown_by: |call| {
            let cut = |lane: &super::timeline::Lane| {
                lane.has(Event::Started) && lane.end == AttemptEnd::ConnectionLost
            };
            call.lanes.iter().any(cut) && (call.has(Event::Replayed) || call.has(Event::Joined))
        },
    },
    CallPattern {
        title: "Too slow for a naive client",
        about: "Every attempt is executed in full and every reply comes too late to be known: \
               as many effects as attempts, and an error for the caller.",
        scenario: "slow",
        mode: Mode::Naive,
        shown_by: |call| call.executions.len() > 2 && call.outcome != Outcome::Ok,
    },
    CallPattern {
        title: "Refused, then let in",
        about: "A full queue refuses before anything has happened and says how long to stay away; \
               the client does, and comes back with the same id.",
        scenario: "overload",
        mode: Mode::Session,
        shown_by: |call| call.has(Event::Refused) && call.has(Event::Started),
    },
];

/// Each story with the call that shows it in the fewest attempts; without the stories that no call of
/// this run happens to show.
pub(crate) fn examples(runs: &[Run]) -> Vec<Example> {
    ALL.iter()
        .filter_map(|pattern| example(pattern, runs))
        .collect()
}

fn example(pattern: &'static CallPattern, runs: &[Run]) -> Option<Example> {
    let here = |run: &&Run| run.scenario.name == pattern.scenario && run.mode == pattern.mode;
    let run = runs.iter().find(here)?;
    let log = ServerLog::new(&run.server_events);
    let timeline = run
        .calls
        .iter()
        .filter(|call| call.attempts.len() > 1)
        .map(|call| log.timeline(call))
        .filter(pattern.shown_by)
        .min_by_key(|timeline| (timeline.lanes.len(), timeline.number))?;
    Some(Example {
        pattern,
        scenario: run.scenario.name,
        timeline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scenario;

    #[test]
    fn each_story_is_of_a_scenario_that_is_run() {
        for pattern in &ALL {
            let named = |scenario: &scenario::Scenario| scenario.name == pattern.scenario;
            assert!(scenario::ALL.iter().any(named), "{}", pattern.title);
        }
    }
}
