//! `redial call` against servers of every kind: results, exit codes, reports.

use serde_json::{Value, json};

use crate::world::{
    CounterServer, Door, Folder, OtherServer, command, nowhere, redial, run, run_with_input,
    tls_door,
};

/// Exit codes that say something else than the call's end.
#[test]
fn the_exit_code_says_whether_the_call_was_executed() {
    let server = CounterServer::start();
    let done = server.run(r#"call ADDR inc {"delta":2}"#);
    assert_eq!(
        (done.code, &*done.out, &*done.err),
        (0, "{\"key\":\"k\",\"value\":2}\n", "")
    );
    let failed = server.run("call ADDR fail []");
    assert_eq!((failed.code, &*failed.out), (1, ""));
    assert!(
        failed.err.contains("fail failed") && failed.err.contains("7 not enough"),
        "{failed:?}"
    );
    let unknown_method = server.run("call ADDR none");
    assert_eq!((unknown_method.code, &*unknown_method.out), (3, ""));
    assert!(
        unknown_method.err.contains("none was not executed"),
        "{unknown_method:?}"
    );
    let unknown = server.run("call ADDR hang --deadline 300ms");
    assert_eq!((unknown.code, &*unknown.out), (4, ""));
    assert!(
        unknown.err.contains("hang may have been executed"),
        "{unknown:?}"
    );
    assert!(
        unknown
            .err
            .contains("its token, for --resolve and --resume: {"),
        "{unknown:?}"
    );
    let away = redial(&format!("call {} inc", nowhere()));
    assert_eq!(away.code, 3);
    assert!(
        away.err.contains("cannot connect") && away.err.contains("nothing was executed"),
        "{away:?}"
    );
}

/// Reports that a program can't read.
#[test]
fn with_json_there_is_one_object_however_the_call_ends() {
    let server = CounterServer::start();
    let done = server.run("call ADDR inc --json").json();
    assert_eq!(
        (&done["outcome"], &done["result"]["value"]),
        (&json!("ok"), &json!(1))
    );
    let report = &done["report"];
    assert_eq!(
        (&report["attempts"], &report["hedges"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        (&report["replayed"], &report["endpoint"]),
        (&json!(false), &json!(server.address))
    );
    assert_eq!(report["history"][0]["end"], "reply", "{done}");
    assert_eq!(done["id"].as_str().map(str::len), Some(36), "{done}");
    let failed = server.run("call ADDR fail --json").json();
    assert_eq!(failed["outcome"], "failed");
    assert_eq!(failed["error"]["server"]["code"], 7, "{failed}");
    let unknown = server.run("call ADDR hang --deadline 300ms --json");
    assert_eq!(
        (unknown.code, &unknown.json()["outcome"]),
        (4, &json!("unknown"))
    );
    assert_eq!(unknown.json()["token"]["method"], "hang");
    let away = redial(&format!("call {} inc --json", nowhere()));
    assert_eq!(
        (away.code, &away.json()["outcome"]),
        (3, &json!("not_executed"))
    );
}

#[test]
fn verbose_says_on_stderr_how_it_went() {
    let server = CounterServer::start();
    let run = server.run("call -v ADDR inc");
    assert_eq!(run.out, "{\"key\":\"k\",\"value\":1}\n");
    assert!(
        run.err.starts_with("1 attempt, ") && run.err.contains(&server.address),
        "{run:?}"
    );
    assert!(run.err.contains("attempt 1: sent at"), "{run:?}");
}

/// Params that arrive changed.
#[test]
fn params_come_from_the_command_line_a_file_or_standard_input() {
    let server = CounterServer::start();
    let folder = Folder::new();
    let file = folder.write(
        "params.json",
        "{\n  \"key\": \"file\",\n  \"delta\": 5\n}\n",
    );
    assert_eq!(server.run(&format!("call ADDR inc @{file}")).code, 0);
    assert_eq!(server.value("file"), 5);
    let mut piped = command();
    piped.args(["call", &server.address, "inc", "-"]);
    let run = run_with_input(&mut piped, br#"{"key":"piped","delta":-3}"#);
    assert_eq!((run.code, server.value("piped")), (0, -3), "{run:?}");
    // Numbers that no double holds.
    let echo = OtherServer::of_method("echo", Value::clone);
    let big = "[12345678901234567890,0.1]";
    let run = redial(&format!("call {} echo {big}", echo.address));
    assert_eq!((run.code, run.out.trim()), (0, big));
}

#[test]
fn an_id_makes_two_runs_one_call_and_a_hedge_goes_out_beside() {
    let server = CounterServer::start();
    let id = "2f4d3a1e-58c1-4c39-9a05-0d6a3c8e7b21";
    for _ in 0..2 {
        let run = server.run(&format!("call ADDR inc --id {id} --json"));
        assert_eq!(run.json()["id"], id, "{run:?}");
    }
    assert_eq!(server.value("k"), 1);
    let hedged = server
        .run("call ADDR hang --hedge 20ms --deadline 500ms --json")
        .json();
    assert_eq!(hedged["report"]["hedges"], 1, "{hedged}");
}

/// Servers that know nothing of Redial.
#[test]
fn a_plain_server_is_called_as_it_expects() {
    let plain = OtherServer::of_method("add", |_| json!(3));
    let run = redial(&format!("call {} add [1,2]", plain.address));
    assert_eq!((run.code, &*run.out), (0, "3\n"), "{run:?}");
    // One that doesn't answer what it doesn't know has to be distinguished from the others.
    let mute = OtherServer::start(|request| {
        let reply = json!({"jsonrpc": "2.0", "id": request["id"], "result": 3});
        (request["method"] == "add").then_some(reply)
    });
    let run = redial(&format!("call {} add [1,2] --plain", mute.address));
    assert_eq!((run.code, &*run.out), (0, "3\n"), "{run:?}");
    let request = mute.requests.recv().unwrap();
    assert_eq!(
        (&request["method"], request.get("redial")),
        (&json!("add"), None),
        "{request}"
    );
}

/// Members that a peer of the notebook's dialect doesn't know.
#[test]
fn in_the_notebooks_dialect_a_request_has_three_members() {
    let notebook = OtherServer::start(|request| {
        let members = request.as_object().unwrap().keys();
        let is_right = members.eq(["id", "method", "params"]);
        Some(if is_right {
            json!({"id": request["id"], "result": {"value": 1}})
        } else {
            json!({"id": request["id"], "error": {"code": -32600, "message": "unknown member"}})
        })
    });
    let call = format!(
        "call {} inc {{\"key\":\"k\",\"delta\":1}} --notebook",
        notebook.address
    );
    let run = redial(&format!("{call} --deadline 5s"));
    assert_eq!((run.code, &*run.out), (0, "{\"value\":1}\n"), "{run:?}");
}

/// Kind: an error that names no step which its reader can take. Instances: a server that speaks TLS, and one that
/// hangs up at what it doesn't know.
#[test]
fn what_a_server_is_that_does_not_answer_is_said_in_the_words_of_flags() {
    let folder = Folder::new();
    let server = CounterServer::start_at(tls_door(&folder));
    let tls = server.run("call ADDR inc --deadline 400ms");
    assert_eq!(tls.code, 3, "{tls:?}");
    assert!(tls.err.contains("the first bytes of TLS"), "{tls:?}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for words in [
        "call ADDR inc",
        "call ADDR inc --json",
        "load ADDR inc -n 1",
        "stats ADDR",
    ] {
        let words = words.replace("ADDR", &address);
        let run = redial(&format!("{words} --deadline 400ms"));
        let said = run.out + &run.err;
        assert_eq!(run.code, 3, "{words}: {said}");
        assert!(
            said.contains("needs --plain") || words.starts_with("load"),
            "{words}: {said}"
        );
        assert!(!said.contains("assume_plain"), "{words}: {said}");
    }
}

/// Doors that open for none, or for all.
#[test]
fn tls_and_a_token_open_the_door() {
    let folder = Folder::new();
    let server = CounterServer::start_at(tls_door(&folder));
    let (ca, token) = (folder.path("ca.pem"), folder.path("token"));
    let run = server.run(&format!("call ADDR inc --tls-ca {ca} --token-file {token}"));
    assert_eq!(run.code, 0, "{run:?}");
    let without = server.run(&format!("call ADDR inc --tls-ca {ca}"));
    assert_eq!(without.code, 3, "{without:?}");
    let untrusted = server.run("call ADDR inc --tls");
    assert!(untrusted.code == 3 || untrusted.code == 2, "{untrusted:?}");
    for run in [&without, &untrusted] {
        assert!(!run.err.contains("sesame"), "{run:?}");
    }
    assert_eq!(server.value("k"), 1);
}

#[cfg(unix)]
#[test]
fn a_unix_socket_and_several_addresses_are_addresses() {
    let folder = Folder::new();
    let server = CounterServer::start_at(Door::Unix(folder.0.join("socket")));
    assert_eq!(server.run("call ADDR inc").code, 0);
    let run = server
        .run(&format!("call {},ADDR inc --json", nowhere()))
        .json();
    assert_eq!(
        (&run["outcome"], &run["report"]["endpoint"]),
        (&json!("ok"), &json!(server.address))
    );
}

/// What is said beside the params.
#[test]
fn meta_goes_with_the_call() {
    let peer = OtherServer::start(|request| {
        let session = json!({"session": "123456789abcdef", "table": "t", "lease_ms": 60_000,
            "max_frame": 1_048_576, "max_in_flight": 512});
        let is_hello = request["method"] == "rpc.hello";
        let result = if is_hello {
            session
        } else {
            request["redial"]["meta"].clone()
        };
        Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
    });
    let mut with_meta = command();
    with_meta.args([
        "call",
        &peer.address,
        "who",
        "--meta",
        "tenant=acme",
        "--meta",
        "path=a=b",
    ]);
    let said = json!({"tenant": "acme", "path": "a=b"});
    let run = run(&mut with_meta);
    assert_eq!(serde_json::from_str::<Value>(&run.out).unwrap(), said);
    assert!(peer.requests.try_iter().count() > 0);

    let flags = "--meta tenant=acme --meta path=a=b -n 3 -c 1 --json";
    let load = redial(&format!("load {} who {flags}", peer.address));
    assert_eq!(load.code, 0, "{load:?}");
    let requests = peer.requests.try_iter();
    let calls = requests.filter(|request| request["method"] == "who");
    let metas: Vec<_> = calls.map(|call| call["redial"]["meta"].clone()).collect();
    assert_eq!(metas, [said.clone(), said.clone(), said]);
}
