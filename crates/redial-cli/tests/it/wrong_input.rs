//! Wrong flags and bad input: the flag is named, with what would be right, and nothing is sent.

use crate::world::{Folder, OtherServer, command, refuses, run};

/// Errors that leave a user without the next step.
#[test]
fn wrong_input_names_the_flag_and_what_would_be_right() {
    let server = OtherServer::start(|_| None);
    let folder = Folder::new();
    let text = folder.write("text", "no JSON");
    let unknown = folder.write("unknown.toml", "[profiles.a]\nadress = \"b:1\"\n");
    let wrong = folder.write(
        "wrong.toml",
        "[profiles.a]\naddress = \"b:1\"\ndeadline = 5\n[profiles.c]\ntls_ca = \"\"\n",
    );
    for (words, named, right) in [
        (
            "call ADDR",
            "METHOD is missing",
            "redial call [ADDR] METHOD [PARAMS]",
        ),
        ("call host inc {}", "ADDR is \"host\"", "HOST:PORT"),
        ("call host:0 inc", "ADDR is \"host:0\"", "from 1 to 65535"),
        ("call ADDR inc 7", "PARAMS", "an object or an array"),
        ("call ADDR inc {", "PARAMS", "an object or an array"),
        (
            "call host inc",
            "\"host\" was taken for METHOD",
            "ADDR would have a colon",
        ),
        (
            "call ADDR inc @none.json",
            "PARAMS, the file none.json",
            "nothing was sent; expected",
        ),
        (
            "call ADDR inc --deadline -1s",
            "--deadline",
            "such as 250ms",
        ),
        ("ping ADDR --interval -5ms", "--interval", "such as 250ms"),
        ("load ADDR inc --ramp -1:2:3s", "--ramp", "FROM:TO:TIME"),
        (
            "faults add ADDR delay-reply --delay -1ms",
            "--delay",
            "120ms",
        ),
        (
            "call ADDR inc @TEXT",
            "PARAMS, the file",
            "an object or an array",
        ),
        (
            "call ADDR inc --deadline 5",
            "--deadline",
            "such as 250ms, 5s or 2m",
        ),
        (
            "call ADDR inc --attempts 0",
            "--attempts",
            "a whole number from 1",
        ),
        (
            "call ADDR inc --attempts -1",
            "--attempts",
            "a whole number from 1",
        ),
        ("call ADDR inc --id 7", "--id", "expected a UUID"),
        ("call ADDR inc --meta tenant", "--meta", "KEY=VALUE"),
        (
            "call ADDR inc --meta a=b --plain",
            "--meta",
            "expected none with --plain or --notebook",
        ),
        (
            "call ADDR --resolve TEXT --meta a=b",
            "--meta",
            "cannot be used with",
        ),
        (
            "call ADDR --resolve TEXT --hedge 1s",
            "--hedge",
            "cannot be used with",
        ),
        ("call ADDR inc --hedge p95", "--hedge", "such as 250ms"),
        (
            "call ADDR inc --forget",
            "--forget",
            "--resolve or --resume",
        ),
        ("call ADDR inc --resolve TEXT", "METHOD", "ADDR alone"),
        (
            "call ADDR --resolve TEXT",
            "--resolve",
            "what --save-token wrote",
        ),
        (
            "call ADDR --resolve none.token",
            "--resolve none.token",
            "nothing was sent; expected the file that --save-token wrote",
        ),
        (
            "call ADDR --resume none.token",
            "--resume none.token",
            "nothing was sent; expected the file that --save-token wrote",
        ),
        (
            "call ADDR inc --save-token TEXT",
            "--save-token",
            "a new file",
        ),
        ("call ADDR inc --tls-cert TEXT", "--tls-cert", "--tls-key"),
        (
            "call ADDR inc --tls-name a",
            "--tls-name",
            "--tls-ca or --tls",
        ),
        ("call ADDR inc --tls-ca none.pem", "--tls-ca", "none.pem"),
        ("call ADDR inc --token-file none", "--token-file", "none"),
        ("call ADDR,b:1 inc --dns", "--dns", "one address"),
        ("call @prod inc", "@prod", "profile"),
        ("ping ADDR --count 0", "--count", "a whole number from 1"),
        ("ping ADDR -c -1", "--count", "a whole number from 1"),
        ("ping ADDR --interval soon", "--interval", "such as 250ms"),
        ("ping ADDR --attempts 2", "--attempts", "expected none"),
        (
            "faults clear ADDR --attempts 2",
            "--attempts",
            "expected none",
        ),
        ("faults add ADDR", "FAULT is missing", "drop-request"),
        ("faults add ADDR drop", "FAULT is \"drop\"", "drop-reply"),
        ("faults add ADDR cut -p 2", "--probability", "from 0 to 1"),
        ("faults add ADDR delay-reply", "--delay", "both or neither"),
        ("faults add ADDR delay-reply --delay 5", "--delay", "120ms"),
        (
            "faults add ADDR delay-reply --delay 5ms..1ms",
            "--delay",
            "1ms..5ms",
        ),
        ("faults add ADDR cut --at once", "--at", "mid-reply"),
        ("discover ADDR --json --rust", "--json", "--rust"),
        ("decode none.pcap", "FILE, none.pcap", "No such file"),
        ("decode TEXT --port 0", "--port", "from 1 to 65535"),
        (
            "decode TEXT --port 7",
            "no capture",
            "expected one with --port",
        ),
        (
            "config --config none.toml",
            "--config none.toml",
            "no such file; expected one in TOML",
        ),
        ("load ADDR inc {", "PARAMS", "expected JSON"),
        (
            "config --config UNKNOWN",
            "profiles.a.adress",
            "expected one of address, dns",
        ),
        (
            "config --config WRONG --profile a",
            "profiles.a.deadline",
            "such as 250ms",
        ),
        (
            "config --config WRONG --profile b",
            "--profile",
            "expected one of a, c",
        ),
        (
            "config --config WRONG --profile c",
            "profiles.c.tls_ca",
            "expected the path of a file",
        ),
        ("man none", "COMMAND", "call, ping"),
        ("completions none", "<SHELL>", "bash"),
    ] {
        let words = words
            .replace("ADDR", &server.address)
            .replace("TEXT", &text);
        let words = words.replace("UNKNOWN", &unknown).replace("WRONG", &wrong);
        refuses(&words, [named, right]);
    }
    // What is empty is no name and no path.
    for (flag, word, named) in [
        ("call", "", "METHOD is \"\""),
        ("load", "", "METHOD is \"\""),
        ("load", "inc", "--html"),
    ] {
        let words = [flag, &server.address, word, "{}"];
        let html = (!word.is_empty()).then_some(["-n", "1", "--html", ""]);
        let run = run(command().args(words).args(html.iter().flatten()));
        assert_eq!((run.code, &*run.out), (2, ""), "{words:?}: {run:?}");
        assert!(run.err.contains(named), "{words:?}: {run:?}");
        assert!(run.err.contains("expected"), "{words:?}: {run:?}");
    }
    assert!(server.requests.try_recv().is_err(), "something was sent");
}
