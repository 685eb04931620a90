//! Journals made by hand, an event at a time.

use std::{sync::Arc, time::Duration};

use super::super::judge;
use crate::{
    journal::{Ack, Change, End, Entry, Event, Executed, Frame, Invocation, Method, Way},
    world::Run,
};

/// Builds a journal. A millisecond passes with each event.
pub(super) struct HistoryBuilder {
    pub(super) run: Run,
    at: Duration,
}

impl HistoryBuilder {
    pub(super) fn new() -> Self {
        let run = Run {
            seed: 7,
            entries: Vec::new(),
            lasted: Duration::ZERO,
            ttl: Duration::from_millis(50),
            is_stored: false,
            is_transactional: false,
            is_shared: false,
            is_resumable: false,
            has_endpoints: false,
            is_smooth: false,
            is_patient: false,
            lease: Duration::from_secs(1),
            has_room_for_sessions: true,
            panics: Vec::new(),
        };
        let at = Duration::ZERO;
        Self { run, at }
    }

    pub(super) fn note(mut self, event: Event) -> Self {
        self.at += Duration::from_millis(1);
        self.run.entries.push(Entry { at: self.at, event });
        self
    }

    pub(super) fn after_ms(mut self, ms: u64) -> Self {
        self.at += Duration::from_millis(ms);
        self
    }

    pub(super) fn asks(self, tag: u32, method: Method, way: Way) -> Self {
        self.note(Event::Invoked(Invocation {
            op: 10 * tag + way as u32,
            tag,
            client: 0,
            way,
            method,
            key: 0,
            deadline: Duration::from_secs(1),
            sessions: false,
            patience: None,
            resend_window: Duration::from_millis(200),
            is_saved: false,
        }))
    }

    pub(super) fn calls(self, tag: u32, method: Method) -> Self {
        self.asks(tag, method, Way::Call)
    }

    pub(super) fn hears(self, tag: u32, way: Way, end: End) -> Self {
        let op = 10 * tag + way as u32;
        self.note(Event::Ended { op, tag, end })
    }

    pub(super) fn ends(self, tag: u32, end: End) -> Self {
        self.hears(tag, Way::Call, end)
    }

    pub(super) fn sends(self, tag: u32, id: &str) -> Self {
        self.sends_frame(Frame {
            method: Some("inc".to_owned()),
            tag: Some(tag),
            id: Some(id.to_owned()),
            ..Frame::default()
        })
    }

    pub(super) fn sends_frame(self, frame: Frame) -> Self {
        let arrives = self.at;
        let frame = Frame {
            wire: 1,
            attempt: 1,
            arrives,
            ..frame
        };
        self.note(Event::Sent(Arc::new(frame)))
    }

    pub(super) fn acks(self, below: u64) -> Self {
        let session = "123456789abcdef".to_owned();
        let ack = Ack {
            session,
            below,
            above: Vec::new(),
        };
        self.sends_frame(Frame {
            ack: Some(ack),
            ..Frame::default()
        })
    }

    pub(super) fn answers(self, id: &str, value: i64) -> Self {
        self.answers_frame(Frame {
            id: Some(id.to_owned()),
            outcome: Some(format!(r#""result":{{"value":{value}}}"#)),
            value: Some(value),
            ..Frame::default()
        })
    }

    pub(super) fn refuses(self, id: &str, code: i32, executed: &str) -> Self {
        let text = format!(r#""error":{{"code":{code},"data":{{"executed":"{executed}"}}}}"#);
        self.answers_frame(Frame {
            id: Some(id.to_owned()),
            outcome: Some(text.clone()),
            code: Some(code),
            executed: Some(match executed {
                "yes" => Executed::Yes,
                "no" => Executed::No,
                _ => Executed::Unknown,
            }),
            text,
            ..Frame::default()
        })
    }

    pub(super) fn answers_frame(self, frame: Frame) -> Self {
        self.note(Event::Answered(Arc::new(Frame { wire: 1, ..frame })))
    }

    pub(super) fn notifies(self, method: &str, is_last: bool) -> Self {
        self.note(Event::Notified(Arc::new(Frame {
            wire: 1,
            method: Some(method.to_owned()),
            is_last,
            ..Frame::default()
        })))
    }

    pub(super) fn says_hello(self) -> Self {
        self.sends_frame(Frame {
            method: Some("rpc.hello".to_owned()),
            ..Frame::default()
        })
    }

    pub(super) fn runs(self, tag: u32, life: u32, value: i64) -> Self {
        let change = Change {
            key: 0,
            delta: 1,
            value,
        };
        self.note(Event::Began { tag, life })
            .note(Event::Effect { tag, life, change })
            .note(Event::Finished { tag, life })
    }

    /// One call that succeeds.
    pub(super) fn good(self, tag: u32, id: &str, value: i64) -> Self {
        self.calls(tag, Method::Inc)
            .sends(tag, id)
            .runs(tag, 1, value)
            .answers(id, value)
            .ends(tag, End::Ok(value))
    }

    #[track_caller]
    pub(super) fn breaks(self, rules: &[&str]) {
        let mut found: Vec<_> = judge(&self.run).into_iter().map(|one| one.rule).collect();
        found.dedup();
        assert_eq!(found, rules);
    }
}
