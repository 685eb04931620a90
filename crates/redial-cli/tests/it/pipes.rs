//! Readers that have seen enough.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::json;

use crate::world::{OtherServer, command};

/// Kind: a program that goes on though what it prints is not read any more. Instances: what prints again and
/// again, as in `redial ping | head -1`.
#[test]
fn what_prints_again_and_again_ends_when_its_reader_is_gone() {
    const TIMES: &str = "2000";
    for words in [
        &["ping", "ADDR", "-i", "1ms", "-c", TIMES][..],
        &["stats", "ADDR", "-w", "--every", "1ms", "-n", TIMES],
        &[
            "stats", "ADDR", "-w", "--every", "1ms", "-n", TIMES, "--json",
        ],
    ] {
        let server = OtherServer::start(|request| {
            Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": {"awake_ms": 5}}))
        });
        let words = words.iter().map(|word| match *word {
            "ADDR" => &*server.address,
            word => word,
        });
        let mut program = command();
        let program = program.args(words).arg("--plain").stdout(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        assert!(out.read_line(&mut String::new()).unwrap() > 0);
        drop(out);
        let code = child.wait().unwrap().code();
        let asked = server.requests.try_iter().count();
        assert_eq!(code, Some(0), "{program:?}");
        assert!(asked < 2000, "{program:?} asked {asked} times");
    }
}
