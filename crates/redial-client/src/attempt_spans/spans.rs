//! The spans themselves, from before an attempt is sent until it has ended.

use std::{fmt, sync::Arc};

use tracing::{Level, Span, field::Empty};

use crate::{report::AttemptEnd, traceparent::is_traceparent};

/// Gives the `traceparent` of a span.
pub(crate) type Traceparent = dyn Fn(&Span) -> Option<String> + Send + Sync;

/// The spans of a call's attempts, if the call has one. They are made where no lock is held, since what
/// listens to spans is the program's: an attempt that is to be sent and has none [asks](Self::ask_for) for
/// it, and is sent when the call is polled next, which is at once.
#[derive(Default)]
pub(crate) struct AttemptSpans(Option<Box<Spans>>);

struct Spans {
    call: Span,
    /// `None` where all attempts say of their trace what the call does.
    traceparent: Option<Arc<Traceparent>>,
    /// The attempt that is to have a span.
    asked_for: Option<(u32, bool)>,
    /// Made, and not sent yet.
    next: Option<AttemptSpan>,
    /// In the order of the attempts; `None` for those that have ended.
    open: Vec<Option<AttemptSpan>>,
}

struct AttemptSpan {
    span: Span,
    /// Its number, and whether it is a copy.
    attempt: (u32, bool),
    traceparent: Option<String>,
    is_sent: bool,
}

/// How far an attempt has come.
pub(crate) struct AttemptTrace {
    pub(crate) number: u32,
    pub(crate) is_hedge: bool,
    pub(crate) end: Option<AttemptEnd>,
}

impl AttemptSpans {
    /// For the attempts of the call with this span.
    pub(crate) fn new(call: Span, traceparent: Option<Arc<Traceparent>>) -> Self {
        Self(Some(Box::new(Spans {
            call,
            traceparent,
            asked_for: None,
            next: None,
            open: Vec::new(),
        })))
    }

    /// Whether the attempt has to have a span before it is sent, and has none.
    #[inline]
    pub(crate) fn lacks(&self, number: u32, is_hedge: bool) -> bool {
        let Some(spans) = &self.0 else {
            return false;
        };
        let next = spans.next.as_ref();
        next.is_none_or(|next| next.attempt != (number, is_hedge))
    }

    /// The attempt is to be sent as soon as it has a span.
    pub(crate) fn ask_for(&mut self, number: u32, is_hedge: bool) {
        if let Some(spans) = &mut self.0 {
            spans.asked_for = Some((number, is_hedge));
        }
    }

    /// All attempts say of their trace what the call does, as a layer has chosen it.
    pub(crate) fn leave_unnamed(&mut self) {
        if let Some(spans) = &mut self.0 {
            spans.traceparent = None;
        }
    }

    /// What the attempt that is sent next says of its trace, if not what the call does.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.0.as_ref()?.next.as_ref()?.traceparent.as_deref()
    }

    /// Whether the call has a span, so that those of its attempts are wanted.
    pub(crate) fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Gives the attempts that were sent their spans, and ends those of attempts that have ended. Whether a
    /// span was made for an attempt that waits for it.
    pub(crate) fn follow(&mut self, attempts: &[AttemptTrace]) -> bool {
        let Some(spans) = &mut self.0 else {
            return false;
        };
        spans.follow(attempts);
        spans.make()
    }
}

impl Spans {
    fn follow(&mut self, attempts: &[AttemptTrace]) {
        // An attempt of which nothing was written is cancelled: the next one is sent in its place.
        while self.open.len() > attempts.len() {
            self.next = self.open.pop().flatten().map(AttemptSpan::unsent);
        }
        for (at, attempt) in attempts.iter().enumerate() {
            if at == self.open.len() {
                let span = self.span_of(attempt);
                self.open.push(Some(span));
            }
            if let Some(end) = attempt.end
                && let Some(ended) = self.open[at].take()
            {
                ended.span.record("redial.attempt.end", end.name());
            }
        }
    }

    /// The span of an attempt that was sent, or could not be.
    fn span_of(&mut self, attempt: &AttemptTrace) -> AttemptSpan {
        let which = (attempt.number, attempt.is_hedge);
        let is_unsent = attempt.end == Some(AttemptEnd::ConnectFailed);
        let made = self
            .next
            .take_if(|next| !is_unsent && next.attempt == which);
        let mut span = made.unwrap_or_else(|| AttemptSpan::new(&self.call, which));
        span.is_sent = true;
        span
    }

    fn make(&mut self) -> bool {
        let Some(attempt) = self.asked_for.take() else {
            return false;
        };
        let mut made = AttemptSpan::new(&self.call, attempt);
        if let Some(traceparent) = &self.traceparent {
            made.traceparent = traceparent(&made.span).filter(|text| is_traceparent(text));
        }
        self.next = Some(made);
        true
    }
}

impl AttemptSpan {
    fn new(call: &Span, (number, is_hedge): (u32, bool)) -> Self {
        let span = tracing::span!(
            target: "redial_client",
            parent: call,
            Level::INFO,
            "rpc.client.attempt",
            otel.kind = "client",
            redial.attempt = number,
            redial.hedge = is_hedge,
            redial.attempt.end = Empty,
            span_id = Empty,
        );
        Self {
            span,
            attempt: (number, is_hedge),
            traceparent: None,
            is_sent: false,
        }
    }

    fn unsent(mut self) -> Self {
        self.is_sent = false;
        self
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        if !self.is_sent {
            self.span.record("redial.attempt.end", "unsent");
        }
    }
}

/// What has the options of another call has no span yet.
impl Clone for AttemptSpans {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl fmt::Debug for AttemptSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttemptSpans")
            .field(&self.are_wanted())
            .finish()
    }
}
