//! Which messages are requests, and how the others are answered.

use proptest::prelude::*;

use super::*;
use crate::{Dialect, ErrorCode, RequestMeta, write_request};

fn parse(text: &str) -> Result<Incoming<'_>, Rejection<'_>> {
    Incoming::parse(text.as_bytes(), &Limits::default())
}

fn request(text: &str) -> Request<'_> {
    match parse(text) {
        Ok(Incoming::Request(request)) => request,
        other => panic!("{text} was not taken for a request: {other:?}"),
    }
}

fn rejection(text: &str) -> (i32, String, Dialect, String) {
    let rejection = parse(text).map(|_| text).expect_err("taken for a message");
    let detail = rejection.error.detail().unwrap();
    (
        rejection.error.code.into(),
        rejection.id.raw().to_owned(),
        rejection.dialect,
        detail,
    )
}

#[test]
fn a_message_without_jsonrpc_is_the_notebooks() {
    let request = request(r#"{"id": "a", "method": "inc", "params": {"key": "k", "delta": 1}}"#);
    assert_eq!(request.dialect, Dialect::Notebook);
    assert_eq!(request.id.unwrap().raw(), "\"a\"");
    assert_eq!(request.params.unwrap(), r#"{"key": "k", "delta": 1}"#);
    assert_eq!(request.meta, RequestMeta::default());
}

#[test]
fn members_may_come_in_any_order_with_escapes_and_others_beside_them() {
    let request = request(r#" {"x":1,"p\u0061rams":[1],"method":"\u0069nc","jsonrpc":"2.0"} "#);
    assert_eq!(request.dialect, Dialect::JsonRpc2);
    assert_eq!(request.method, "inc");
    assert_eq!(request.params.unwrap(), "[1]");
    assert!(request.is_notification());
}

#[test]
fn id_null_is_a_request_and_a_missing_id_is_a_notification() {
    assert!(request(r#"{"id":null,"method":"m"}"#).id.unwrap().is_null());
    assert!(request(r#"{"method":"m"}"#).is_notification());
}

#[test]
fn redials_own_member_is_read() {
    let text = r#"{"method":"m","redial":{"attempt":3,"timeout_ms":50,"ack":9,
        "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","later":{}}}"#;
    let meta = request(text).meta;
    assert_eq!(
        (meta.attempt, meta.timeout_ms, meta.ack),
        (3, Some(50), Some(9))
    );
    assert!(
        meta.traceparent
            .unwrap()
            .starts_with("00-0af7651916cd43dd8448eb211c80319c")
    );
}

#[test]
fn what_is_not_json_is_minus_32700() {
    let bracket_storm = "[".repeat(100_000);
    for text in [
        "",
        " ",
        "{",
        "nope",
        "{\"id\":1,}",
        "[1,",
        "{}{}",
        "\"",
        &bracket_storm,
    ] {
        assert_eq!(rejection(text).0, -32700, "{}", cut(text));
    }
    let not_utf8 = Incoming::parse(b"{\"id\":\"\xff\"}", &Limits::default()).unwrap_err();
    assert_eq!(not_utf8.error.code, ErrorCode::PARSE_ERROR);
}

#[test]
fn what_is_not_a_request_is_minus_32600() {
    for text in [
        "1",
        "\"x\"",
        "null",
        "[]",
        "{}",
        r#"{"foo":"boo"}"#,
        r#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#,
        r#"{"jsonrpc":"1.0","method":"m"}"#,
        r#"{"jsonrpc":2.0,"method":"m"}"#,
        r#"{"id":1.5,"method":"m"}"#,
        r#"{"id":true,"method":"m"}"#,
        r#"{"id":1,"method":"m","params":"text"}"#,
        r#"{"id":1,"method":"m","params":7}"#,
        r#"{"id":1,"method":"m","redial":[2]}"#,
        r#"{"id":1,"method":"m","redial":{"attempt":-1}}"#,
        r#"{"id":1,"method":"m","redial":{"attempt":1,"attempt":1}}"#,
    ] {
        assert_eq!(rejection(text).0, -32600, "{text}");
    }
}

#[test]
fn duplicate_members_are_refused_whatever_their_name_and_spelling() {
    for text in [
        r#"{"id":1,"id":1,"method":"m"}"#,
        r#"{"id":1,"method":"m","method":"m"}"#,
        r#"{"id":1,"method":"m","params":[],"params":[]}"#,
        r#"{"id":1,"method":"m","p\u0061rams":[],"params":[]}"#,
        r#"{"id":1,"method":"m","redial":{},"redial":{}}"#,
        r#"{"id":1,"method":"m","jsonrpc":"2.0","jsonrpc":"2.0"}"#,
        r#"{"id":1,"method":"m","other":1,"other":2}"#,
    ] {
        let (code, _, _, detail) = rejection(text);
        assert_eq!(code, -32600, "{text}");
        assert!(detail.ends_with("is there twice"), "{detail}");
    }
}

#[test]
fn a_rejection_is_answered_with_the_id_and_the_dialect_that_could_be_read() {
    let (_, id, dialect, _) = rejection(r#"{"id":7,"method":1}"#);
    assert_eq!((id.as_str(), dialect), ("7", Dialect::Notebook));
    let (_, id, dialect, _) = rejection(r#"{"jsonrpc":"2.0","id":"x","method":1}"#);
    assert_eq!((id.as_str(), dialect), ("\"x\"", Dialect::JsonRpc2));
    let (_, id, dialect, _) = rejection(r#"{"foo":"boo"}"#);
    assert_eq!((id.as_str(), dialect), ("null", Dialect::JsonRpc2));
}

#[test]
fn an_array_in_a_requests_place_is_a_batch() {
    let Ok(Incoming::Batch(batch)) = parse(r#"["2.0", 1, {"method":"m"}]"#) else {
        panic!()
    };
    let entries: Vec<bool> = batch.requests().map(|entry| entry.is_ok()).collect();
    assert_eq!(entries, [false, false, true]);
}

#[test]
fn a_batch_over_the_limit_is_refused_as_a_whole() {
    let limits = Limits {
        max_batch_entries: 2,
        ..Limits::default()
    };
    assert!(Incoming::parse(b"[1,2]", &limits).is_ok());
    let rejection = Incoming::parse(b"[1,2,3]", &limits).unwrap_err();
    assert_eq!(rejection.error.code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn depth_is_counted_outside_strings_and_128_is_the_last_that_passes() {
    let nested = |depth: usize| {
        format!(
            r#"{{"method":"m","params":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(parse(&nested(127)).is_ok());
    assert_eq!(rejection(&nested(128)).0, -32700);
    assert_eq!(rejection(&nested(100_000)).0, -32700);
    let brackets_in_a_string = format!(r#"{{"method":"m","params":["\"{}"]}}"#, "[".repeat(500));
    assert!(parse(&brackets_in_a_string).is_ok());
}

#[test]
fn an_error_never_echoes_more_than_200_bytes() {
    let long = "x".repeat(100_000);
    for text in [
        format!("\"{long}\""),
        format!("{{\"{long}\":1,\"{long}\":2,\"id\":1,\"method\":\"m\"}}"),
        format!("{{\"id\":1,\"method\":\"m\",\"params\":\"{long}\"}}"),
        format!("{{\"id\":1,\"method\":\"m\",\"redial\":{{\"attempt\":\"{long}\"}}}}"),
        format!("{{\"id\":[\"{long}\"],\"method\":\"m\"}}"),
    ] {
        let (_, _, _, detail) = rejection(&text);
        assert!(
            detail.matches('x').count() <= 200,
            "{} bytes of detail",
            detail.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Incoming::parse(&bytes, &Limits::default());
    }

    #[test]
    fn what_is_written_is_read_back(
        id in prop::option::of("[ -~]{1,40}"),
        method in "[ -~]{1,20}",
        params in prop::option::of(prop::collection::vec(any::<i64>(), 0..4)),
        attempt in 1u32..9,
        timeout_ms in prop::option::of(any::<u64>()),
        jsonrpc in any::<bool>(),
    ) {
        let dialect = if jsonrpc { Dialect::JsonRpc2 } else { Dialect::Notebook };
        let id = id.map(|id| serde_json::to_string(&id).unwrap());
        let params = params.map(|params| serde_json::value::to_raw_value(&params).unwrap());
        let meta = RequestMeta { attempt, timeout_ms, ..RequestMeta::default() };
        let mut out = Vec::new();
        let raw = params.as_deref().map(|params| params.get().as_bytes());
        let sent = id.as_deref().map(Into::into);
        write_request(&mut out, dialect, sent, &method, raw, &meta);
        let Ok(Incoming::Request(request)) = Incoming::parse(&out, &Limits::default()) else {
            panic!("not read back: {}", String::from_utf8_lossy(&out));
        };
        prop_assert_eq!(request.dialect, dialect);
        prop_assert_eq!(request.id.map(|id| id.raw().to_owned()), id);
        prop_assert_eq!(&*request.method, method.as_str());
        prop_assert_eq!(request.params, params.as_deref().map(RawValue::get));
        prop_assert_eq!(request.meta, meta);
    }
}
