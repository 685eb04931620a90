//! Every shape of type read by hand, against the same type read by serde_json.

mod types;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt::Debug,
};

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer,
    de::{EnumAccess, IgnoredAny, VariantAccess},
};
use serde_json::{Value, value::RawValue};

use self::types::{SomeEnum, *};
use super::*;
use crate::json::reread::reread;

/// Whether the text is read; if so, as serde_json reads it.
fn same<'de, T: Deserialize<'de> + Debug>(text: &'de str) -> bool {
    let Some(read) = read::<T>(text) else {
        return false;
    };
    // Their text is compared, since `==` takes -0.0 for 0.0.
    let slowly = serde_json::from_str::<T>(text).map(|value| format!("{value:?}"));
    assert_eq!(
        Ok(format!("{read:?}")),
        slowly.map_err(|e| e.to_string()),
        "{text}"
    );
    true
}

/// A text that serde_json refuses is taken if a `-0` was all that was wrong, and is then what it would be
/// with a `0`.
fn reread_agrees<'de, T: Deserialize<'de> + Debug>(text: &'de str, plain: Option<&'de str>) {
    if serde_json::from_str::<T>(text).is_ok() {
        return;
    }
    let shown = |value: T| {
        format!("{value:?}")
            .replace("-0.0", "0")
            .replace("0.0", "0")
    };
    let expected = plain.and_then(|plain| serde_json::from_str(plain).ok());
    let expected = expected.map(shown);
    let reread = reread(text).map(shown);
    if let Err(misfit) = &reread {
        let length = misfit.to_string().len();
        assert!(length < 600, "{misfit}");
    }
    assert_eq!(reread.ok(), expected, "{text}");
}

/// JSON with `0` for every `-0`.
fn with_plain_zeros(json: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let (mut plain, mut is_in_string, mut rest) = (String::new(), false, json);
    while let Some(char) = rest.chars().next() {
        let len = match char {
            '\\' if is_in_string => 2,
            '-' if !is_in_string && is_zero(&rest[1..]) => {
                rest = &rest[1..];
                continue;
            }
            _ => char.len_utf8(),
        };
        is_in_string ^= char == '"';
        plain.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    Some(plain)
}

fn is_zero(number: &str) -> bool {
    let after = number.strip_prefix('0');
    after.is_some_and(|after| !after.starts_with(['.', 'e', 'E']))
}

/// Every type of these is asked to read a text.
fn assert_same_for_all(text: &str) {
    let plain = with_plain_zeros(text);
    let plain = plain.as_deref();
    macro_rules! each {
        ($($type:ty,)+) => { $(same::<$type>(text);)+ };
    }
    macro_rules! each_twice {
        ($($type:ty,)+) => { $(same::<$type>(text); reread_agrees::<$type>(text, plain);)+ };
    }
    each_twice! {
        Value,
        Named,
        Vec<Named>,
        Wrapped<Option<Named>>,
        Strict,
        Flat,
        Loose,
        Vec<SomeEnum>,
        BTreeMap<SomeEnum, IgnoredAny>,
        BTreeMap<String, SomeEnum>,
        Tagged,
        Borrowed<'_>,
        (u8, i64),
        (Cow<'_, str>, Option<f64>),
        [Wrapped<(Value, Value)>; 1],
        Vec<u64>,
        Vec<f32>,
        Vec<i128>,
        Vec<u128>,
        Vec<Option<bool>>,
        Vec<char>,
        Vec<()>,
        Vec<Box<RawValue>>,
        Vec<std::ffi::CString>,
        BTreeMap<String, Wrapped<i16>>,
        BTreeMap<u8, Value>,
        BTreeMap<Option<char>, Value>,
        BTreeMap<Label, Value>,
        BTreeMap<String, std::num::NonZeroI8>,
        Vec<std::time::Duration>,
        Vec<std::net::IpAddr>,
        Vec<std::ops::Range<i8>>,
        Vec<Option<Option<u8>>>,
        Option<Option<Value>>,
        serde_json::Map<String, Value>,
        Vec<serde_json::Number>,
        Vec<std::path::PathBuf>,
        Vec<Adjacent>,
        Vec<Fallback>,
        Option<Vec<IgnoredAny>>,
        Result<u8, String>,
        IgnoredAny,
    }
    // serde_json reads on from where such a type has left it, even within a character, and panics when
    // it complains of a name that is no bool within one.
    each! {
        BTreeMap<bool, Value>,
        BTreeMap<Blind, i8>,
        Vec<OddEnum>,
        BTreeMap<Odd, i8>,
        BTreeMap<OddEnum, i8>,
        BTreeMap<String, Blind>,
        Vec<Blind>,
        Vec<Forgiving<u8>>,
        Vec<Forgiving<Named>>,
        Vec<Forgiving<Vec<i8>>>,
        Vec<Forgiving<SomeEnum>>,
        BTreeMap<String, Forgiving<Option<u32>>>,
    }
}

fn taken<'de, T: Deserialize<'de> + Debug>(text: &'de str) {
    assert!(same::<T>(text), "not taken: {text}");
}

#[test]
fn what_is_usual_is_taken() {
    for text in [
        r#"{"a":"k","b":1}"#,
        r#"{ "a" : "k" , "b" : -9223372036854775808 } "#,
        r#"{"b":0}"#,
        "{}",
        r#"{"a":"eight by eight ü","other":[{"x":[null,true,false,"",7]}]}"#,
    ] {
        taken::<Named>(text);
        taken::<Value>(text);
    }
    taken::<(String, u64)>(r#"["k",9999999999999999999]"#);
    taken::<Vec<f64>>("[1,-2, 3 ]");
    taken::<HashMap<String, Option<bool>>>(r#"{"a":null}"#);
    taken::<Strict>(r#"{"a":{"a":null,"b":[1,2]},"b":null}"#);
    taken::<Flat>(r#"{"a":[1],"x":7,"y":[1,true],"z":{"a":"b"},"w":null}"#);
    taken::<Vec<SomeEnum>>(r#"["a",{"b":7},{"c":[-1,"x"]},{"d":{"a":true}},{"a":null}]"#);
    taken::<BTreeMap<SomeEnum, u8>>(r#"{"a":1}"#);
    taken::<Vec<Tagged>>(r#"[{"a":"b","b":7},{"a":"c","b":7}]"#);
    taken::<Wrapped<()>>("null");
    taken::<Borrowed<'_>>(r#"{"a":"x","b":"y"}"#);
}

#[test]
fn what_is_unusual_or_wrong_is_refused() {
    for text in [
        "",
        " ",
        "\0",
        "-",
        "01",
        "1 2",
        "nul",
        "nulll",
        "truefalse",
        r#"""#,
        r#""\n""#,
        "\"\n\"",
        "\"12345678\u{1f}\"",
        "\t1",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "[,]",
        "{:1}",
        r#"{{"b":1}:1}"#,
        r#"{"a":,"b":1}"#,
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":1"b":1}"#,
        r#"{a:1}"#,
        r#"{1:1}"#,
        r#"{"a":1}}"#,
    ] {
        assert!(read::<Value>(text).is_none(), "{text}");
        assert!(read::<IgnoredAny>(text).is_none(), "{text}");
        assert_same_for_all(text);
    }
    let numbers = [
        "-0",
        "1.5",
        "1e5",
        "10000000000000000000",
        "-9223372036854775809",
    ];
    for text in numbers {
        assert!(read::<Value>(text).is_none(), "{text}");
        taken::<IgnoredAny>(text);
        assert_same_for_all(text);
    }
    for text in [r#"{"a":"x","a":"y"}"#, r#"{"b":"1"}"#, r#"{"a":7}"#, "7"] {
        assert!(read::<Named>(text).is_none(), "{text}");
    }
    assert!(read::<Vec<u8>>("[256]").is_none());
    assert!(read::<Vec<Box<RawValue>>>("[256]").is_none());
}

#[test]
fn a_value_is_as_deep_as_is_usual() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(same::<Value>(&nested(MAX_DEPTH - 1)));
    for depth in [MAX_DEPTH, 100_000] {
        assert!(read::<Value>(&nested(depth)).is_none());
        assert!(read::<IgnoredAny>(&nested(depth)).is_none());
    }
    let wide = format!("[{}[]]", "[[]],".repeat(100));
    assert!(same::<Value>(&wide));
}

/// serde_json reads a variant's name as any value, and the name of a member as a string.
#[test]
fn a_variant_is_named_as_serde_json_has_it() {
    for text in [r#"[{"a":1}]"#, r#"[{"a":null}]"#, "[{[]:1}]", "[{}]"] {
        same::<Vec<OddEnum>>(text);
    }
}

/// Nothing but what serde_json could have gone on from is read on from.
#[test]
fn an_error_that_is_forgiven_is_not_read_on_from() {
    assert!(!same::<Vec<Forgiving<u8>>>(r#"["x"]"#));
    assert!(!same::<Vec<Forgiving<u8>>>("[300]"));
    assert!(!same::<Vec<Forgiving<Vec<u8>>>>(r#"[[1,"x",2]]"#));
    assert!(!same::<Vec<Forgiving<Vec<u8>>>>("[[1,,2]]"));
    assert!(same::<Vec<Forgiving<u8>>>("[3]"));
}

const LEAVES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "7",
    "255",
    "256",
    "-0",
    "1.5",
    "-1.5e3",
    "1E400",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "9999999999999999999",
    "10000000000000000000",
    "18446744073709551616",
    "\"\"",
    "\"a\"",
    "\"b\"",
    "\"c\"",
    "\"x\"",
    "\"ü\"",
    "\"1\"",
    "\"true\"",
    "\"a\\n\"",
    "\"\\u0061\"",
    "\"1234567ü\"",
    "\"twelve times a word that is longer\"",
    "{}",
    "[]",
    "{\"$serde_json::private::RawValue\":\"1\"}",
];

/// Values in most shapes, their members named as the types' fields are.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(LEAVES).prop_map(str::to_owned);
    let name = prop::sample::select(&["a", "b", "c", "d", "x", "7", "true", "ü", "\\u0061"][..]);
    let space = || prop::sample::select(&["", "", "", "", "", "", " ", "  ", "\n"][..]);
    leaf.prop_recursive(4, 20, 4, move |inner| {
        let entries = prop::collection::vec((inner.clone(), space()), 0..4);
        let members = prop::collection::vec((name.clone(), space(), inner, space()), 0..4);
        prop_oneof![
            entries.prop_map(|entries| {
                let entry = |(value, space): &(String, &str)| format!("{space}{value}{space}");
                let entries: Vec<_> = entries.iter().map(entry).collect();
                format!("[{}]", entries.join(","))
            }),
            members.prop_map(|members| {
                let member = |(name, before, value, after): &(&str, &str, String, &str)| {
                    format!("{before}\"{name}\"{after}:{before}{value}{after}")
                };
                let members: Vec<_> = members.iter().map(member).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// What happens to a text: where, how many characters go, and what comes instead.
fn mutated(text: &str, mutations: &[(prop::sample::Index, usize, &str)]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for (at, gone, instead) in mutations {
        let at = at.index(text.len() + 1);
        let end = (at + gone).min(text.len());
        text.splice(at..end, instead.chars());
    }
    text.into_iter().collect()
}

fn mutation() -> impl Strategy<Value = (prop::sample::Index, usize, &'static str)> {
    let pieces = &[
        "", "", ",", ":", "\"", "[", "]", "{", "}", "0", "1", "-", ".", "e", "\\", " ", "\0", "\n",
        "n", "null", "a", "ü", "[]", "\"a\":",
    ][..];
    (
        any::<prop::sample::Index>(),
        0..3_usize,
        prop::sample::select(pieces),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn nothing_is_read_in_another_way(
        text in json(),
        mutations in prop_oneof![Just(vec![]), prop::collection::vec(mutation(), 1..4)],
    ) {
        let text = mutated(&text, &mutations);
        assert_same_for_all(&text);
    }
}
