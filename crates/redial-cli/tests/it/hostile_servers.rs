//! Servers that send what no server should.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener},
    thread,
};

use serde_json::{Value, json};

use crate::world::{OtherServer, command, frame, redial, run_with_input};

/// What clears a screen, names a window, and writes from right to left.
const OBEYED: &str = "x\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}1m\u{202e}";

/// Kind: a server that writes to the terminal of who calls it. Instances: every text of a server's that a command
/// shows to people.
#[test]
fn what_a_server_says_moves_no_cursor() {
    let failing = OtherServer::start(|request| {
        let error = json!({"code": 7, "message": OBEYED, "data": {"detail": OBEYED}});
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "error": error}))
    });
    let saying = OtherServer::start(|request| {
        let result = match request["method"].as_str()? {
            "rpc.stats" => json!({"awake_ms": 1, "slowest": [
                {"method": OBEYED, "count": 1, "mean_us": 1, "max_us": 1}
            ]}),
            "rpc.health" => json!({"ready": false, "why": OBEYED}),
            "rpc.faults" => json!({"rules": [{"fault": OBEYED, "method": OBEYED, "at": OBEYED}]}),
            "rpc.discover" => json!({"info": {"title": OBEYED}, "methods": [
                {"name": OBEYED, "summary": OBEYED, "result": {"schema": {"title": OBEYED}}}
            ]}),
            _ => json!({}),
        };
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
    });
    let mut shown = Vec::new();
    for words in [
        "call ADDR m",
        "call ADDR m -v",
        "ping ADDR -c 1",
        "stats ADDR",
        "discover ADDR",
        "faults list ADDR",
        "load ADDR m -n 2",
    ] {
        shown.push(redial(
            &format!("{words} --plain").replace("ADDR", &failing.address),
        ));
    }
    for words in [
        "stats ADDR",
        "stats ADDR -w -n 1",
        "faults list ADDR",
        "discover ADDR",
        "discover ADDR --markdown",
        "discover ADDR --rust",
    ] {
        shown.push(redial(
            &format!("{words} --plain").replace("ADDR", &saying.address),
        ));
    }
    let message = json!({"jsonrpc": "2.0", "method": OBEYED, "id": OBEYED});
    shown.push(run_with_input(
        command().arg("decode"),
        &frame(&message.to_string()),
    ));
    for run in shown {
        let text = run.out + &run.err;
        assert!(text.contains('x'), "nothing is shown");
        for char in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'] {
            assert!(!text.contains(char), "{char:?} in {text:?}");
        }
    }
}

/// A server that answers whatever it is sent with these bytes, and hangs up.
fn answering(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let bytes = bytes.clone();
            thread::spawn(move || {
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(&bytes);
                let _ = connection.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

/// Kind: a program that panics, or does not end, for what a server sends. Instances: bytes that are no frame, frames
/// that are no message, messages that answer nothing, and no bytes at all.
#[test]
fn whatever_a_server_sends_a_command_ends_with_a_code_of_its_own() {
    let answers: [Vec<u8>; 7] = [
        Vec::new(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![0, 0, 0, 9, b'{'],
        frame("[[[["),
        frame(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":5}}"#),
        frame(r#"{"jsonrpc":"2.0","id":[],"result":{}}"#),
    ];
    for answer in answers {
        let address = answering(answer.clone());
        for (words, codes) in [
            ("call ADDR m", &[3, 4][..]),
            ("ping ADDR -c 1", &[1, 3]),
            ("stats ADDR", &[3]),
            ("discover ADDR", &[1, 3]),
            ("faults list ADDR", &[3, 4]),
            ("load ADDR m -n 3 -c 2", &[3, 4]),
        ] {
            let words = words.replace("ADDR", &address);
            let run = redial(&format!("{words} --deadline 200ms"));
            assert!(codes.contains(&run.code), "{answer:?}: {words}: {run:?}");
        }
    }
}

/// Kind: a result of another shape than expected. Instances: the server's own methods.
#[test]
fn results_of_any_shape_are_read_as_far_as_they_go() {
    for result in [
        json!(null),
        json!([1, [2]]),
        json!({"rules": [1, {}]}),
        json!("text"),
        json!({"methods": [1, {"name": 5}, {"name": "m", "params": {}, "result": []}]}),
    ] {
        let shown: Value = result.clone();
        let server = OtherServer::start(move |request| {
            Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
        });
        for words in [
            "stats ADDR",
            "stats ADDR -w -n 2 --every 1ms",
            "discover ADDR",
            "discover ADDR --rust",
            "discover ADDR --markdown",
            "faults list ADDR",
            "ping ADDR -c 1",
            "load ADDR m -n 2 --verify v",
        ] {
            let run = redial(&format!("{words} --plain").replace("ADDR", &server.address));
            assert!([0, 1, 3].contains(&run.code), "{shown}: {words}: {run:?}");
        }
    }
}
