//! Every error that the server itself answers with: its code, its words, and whether the call was
//! executed. The ground floor: it takes numbers and names, and imports nothing of this crate.

mod callers;
mod layers;
mod store;

use std::{
    fmt::{self, Display},
    time::Duration,
};

use redial_protocol::{ErrorCode, ErrorObject, Executed, Misfit, SessionId, cut};

pub(crate) use self::{callers::*, layers::*, store::*};

// A frame or a message that can't be followed.

/// The stream is out of step: the connection closes after this.
pub(crate) fn broken_stream(error: impl Display) -> ErrorObject {
    let detail = format!("{error}; the connection closes, since no further frame can be found");
    ErrorObject::raised(ErrorCode::INVALID_REQUEST, detail)
}

/// A frame began and never became whole. `why` is a clause: "the stream ended".
pub(crate) fn incomplete_frame(why: &str, got: usize, of: Option<usize>) -> ErrorObject {
    let detail = match of {
        Some(of) => format!("{why} after {got} of {of} bytes of a frame"),
        None => format!("{why} after {got} of 4 bytes of a frame's header"),
    };
    ErrorObject::raised(ErrorCode::INVALID_REQUEST, detail)
}

/// Not even what says that the answers are too large would fit.
pub(crate) fn batch_too_large(answers: usize, bytes: usize, max: usize) -> ErrorObject {
    let detail = format!(
        "the answer to this batch of {answers} requests may take {} bytes, and max_frame is {}; \
         expected fewer requests; none of them was executed",
        grouped(bytes),
        grouped(max)
    );
    ErrorObject::raised(ErrorCode::INVALID_REQUEST, detail)
}

// What was asked for makes no sense.

pub(crate) fn method_not_found<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> ErrorObject {
    let known: Vec<&str> = known.collect();
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    let detail = format!(
        "no method \"{}\"; this server has: {}",
        cut(name),
        cut(&known)
    );
    ErrorObject::raised(ErrorCode::METHOD_NOT_FOUND, detail)
}

pub(crate) fn invalid_params(why: &str) -> ErrorObject {
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, cut(why))
}

/// Params that their method doesn't take.
pub(crate) fn misfit(misfit: &Misfit) -> ErrorObject {
    let detail = format!("{misfit}; nothing was executed");
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

/// The same error, which names the method if it is about params.
pub(crate) fn of_method(name: &str, error: ErrorObject) -> ErrorObject {
    match error.detail() {
        Some(detail) if error.code == ErrorCode::INVALID_PARAMS => {
            ErrorObject::raised(error.code, format!("params of {name}: {detail}"))
        }
        _ => error,
    }
}

pub(crate) fn params_panicked(message: &str) -> ErrorObject {
    let detail = format!("decoding the params panicked: {message}; the handler did not run");
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

/// The same, its text kept from the caller.
pub(crate) fn params_panicked_as(reference: &str) -> ErrorObject {
    let detail =
        format!("decoding the params panicked (reference {reference}); the handler did not run");
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

/// Of `rpc.cancel`, which only a call of a session can be named in.
pub(crate) fn not_a_session_call(id: &str) -> ErrorObject {
    let detail = format!(
        "{} does not name a call of a session; expected a UUID of version 8",
        cut(id)
    );
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

pub(crate) fn null_names_no_call() -> ErrorObject {
    invalid_params("a null id names no call; expected a string or an integer")
}

pub(crate) fn too_many_ranges(found: usize, max: usize) -> ErrorObject {
    let detail = format!("{found} ranges; expected at most {max}, which cover any window");
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

pub(crate) fn beyond_all_numbers(found: u64, most: u64) -> ErrorObject {
    let detail = format!("no call has a number up to {found}; expected at most {most}");
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, detail)
}

pub(crate) fn unordered_ranges() -> ErrorObject {
    invalid_params("expected ranges that ascend, do not overlap and are not empty")
}

pub(crate) fn id_reused() -> ErrorObject {
    let detail = "the id belongs to a call with another method or other params, which runs or has \
                  run; params are compared as they are written. This attempt was not executed, \
                  but if the params only mean the same, the call was; expected the bytes of the \
                  first attempt, or a new id";
    ErrorObject::raised(ErrorCode::ID_REUSED, detail)
}

// No room now.

pub(crate) fn queue_full(max_running: usize, max_queued: usize, after: Duration) -> ErrorObject {
    let detail = format!(
        "{} calls are running and {} are queued, the limits of this server",
        grouped(max_running),
        grouped(max_queued)
    );
    overloaded(&detail, after)
}

/// To a call that was queued and has not started.
pub(crate) fn displaced(max_queued: usize, after: Duration) -> ErrorObject {
    let detail = format!(
        "{} calls are queued, the limit of this server, and this one, of the peer or the method with \
         the most of them, made room for another",
        grouped(max_queued)
    );
    overloaded(&detail, after)
}

/// To a call that was queued and has not started.
pub(crate) fn queued_too_long(waited: Duration, after: Duration) -> ErrorObject {
    let detail = format!(
        "the call was queued for {} ms, and all others are, too: the server has more to do than it can",
        grouped(usize::try_from(waited.as_millis()).unwrap_or(usize::MAX))
    );
    overloaded(&detail, after)
}

/// Nothing is executed for this attempt, but its call is running: a reason to come back, and to
/// conclude nothing.
pub(crate) fn too_many_joined(max: usize) -> ErrorObject {
    let detail = format!(
        "the call is running, and {} attempts already wait for its reply, the limit; expected \
         another attempt later, which will be replayed the outcome",
        grouped(max)
    );
    overloaded(&detail, Duration::from_millis(100)).with_executed(Executed::Unknown)
}

pub(crate) fn table_full(retry_after: Duration) -> ErrorObject {
    overloaded("the table of calls is full", retry_after)
}

/// There are records left, for others.
pub(crate) fn table_share_full(retry_after: Duration) -> ErrorObject {
    let detail = "this caller's principal has its share of the table of calls";
    overloaded(detail, retry_after)
}

/// Copies of a request that are made on the way are not attempts.
pub(crate) fn refused_before(up_to: u32) -> ErrorObject {
    let detail = format!(
        "attempts of this call up to {up_to} were refused before; expected \"attempt\" {} or higher",
        up_to.saturating_add(1)
    );
    overloaded(&detail, Duration::from_millis(1))
}

pub(crate) fn window_full(window: usize, max_bytes: usize) -> ErrorObject {
    let detail = format!(
        "the session's window of {} calls or {} bytes is full; expected earlier calls to be \
         acknowledged first",
        grouped(window),
        grouped(max_bytes)
    );
    overloaded(&detail, Duration::from_millis(50))
}

/// The session itself may have room.
pub(crate) fn session_share_full(max_total_bytes: usize) -> ErrorObject {
    let detail = format!(
        "the sessions of this peer keep as many bytes as its share of the {} for all sessions; expected \
         calls of any of them to be acknowledged first",
        grouped(max_total_bytes)
    );
    overloaded(&detail, Duration::from_millis(50))
}

/// Nothing is noted of the attempt, so a copy of it may run once there is room.
pub(crate) fn far_beyond_window(window: usize) -> ErrorObject {
    let detail = format!(
        "the call's number is far beyond the session's window of {} calls; expected every number \
         in turn, and earlier calls to be acknowledged first. This attempt was not executed; a \
         copy of it may be, later",
        grouped(window)
    );
    overloaded(&detail, Duration::from_millis(50)).with_executed(Executed::Unknown)
}

pub(crate) fn connection_sessions_full(max: usize) -> ErrorObject {
    let detail = format!(
        "session limit of this connection reached ({max}); expected one of its sessions to be used"
    );
    overloaded(&detail, Duration::from_secs(1))
}

pub(crate) fn sessions_full(max: usize) -> ErrorObject {
    let detail = format!("session limit reached ({})", grouped(max));
    overloaded(&detail, Duration::from_secs(1))
}

/// What bounds the connections of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConnectionLimit {
    /// So many are allowed.
    Configured(usize),
    /// So many are open, and the system gives the server no descriptor for another one.
    Descriptors(usize),
}

impl Display for ConnectionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured(max) => write!(f, "connection limit reached ({})", grouped(*max)),
            Self::Descriptors(open) => write!(
                f,
                "the server is out of file descriptors, with {} connections open",
                grouped(*open)
            ),
        }
    }
}

/// There are sessions left, for other peers.
pub(crate) fn sessions_share_full(max: usize) -> ErrorObject {
    let detail = format!(
        "this peer has its share of the {} sessions of the server; expected one of its own to be used, or \
         its clients to close connections",
        grouped(max)
    );
    overloaded(&detail, Duration::from_secs(1))
}

/// To a connection that is closed at once.
pub(crate) fn connections_full(limit: ConnectionLimit) -> ErrorObject {
    let detail =
        format!("{limit}, and no peer that holds more of them than this one has one to spare");
    overloaded(&detail, Duration::from_secs(1))
}

/// To an open connection, which is closed after this. Calls of it may be running.
pub(crate) fn connection_displaced(limit: ConnectionLimit) -> ErrorObject {
    let detail = format!(
        "{limit}: this one, the longest idle of the peer with the most connections, closes to make \
         room for another"
    );
    overloaded(&detail, Duration::from_secs(1)).with_executed(Executed::Unknown)
}

fn overloaded(detail: &str, retry_after: Duration) -> ErrorObject {
    let retry_after_ms = u64::try_from(retry_after.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    ErrorObject::raised(ErrorCode::OVERLOADED, detail).with_retry_after_ms(retry_after_ms)
}

// Too late, or too early.

pub(crate) fn deadline_passed() -> ErrorObject {
    ErrorObject::raised(
        ErrorCode::DEADLINE_PASSED,
        "the caller's deadline passed before the call started",
    )
}

/// Of a query, which is of use to its caller alone; and of any call where there is overload.
pub(crate) fn caller_gone() -> ErrorObject {
    ErrorObject::raised(
        ErrorCode::DEADLINE_PASSED,
        "the caller's connection ended before the call started",
    )
}

pub(crate) fn shutting_down() -> ErrorObject {
    let detail = "the server is shutting down and takes no new calls";
    ErrorObject::raised(ErrorCode::SHUTTING_DOWN, detail)
}

pub(crate) fn session_unknown(id: SessionId) -> ErrorObject {
    let detail = format!(
        "unknown session {id}: its lease has ended, or it is of another table or another principal; expected one \
         that rpc.hello has opened (an id that is a UUID of version 8 names a session). This \
         attempt was not executed; earlier ones may have been"
    );
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail).with_unknown_session(id)
}

pub(crate) fn call_unknown() -> ErrorObject {
    let detail = "no record of the call: it never arrived, or its record has expired";
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail)
}

/// A caller acknowledges what it has heard, which was executed as a rule; but it may have been
/// refused or fenced too, and the record is gone.
pub(crate) fn acknowledged() -> ErrorObject {
    let detail = "the caller has acknowledged the call, and its outcome is forgotten; it does not \
                  run again";
    ErrorObject::raised(ErrorCode::STALE, detail)
}

pub(crate) fn fenced() -> ErrorObject {
    stale_and_not_executed(
        "Fenced",
        "rpc.resolve or rpc.cancel fenced the id before the call started; it was not executed and \
         never will be",
    )
}

pub(crate) fn cancelled() -> ErrorObject {
    stale_and_not_executed(
        "Cancelled",
        "the caller cancelled or acknowledged the call before it started; it was not executed and \
         never will be",
    )
}

fn stale_and_not_executed(message: &str, detail: &str) -> ErrorObject {
    let mut error = ErrorObject::raised(ErrorCode::STALE, detail).with_executed(Executed::No);
    message.clone_into(&mut error.message);
    error
}

// The handler ran, or may have.

pub(crate) fn handler_panicked(message: &str) -> ErrorObject {
    let detail = format!("the handler panicked: {message}");
    ErrorObject::raised(ErrorCode::INTERNAL_ERROR, detail)
}

/// The same, its text kept from the caller.
pub(crate) fn handler_panicked_as(reference: &str) -> ErrorObject {
    let detail = format!("the handler panicked (reference {reference})");
    ErrorObject::raised(ErrorCode::INTERNAL_ERROR, detail)
}

pub(crate) fn result_not_json(error: impl Display) -> ErrorObject {
    let detail = format!("the handler's result can't be written as JSON: {error}");
    ErrorObject::raised(ErrorCode::INTERNAL_ERROR, cut(&detail))
}

pub(crate) fn outcome_too_large(bytes: usize, max: usize) -> ErrorObject {
    let detail = format!(
        "the handler ran, but its outcome has {} bytes; at most {} fit into a frame",
        grouped(bytes),
        grouped(max)
    );
    ErrorObject::raised(ErrorCode::INTERNAL_ERROR, detail)
}

/// The call has a result, and the one array that answers its batch has no room for it.
pub(crate) fn result_too_large_for_batch(bytes: usize, max: usize) -> ErrorObject {
    let detail = format!(
        "the call was executed, but its result of {} bytes does not fit into the answer to its batch, \
         which has at most {}; expected the request again, alone and under the same id",
        grouped(bytes),
        grouped(max)
    );
    ErrorObject::raised(ErrorCode::INTERNAL_ERROR, detail)
}

/// The same for an error, of which its code and what it says of the execution are left.
pub(crate) fn error_too_large_for_batch(error: &ErrorObject) -> ErrorObject {
    let detail = "the error does not fit into the answer to its batch, and is shortened; expected \
                  the request again, alone and under the same id";
    let mut short = ErrorObject::raised(error.code, detail).with_executed(error.executed());
    let data = error.redial_data();
    if let Some(ms) = data.as_ref().and_then(|data| data.retry_after_ms) {
        short = short.with_retry_after_ms(ms);
    }
    match data.and_then(|data| data.unknown_session) {
        Some(session) => short.with_unknown_session(session),
        None => short,
    }
}

/// For those who only ask about a call whose handler answered `Abort::NoEffect`.
pub(crate) fn no_effect() -> ErrorObject {
    let detail = "the handler reported that the call had no effect";
    ErrorObject::raised(ErrorCode::OUTCOME_UNKNOWN, detail).with_executed(Executed::No)
}

pub(crate) fn interrupted() -> ErrorObject {
    let detail = "the server stopped while the handler was running; how far it came is unknown";
    ErrorObject::raised(ErrorCode::INTERRUPTED, detail)
}

pub(crate) fn timed_out(timeout: Duration) -> ErrorObject {
    let detail = format!(
        "the handler ran for {timeout:?}, its execution_timeout, and was stopped; how far it came is \
         unknown, and the call is not executed again"
    );
    ErrorObject::raised(ErrorCode::INTERRUPTED, detail)
}

/// 10000 as "10,000".
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_refused_caller_is_asked_to_stay_away_for_a_millisecond_at_least() {
        assert_eq!(table_full(Duration::ZERO).retry_after_ms(), Some(1));
    }

    /// Only -32007 and -32001 say of execution what their code alone does not.
    #[test]
    fn what_says_that_nothing_was_executed_never_says_so_of_a_running_call() {
        assert_eq!(too_many_joined(64).executed(), Executed::Unknown);
        assert_eq!(acknowledged().executed(), Executed::Unknown);
        for error in [fenced(), cancelled(), no_effect()] {
            assert_eq!(error.executed(), Executed::No, "{error}");
        }
    }
}
