//! Failures whose texts are kept from callers.

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
