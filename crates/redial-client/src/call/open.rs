//! A call with what it shares, as it is polled: one lock per poll, and no timer of its own.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::course::{Course, Over};
use crate::{
    client::Client, clock, error::CallError, json::Json, mux::Name, report::Report, token::Hold,
};

/// A call with what it shares. However its future ends, it is pending no longer.
pub(super) struct Open {
    /// `None` once the call is over, so that a future that is kept after that keeps no client.
    client: Option<Client>,
    pub(super) course: Course,
    /// How it ended.
    over: Option<Over>,
}

impl Open {
    pub(super) fn new(client: Client, course: Course) -> Self {
        Self {
            client: Some(client),
            course,
            over: None,
        }
    }

    /// Ready when the call is over and can be concluded. An error if it can't be sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let begins = self.course.flight.started().is_none();
        if begins && let Err(cause) = self.course.check() {
            self.client = None;
            return Poll::Ready(Err(self.course.refused(cause)));
        }
        self.poll_over(context).map(Ok)
    }

    /// Ready when the call is over and can be concluded.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(client) = &self.client else {
            panic!("a call was polled after it had ended");
        };
        let (shared, course, over) = (client.shared(), &mut self.course, &mut self.over);
        // One lock for everything: to begin, to decide, to be woken in time, and to be over.
        let next = shared.with(|state| {
            let next = course.step(state, context.waker(), clock::now, over);
            next.map_continue(|until| {
                let runtime = Handle::try_current().map(|handle| handle.id());
                let keeper = runtime.map(|runtime| state.wake_at(runtime, course.key(), until));
                (state.mux.driverless.take(), keeper)
            })
        });
        let Some((needs_driver, keeper)) = next.continue_value() else {
            return Poll::Ready(());
        };
        if let Some(link) = needs_driver {
            shared.start_driver(link);
        }
        match keeper {
            Ok(None) => {}
            Ok(Some(keeper)) => shared.start_keeper(keeper),
            Err(error) => panic!("a call has to be awaited on a tokio runtime: {error}"),
        }
        Poll::Pending
    }

    /// The value, read where the result lies.
    pub(super) fn read<O: DeserializeOwned>(&mut self) -> Result<O, CallError> {
        let Some(result) = self.over.as_ref().and_then(Over::result) else {
            let other = self.conclude()?;
            let value = parse(other.get());
            return value.map_err(|error| self.of_another_type(&error));
        };
        let value = parse(result.get());
        self.client = None;
        self.course.hold = None;
        value.map_err(|error| self.of_another_type(&error))
    }

    /// The result, or whether the call was executed.
    pub(super) fn conclude(&mut self) -> Result<Json, CallError> {
        let client = self.client.take().expect("it is concluded once");
        let over = self.over.as_mut().expect("the call is over");
        let result = self.course.conclude(over, client.shared());
        self.course.hold = None;
        result
    }

    /// The result is none of the type that the caller expects.
    fn of_another_type(&self, error: &serde_json::Error) -> CallError {
        let over = self.over.as_ref().expect("the call is over");
        self.course.of_another_type(over, error)
    }

    /// How the call went.
    pub(super) fn report(&self) -> Report {
        let over = self.over.as_ref();
        over.map_or_else(Report::empty, |over| self.course.report(over))
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_ref();
        let usual = client.map(|client| &client.shared().config.call);
        self.course.debug(name, usual, f)
    }

    /// The name that a reservation got, and what keeps it. To be asked for when it is over.
    pub(super) fn name(&mut self) -> Result<(Uuid, Option<Arc<Hold>>), CallError> {
        match (&self.client, self.over.as_ref().and_then(Over::named)) {
            (Some(client), Some(Name::Number(call))) => {
                let hold = Hold::new(client.shared(), call, false);
                Ok((call.uuid(), Some(hold)))
            }
            (_, Some(Name::Id(id))) => Ok((id, None)),
            _ => Err(self.conclude().expect_err("it was not sent")),
        }
    }
}

/// As `serde_json::from_slice`, which however moves its reader once more.
fn parse<O: DeserializeOwned>(text: &[u8]) -> serde_json::Result<O> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = O::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(client) = &self.client
            && std::mem::take(&mut self.course.is_pending)
        {
            let remains = client.shared().with(|state| self.course.abandon(state));
            drop(remains);
        }
    }
}
