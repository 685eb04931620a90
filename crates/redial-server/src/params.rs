//! Params from JSON to the handler's type, and what is wrong where that fails.

use redial_protocol::{ErrorCode, ErrorObject, cut};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Decodes params. Absent ones are what the type reads from `null`, `{}` or `[]`.
pub(crate) fn decode<P: DeserializeOwned>(params: Option<&RawValue>) -> Result<P, ErrorObject> {
    let Some(params) = params else {
        return ["null", "{}", "[]"]
            .iter()
            .find_map(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| invalid_params(&why_not::<P>("{}")));
    };
    serde_json::from_str(params.get()).map_err(|_| invalid_params(&why_not::<P>(params.get())))
}

/// What is wrong with params that can't be decoded, with the path of the field. The second look
/// costs only those who sent them.
fn why_not<P: DeserializeOwned>(text: &str) -> String {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, P>(&mut deserializer) {
        Ok(_) => match deserializer.end() {
            Ok(()) => "they changed their mind when asked again".to_owned(),
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
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        decode(Some(&raw))
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
    fn a_wrong_field_is_named() {
        assert!(why(r#"{"delta":1.5}"#).starts_with("delta: "));
        assert!(why(r#"{"delta":9223372036854775808}"#).starts_with("delta: "));
        assert!(why(r#"{"delta":"1"}"#).starts_with("delta: "));
        assert!(why(r#"{"key":7}"#).starts_with("key: "));
        assert!(why(r#"{"other":7}"#).contains("other"));
        assert!(why(&format!(r#"{{"key":["{}"]}}"#, "x".repeat(999))).len() <= 200);
    }
}
