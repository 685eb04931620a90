//! What a server's error means for its call: that it ends, or is worth another attempt.

use std::time::Duration;

use redial_protocol::{ErrorCode, ErrorObject, Executed};

/// What to do about an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorAction {
    /// The handler ran, and this is its own error: the call ends.
    Failed,
    /// It is not known whether it ran: the call ends, and is never sent again.
    Unknown,
    /// It did not run, and would not if it were sent again.
    Refused,
    /// It did not run, and may if it is sent again, no sooner than after this.
    Again { no_sooner_than: Duration },
    /// There was no room for this attempt while another one may be running. It may be sent again, no sooner
    /// than after this.
    Busy { no_sooner_than: Duration },
}

/// Classifies an error reply.
pub(crate) fn classify(error: &ErrorObject) -> ErrorAction {
    let no_sooner_than = Duration::from_millis(error.retry_after_ms().unwrap_or(0));
    match error.executed() {
        Executed::Yes => ErrorAction::Failed,
        // Without Redial's data the code is another server's, and says nothing.
        Executed::Unknown
            if error.code == ErrorCode::OVERLOADED && error.redial_data().is_some() =>
        {
            ErrorAction::Busy { no_sooner_than }
        }
        Executed::Unknown => ErrorAction::Unknown,
        Executed::No if error.code.is_retryable() => ErrorAction::Again { no_sooner_than },
        Executed::No => ErrorAction::Refused,
    }
}

/// Whether the server is about to stop, so that the connection takes nothing more. One that has no room in
/// its store for now says when to ask again.
pub(crate) fn is_leaving(error: &ErrorObject) -> bool {
    error.code == ErrorCode::SHUTTING_DOWN && error.retry_after_ms().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    fn of(code: i32) -> ErrorAction {
        classify(&ErrorObject::raised(ErrorCode::from(code), ""))
    }

    #[test]
    fn each_row_of_the_table_of_codes() {
        let again = ErrorAction::Again {
            no_sooner_than: Duration::ZERO,
        };
        for (code, expected) in [
            (-32700, ErrorAction::Refused),
            (-32600, ErrorAction::Refused),
            (-32601, ErrorAction::Refused),
            (-32602, ErrorAction::Refused),
            (-32603, ErrorAction::Failed),
            (-32000, ErrorAction::Failed),
            (-32001, again),
            (-32002, ErrorAction::Refused),
            (-32003, ErrorAction::Unknown),
            (-32004, ErrorAction::Unknown),
            (-32005, ErrorAction::Refused),
            (-32006, again),
            (-32007, ErrorAction::Unknown),
            (-32008, ErrorAction::Unknown),
            (-32009, ErrorAction::Refused),
            (-32050, ErrorAction::Unknown),
            (42, ErrorAction::Failed),
        ] {
            assert_eq!(of(code), expected, "{code}");
        }
    }

    #[test]
    fn data_outranks_the_code() {
        let no = ErrorObject::raised(ErrorCode::from(42), "").with_executed(Executed::No);
        assert_eq!(classify(&no), ErrorAction::Refused);
        let unknown =
            ErrorObject::raised(ErrorCode::OVERLOADED, "").with_executed(Executed::Unknown);
        let no_sooner_than = Duration::ZERO;
        assert_eq!(classify(&unknown), ErrorAction::Busy { no_sooner_than });
        let bare = r#"{"code":-32001,"message":""}"#;
        let foreign: ErrorObject = serde_json::from_str(bare).unwrap();
        assert_eq!(classify(&foreign), ErrorAction::Unknown);
    }

    #[test]
    fn retry_after_is_kept() {
        let busy = ErrorObject::raised(ErrorCode::OVERLOADED, "").with_retry_after_ms(40);
        let no_sooner_than = Duration::from_millis(40);
        assert_eq!(classify(&busy), ErrorAction::Again { no_sooner_than });
    }
}
