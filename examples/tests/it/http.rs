//! What a server says to those that look after it: not there, not so, or to the wrong ones.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A server with an address for probes.
struct Probed {
    child: Child,
    address: String,
    http: String,
}

impl Drop for Probed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counter-server"));
    command.args(flags.split_whitespace());
    command
}

impl Probed {
    fn start(flags: &str) -> Self {
        let mut command = program(&format!("--listen 127.0.0.1:0 --http 127.0.0.1:0 {flags}"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |before| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(before).expect("an address").to_owned()
        };
        Self {
            address: address("listening on "),
            http: address("http on "),
            child,
        }
    }

    /// The status and the body of an answer.
    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut io = TcpStream::connect(&self.http).unwrap();
        io.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        io.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path)
    }

    fn client(&self, flags: &str) -> Command {
        let mut client = Command::new(env!("CARGO_BIN_EXE_counter-client"));
        client
            .args(["--connect", &self.address])
            .args(flags.split_whitespace());
        client
    }
}

/// The value of the one series of this name whose labels have these words.
fn value(metrics: &str, name: &str, words: &[&str]) -> f64 {
    let is_it = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| {
            rest.starts_with(['{', ' ']) && words.iter().all(|word| rest.contains(word))
        })
    };
    let found: Vec<_> = metrics.lines().filter(is_it).collect();
    let [line] = found[..] else {
        panic!("{name} {words:?}: {found:?} of\n{metrics}");
    };
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Kind: numbers that are not those of what has happened. Instance: 200 calls, some of whose replies are lost.
#[test]
fn what_has_happened_is_in_the_metrics() {
    let server = Probed::start("--drop-reply 0.2 --seed 5");
    let hasty =
        "--calls 200 --concurrency 4 --attempt-timeout-ms 50 --backoff-ms 2 --max-attempts 1000";
    assert!(server.client(hasty).output().unwrap().status.success());
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200);
    let inc = "rpc_method=\"inc\"";
    let of = |name: &str| value(&metrics, name, &[inc]);
    assert_eq!(of("rpc_server_call_duration_seconds_count"), 200.0);
    assert!(of("redial_server_replays_total") > 10.0);
    assert_eq!(of("redial_server_joins_total"), 0.0);
    let page = include_str!("../../../crates/METRICS.md");
    for line in metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(page.contains(&format!("| `{name}` | {kind}")), "{line}");
    }
    // The buckets begin at 50 us.
    let first = value(
        &metrics,
        "rpc_server_call_duration_seconds_bucket",
        &[inc, "le=\"0.00005\""],
    );
    let all = value(
        &metrics,
        "rpc_server_call_duration_seconds_bucket",
        &[inc, "le=\"+Inf\""],
    );
    assert!(first <= all && all == 200.0, "{first}, {all}");
    assert_eq!(
        value(&metrics, "redial_server_connections", &[]).fract(),
        0.0
    );
}

/// Kind: a server that is given calls which it will refuse, or is killed while it works. Instance: it drains.
#[cfg(unix)]
#[test]
fn a_server_that_drains_is_alive_and_not_ready() {
    let mut server = Probed::start("--delay-ms 3000");
    assert_eq!(server.get("/livez"), (200, "alive\n".to_owned()));
    assert_eq!(server.get("/readyz"), (200, "ready\n".to_owned()));
    let mut client = server
        .client("--calls 1 --attempt-timeout-ms 9000")
        .spawn()
        .unwrap();
    // The call runs when the server holds a record of it.
    while value(&server.get("/metrics").1, "redial_server_in_flight", &[]) == 0.0 {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while server.get("/readyz").0 == 200 {
        std::thread::yield_now();
    }
    let (status, why) = server.get("/readyz");
    assert_eq!((status, &*why), (503, "the server is shutting down\n"));
    assert_eq!(server.get("/livez").0, 200);
    assert!(client.wait().unwrap().success());
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn what_is_not_there_and_what_is_not_asked_for_is_said() {
    let server = Probed::start("");
    let (status, text) = server.get("/");
    assert_eq!(
        (status, &*text),
        (404, "there is /livez, /readyz, /metrics here\n")
    );
    assert_eq!(server.ask("POST", "/metrics").0, 405);
    assert_eq!(server.ask("HEAD", "/livez"), (200, String::new()));
}

/// Kind: numbers that any machine reads, and settings that are passed over in silence.
#[test]
fn what_makes_no_sense_ends_with_2_and_names_its_place() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let file = format!("{folder}/http-wrong.toml");
    std::fs::write(&file, "max-runing = 7\n").unwrap();
    for (flags, words) in [
        (
            "--http 0.0.0.0:0".to_owned(),
            "--http: other machines can reach 0.0.0.0:0",
        ),
        (
            "--http localhost:1".to_owned(),
            "expected an IP address and a port",
        ),
        (
            "--config /nope.toml".to_owned(),
            "cannot read --config /nope.toml",
        ),
        (
            format!("--config {file}"),
            "there is no setting \"max-runing\"",
        ),
    ] {
        let output = program(&flags).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags}: {text}");
        assert!(text.contains(words), "{flags}: {text}");
    }
    let mut command = program("--listen 127.0.0.1:0");
    let output = command
        .env("REDIAL_SERVER_MAX_RUNNING", "none")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--max-running"), "{text}");
}

/// Kind: a setting that holds and is not the one in the file. Instance: faults that are read again on SIGHUP.
#[cfg(unix)]
#[test]
fn a_file_says_what_the_flags_do_not_and_its_faults_are_read_again() {
    let file = format!("{}/http-faults.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&file, "drop-request = 1.0\nmax_running = 7\n").unwrap();
    let server = Probed::start(&format!("--config {file}"));
    let once = "--calls 1 --attempt-timeout-ms 50 --max-attempts 2 --deadline-ms 300";
    assert!(!server.client(once).output().unwrap().status.success());
    std::fs::write(&file, "").unwrap();
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let patient = "--calls 1 --attempt-timeout-ms 50 --max-attempts 1000 --deadline-ms 20000";
    assert!(server.client(patient).output().unwrap().status.success());
}
