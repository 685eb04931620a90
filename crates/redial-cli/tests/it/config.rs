//! `redial config`, and where settings come from.

use crate::world::{CounterServer, Folder, command, run};

const FILE: &str = r#"
profile = "dev"

[profiles.dev]
address = "127.0.0.1:1"
attempts = 7

[profiles.prod]
address = "127.0.0.1:2"
tls_ca = "ca.pem"
deadline = "3s"
"#;

/// A setting that is taken from the wrong place.
#[test]
fn a_flag_counts_before_the_environment_that_before_the_profile_and_that_before_the_default() {
    let folder = Folder::new();
    let file = folder.write("config.toml", FILE);
    let show = |words: &[&str], variables: &[(&str, &str)]| {
        let mut config = command();
        config
            .args(["config", "--json", "--config", &file])
            .args(words);
        run(config.envs(variables.iter().copied())).json()
    };
    let of = |shown: &serde_json::Value, name: &str| {
        let text = |what: &str| {
            shown["settings"][name][what]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (text("value"), text("from"))
    };
    let dev = format!("profile dev in {file}");
    let prod = format!("profile prod in {file}");
    let shown = show(&[], &[]);
    assert_eq!(of(&shown, "address"), ("127.0.0.1:1".into(), dev.clone()));
    assert_eq!(of(&shown, "attempts"), ("7".into(), dev));
    assert_eq!(of(&shown, "deadline"), ("10s".into(), "default".into()));
    let shown = show(
        &["@prod", "--attempts", "2"],
        &[("REDIAL_ADDRESS", "c:3"), ("REDIAL_DEADLINE", "1s")],
    );
    assert_eq!(of(&shown, "address"), ("127.0.0.1:2".into(), prod.clone()));
    assert_eq!(of(&shown, "tls_ca"), (folder.path("ca.pem"), prod));
    assert_eq!(
        of(&shown, "deadline"),
        ("1s".into(), "REDIAL_DEADLINE".into())
    );
    assert_eq!(of(&shown, "attempts"), ("2".into(), "flag".into()));
    let shown = show(
        &["--deadline", "9s"],
        &[("REDIAL_PROFILE", "prod"), ("REDIAL_ADDRESS", "c:3")],
    );
    assert_eq!(
        of(&shown, "address"),
        ("c:3".into(), "REDIAL_ADDRESS".into())
    );
    assert_eq!(of(&shown, "deadline"), ("9s".into(), "flag".into()));
    assert_eq!(shown["profile"], "prod");
    let shown = show(&["d:4"], &[("REDIAL_ADDRESS", "c:3")]);
    assert_eq!(of(&shown, "address"), ("d:4".into(), "ADDR".into()));
}

/// Kind: a setting that is passed over in silence, so that another server is called. Instance: one that is no text.
#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let address = OsStr::from_bytes(b"\xff");
    let run = run(command().arg("config").env("REDIAL_ADDRESS", address));
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("REDIAL_ADDRESS is "), "{run:?}");
}

#[test]
fn the_file_in_its_usual_place_is_found_and_calls_go_by_it() {
    let server = CounterServer::start();
    let folder = Folder::new();
    std::fs::create_dir_all(folder.0.join(".config/redial")).unwrap();
    let text = format!("[profiles.here]\naddress = {:?}\n", server.address);
    let file = folder.write(".config/redial/config.toml", text);
    let at_home = |words: &str| {
        let mut program = command();
        run(program
            .env("HOME", &folder.0)
            .args(words.split_whitespace()))
    };
    assert_eq!(at_home("call @here inc").code, 0);
    assert_eq!(at_home("call inc --profile here").code, 0);
    assert_eq!(server.value("k"), 2);
    let shown = at_home("config @here");
    assert_eq!(shown.code, 0, "{shown:?}");
    let row = |line: &str| {
        line.split_whitespace()
            .take(3)
            .eq(["address", &*server.address, "profile"])
    };
    assert!(shown.out.lines().any(row), "{shown:?}");
    assert!(shown.out.contains(&format!(
        "in force: profile here; {file}, with the profiles here"
    )));
    let shown = run(command().arg("config"));
    assert!(
        shown
            .out
            .contains("no configuration file at /nonexistent/.config/redial"),
        "{shown:?}"
    );
}
