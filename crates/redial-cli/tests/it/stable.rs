//! What other programs rely on: members of JSON and exit codes that the program has and the README has not,
//! and the other way round.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    decode::{MESSAGES, capture, lines, packet},
    world::{CounterServer, Folder, frame, redial},
};

const README: &str = include_str!("../../README.md");

/// The paths in the table that follows these words.
fn documented(words: &str) -> BTreeSet<String> {
    let (_, rest) = README.split_once(words).expect(words);
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with("| member"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split(" | ").next().unwrap_or_default());
    let paths = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    paths.map(str::to_owned).collect()
}

/// The paths of all that is no object or array, where `*` stands for the names below some, and others are
/// not looked into.
fn printed(values: &[Value], any: &[&str], whole: &[&str]) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, any: &[&str], whole: &[&str], found: &mut BTreeSet<String>) {
        match value {
            _ if whole.contains(&path) => drop(found.insert(path.to_owned())),
            Value::Object(members) => {
                for (name, value) in members {
                    let name = if any.contains(&path) { "*" } else { name };
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(value, &format!("{path}{dot}{name}"), any, whole, found);
                }
            }
            Value::Array(items) => {
                for item in items {
                    walk(item, &format!("{path}[]"), any, whole, found);
                }
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }
    let mut found = BTreeSet::new();
    for value in values {
        walk(value, "", any, whole, &mut found);
    }
    found
}

#[test]
fn the_members_of_a_call_are_those_of_the_readme() {
    let server = CounterServer::start();
    let calls = [
        "call ADDR inc --json",
        "call ADDR fail --json",
        "call ADDR hang --deadline 300ms --json",
        "call 127.0.0.1:1 inc --json",
    ];
    let calls = calls.map(|words| server.run(words).json());
    let whole = ["result", "error.server", "token"];
    let found = printed(&calls, &[], &whole);
    assert_eq!(found, documented("`redial call --json` prints"));
}

#[test]
fn the_members_of_a_ping_and_of_a_load_are_those_of_the_readme() {
    let server = CounterServer::start();
    let ping = server.run("ping ADDR -c 1 --json").json();
    assert_eq!(
        printed(&[ping], &[], &[]),
        documented("`redial ping --json` prints")
    );
    let loads = [
        r#"load ADDR inc {"key":"k"} -n 50 --rate 1000 --verify get --json"#,
        "load ADDR nothing null -n 5 -c 1 --json",
    ];
    let loads = loads.map(|words| server.run(words).json());
    let any = ["attempt_ends", "latency_us", "service_us", "lateness_us"];
    let mut found = printed(&loads, &any, &[]);
    // Null in a closed loop, and without a counter.
    assert!(found.remove("lateness_us") && found.remove("verify"));
    assert_eq!(found, documented("`redial load --json` prints"));
    for word in loads[0]["latency_us"].as_object().unwrap().keys() {
        assert!(README.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn the_members_of_decoded_messages_are_those_of_the_readme() {
    let folder = Folder::new();
    let traced = r#"{"jsonrpc":"2.0","id":1,"method":"a","redial":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}"#;
    let frames = [MESSAGES.map(frame).concat(), frame(traced), frame("{")].concat();
    let file = folder.write("frames", frames);
    let mut members = lines(&redial(&format!("decode {file} --json")).out);
    let packets = [
        packet(5000, 7077, 100, 2, b""),
        packet(5000, 7077, 101, 0x10, &frame(MESSAGES[0])),
    ];
    let file = folder.write("calls.pcap", capture(&packets));
    members.extend(lines(
        &redial(&format!("decode {file} --json --port 7077")).out,
    ));
    let whole = ["id", "params", "result", "error.data"];
    let found = printed(&members, &[], &whole);
    assert_eq!(found, documented("`redial decode --json` prints"));
}

#[test]
fn the_members_of_rules_and_settings_are_those_of_the_readme() {
    let (server, folder) = (CounterServer::start(), Folder::new());
    let rules = [
        "faults add ADDR drop-reply -p 0.1 --method get --json",
        "faults add ADDR delay-reply --delay 1ms..5ms --json",
        "faults add ADDR cut --at mid-reply --json",
    ];
    let rules = rules.map(|words| server.run(words).json());
    let found = printed(&rules, &[], &["rules[].delay"]);
    assert_eq!(found, documented("`redial faults --json` prints"));
    let file = folder.write(
        "config.toml",
        "profile = \"dev\"\n[profiles.dev]\naddress = \"a:1\"\n",
    );
    let config = redial(&format!("config --json --config {file}")).json();
    let found = printed(&[config], &["settings"], &[]);
    assert_eq!(found, documented("`redial config --json` prints"));
}

/// What a server counts stands where the protocol is described.
#[test]
fn the_members_of_stats_are_those_of_the_protocol() {
    let server = CounterServer::start();
    server.run("call ADDR inc");
    server.run("call ADDR nothing");
    let stats = server.run("stats ADDR --json").json();
    let protocol = include_str!("../../../redial-protocol/PROTOCOL.md");
    let (_, described) = protocol.split_once("### `rpc.stats`").unwrap();
    let (described, _) = described.split_once("\n### ").unwrap();
    for name in stats.as_object().unwrap().keys() {
        assert!(described.contains(&format!("`{name}`")), "{name}: {stats}");
    }
}

#[test]
fn the_exit_codes_of_each_help_are_those_of_the_readme() {
    let mut seen = 0;
    for command in [
        "call", "ping", "load", "stats", "discover", "decode", "faults",
    ] {
        let help = redial(&format!("{command} --help")).out;
        let (_, codes) = help.split_once("Exit codes: ").expect(command);
        let codes = codes.split_whitespace().collect::<Vec<_>>().join(" ");
        let row = format!("| `redial {command}` | {codes} |");
        assert!(README.contains(&row), "expected in the README: {row}");
        seen += 1;
    }
    assert_eq!(seen, 7);
}
