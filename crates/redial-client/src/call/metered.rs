//! What metrics hear of a call that nothing else is around (feature `metrics`).

use redial_protocol::Executed;

use super::guard::CallGuard;
use crate::{error::CallError, inline_bytes::InlineBytes, meter::Metered};

impl CallGuard {
    /// The call begins.
    #[inline(never)]
    pub(super) fn begin_metered(&mut self) {
        if let Some(recorder) = self.recorder() {
            recorder.begin();
            self.state.metered = Metered::InFlight;
        }
    }

    /// The call has ended: almost every one with a result after one attempt. What has none is recorded when
    /// it is concluded, which says why.
    #[inline(never)]
    pub(super) fn end_metered(&mut self) {
        let (Some(recorder), Some(finished)) = (self.recorder(), &self.finished) else {
            return;
        };
        let replayed = finished.answered.and_then(|meta| meta.replayed);
        let attempts = finished.removed.attempts.iter().count();
        let is_plain = self.state.retrier.used == 1 && attempts == 1 && replayed != Some(true);
        if finished.result().is_none() {
            return;
        }
        if !is_plain {
            return self.record_metered(None, Executed::Yes);
        }
        let started = self.state.retrier.started().unwrap_or(finished.at);
        let took = finished.at.saturating_duration_since(started);
        recorder.end_plain(&self.state.retrier.method, took);
        self.state.metered = Metered::No;
    }

    /// The call is concluded, and has not been recorded yet.
    #[cold]
    pub(super) fn conclude_metered(&mut self, result: &Result<InlineBytes, CallError>) {
        let executed = match result {
            Ok(_) if self.state.flags.is_notification => Executed::Unknown,
            Ok(_) => Executed::Yes,
            Err(error) => error.executed(),
        };
        self.record_metered(result.as_ref().err(), executed);
    }

    #[cold]
    fn record_metered(&mut self, error: Option<&CallError>, executed: Executed) {
        self.state.metered = Metered::No;
        if let Some(recorder) = self.recorder() {
            let method = &self.state.retrier.method;
            recorder.end(method, &self.report(), error, executed);
        }
    }

    /// The future of the call was dropped before its end.
    #[cold]
    pub(super) fn abandon_metered(&mut self) {
        if let Some(recorder) = self.recorder() {
            recorder.abandon();
        }
        self.state.metered = Metered::No;
    }

    fn recorder(&self) -> Option<&crate::metrics::Recorder> {
        self.client.as_ref()?.meter.recorder()
    }
}
