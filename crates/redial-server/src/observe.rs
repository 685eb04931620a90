//! The seam through which a program sees what happens to each attempt.

use redial_protocol::ErrorCode;

/// Something that happened to one attempt of a call.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened.
    pub kind: EventKind,
    /// The id as it was written, as JSON; `None` for a notification.
    pub id: Option<&'a str>,
    /// Which sending of the call this is, from 1, as far as the caller said.
    pub attempt: u32,
    /// The method's name, as the caller wrote it.
    pub method: &'a str,
}

/// What can happen to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The call is new and admitted: from now on it is running, though it may be queued, or delayed
    /// by a fault rule.
    Accepted,
    /// The handler of the call that this attempt brought starts.
    Started,
    /// The call is running; this attempt will get the same reply.
    Joined,
    /// The call is finished; this attempt gets the recorded reply.
    Replayed,
    /// The handler of the call that this attempt brought has finished.
    Finished,
    /// The handler of the call that this attempt brought ran into its
    /// [`execution_timeout`](crate::Config::execution_timeout); `Finished` follows.
    TimedOut,
    /// The attempt is refused, with this code. Nothing was executed for it.
    Refused(ErrorCode),
    /// The reply has been handed to the connection.
    Replied,
    /// A fault rule dropped the request.
    RequestDropped,
    /// A fault rule dropped the reply.
    ReplyDropped,
    /// A fault rule duplicated the request.
    Duplicated,
    /// A fault rule cut the connection.
    Cut,
}

/// Sees every event. It is called on the path of each call, so it must not block. If it panics, the
/// call goes on as if it had not.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use redial_server::{Event, EventKind, Observer};
///
/// #[derive(Default)]
/// struct CountReplays(AtomicU64);
///
/// impl Observer for CountReplays {
///     fn observe(&self, event: &Event<'_>) {
///         if event.kind == EventKind::Replayed {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Called when something has happened to an attempt.
    fn observe(&self, event: &Event<'_>);

    /// Called when a failure is kept from the caller, who gets its reference alone. By default, and
    /// without an observer, it is one line on standard error.
    fn observe_hidden(&self, failure: &HiddenFailure<'_>) {
        failure.print();
    }
}

/// A failure whose text the caller doesn't get, since no handler meant it for one: a panic, or an error
/// that `?` has passed on. See
/// [`ServerBuilder::expose_failures`](crate::ServerBuilder::expose_failures).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HiddenFailure<'a> {
    /// What the caller has got in its place, to be asked about.
    pub reference: &'a str,
    /// The method's name.
    pub method: &'a str,
    /// What was said.
    pub text: &'a str,
    /// Whether it was a panic.
    pub is_panic: bool,
}

impl HiddenFailure<'_> {
    /// One line, whatever is in the text.
    pub(crate) fn print(&self) {
        use std::io::Write;
        let Self {
            reference,
            method,
            text,
            is_panic,
        } = self;
        let verb = if *is_panic { "panicked" } else { "failed" };
        // Standard error may be closed; nothing else can be done about that.
        let _: std::io::Result<()> = writeln!(
            std::io::stderr(),
            "redial: {method:?} {verb} (reference {reference}): {text:?}"
        );
    }
}
