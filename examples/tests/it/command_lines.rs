//! Flags that each are right and together are not, and what a program does that the system gives nothing.

use std::process::Command;

const SERVER: &str = env!("CARGO_BIN_EXE_counter-server");
const CLIENT: &str = env!("CARGO_BIN_EXE_counter-client");

/// Runs a program that ends by itself: its exit code, and what it says on stderr.
fn run(limit: &str, program: &str, flags: &str) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" {flags}")])
        .arg(program)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Kind: flags whose meaning together is nothing, or the loss of what one of them says.
#[test]
fn flags_that_make_no_sense_together_are_refused() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let log = format!("{folder}/one.log");
    for (program, flags, words) in [
        (CLIENT, "--key-per-call x --delta 0".to_owned(), "--delta 0"),
        (CLIENT, "--events /nope/x".to_owned(), "--events /nope/x"),
        (SERVER, "--events /nope/x".to_owned(), "--events /nope/x"),
        (SERVER, format!("--ledger {log} --events {log}"), "one file"),
        (
            SERVER,
            format!("--ledger {log} --events {folder}/./one.log"),
            "one file",
        ),
        (SERVER, format!("--store {log} --events {log}"), "one file"),
        (
            SERVER,
            "--server-lease-ms 5000".to_owned(),
            "--store <FILE|URL>",
        ),
        (
            SERVER,
            format!("--server-lease-ms 5000 --store {folder}/lease.db"),
            "--server-lease-ms is for a database",
        ),
        (SERVER, "--listen 0.0.0.0:0".to_owned(), "0.0.0.0:0 "),
        (SERVER, "--listen [::]:0".to_owned(), "[::]:0 "),
    ] {
        let (code, text) = run("", program, &flags);
        assert_eq!(code, Some(2), "{flags}: {text}");
        assert!(text.contains(words), "{flags}: {text}");
    }
}

/// Kind: a file that makes a program fail in its own words. Instances: both clients in Python with a token
/// that is no text; neighbour: the client in Rust.
#[test]
fn a_token_file_that_is_no_text_is_refused_with_its_name() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let file = format!("{folder}/binary.token");
    std::fs::write(&file, b"\xff\xfe\x00").unwrap();
    let script = |name| format!("{}/{name} --token-file {file}", env!("CARGO_MANIFEST_DIR"));
    let mut programs = vec![(CLIENT, format!("--token-file {file}"))];
    if Command::new("python3").arg("--version").output().is_ok() {
        programs.push(("python3", script("counter_client.py")));
        programs.push(("python3", script("session_client.py")));
    }
    for (program, flags) in programs {
        let (code, text) = run("", program, &flags);
        assert_eq!(code, Some(2), "{flags}: {text}");
        let is_clear = text.contains(&format!("--token-file {file}"));
        assert!(is_clear && !text.contains("Traceback"), "{flags}: {text}");
    }
}

/// Kind: a panic where the system refuses something. Instance: descriptors for the runtime.
#[cfg(unix)]
#[test]
fn without_descriptors_a_program_says_so_and_does_not_panic() {
    for (program, flags) in [
        (CLIENT, "--connect 127.0.0.1:9 --deadline-ms 50"),
        (SERVER, "--listen 192.0.2.1:0 --insecure"),
    ] {
        for limit in 4..16 {
            let (code, text) = run(&format!("ulimit -n {limit}; "), program, flags);
            assert!(!text.contains("panicked"), "{limit}: {text}");
            assert_ne!(code, Some(0), "{limit}: {text}");
            // Below that not even the program can be loaded.
            let is_clear = text.contains("ulimit -n");
            assert!(
                limit > 11 || is_clear || code == Some(127),
                "{limit} {code:?}: {text}"
            );
        }
    }
}
