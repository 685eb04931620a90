//! One wait of a caller, from its start to its end. Every end is recorded, the death of the process
//! included.

use std::time::Duration;

use redial_client::{Call, CallError, CallToken, Cause, Resolution};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{OVERDUE, Process, SavedCall};
use crate::{
    bug::Bug,
    host::Subject,
    journal::{End, Event, Invocation, Way},
    scenario::LONGEST_PAUSE,
    service::Counter,
};

/// A wait. Dropped without an end, it records that its process crashed.
pub(super) struct WaitGuard<'a> {
    process: &'a Process<'a>,
    op: u32,
    tag: u32,
    has_ended: bool,
}

impl<'a> WaitGuard<'a> {
    pub(super) fn new(process: &'a Process<'a>, saved: &SavedCall, way: Way, saves: bool) -> Self {
        let op = process.world.new_op();
        // Getting a token may take as long as the call.
        let times = if saves { 2 } else { 1 };
        let limits = process.plan.config.call;
        process.world.journal.note(Event::Invoked(Invocation {
            op,
            tag: saved.tag,
            client: process.number,
            way,
            method: saved.method,
            key: saved.key,
            deadline: limits.deadline * times,
            patience: process
                .plan
                .is_patient
                .then_some(limits.deadline.saturating_sub(LONGEST_PAUSE)),
            sessions: process.plan.config.sessions && process.plan.config.extensions,
            resend_window: process.plan.config.resend_window,
            is_saved: saves,
        }));
        Self {
            process,
            op,
            tag: saved.tag,
            has_ended: false,
        }
    }

    /// Waits for a call. Returns its token if the outcome is unknown.
    pub(super) async fn call(
        &mut self,
        call: Call<Value>,
        saved: SavedCall,
        saves: bool,
        patience: Option<Duration>,
    ) -> Option<CallToken> {
        let mut call = call.returning::<Counter>();
        if saves {
            match call.token().await {
                Ok(token) => {
                    let token = serde_json::to_string(&token).expect("a token is JSON");
                    self.process.disk.write(SavedCall { token, ..saved });
                }
                Err(error) => return self.record(Err(error)).await,
            }
        }
        match patience {
            None => {
                let result = call.await;
                self.record(result).await
            }
            Some(patience) => match timeout(patience, call.into_future()).await {
                Ok(result) => self.record(result).await,
                Err(_) => {
                    self.end(End::Dropped);
                    None
                }
            },
        }
    }

    pub(super) async fn resume(mut self, token: CallToken) {
        let call = self.process.client.resume(token).returning::<Counter>();
        let result = call.await;
        self.record(result).await;
    }

    pub(super) async fn resolve(mut self, token: CallToken) {
        let resolution = self.process.client.resolve(token).returning::<Counter>();
        match resolution.await {
            Ok(Resolution::Never) => self.end(End::Never),
            Ok(Resolution::Value(value)) => {
                self.record(Ok(value)).await;
            }
            Err(error) => {
                self.record(Err(error)).await;
            }
        }
    }

    /// Records how the wait ends. Returns the token if the outcome is unknown.
    async fn record(&mut self, result: Result<Counter, CallError>) -> Option<CallToken> {
        let bug = match self.process.world.subject {
            Subject::Buggy(bug) => Some(bug),
            _ => None,
        };
        if bug == Some(Bug::Overdue) && result.is_err() {
            sleep(OVERDUE).await;
        }
        let (end, token) = match result {
            Ok(counter) => (End::Ok(counter.value), None),
            Err(CallError::NotExecuted { details }) => {
                (End::NotExecuted(details.to_string()), None)
            }
            Err(CallError::Failed { details }) => (failed(&details.cause), None),
            Err(CallError::Unknown { details, .. })
                if bug == Some(Bug::BrokenMeansNotExecuted) && is_broken(&details.cause) =>
            {
                (End::NotExecuted(details.to_string()), None)
            }
            Err(CallError::Unknown { details, token }) => {
                (End::Unknown(details.to_string()), Some(*token))
            }
        };
        self.end(end);
        token
    }

    fn end(&mut self, end: End) {
        self.has_ended = true;
        let settled = self.process.disk.settle(self.tag, &end);
        self.process.world.journal.note(Event::Ended {
            op: self.op,
            tag: self.tag,
            end,
        });
        // Half of the callers forget their calls; the others leave that to the lease.
        if let Some(saved) = settled.filter(|saved| saved.tag.is_multiple_of(2)) {
            let token: CallToken =
                serde_json::from_str(&saved.token).expect("it was written by a client");
            self.process.client.forget(token);
        }
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(End::Crashed);
        }
    }
}

/// The server's error, as its caller has it; 0, which no server here uses, if there isn't one.
fn failed(cause: &Cause) -> End {
    match cause {
        Cause::Server(error) => {
            let data = error.data.as_ref().map(|data| data.get().to_owned());
            End::Failed(error.code.into(), data)
        }
        _ => End::Failed(0, None),
    }
}

fn is_broken(cause: &Cause) -> bool {
    matches!(cause, Cause::ConnectionLost { .. } | Cause::Connect(_))
}
