//! `redial ping`.

use serde_json::json;

use crate::world::{CounterServer, Folder, OtherServer, redial, tls_door};

#[test]
fn pings_are_counted_and_summed_up() {
    let server = CounterServer::start();
    let run = server.run("ping ADDR -c 3 -i 1ms");
    assert_eq!(run.code, 0, "{run:?}");
    let lines: Vec<_> = run.out.lines().collect();
    assert_eq!(lines.len(), 4, "{run:?}");
    assert!(
        lines[0].contains(" ms, \"pong\" from ") && lines[0].ends_with(&server.address),
        "{run:?}"
    );
    assert!(
        lines[3].starts_with("3 sent, 3 answered: min ") && lines[3].contains("p99 "),
        "{run:?}"
    );
    let summary = server.run("ping ADDR -c 2 -i 1ms --json").json();
    assert_eq!(
        (&summary["sent"], &summary["answered"]),
        (&json!(2), &json!(2))
    );
    assert!(
        summary["ms"]["p50"].as_f64() <= summary["ms"]["max"].as_f64(),
        "{summary}"
    );
    let folder = Folder::new();
    let server = CounterServer::start_at(tls_door(&folder));
    let (ca, token) = (folder.path("ca.pem"), folder.path("token"));
    let run = server.run(&format!(
        "ping ADDR -c 1 --tls-ca {ca} --token-file {token}"
    ));
    assert_eq!(run.code, 0, "{run:?}");
}

/// Servers of another make: an error is an answer, silence is not.
#[test]
fn an_error_is_an_answer_and_silence_is_none() {
    let plain = OtherServer::start(|request| Some(OtherServer::no_method(request)));
    let run = redial(&format!("ping {} -c 1", plain.address));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("error -32601"), "{run:?}");
    let notebook = OtherServer::start(|request| Some(json!({"id": request["id"], "result": 1})));
    let run = redial(&format!("ping {} -c 1 --notebook", notebook.address));
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(notebook.requests.recv().unwrap().get("jsonrpc"), None);
    let mute = OtherServer::start(|_| None);
    let run = redial(&format!("ping {} -c 1 --deadline 100ms", mute.address));
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.out.contains("no answer") && run.out.contains("1 sent, 0 answered"),
        "{run:?}"
    );
}
