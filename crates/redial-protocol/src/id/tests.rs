//! Which values are ids, which are keys, and which two are the same.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

fn key(json: &str, dialect: Dialect) -> Option<CallKey> {
    Id::parse(&raw(json)).unwrap().key(dialect)
}

#[test]
fn strings_integers_and_null_are_ids() {
    let longest = format!("\"{}\"", "x".repeat(128));
    for json in [
        "\"a\"",
        "0",
        "-7",
        "18446744073709551617",
        "null",
        longest.as_str(),
    ] {
        assert_eq!(Id::parse(&raw(json)).unwrap().raw(), json);
    }
}

#[test]
fn everything_else_is_refused() {
    let too_long = format!("\"{}\"", "x".repeat(129));
    let too_many_digits = "1".repeat(129);
    let cases = [
        "\"\"",
        "1.5",
        "1e3",
        "true",
        "[]",
        "{}",
        too_long.as_str(),
        &too_many_digits,
    ];
    for json in cases {
        assert!(Id::parse(&raw(json)).is_err(), "{json} was taken for an id");
    }
    let half_a_pair = raw(r#""\ud800""#);
    assert!(matches!(
        Id::parse(&half_a_pair),
        Err(IdError::BadString(_))
    ));
}

#[test]
fn integers_beyond_64_bits_stay_apart() {
    let one = key("18446744073709551616", Dialect::Notebook);
    let other = key("18446744073709551617", Dialect::Notebook);
    assert_ne!(one, other);
}

#[test]
fn a_number_and_its_text_are_two_ids() {
    assert_ne!(key("1", Dialect::Notebook), key("\"1\"", Dialect::Notebook));
}

#[test]
fn one_value_written_twice_is_one_key() {
    assert_eq!(
        key(r#""a""#, Dialect::Notebook),
        key(r#""\u0061""#, Dialect::Notebook)
    );
    let plain = key(
        "\"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49\"",
        Dialect::JsonRpc2,
    );
    let escaped = key(
        "\"\\u0036b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49\"",
        Dialect::JsonRpc2,
    );
    assert!(plain.is_some());
    assert_eq!(plain, escaped);
}

#[test]
fn json_rpc_2_takes_only_uuids_for_keys() {
    assert_eq!(key("1", Dialect::JsonRpc2), None);
    assert_eq!(key("\"abc\"", Dialect::JsonRpc2), None);
    let lower = "\"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49\"";
    assert!(matches!(
        key(lower, Dialect::JsonRpc2),
        Some(CallKey::Uuid(_))
    ));
    let upper = lower.to_uppercase();
    assert!(matches!(
        key(&upper, Dialect::JsonRpc2),
        Some(CallKey::Text(_))
    ));
    assert_eq!(
        key("\"6b1f0e1c7f514f5c9d0e0a5d1c2b3a49\"", Dialect::JsonRpc2),
        None
    );
}

#[test]
fn a_call_of_a_session_is_known_in_either_case() {
    let lower = "\"12345678-9abc-8def-8000-000000000007\"";
    for dialect in [Dialect::JsonRpc2, Dialect::Notebook] {
        let found = key(lower, dialect);
        assert!(matches!(found, Some(CallKey::Session(call)) if call.number == 7));
        assert_eq!(found, key(&lower.to_uppercase(), dialect));
    }
}

#[test]
fn null_is_never_a_key() {
    assert_eq!(key("null", Dialect::Notebook), None);
    assert_eq!(key("null", Dialect::JsonRpc2), None);
}

#[test]
fn an_integer_is_its_text_so_zero_and_minus_zero_are_two_ids() {
    assert_ne!(key("-0", Dialect::Notebook), key("0", Dialect::Notebook));
    assert_eq!(Id::parse(&raw("-0")).unwrap().raw(), "-0", "it is echoed");
}

/// Strings that are apart by little: UUIDs of two versions, in either case, with something
/// amiss, and what looks like an integer.
fn text() -> impl Strategy<Value = String> {
    let uuid = (
        "6b1f0e1[cd]?-7f51-[48]f5c[-_]?[89c]d0e-0a5d1c2b3a49",
        any::<bool>(),
    );
    let uuid = uuid.prop_map(
        |(uuid, is_upper)| {
            if is_upper { uuid.to_uppercase() } else { uuid }
        },
    );
    prop_oneof![5 => uuid, 1 => "-?[0-2]", 1 => r#"[a"\\é/\n😀]{1,2}"#]
}

/// A string as JSON, its characters as they are or escaped.
fn written(text: &str, escaped: u64) -> String {
    let write = |(at, character): (usize, char)| {
        let mut units = [0; 2];
        match escaped >> at & 1 {
            0 => {
                let plain = serde_json::to_string(&character).unwrap();
                plain[1..plain.len() - 1].to_owned()
            }
            _ => {
                let units = character.encode_utf16(&mut units).iter();
                units.map(|unit| format!("\\u{unit:04x}")).collect()
            }
        }
    };
    let text: String = text.chars().enumerate().map(write).collect();
    format!("\"{text}\"")
}

fn json() -> impl Strategy<Value = String> {
    // About half have no escapes.
    let escaped = prop_oneof![Just(0), any::<u64>()];
    let string = (text(), escaped).prop_map(|(text, escaped)| written(&text, escaped));
    let near = |n: i128| (n - 2..n + 2).prop_map(|n| n.to_string());
    prop_oneof![
        6 => string,
        1 => near(0),
        1 => near(1 << 64),
        1 => near(-(1 << 63)),
        1 => Just("-0".to_owned()),
        1 => Just("null".to_owned()),
    ]
}

/// Which value it is, and whether that is a UUID. The UUIDs of sessions have no case.
fn value(json: &str) -> (Value, bool) {
    match serde_json::from_str(json).unwrap() {
        Value::String(text) => {
            let is_hyphen = |at: usize| [8, 13, 18, 23].contains(&at);
            let fits = |(at, byte): (usize, u8)| {
                if is_hyphen(at) {
                    byte == b'-'
                } else {
                    byte.is_ascii_hexdigit()
                }
            };
            let is_uuid = text.len() == 36 && text.bytes().enumerate().all(fits);
            let is_of_a_session =
                is_uuid && &text[14..15] == "8" && "89abAB".contains(&text[19..20]);
            if is_of_a_session {
                (Value::String(text.to_lowercase()), true)
            } else {
                (Value::String(text), is_uuid)
            }
        }
        // Beyond 64 bits `Value` is a float; and `-0` is not the text `0`.
        Value::Number(_) => (serde_json::json!([json]), false),
        other => (other, false),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn two_ids_are_one_key_if_they_are_one_json_value(one in json(), other in json()) {
        let ((first, is_uuid), (second, _)) = (value(&one), value(&other));
        let in_notebook = key(&one, Dialect::Notebook);
        prop_assert_eq!(in_notebook.is_some(), first != Value::Null);
        let is_one_key = in_notebook == key(&other, Dialect::Notebook);
        prop_assert_eq!(is_one_key, first == second, "{} {}", one, other);
        // In JSON-RPC 2.0 there are fewer keys, and they are the same.
        let in_json_rpc = key(&one, Dialect::JsonRpc2);
        prop_assert_eq!(in_json_rpc, in_notebook.filter(|_| is_uuid), "{}", one);
        let raw = raw(&one);
        prop_assert_eq!(Id::parse(&raw).unwrap().raw(), &one);
    }
}
