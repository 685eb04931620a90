//! How params become a handler's type: what an absent or empty value stands for, and what an error
//! says.

use redial_protocol::{ErrorObject, read_json, reread_json};
use serde::de::DeserializeOwned;

use crate::refusal;

/// What absent params are read from, the plainest first.
const NOTHING: [&str; 3] = ["null", "{}", "[]"];

/// Decodes params. Absent ones are read from `null`, `{}` or `[]`, and so are empty ones that the type
/// can't read as they are: many clients never leave params out.
///
/// # Errors
///
/// -32602, with what was found, where, and what was expected there.
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
    if let Some(text) = params {
        match serde_json::from_str(text) {
            Ok(decoded) => return Ok(decoded),
            Err(_) if is_empty(text) => {}
            Err(_) => return reread_json(text).map_err(|misfit| refusal::misfit(&misfit)),
        }
    }
    let nothing = |nothing: &&str| serde_json::from_str(nothing).ok();
    if let Some(decoded) = NOTHING.iter().find_map(nothing) {
        return Ok(decoded);
    }
    reread_json(params.unwrap_or("{}")).map_err(|misfit| match params {
        Some(_) => refusal::misfit(&misfit),
        None => refusal::misfit(&misfit.of_nothing()),
    })
}

/// Whether this is `{}` or `[]`, however much white space is in it.
fn is_empty(text: &str) -> bool {
    let inside = |open, close| text.trim().strip_prefix(open)?.strip_suffix(close);
    let inside = inside('{', '}').or_else(|| inside('[', ']'));
    inside.is_some_and(|inside| inside.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use redial_protocol::{ErrorCode, Executed};
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
        assert!(why(r#"{"delta":1.5}"#).starts_with("at delta: "));
        assert!(why(r#"{"delta":9223372036854775808}"#).starts_with("at delta: "));
        assert!(why(r#"{"delta":"1"}"#).starts_with("at delta: "));
        assert!(why(r#"{"key":7}"#).starts_with("at key: "));
        assert!(why(r#"{"other":7}"#).contains("other"));
    }

    /// An integer that is refused for its spelling.
    #[test]
    fn minus_zero_is_an_integer() {
        for text in [r#"{"delta":-0}"#, r#"{"key":"","delta":-0}"#, r#"["",-0]"#] {
            assert_eq!(decoded::<Params>(text).unwrap().delta, 0, "{text}");
        }
        assert_eq!(decoded::<(i64,)>("[-0]").unwrap(), (0,));
        assert!(decoded::<Value>("[-0]").unwrap()[0].is_f64());
        assert!(why(r#"{"delta":-0.0}"#).contains("found the number -0.0; expected an integer"));
    }

    /// An error that is nothing but an echo, or none of whose words the peer knows.
    #[test]
    fn an_error_says_what_was_found_and_expected_however_long_the_params() {
        let long = "z".repeat(2_000);
        for text in [
            format!(r#"{{"key":["{long}"]}}"#),
            format!(r#"{{"delta":"{long}"}}"#),
            format!(r#"{{"{long}":1}}"#),
            format!("{:?}", long),
        ] {
            let why = why(&text);
            assert!(why.contains("expected "), "{why}");
            assert!(why.ends_with("; nothing was executed"), "{why}");
            assert!(why.matches('z').count() <= 200, "{why}");
            for noise in ["struct ", "i64", "line 1"] {
                assert!(!why.contains(noise), "{why}");
            }
        }
        let nothing = decode::<(u8,)>(None).unwrap_err().detail().unwrap();
        assert_eq!(
            nothing,
            "found nothing; expected an array of 1 element; nothing was executed"
        );
    }
}
