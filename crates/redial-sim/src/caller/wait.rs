//! One wait of a caller: what it waits for, and what it is told. Whatever ends the wait is noted,
//! the death of the process included.

use std::time::Duration;

use redial_client::{Call, CallError, CallToken, Cause, Resolution};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Note, OVERDUE, Process};
use crate::{
    bug::Bug,
    host::Subject,
    journal::{End, Event, Invocation, Way},
};

/// What the methods answer.
#[derive(Deserialize)]
struct Counter {
    value: i64,
}

/// A wait that goes on until its end is noted.
pub(super) struct Wait<'a> {
    process: &'a Process<'a>,
    op: u32,
    tag: u32,
    is_over: bool,
}

impl<'a> Wait<'a> {
    pub(super) fn new(process: &'a Process<'a>, note: &Note, way: Way, writes_down: bool) -> Self {
        let op = process.world.new_op();
        // To get a name for a call may take as long as the call.
        let times = if writes_down { 2 } else { 1 };
        process.world.journal.note(Event::Invoked(Invocation {
            op,
            tag: note.tag,
            client: process.number,
            way,
            method: note.method,
            key: note.key,
            deadline: process.plan.config.call.deadline * times,
            resend_window: process.plan.config.resend_window,
        }));
        Self {
            process,
            op,
            tag: note.tag,
            is_over: false,
        }
    }

    /// Waits for a call. Gives its token if nobody knows what became of it.
    pub(super) async fn call(
        &mut self,
        call: Call<Value>,
        note: Note,
        writes_down: bool,
        gives_up: Option<Duration>,
    ) -> Option<CallToken> {
        let mut call = call.returning::<Counter>();
        if writes_down {
            match call.token().await {
                Ok(token) => {
                    let token = serde_json::to_string(&token).expect("a token is JSON");
                    self.process.disk.write(Note { token, ..note });
                }
                Err(error) => return self.told(Err(error)).await,
            }
        }
        match gives_up {
            None => {
                let told = call.await;
                self.told(told).await
            }
            Some(patience) => match timeout(patience, call.into_future()).await {
                Ok(told) => self.told(told).await,
                Err(_) => {
                    self.end(End::Dropped);
                    None
                }
            },
        }
    }

    pub(super) async fn resume(mut self, token: CallToken) {
        let call = self.process.client.resume(token).returning::<Counter>();
        let told = call.await;
        self.told(told).await;
    }

    pub(super) async fn resolve(mut self, token: CallToken) {
        let asked = self.process.client.resolve(token).returning::<Counter>();
        match asked.await {
            Ok(Resolution::Never) => self.end(End::Never),
            Ok(Resolution::Value(value)) => {
                self.told(Ok(value)).await;
            }
            Err(error) => {
                self.told(Err(error)).await;
            }
        }
    }

    async fn told(&mut self, told: Result<Counter, CallError>) -> Option<CallToken> {
        let bug = match self.process.world.subject {
            Subject::Buggy(bug) => Some(bug),
            _ => None,
        };
        if bug == Some(Bug::Overdue) && told.is_err() {
            sleep(OVERDUE).await;
        }
        let (end, token) = match told {
            Ok(counter) => (End::Ok(counter.value), None),
            Err(CallError::NotExecuted { details }) => {
                (End::NotExecuted(details.to_string()), None)
            }
            Err(CallError::Failed { details }) => (End::Failed(code(&details.cause)), None),
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
        self.is_over = true;
        let settled = self.process.disk.settle(self.tag, &end);
        self.process.world.journal.note(Event::Ended {
            op: self.op,
            tag: self.tag,
            end,
        });
        // Others leave that to the end of the session's lease.
        if let Some(note) = settled.filter(|note| note.tag.is_multiple_of(2)) {
            let token: CallToken =
                serde_json::from_str(&note.token).expect("it was written by a client");
            self.process.client.forget(token);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(End::Crashed);
        }
    }
}

/// The server's code; 0, which no server here says, if there is none.
fn code(cause: &Cause) -> i32 {
    match cause {
        Cause::Server(error) => error.code.into(),
        _ => 0,
    }
}

fn is_broken(cause: &Cause) -> bool {
    matches!(cause, Cause::ConnectionLost { .. } | Cause::Connect(_))
}
