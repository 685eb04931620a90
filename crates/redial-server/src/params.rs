//! How params become a handler's type: what an absent or empty value stands for, and what an error
//! says.

use redial_protocol::{ErrorCode, ErrorObject, cut, read_json};
use serde::de::DeserializeOwned;

/// What absent params are read from, the plainest first.
const NOTHING: [&str; 3] = ["null", "{}", "[]"];

/// Decodes params. Absent ones are read from `null`, `{}` or `[]`, and so are empty ones that the type
/// can't read as they are: many clients never leave params out.
///
/// # Errors
///
/// -32602, with the path of the field and what was expected there.
#[inline(always)]
pub fn decode<P: DeserializeOwned>(params: Option<&str>) -> Result<P, ErrorObject> {
    match params.and_then(read_json) {
        Some(decoded) => Ok(decoded),
        None => decode_slowly(params),
    }
}

/// The same for params of any spelling; out of line, since few are unusual.
#[inline(never)]
fn decode_slowly<P: DeserializeOwned>(params: Option<&str>) -> Result<P, ErrorObject> {
    let text = params.unwrap_or("{}");
    if params.is_some() {
        match serde_json::from_str(text) {
            Ok(decoded) => return Ok(decoded),
            Err(_) if is_empty(text) => {}
            Err(_) => return Err(invalid_params(&why_not::<P>(text))),
        }
    }
    NOTHING
        .iter()
        .find_map(|nothing| serde_json::from_str(nothing).ok())
        .ok_or_else(|| invalid_params(&why_not::<P>(text)))
}

/// Whether this is `{}` or `[]`, however much white space is in it.
fn is_empty(text: &str) -> bool {
    let inside = |open, close| text.trim().strip_prefix(open)?.strip_suffix(close);
    let inside = inside('{', '}').or_else(|| inside('[', ']'));
    inside.is_some_and(|inside| inside.trim().is_empty())
}

/// Why params can't be decoded, with the path of the field.
fn why_not<P: DeserializeOwned>(text: &str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, P>(&mut deserializer) {
        Ok(_) => match deserializer.end() {
            Ok(()) => "the type refused them once and took them the second time".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(error) if error.path().iter().len() == 0 => error.into_inner().to_string(),
        Err(error) => format!("{}: {}", error.path(), error.inner()),
    }
}

fn invalid_params(why: &str) -> ErrorObject {
    ErrorObject::raised(ErrorCode::INVALID_PARAMS, cut(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use redial_protocol::Executed;
    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Params {
        #[serde(default)]
        key: String,
        #[serde(default)]
        delta: i64,
    }

    fn decoded<P: DeserializeOwned>(json: &str) -> Result<P, ErrorObject> {
        decode(Some(json))
    }

    fn why(json: &str) -> String {
        let error = decoded::<Params>(json).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert_eq!(error.executed(), Executed::No);
        error.detail().unwrap()
    }

    #[test]
    fn named_and_positional_params_are_decoded() {
        let expected = Params {
            key: "k".into(),
            delta: 2,
        };
        assert_eq!(
            decoded::<Params>(r#"{"key":"k","delta":2}"#).unwrap(),
            expected
        );
        assert_eq!(decoded::<Params>(r#"["k",2]"#).unwrap(), expected);
    }

    #[test]
    fn absent_params_are_whatever_the_type_makes_of_nothing() {
        assert_eq!(
            decode::<Params>(None).unwrap(),
            Params {
                key: String::new(),
                delta: 0
            }
        );
        assert_eq!(decode::<Value>(None).unwrap(), Value::Null);
        decode::<()>(None).unwrap();
        assert_eq!(decode::<Vec<u8>>(None).unwrap(), Vec::<u8>::new());
        assert_eq!(
            decode::<(u8,)>(None).unwrap_err().code,
            ErrorCode::INVALID_PARAMS
        );
    }

    #[test]
    fn what_is_empty_is_nothing() {
        for empty in ["[]", "{}", "[ ]", "{\n}"] {
            decoded::<()>(empty).unwrap();
            assert_eq!(
                decoded::<Vec<u8>>(empty).unwrap(),
                Vec::<u8>::new(),
                "{empty}"
            );
            assert_eq!(decoded::<Params>(empty).unwrap().delta, 0, "{empty}");
            let refused = decoded::<(u8,)>(empty).unwrap_err();
            assert_eq!(refused.code, ErrorCode::INVALID_PARAMS, "{empty}");
        }
        // A type that tells them apart gets what was sent.
        assert_eq!(decoded::<Value>("[]").unwrap(), serde_json::json!([]));
        for full in ["[0]", r#"{"key":"k"}"#, "[[]]", "[null]", "\"\""] {
            assert!(decoded::<()>(full).is_err(), "{full}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert!(why(r#"{"delta":1.5}"#).starts_with("delta: "));
        assert!(why(r#"{"delta":9223372036854775808}"#).starts_with("delta: "));
        assert!(why(r#"{"delta":"1"}"#).starts_with("delta: "));
        assert!(why(r#"{"key":7}"#).starts_with("key: "));
        assert!(why(r#"{"other":7}"#).contains("other"));
        assert!(why(&format!(r#"{{"key":["{}"]}}"#, "x".repeat(999))).len() <= 200);
    }
}
