//! What a handler says, marked on the wire so that it is never read as the server's own word.

use std::{borrow::Cow, collections::HashMap};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::{RawValue, to_raw_value};

use super::{Author, ErrorCode, ErrorObject, Executed};
use crate::json::object::deserialize_object;

/// The data of an error that would read as the server's: what the handler gave is inside.
#[derive(Serialize, Deserialize)]
struct Mark {
    executed: Executed,
    /// A server gives it with every error of its own: where it is, there is no mark.
    #[serde(default, skip_serializing)]
    detail: Option<IgnoredAny>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

impl ErrorObject {
    /// The error of a handler that ran, as it goes on record and out. It is marked if it would read as
    /// the server's own: by its code, or because its data has a member `executed`.
    ///
    /// ```
    /// use redial_protocol::{ErrorCode, ErrorObject, Executed};
    ///
    /// let data = serde_json::value::to_raw_value(&serde_json::json!({"executed": "no"}))?;
    /// let sent = ErrorObject::by_handler(ErrorCode::from(7), "passed on".into(), Some(data));
    /// assert_eq!(sent.data.as_ref().unwrap().get(), r#"{"executed":"yes","data":{"executed":"no"}}"#);
    /// let read = sent.unmarked();
    /// assert_eq!(read.data.as_ref().unwrap().get(), r#"{"executed":"no"}"#);
    /// assert_eq!(read.executed(), Executed::Yes);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn by_handler(code: ErrorCode, message: String, data: Option<Box<RawValue>>) -> Self {
        let reads_as_the_servers =
            code.executed() != Executed::Yes || data.as_deref().is_some_and(says_executed);
        if reads_as_the_servers {
            return Self::marked(code, message, data, Executed::Yes);
        }
        Self {
            code,
            message,
            data,
            author: Author::Server,
        }
    }

    /// The error of a handler that had no effect, with its own data inside the server's.
    #[must_use]
    pub fn without_effect(code: ErrorCode, message: String, data: Option<Box<RawValue>>) -> Self {
        Self::marked(code, message, data, Executed::No)
    }

    fn marked(
        code: ErrorCode,
        message: String,
        data: Option<Box<RawValue>>,
        executed: Executed,
    ) -> Self {
        let mark = Mark {
            executed,
            detail: None,
            data,
        };
        let data = to_raw_value(&mark).expect("plain members and raw JSON can't fail");
        Self {
            code,
            message,
            data: Some(data),
            author: Author::Server,
        }
    }

    /// The error as it is meant by a server of Redial's: that of a handler has the data that the handler
    /// gave, and says that the call was executed, whatever its code and its data look like.
    #[must_use]
    pub fn unmarked(mut self) -> Self {
        if let Some(data) = &self.data {
            let mut data = serde_json::Deserializer::from_str(data.get());
            if let Ok(Mark {
                executed: Executed::Yes,
                detail: None,
                data,
            }) = deserialize_object(&mut data)
            {
                self.data = data;
                self.author = Author::Handler;
            }
        }
        self
    }

    /// The error as it is meant by a server that is not Redial's: its data is its own affair, and
    /// whether the call was executed is what the bare code says.
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.author = Author::Foreign;
        self
    }
}

/// Whether it is an object with a member `executed`, whatever that says. In doubt it is one.
fn says_executed(data: &RawValue) -> bool {
    if !data.get().starts_with('{') {
        return false;
    }
    let members = serde_json::from_str::<HashMap<Cow<'_, str>, IgnoredAny>>(data.get());
    members.map_or(true, |members| members.contains_key("executed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    /// A handler's words read as the server's.
    #[test]
    fn whatever_a_handler_says_arrives_unchanged_and_means_executed() {
        let datas = [
            None,
            Some(r#"{"executed":"no"}"#),
            Some(r#"{"\u0065xecuted":"no"}"#),
            Some(r#"{"executed":"no","executed":"no"}"#),
            Some(r#"{"executed":"yes"}"#),
            Some(r#"{"executed":"yes","data":1}"#),
            Some(r#"{"executed":"yes","data":{"executed":"no"}}"#),
            Some(r#"{"executed":"yes","detail":"x"}"#),
            Some(r#"{"executed":"unknown","unknown_session":"123456789abcdef"}"#),
            Some(r#"{"executed":7,"retry_after_ms":1}"#),
            Some(r#"{"data":{"executed":"no"}}"#),
            Some(r#"["no"]"#),
            Some("7"),
            Some("{}"),
        ];
        let codes = [
            7, -32000, -32001, -32002, -32003, -32004, -32005, -32006, -32007, -32008, -32009,
            -32050, -32600, -32601, -32602, -32603, -32700,
        ];
        for (code, data) in codes
            .iter()
            .flat_map(|code| datas.map(|data| (*code, data)))
        {
            let sent = ErrorObject::by_handler(code.into(), "m".into(), data.map(raw));
            let wire = serde_json::to_string(&sent).unwrap();
            let read: ErrorObject = serde_json::from_str(&wire).unwrap();
            assert_eq!(read.executed(), Executed::Yes, "{wire}");
            let read = read.unmarked();
            assert_eq!(read.data.as_deref().map(RawValue::get), data, "{wire}");
            assert_eq!((i32::from(read.code), &*read.message), (code, "m"));
            assert_eq!(read.executed(), Executed::Yes, "{wire}");
            assert!(read.redial_data().is_none() && read.retry_after_ms().is_none());
        }
    }

    #[test]
    fn what_the_server_says_itself_is_no_mark() {
        let panicked = ErrorObject::raised(ErrorCode::INTERNAL_ERROR, "it panicked");
        assert_eq!(panicked.clone().unmarked(), panicked);
        let data = Some(raw(r#"{"executed":"yes"}"#));
        let undone = ErrorObject::without_effect(ErrorCode::HANDLER_ERROR, String::new(), data);
        assert_eq!(undone.clone().unmarked().executed(), Executed::No);
        assert_eq!(undone.clone().unmarked(), undone);
    }

    #[test]
    fn a_server_that_is_not_redials_means_no_more_than_its_code() {
        for (code, executed) in [
            (-32000, Executed::Yes),
            (-32603, Executed::Yes),
            (7, Executed::Yes),
            (-32601, Executed::No),
            (-32001, Executed::Unknown),
            (-32007, Executed::Unknown),
        ] {
            let text = format!(r#"{{"code":{code},"message":"","data":{{"executed":"no"}}}}"#);
            let error: ErrorObject = serde_json::from_str(&text).unwrap();
            let error = error.untrusted();
            assert_eq!(error.executed(), executed, "{code}");
            assert_eq!(error.data.unwrap().get(), r#"{"executed":"no"}"#);
        }
    }
}
