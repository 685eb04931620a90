//! The course of one call, put together from what its client and its server each wrote down.

use std::collections::HashMap;

use crate::harness::events::{AttemptEnd, Call, Event, Outcome, ServerEvent};

/// What happened to one call. Times are milliseconds since the call began.
pub(crate) struct Timeline {
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
    pub(crate) end_ms: f64,
    /// One per attempt, in the order of sending.
    pub(crate) lanes: Vec<Lane>,
    /// One for each effect: more than one is what must not happen.
    pub(crate) executions: Vec<Execution>,
}

/// One attempt.
pub(crate) struct Lane {
    id: String,
    pub(crate) sent_ms: f64,
    pub(crate) end_ms: f64,
    pub(crate) end: AttemptEnd,
    /// What the server made of it, in order.
    pub(crate) marks: Vec<Mark>,
}

/// What the server did with it at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) at_ms: f64,
    pub(crate) event: Event,
}

/// One run of the handler.
pub(crate) struct Execution {
    /// The attempt that made it begin, counted from 0.
    pub(crate) lane: usize,
    /// When the server accepted the call, maybe to wait for a permit or for a delay.
    pub(crate) accepted_ms: f64,
    /// When its handler began.
    pub(crate) start_ms: f64,
    /// None if the server ended before it did.
    pub(crate) end_ms: Option<f64>,
}

/// A server's events, found by the attempt that they are about.
pub(crate) struct ServerLog<'a> {
    by_attempt: HashMap<(&'a str, u32), Vec<&'a ServerEvent>>,
    finished: HashMap<&'a str, u64>,
}

impl<'a> ServerLog<'a> {
    pub(crate) fn new(events: &'a [ServerEvent]) -> Self {
        let mut by_attempt: HashMap<_, Vec<_>> = HashMap::new();
        let mut finished = HashMap::new();
        for event in events {
            let Some(id) = event.id.as_deref() else {
                continue;
            };
            if event.event == Event::Finished {
                finished.insert(id, event.t_us);
            } else {
                by_attempt
                    .entry((id, event.attempt))
                    .or_default()
                    .push(event);
            }
        }
        for about in by_attempt.values_mut() {
            about.sort_by_key(|event| event.t_us);
        }
        Self {
            by_attempt,
            finished,
        }
    }

    /// Joins a call with the events of its attempts. One machine, one clock: the times of
    /// both sides can be compared.
    pub(crate) fn timeline(&self, call: &Call) -> Timeline {
        // Only the clock's own jitter puts anything before the call's start.
        let ms = |t_us: u64| t_us.saturating_sub(call.start_us) as f64 / 1000.0;
        let mut executions = Vec::new();
        let mut lanes = Vec::new();
        for (lane, attempt) in call.attempts.iter().enumerate() {
            let key = (attempt.id.as_str(), attempt.attempt);
            let about = self.by_attempt.get(&key).map_or(&[][..], Vec::as_slice);
            let mark = |event: &&ServerEvent| Mark {
                at_ms: ms(event.t_us),
                event: event.event,
            };
            let marks: Vec<_> = about.iter().map(mark).collect();
            let finished = self.finished.get(key.0).copied().map(ms);
            executions.extend(execution(lane, &marks, finished));
            lanes.push(Lane {
                id: attempt.id.clone(),
                sent_ms: ms(attempt.sent_us),
                end_ms: ms(attempt.end_us),
                end: attempt.end,
                marks,
            });
        }
        Timeline {
            number: call.number,
            outcome: call.outcome,
            end_ms: ms(call.end_us),
            lanes,
            executions,
        }
    }
}

/// The execution that an attempt made begin, if it did.
fn execution(lane: usize, marks: &[Mark], end_ms: Option<f64>) -> Option<Execution> {
    let at = |event| {
        marks
            .iter()
            .find(|mark| mark.event == event)
            .map(|mark| mark.at_ms)
    };
    let start_ms = at(Event::Started)?;
    Some(Execution {
        lane,
        accepted_ms: at(Event::Accepted).unwrap_or(start_ms),
        start_ms,
        end_ms,
    })
}

impl Timeline {
    /// Whether any attempt met this event.
    pub(crate) fn has(&self, event: Event) -> bool {
        self.lanes.iter().any(|lane| lane.has(event))
    }

    /// The attempt whose reply completed the call: the first reply that left the server in time, on a
    /// connection that lived, and that wasn't a refusal. Where all attempts share one id, the client
    /// itself does not know.
    pub(crate) fn completed_by(&self) -> Option<usize> {
        if self.outcome != Outcome::Ok {
            return None;
        }
        let named = self
            .lanes
            .iter()
            .position(|lane| lane.end == AttemptEnd::Reply);
        let replied = |lane: &Lane| {
            let other = named.is_some_and(|named| self.lanes[named].id != lane.id);
            if other || lane.end == AttemptEnd::ConnectionLost || lane.has(Event::Refused) {
                return None;
            }
            let in_time = |mark: &&Mark| mark.event == Event::Replied && mark.at_ms <= self.end_ms;
            lane.marks.iter().find(in_time).map(|mark| mark.at_ms)
        };
        let replies = self.lanes.iter().enumerate();
        let first = replies
            .filter_map(|(index, lane)| Some((index, replied(lane)?)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        first.map(|(index, _)| index).or(named)
    }

    /// When the last thing happened, be it at the server after the caller went away.
    pub(crate) fn last_ms(&self) -> f64 {
        let executions = self
            .executions
            .iter()
            .filter_map(|execution| execution.end_ms);
        executions.fold(self.end_ms, f64::max)
    }
}

impl Lane {
    pub(crate) fn has(&self, event: Event) -> bool {
        self.marks.iter().any(|mark| mark.event == event)
    }

    /// What happened to it, in a few words.
    pub(crate) fn words(&self, completes: bool) -> String {
        let what = match self.main_event() {
            Some(Event::RequestDropped) => "request lost",
            Some(Event::Joined) => "joined the execution",
            Some(Event::Replayed) => "found the record",
            Some(Event::Refused) => "refused, no room",
            Some(Event::Started) => "started an execution",
            Some(Event::Cut) => "connection cut",
            _ if self.end == AttemptEnd::ConnectionLost => "lost with its connection",
            _ => "no trace at the server",
        };
        let started = self.has(Event::Started) || self.has(Event::Replayed);
        let then = if completes {
            "; its reply ends the call"
        } else if self.has(Event::ReplyDropped) {
            "; reply lost"
        } else if started && (self.has(Event::Cut) || self.end == AttemptEnd::ConnectionLost) {
            "; connection cut"
        } else if self.end == AttemptEnd::Timeout && self.has(Event::Started) {
            "; given up on"
        } else {
            ""
        };
        format!("{what}{then}")
    }

    /// The event that says most about it.
    pub(crate) fn main_event(&self) -> Option<Event> {
        use Event::{Cut, Joined, Refused, Replayed, RequestDropped, Started};
        [RequestDropped, Joined, Replayed, Refused, Started, Cut]
            .into_iter()
            .find(|event| self.has(*event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::events::Attempt;

    fn event(t_us: u64, event: Event, id: &str, attempt: u32) -> ServerEvent {
        ServerEvent {
            t_us,
            event,
            id: Some(id.to_owned()),
            attempt,
        }
    }

    fn call(outcome: Outcome, attempts: &[(&str, u32, u64, AttemptEnd)]) -> Call {
        let attempts = attempts.iter().map(|&(id, attempt, sent_us, end)| Attempt {
            id: id.to_owned(),
            attempt,
            sent_us,
            end_us: sent_us + 10_000,
            end,
        });
        Call {
            number: 7,
            outcome,
            start_us: 1000,
            end_us: 31_000,
            value: None,
            error: None,
            attempts: attempts.collect(),
        }
    }

    #[test]
    fn a_joined_attempt_shares_the_execution_and_the_late_reply_completes_the_call() {
        let events = [
            event(22_500, Event::Replied, "a", 1),
            event(2000, Event::Accepted, "a", 1),
            event(20_000, Event::Started, "a", 1),
            event(13_000, Event::Joined, "a", 2),
            event(22_000, Event::Finished, "a", 1),
            event(22_600, Event::Replied, "a", 2),
            event(5000, Event::Started, "of another call", 1),
        ];
        let call = call(
            Outcome::Ok,
            &[
                ("a", 1, 1000, AttemptEnd::Timeout),
                ("a", 2, 12_000, AttemptEnd::Reply),
            ],
        );
        let timeline = ServerLog::new(&events).timeline(&call);
        assert_eq!(timeline.lanes.len(), 2);
        assert_eq!(timeline.executions.len(), 1);
        let execution = &timeline.executions[0];
        assert_eq!(execution.lane, 0);
        assert_eq!((execution.accepted_ms, execution.start_ms), (1.0, 19.0));
        assert_eq!(execution.end_ms, Some(21.0));
        assert_eq!(timeline.completed_by(), Some(0));
        assert_eq!(timeline.lanes[0].marks[0].event, Event::Accepted);
        assert_eq!(timeline.lanes[1].words(false), "joined the execution");
        assert!(
            timeline.lanes[0]
                .words(true)
                .ends_with("its reply ends the call")
        );
    }

    #[test]
    fn fresh_ids_are_executions_of_their_own() {
        let events = [
            event(2000, Event::Started, "a", 1),
            event(4000, Event::Finished, "a", 1),
            event(4100, Event::ReplyDropped, "a", 1),
            event(13_000, Event::Started, "b", 1),
        ];
        let call = call(
            Outcome::Unknown,
            &[
                ("a", 1, 1000, AttemptEnd::Timeout),
                ("b", 1, 12_000, AttemptEnd::Timeout),
            ],
        );
        let timeline = ServerLog::new(&events).timeline(&call);
        let lanes: Vec<_> = timeline
            .executions
            .iter()
            .map(|execution| execution.lane)
            .collect();
        assert_eq!(lanes, [0, 1]);
        assert_eq!(timeline.executions[1].end_ms, None);
        assert_eq!(timeline.completed_by(), None);
        assert_eq!(
            timeline.lanes[0].words(false),
            "started an execution; reply lost"
        );
        assert!(timeline.has(Event::ReplyDropped) && !timeline.has(Event::Joined));
        assert!((timeline.last_ms() - 30.0).abs() < 1e-9);
    }

    #[test]
    fn a_refusal_or_a_reply_to_another_id_or_on_a_lost_connection_completes_nothing() {
        let events = [
            event(2000, Event::Replied, "a", 1),
            event(3000, Event::Replied, "b", 1),
            event(3500, Event::Refused, "b", 2),
            event(3600, Event::Replied, "b", 2),
            event(4000, Event::Replied, "b", 3),
        ];
        let attempts = [
            ("a", 1, 1000, AttemptEnd::Timeout),
            ("b", 1, 1000, AttemptEnd::ConnectionLost),
            ("b", 2, 1000, AttemptEnd::Refused),
            ("b", 3, 1000, AttemptEnd::Reply),
        ];
        let timeline = ServerLog::new(&events).timeline(&call(Outcome::Ok, &attempts));
        assert_eq!(timeline.completed_by(), Some(3));
    }

    #[test]
    fn each_event_has_words() {
        let events = [
            event(2000, Event::RequestDropped, "a", 1),
            event(2000, Event::Refused, "a", 2),
            event(2000, Event::Replayed, "a", 3),
            event(2000, Event::Cut, "a", 4),
            event(2000, Event::Started, "a", 5),
            event(2100, Event::Cut, "a", 5),
        ];
        let attempts: Vec<_> = (1..=6)
            .map(|n| ("a", n, 1000, AttemptEnd::ConnectionLost))
            .collect();
        let timeline = ServerLog::new(&events).timeline(&call(Outcome::Unknown, &attempts));
        let words: Vec<_> = timeline
            .lanes
            .iter()
            .map(|lane| lane.words(false))
            .collect();
        assert_eq!(
            words,
            [
                "request lost",
                "refused, no room",
                "found the record; connection cut",
                "connection cut",
                "started an execution; connection cut",
                "lost with its connection"
            ]
        );
    }
}
