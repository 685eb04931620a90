//! `redial discover`.

use serde_json::{Value, json};

use crate::{
    generated,
    world::{CounterServer, OtherServer, redial},
};

#[test]
fn the_methods_are_shown_in_each_form() {
    let server = CounterServer::start();
    let table = server.run("discover ADDR");
    assert_eq!(table.code, 0, "{table:?}");
    assert!(
        table.out.starts_with("counters 7, 4 methods\n\nMETHOD"),
        "{table:?}"
    );
    let is_row = |line: &str, row: [&str; 2]| line.split_whitespace().take(2).eq(row);
    for row in [["inc", "mutation"], ["get", "query"]] {
        assert!(
            table.out.lines().any(|line| is_row(line, row)),
            "{row:?}: {table:?}"
        );
    }
    let document = server.run("discover ADDR --json").json();
    assert!(document["openrpc"].is_string(), "{document}");
    let page = server.run("discover ADDR --markdown").out;
    assert!(
        page.starts_with("# counters 7\n") && page.contains("\n## `inc`\n"),
        "{page}"
    );
    let module = server.run("discover ADDR --rust").out;
    assert!(
        module.contains("impl Method for Get {\n    const NAME: &'static str = \"get\";"),
        "{module}"
    );
}

/// Documents with schemas, and servers without a document.
#[test]
fn a_document_of_another_server_is_shown_as_it_is() {
    let text = r#"{"openrpc":"1.4.0","info":{"title":"t","version":"1"},"methods":[{"name":"add","x-redial":{"kind":"mutation","resumable":true},"params":[{"name":"by","required":true,"schema":{"type":"integer"}}],"result":{"name":"sum","schema":{"type":"integer"}}}],"z":1.0,"a":2}"#;
    let document: Value = serde_json::from_str(text).unwrap();
    let server = OtherServer::of_method("rpc.discover", move |_| document.clone());
    let run = redial(&format!("discover {}", server.address));
    assert!(
        run.out
            .contains("add     mutation, resumable  by: integer  integer\n"),
        "{run:?}"
    );
    let run = redial(&format!("discover {} --json", server.address));
    assert_eq!(run.json(), serde_json::from_str::<Value>(text).unwrap());
    let nothing = OtherServer::start(|request| Some(OtherServer::no_method(request)));
    let run = redial(&format!("discover {}", nothing.address));
    assert_eq!((run.code, &*run.out), (1, ""), "{run:?}");
    assert!(run.err.contains("-32601"), "{run:?}");
    let odd = OtherServer::start(|request| {
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": [1]}))
    });
    let run = redial(&format!("discover {} --plain", odd.address));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("no OpenRPC document"), "{run:?}");
}

/// Types that don't compile, or don't read what the server sends.
#[test]
fn the_types_for_a_client_are_those_that_are_compiled_here() {
    let document: Value = serde_json::from_str(include_str!("counter.openrpc.json")).unwrap();
    let server = OtherServer::of_method("rpc.discover", move |_| document.clone());
    let run = redial(&format!("discover {} --rust", server.address));
    assert_eq!(run.out, include_str!("generated.rs"));
    let value = json!({"value": 1, "pair": ["a", true], "colour": "dark-blue",
        "next": {"value": 2, "pair": ["b", false], "maxValue": 18_446_744_073_709_551_615_u64}});
    let counter: generated::Counter = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(counter.colour, Some(generated::Colour::DarkBlue));
    assert_eq!(serde_json::to_value(counter).unwrap(), value);
    assert_eq!(<generated::SumOf as redial::Method>::NAME, "sum.of");
}
