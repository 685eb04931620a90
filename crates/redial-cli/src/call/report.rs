//! How a call ended, for people and for machines.

use std::{io::Write, process::ExitCode};

use redial_client::{CallError, CallToken, ErrorObject, Reply, Report, Uuid};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    failure::{Exit, Failure, UNREACHED, in_flags},
    numbers::ms,
    output,
};

/// How a call ended.
pub(super) struct Ended {
    exit: Exit,
    id: Option<Uuid>,
    result: Option<Box<RawValue>>,
    /// Why there is no result.
    why: Option<String>,
    error: Option<ErrorObject>,
    token: Option<CallToken>,
    report: Option<Report>,
}

/// What `--json` prints. **Stable**: members are added, never changed.
#[derive(Serialize)]
struct Printed<'a> {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<PrintedError<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a CallToken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<PrintedReport<'a>>,
}

#[derive(Serialize)]
struct PrintedError<'a> {
    text: &'a str,
    /// The error as the server sent it, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a ErrorObject>,
}

#[derive(Serialize)]
struct PrintedReport<'a> {
    attempts: u32,
    hedges: u32,
    /// Whether the reply had been recorded for an earlier attempt; null if that is not known.
    replayed: Option<bool>,
    took_ms: f64,
    endpoint: Option<&'a str>,
    connects: u64,
    history: Vec<PrintedAttempt>,
}

#[derive(Serialize)]
struct PrintedAttempt {
    attempt: u32,
    hedge: bool,
    sent_ms: f64,
    end_ms: f64,
    end: &'static str,
}

impl Ended {
    fn new(exit: Exit) -> Self {
        Self {
            exit,
            id: None,
            result: None,
            why: None,
            error: None,
            token: None,
            report: None,
        }
    }

    pub(super) fn call(ended: Result<Reply<Box<RawValue>>, CallError>) -> Self {
        match ended {
            Ok(Reply { value, report }) => Self {
                id: report.history().last().map(|attempt| attempt.id),
                result: Some(value),
                report: Some(report),
                ..Self::new(Exit::Ok)
            },
            Err(error) => Self::error(error),
        }
    }

    pub(super) fn error(error: CallError) -> Self {
        let details = error.details();
        let ended = Self {
            id: Some(details.id).filter(|id| !id.is_nil()),
            why: Some(in_flags(&error.to_string())),
            error: error.server_error().cloned(),
            report: Some(details.report.clone()),
            ..Self::new(error.executed().into())
        };
        match error {
            CallError::Unknown { token, .. } => Self {
                token: Some(*token),
                ..ended
            },
            _ => ended,
        }
    }

    /// What is said of a query instead of its token, which no server keeps a record for.
    pub(super) fn of_query(mut self) -> Self {
        if self.token.take().is_some() {
            let why = self.why.get_or_insert_default();
            *why += "; a query has no effect, so it may be called again";
        }
        self
    }

    /// The recorded outcome of a call.
    pub(super) fn value(id: Uuid, value: Box<RawValue>) -> Self {
        Self {
            id: Some(id),
            result: Some(value),
            ..Self::new(Exit::Ok)
        }
    }

    pub(super) fn never(id: Uuid) -> Self {
        let why = "it was not executed, and never will be: the server has fenced it";
        Self {
            id: Some(id),
            why: Some(why.to_owned()),
            ..Self::new(Exit::NotExecuted)
        }
    }

    /// The server was not reached.
    pub(super) fn unreached(exit: Exit, failure: Failure) -> Self {
        let executed = match exit {
            Exit::Unknown => "whether the saved call was executed is not known",
            _ => UNREACHED,
        };
        let why = format!("{:#}", failure.error);
        let why = why.strip_suffix(&format!("; {UNREACHED}")).unwrap_or(&why);
        Self {
            why: Some(format!("{why}; {executed}")),
            ..Self::new(exit)
        }
    }

    /// The program was asked to stop while it waited for the server.
    pub(super) fn interrupted() -> Self {
        let why = "interrupted: the call may have been executed";
        Self {
            why: Some(why.to_owned()),
            ..Self::new(Exit::Unknown)
        }
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints it: the result on stdout, everything else on stderr; with `json` one object on stdout.
    pub(super) fn show(&self, json: bool, verbose: bool) -> Result<ExitCode, Failure> {
        let mut notes = String::new();
        if let Some(why) = &self.why {
            notes += &format!("error: {why}\n");
        }
        if verbose && let Some(report) = &self.report {
            notes += &describe(report, self.id);
        }
        if let Some(token) = self.token.as_ref().filter(|_| !json) {
            let text = serde_json::to_string(token).unwrap_or_default();
            notes += &format!("its token, for --resolve and --resume: {text}\n");
        }
        let _ = std::io::stderr().write_all(output::visible(&notes).as_bytes());
        if json {
            let printed = serde_json::to_string(&self.printed());
            let printed = printed.map_err(|error| Failure::new(Exit::Failed, error))?;
            output::print(&printed)?;
        } else if let Some(result) = &self.result {
            output::print(result.get())?;
        }
        Ok(self.exit.into())
    }

    fn printed(&self) -> Printed<'_> {
        let report = self.report.as_ref().map(|report| PrintedReport {
            attempts: report.attempts(),
            hedges: report.hedges(),
            replayed: report.replayed(),
            took_ms: ms(report.total()),
            endpoint: report.endpoint(),
            connects: report.connects(),
            history: report.history().map(PrintedAttempt::of).collect(),
        });
        let error = self.why.as_deref().map(|text| PrintedError {
            text,
            server: self.error.as_ref(),
        });
        Printed {
            outcome: match self.exit {
                Exit::Ok => "ok",
                Exit::Failed => "failed",
                Exit::NotExecuted | Exit::Usage => "not_executed",
                Exit::Unknown => "unknown",
            },
            result: self.result.as_deref(),
            error,
            id: self.id,
            token: self.token.as_ref(),
            report,
        }
    }
}

impl PrintedAttempt {
    fn of(attempt: &redial_client::AttemptReport) -> Self {
        Self {
            attempt: attempt.number,
            hedge: attempt.is_hedge,
            sent_ms: ms(attempt.started),
            end_ms: ms(attempt.ended),
            end: attempt.end.name(),
        }
    }
}

/// How the call went, in lines for people.
fn describe(report: &Report, id: Option<Uuid>) -> String {
    let attempts = match report.attempts() {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    };
    let hedges = match report.hedges() {
        0 => String::new(),
        n => format!(" ({n} of them hedges)"),
    };
    let endpoint = report.endpoint().unwrap_or("no server");
    let mut text = format!(
        "{attempts}{hedges}, {:.3} ms, {endpoint}",
        ms(report.total())
    );
    text += match report.replayed() {
        Some(true) => ", replayed",
        Some(false) => ", not replayed",
        None => "",
    };
    if let Some(id) = id {
        text += &format!(", id {id}");
    }
    for attempt in report.history() {
        let kind = if attempt.is_hedge { "hedge" } else { "attempt" };
        text += &format!(
            "\n  {kind} {}: sent at {:.3} ms, {} at {:.3} ms",
            attempt.number,
            ms(attempt.started),
            attempt.end.name().replace('_', " "),
            ms(attempt.ended),
        );
    }
    text + "\n"
}
