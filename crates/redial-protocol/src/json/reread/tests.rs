//! What is taken with a `-0`, and what is said of a value that is refused. That a text is read as serde_json
//! would read it with a `0` is tested beside the reader of params, with types of every shape.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::value::RawValue;

use super::*;

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Inc {
    key: String,
    delta: i64,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nested {
    #[serde(default)]
    list: Vec<Inc>,
    #[serde(default)]
    names: BTreeMap<String, u8>,
    #[serde(default)]
    letter: Option<char>,
    #[serde(default)]
    choice: Option<Choice>,
    #[serde(default)]
    any: Option<Untagged>,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    Left,
    Right(u8),
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
    Named { name: String },
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct FlattenedInc {
    #[serde(flatten)]
    inc: Inc,
}

fn why<'de, T: Deserialize<'de> + std::fmt::Debug>(text: &'de str) -> String {
    reread::<T>(text).unwrap_err().to_string()
}

/// An integer that is refused for its spelling.
#[test]
fn minus_zero_is_an_integer() {
    assert_eq!(reread::<(i64,)>("[-0]").unwrap(), (0,));
    assert_eq!(reread::<Vec<u8>>("[1, -0 ,2]").unwrap(), [1, 0, 2]);
    let inc = || Inc {
        key: "a\"".to_owned(),
        delta: 0,
    };
    for text in [
        r#"{"key":"a\"","delta":-0}"#,
        "{\n \"delta\" : -0,\"key\":\"a\\\"\"}",
    ] {
        assert_eq!(reread::<Inc>(text).unwrap(), inc());
        assert_eq!(reread::<FlattenedInc>(text).unwrap().inc, inc());
    }
    assert_eq!(reread::<(u128, i8)>("[-0,-0]").unwrap(), (0, 0));
    let keyed = reread::<BTreeMap<i8, u8>>(r#"{"-0":-0}"#).unwrap();
    assert_eq!(keyed, BTreeMap::from([(0, 0)]));
    let (zero, float, raw) = reread::<(i64, f64, &RawValue)>("[-0,-0,-0]").unwrap();
    assert_eq!(
        (zero, float.to_bits(), raw.get()),
        (0, (-0.0_f64).to_bits(), "-0")
    );
}

/// The same, of what is no integer, or no zero.
#[test]
fn what_is_not_written_as_an_integer_is_none() {
    for text in ["[-0.0]", "[-0e1]", "[0.0]", "[-1]", "[\"-0\"]", "[-0,-0]"] {
        assert!(reread::<(u64,)>(text).is_err(), "{text}");
    }
}

/// An error in the words of a language that the peer may not know.
#[test]
fn what_was_found_and_expected_is_said_in_jsons_words() {
    let object = r#"expected an object with the members "key", "delta", or an array of these 2"#;
    let long = "9223372036854775807";
    for (text, expected) in [
        (
            r#"{"key":7,"delta":1}"#,
            "at key: found the number 7; expected a string".to_owned(),
        ),
        (
            r#"{"key":"k","delta":"1"}"#,
            format!(
                r#"at delta: found the string "1"; expected an integer from -{}8 to {long}"#,
                &long[..18]
            ),
        ),
        (
            r#"{"key":"k","delta":1.50}"#,
            format!(
                "at delta: found the number 1.50; expected an integer from -{}8 to {long}",
                &long[..18]
            ),
        ),
        (
            r#"{"delta":1}"#,
            format!(r#"found the object {{"delta":1}} without the member "key"; {object}"#),
        ),
        (
            "[\"k\"]",
            format!(r#"found 1 element in the array ["k"]; {object}"#),
        ),
        (
            r#"["k",1,2]"#,
            format!(r#"found the array ["k",1,2]; {object}"#),
        ),
        ("true", format!("found true; {object}")),
        (
            r#"{"key":"","key":"","delta":1}"#,
            format!(
                r#"found the member "key" twice in the object {{"key":"","key":"","delta":1}}; {object}"#
            ),
        ),
    ] {
        assert_eq!(why::<Inc>(text), expected);
    }
    assert_eq!(
        why::<(u8, bool)>("[1]"),
        "found 1 element in the array [1]; expected an array of 2 elements"
    );
    assert_eq!(
        why::<(i8,)>("[1,2]"),
        "found the array [1,2]; expected an array of 1 element"
    );
    assert_eq!(why::<()>("[1]"), "found the array [1]; expected null");
    assert_eq!(
        why::<Vec<IpAddr>>("[\"x\"]"),
        "at [0]: found the string \"x\": invalid IP address syntax"
    );
    assert_eq!(
        why::<std::num::NonZeroI8>("0"),
        "found the number 0; expected an integer from -128 to 127, but not 0"
    );
}

/// The same, deep inside, in what a type has kept before it looks at it, and in names.
#[test]
fn the_place_is_named_however_deep_it_is() {
    for (text, expected) in [
        (
            r#"{"list":[{"key":"","delta":1},{"key":null,"delta":1}]}"#,
            "at list[1].key: found null; expected a string",
        ),
        (
            r#"{"names":{"a b":256}}"#,
            r#"at names["a b"]: found the number 256; expected an integer from 0 to 255"#,
        ),
        (
            r#"{"letter":"ab"}"#,
            r#"at letter: found the string "ab"; expected a string of one character"#,
        ),
        (
            r#"{"choice":"up"}"#,
            r#"at choice: found the string "up"; expected "left" or "right""#,
        ),
        (
            r#"{"choice":{"right":-1}}"#,
            "at choice.right: found the number -1; expected an integer from 0 to 255",
        ),
        (
            r#"{"choice":"right"}"#,
            r#"at choice: found the string "right"; expected an object whose one member has this name, and holds a value"#,
        ),
        (
            r#"{"any":["x"]}"#,
            r#"at any: found the array ["x"]; expected one of the forms that this value may have"#,
        ),
        (
            r#"{"other":7}"#,
            r#"found the unknown member "other"; expected "list" or "names" or "letter" or "choice" or "any""#,
        ),
    ] {
        assert_eq!(why::<Nested>(text), expected);
    }
    assert_eq!(
        why::<FlattenedInc>(r#"{"key":"k","delta":"x"}"#),
        "found the string \"x\" in the object {\"key\":\"k\",\"delta\":\"x\"}; expected an integer from \
         -9223372036854775808 to 9223372036854775807"
    );
    assert_eq!(
        why::<BTreeMap<u8, u8>>(r#"{"x":1}"#),
        "found the string \"x\"; expected an integer from 0 to 255"
    );
}

/// An error that is nothing but an echo.
#[test]
fn little_is_repeated_and_the_useful_words_are_always_there() {
    let long = "z".repeat(2_000);
    let wide = "ä".repeat(2_000);
    for long in [&long, &wide] {
        let repeated = |text: &str| {
            let echo = text.chars().filter(|char| long.starts_with(*char));
            echo.map(char::len_utf8).sum::<usize>()
        };
        for text in [
            why::<Inc>(&format!(r#"{{"key":["{long}"],"delta":1}}"#)),
            why::<Inc>(&format!(r#"{{"key":"k","delta":"{long}"}}"#)),
            why::<Inc>(&format!(r#""{long}""#)),
            why::<BTreeMap<String, u8>>(&format!(r#"{{"{long}":"{long}"}}"#)),
            why::<Nested>(&format!(r#"{{"choice":"{long}"}}"#)),
            why::<Nested>(&format!(r#"{{"{long}":1}}"#)),
            why::<FlattenedInc>(&format!(r#"{{"key":"k","delta":"{long}"}}"#)),
        ] {
            assert!(text.contains("; expected "), "{text}");
            assert!(repeated(&text) <= 200, "{text}");
            assert!(text.len() <= 450, "{text}");
        }
        let own = why::<Vec<IpAddr>>(&format!(r#"["{long}"]"#));
        assert!(
            own.ends_with("(2002 bytes): invalid IP address syntax") || own.contains("4002"),
            "{own}"
        );
    }
}

/// An input that costs more than it is long.
#[test]
fn what_nests_deep_is_refused_and_read_once() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Tree(#[allow(dead_code, reason = "read, not looked at")] Vec<Tree>);

    let nested = |depth| "[".repeat(depth) + "0" + &"]".repeat(depth);
    let words = why::<Tree>(&nested(1_000));
    assert!(
        words.contains("expected values that nest less deep"),
        "{words}"
    );
    let words = why::<Tree>(&nested(100));
    assert!(words.contains("expected an array"), "{words}");
}
