//! Requests that are read by hand, against the same requests read by serde_json.

use proptest::prelude::*;

use super::{MAX_DEPTH, request::read, template::RequestTemplate};
use crate::{Dialect, Incoming, Limits, RequestReader};

const LIMITS: Limits = Limits {
    max_frame_bytes: 1 << 20,
    max_batch_entries: 100,
    max_depth: 128,
};

/// What serde_json makes of it: a message that begins with a line break is left to it.
fn read_slowly(text: &str, limits: &Limits) -> Result<String, String> {
    let text = format!("\n{text}");
    assert!(read(&text, limits.max_depth).is_none());
    match Incoming::parse(text.as_bytes(), limits) {
        Ok(incoming) => Ok(shown(&incoming)),
        Err(rejection) => Err(format!("{rejection:?}")),
    }
}

/// All of a message, and what its id names.
fn shown(incoming: &Incoming<'_>) -> String {
    let Incoming::Request(request) = incoming else {
        return format!("{incoming:?}");
    };
    let key = |dialect| request.id.and_then(|id| id.key(dialect));
    let keys = [Dialect::JsonRpc2, Dialect::Notebook].map(key);
    format!("{incoming:?} {keys:?}")
}

/// Whether a text is read by hand; then what is read must be right.
fn assert_same(text: &str, limits: &Limits) -> bool {
    let Some(request) = read(text, limits.max_depth) else {
        return false;
    };
    let fast = shown(&Incoming::Request(request));
    assert_eq!(Ok(fast), read_slowly(text, limits), "{text}");
    true
}

#[test]
fn usual_requests_are_read() {
    for text in [
        r#"{"id":"k","method":"inc","params":{"key":"k","delta":1}}"#,
        r#"{"id": "k", "method": "inc", "params": {"key": "k", "delta": -1}}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"get","params":["k"]}"#,
        r#"{"jsonrpc":"2.0","id":-7,"method":"get","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"get"}"#,
        r#"{"jsonrpc":"2.0","method":"get","params":{}}"#,
        r#"{"jsonrpc":"2.0","id":"x","method":"m","params":[[{"a":[true,false,null,""]}],0]}"#,
        r#"{"jsonrpc":"2.0","id":"x","method":"m","params":["ü"],"redial":{"ack":7}}"#,
        r#"{"id":"x","method":"m","redial":{"attempt":2,"timeout_ms":100,"traceparent":"t"}}"#,
        r#"{"redial":{"ack":9999999999999999999},"params":[],"method":"","id":1}"#,
        r#"{"id":18446744073709551617,"method":"m","params":[1.5,-0.25e+3]}"#,
    ] {
        assert!(assert_same(text, &LIMITS), "not read: {text}");
    }
}

#[test]
fn what_is_unusual_or_wrong_is_left_to_serde_json() {
    for text in [
        "",
        "{",
        "{}",
        "[]",
        r#"{"id":1}"#,
        r#"{"id":1,"method":"a"} "#,
        r#"{"id":1,"method":"a"}{"#,
        r#"{"id":1,"method":"a",}"#,
        r#"{"id":1,"method":"a","method":"a"}"#,
        r#"{"id":1,"method":"a\u0062"}"#,
        r#"{"id":1,"method":"a","params":null}"#,
        r#"{"id":1,"method":"a","params":7}"#,
        r#"{"id":1,"method":"a","params":[1.]}"#,
        r#"{"id":1,"method":"a","params":[01]}"#,
        r#"{"id":1,"method":"a","params":[-]}"#,
        r#"{"id":1,"method":"a","params":[1,]}"#,
        r#"{"id":1,"method":"a","params":{"a"}}"#,
        r#"{"id":1.0,"method":"a"}"#,
        r#"{"id":true,"method":"a"}"#,
        r#"{"id":{},"method":"a"}"#,
        r#"{"id":01,"method":"a"}"#,
        r#"{"id":"","method":"a"}"#,
        r#"{"id":nul,"method":"a"}"#,
        r#"{"id":1,"method":"a","redial":{}}"#,
        r#"{"id":1,"method":"a","redial":[1]}"#,
        r#"{"id":1,"method":"a","redial":{"attempt":4294967296}}"#,
        r#"{"id":1,"method":"a","redial":{"ack":18446744073709551615}}"#,
        r#"{"id":1,"method":"a","redial":{"ack":18446744073709551616}}"#,
        r#"{"id":1,"method":"a","redial":{"ack":-1}}"#,
        r#"{"id":1,"method":"a","redial":{"ack":1,"ack":1}}"#,
        r#"{"id":1,"method":"a","redial":{"other":1}}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"a"}"#,
    ] {
        assert!(read(text, 128).is_none(), "read: {text}");
    }
    let id = "x".repeat(129);
    assert!(read(&format!(r#"{{"id":"{id}","method":"a"}}"#), 128).is_none());
}

#[test]
fn nesting_counts_as_it_does_elsewhere() {
    let limits = |max_depth| Limits {
        max_depth,
        ..LIMITS
    };
    for depth in (0..20).chain(MAX_DEPTH - 2..MAX_DEPTH + 2) {
        let params = "[".repeat(depth) + &"]".repeat(depth);
        let params = if depth == 0 { "[]".to_owned() } else { params };
        let text = format!(r#"{{"id":1,"method":"a","params":{params},"redial":{{"ack":1}}}}"#);
        for max_depth in [0, 1, 2, 3, 10, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1] {
            assert_same(&text, &limits(max_depth));
        }
        let is_shallow = depth.max(1) < MAX_DEPTH;
        assert_eq!(assert_same(&text, &LIMITS), is_shallow, "{depth}");
    }
}

/// Whether `text` is compared with the request before it; then what is read must be right.
fn assert_template(before: &str, text: &str, limits: &Limits) -> bool {
    let Some(request) = read(before, limits.max_depth) else {
        return false;
    };
    let mut template = RequestTemplate::default();
    template.learn(before, &request, limits.max_depth);
    let Some(request) = template.read(text, limits.max_depth) else {
        return false;
    };
    let fast = shown(&Incoming::Request(request));
    assert_eq!(
        Ok(fast),
        read_slowly(text, limits),
        "{text}, spelled like {before}"
    );
    true
}

#[test]
fn a_request_that_is_spelled_like_the_one_before_is_compared_with_it() {
    for (before, after) in [
        (
            r#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000007","method":"inc","params":{"key":"k"},"redial":{"ack":7}}"#,
            r#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000008","method":"inc","params":["ü",{}]}"#,
        ),
        (
            r#"{"id": "6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49", "method": "inc", "params": {"key": "k"}}"#,
            r#"{"id": "6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a48", "method": "inc", "params": {"key": "l"}}"#,
        ),
        (
            r#"{"id":"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49","jsonrpc":"2.0","method":"redial","params":[]}"#,
            r#"{"id":"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a48","jsonrpc":"2.0","method":"inc","params":[]}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"get","params":["k"]}"#,
            r#"{"jsonrpc":"2.0","id":8,"method":"get","params":["k"]}"#,
        ),
    ] {
        let is_compared = before.contains('-') && !before.contains(r#""method":"redial""#);
        assert_eq!(
            assert_template(before, before, &LIMITS),
            is_compared,
            "{before}"
        );
        assert_eq!(
            assert_template(before, after, &LIMITS),
            is_compared,
            "{after}"
        );
    }
}

#[test]
fn a_template_brings_no_member_along() {
    let id = r#""id":"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49""#;
    for before in [
        format!(r#"{{{id},"method":"m","redial":{{"attempt":1}},"params":[]}}"#),
        format!(r#"{{"redial":{{"attempt":1}},{id},"method":"m","params":[]}}"#),
        format!(r#"{{"method":"m",{id},"params":[]}}"#),
        format!(r#"{{"params":[],{id},"method":"m"}}"#),
        format!(r#"{{{id},"params":[],"method":"m"}}"#),
        format!(r#"{{{id},"method":"m","params":[],"jsonrpc":"2.0"}}"#),
        format!(r#"{{{id},"method":"{}","params":[]}}"#, "m".repeat(200)),
    ] {
        assert!(assert_same(&before, &LIMITS), "{before}");
        let twice = before.replace(r#""params":[]"#, r#""params":[],"redial":{"ack":1}"#);
        assert!(!assert_template(&before, &twice, &LIMITS), "{before}");
        let notebook = before.replace(r#","jsonrpc":"2.0""#, "");
        assert!(!assert_template(&before, &notebook, &LIMITS), "{before}");
    }
}

/// Pieces of messages, right and wrong.
const NAMES: &[&str] = &[
    r#""jsonrpc""#,
    r#""id""#,
    r#""method""#,
    r#""params""#,
    r#""redial""#,
    r#""result""#,
    r#""other""#,
    r#""i\u0064""#,
    "id",
];
const VALUES: &[&str] = &[
    r#""2.0""#,
    r#""1.0""#,
    r#""inc""#,
    r#""""#,
    r#""a\nb""#,
    "\"a\nb\"",
    r#""12345678-9abc-8def-8000-000000000007""#,
    r#""6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49""#,
    r#""6B1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49""#,
    r#""6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a4""#,
    "7",
    "-0",
    "00",
    "-",
    "1.5",
    "1e3",
    "18446744073709551617",
    "null",
    "true",
    "nul",
    "[]",
    "[1, 2]",
    "[1 2]",
    "[,]",
    "{}",
    r#"{"key":"k","delta":1}"#,
    r#"{"key":{"a":[{}]}}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"ack":3}"#,
    r#"{"ack":-3}"#,
    r#"{"ack":null}"#,
    r#"{"ack":3,"timeout_ms":5}"#,
    r#"{"attempt":2}"#,
    r#"{"attempt":99999999999}"#,
    r#"{"traceparent":"00-ab-cd-01"}"#,
    r#"{"traceparent":7}"#,
];

fn any_message() -> impl Strategy<Value = String> {
    let member = (
        prop::sample::select(NAMES),
        prop::sample::select(vec![":", ": ", " :", ""]),
        prop::sample::select(VALUES),
    )
        .prop_map(|(name, colon, value)| format!("{name}{colon}{value}"));
    let usual = prop::sample::subsequence(
        vec![
            r#""jsonrpc":"2.0""#,
            r#""id":"6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49""#,
            r#""method":"inc""#,
            r#""params":[1,{"a":"b"}]"#,
            r#""redial":{"ack":3}"#,
        ],
        0..=5,
    );
    (usual, prop::collection::vec(member, 0..3)).prop_flat_map(|(usual, others)| {
        let members: Vec<String> = usual.into_iter().map(String::from).chain(others).collect();
        (
            Just(members).prop_shuffle(),
            prop::sample::select(vec![",", ", ", " ,", ",,"]),
            prop::sample::select(vec!["", " ", "\t", "x"]),
        )
            .prop_map(|(members, comma, tail)| format!("{{{}}}{tail}", members.join(comma)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_is_read_by_hand_is_what_serde_json_reads(text in any_message(), max_depth in 0usize..6) {
        assert_same(&text, &LIMITS);
        assert_same(&text, &Limits { max_depth, ..LIMITS });
        assert_template(&text, &text, &Limits { max_depth, ..LIMITS });
    }

    #[test]
    fn what_is_spelled_alike_is_what_serde_json_reads(
        before in any_message(),
        (from, to) in (prop::sample::select(VALUES), prop::sample::select(VALUES)),
        (more, at) in (any_message(), any::<prop::sample::Index>()),
    ) {
        let other = before.replacen(from, to, 1);
        assert_template(&before, &other, &LIMITS);
        // The members of another message from one of its commas on.
        let commas: Vec<usize> = more.match_indices(',').map(|(at, _)| at).collect();
        if let Some(comma) = commas.get(at.index(commas.len().max(1))) {
            let longer = format!("{}{}", &before[..before.len() - 1], &more[*comma..]);
            assert_template(&before, &longer, &LIMITS);
        }
    }

    /// A peer's messages one after the other, spelled in a few ways, with ids that begin alike in
    /// lower and in upper case.
    #[test]
    fn a_reader_reads_every_message_as_if_it_were_the_first(
        messages in prop::collection::vec(any_message(), 1..4),
        order in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8, 0u8..12, 0usize..37), 1..12),
        max_depth in prop::sample::select(vec![0, 1, 2, 3, 128]),
    ) {
        const ID: &str = "6b1f0e1c-7f51-4f5c-9d0e-0a5d1c2b3a49";
        let limits = Limits { max_depth, ..LIMITS };
        let mut reader = RequestReader::new(limits);
        for (which, id, spoilt, at) in order {
            let id = match id {
                0 => ID.to_uppercase(),
                1 => format!("{}{}", ID[..19].to_uppercase(), &ID[19..]),
                2 => format!("{}{}", &ID[..19], ID[19..].to_uppercase()),
                3 => "00000000-0000-0000-0000-000000000000".to_owned(),
                4 => "12345678-9abc-8def-8000-00000000000a".to_owned(),
                5 => {
                    let mut id = ID.to_owned();
                    id.replace_range(at.min(35)..=at.min(35), ["g", "-", ":", "`", "/", "é"][at % 6]);
                    id
                }
                _ => ID.to_owned(),
            };
            let mut text = which.get(&messages).replace(ID, &id);
            match spoilt {
                0 => text.push(' '),
                1 => text = text.replacen("}", r#","redial":{"ack":7}}"#, 1),
                2 => text = text.replacen(r#""inc""#, r#""in""#, 1),
                3 => text = text.replacen("{", "{\n", 1),
                _ => {}
            }
            let read = match reader.read(text.as_bytes()) {
                Ok(incoming) => Ok(shown(&incoming)),
                Err(rejection) => Err(format!("{rejection:?}")),
            };
            let parsed = match Incoming::parse(text.as_bytes(), &limits) {
                Ok(incoming) => Ok(shown(&incoming)),
                Err(rejection) => Err(format!("{rejection:?}")),
            };
            prop_assert_eq!(read, parsed, "{}", text);
        }
    }

    #[test]
    fn a_spoilt_message_is_what_serde_json_reads(
        text in any_message(),
        at: prop::sample::Index,
        by in prop::sample::select(vec!['"', '\\', '{', '}', '[', ']', ',', ':', ' ', '0', '-', '.', 'e', 'ü', '\u{1}']),
        replaces: bool,
    ) {
        let mut characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len());
        if replaces {
            characters[at] = by;
        } else {
            characters.insert(at, by);
        }
        let spoilt: String = characters.into_iter().collect();
        assert_same(&spoilt, &LIMITS);
        assert_template(&text, &spoilt, &LIMITS);
    }
}
