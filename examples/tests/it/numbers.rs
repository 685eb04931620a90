//! Every number that a flag takes has a range: what is beyond it is refused, by the flag's name and
//! with the range, and both of its ends work. No program panics, whatever it is given.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Output, Stdio},
    sync::LazyLock,
    time::Duration,
};

/// What a range is easily forgotten for.
const HOSTILE: [&str; 8] = [
    "0",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "NaN",
    "many",
    "1_000",
    " 7",
];

/// How long a program runs before it counts as working.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it has to refuse what it can't take: on a machine with other work an interpreter alone
/// takes a second to start.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(60);

/// How programs call the numbers in their help.
const NUMBERS: [&str; 8] = ["N", "D", "F", "P", "S", "MS", "MS:SHAPE", "PERCENT"];

struct Program {
    command: fn() -> Option<Command>,
    /// Flags that let it end soon, unless they are what is tried.
    base: Vec<(&'static str, String)>,
    run: fn(Command, Duration) -> Ended,
}

#[derive(Debug)]
enum Ended {
    Ran,
    /// With exit code 2, and these words.
    Refused(String),
}

impl Program {
    /// The flags that take numbers.
    fn flags(&self) -> Vec<String> {
        let help = (self.command)()
            .expect("it is there")
            .arg("--help")
            .output();
        let help = String::from_utf8(help.expect("it says how to use it").stdout);
        let mut flags: Vec<_> = help.expect("text").lines().filter_map(flag_of).collect();
        flags.sort();
        flags.dedup();
        flags
    }

    fn given(&self, flag: &str, value: &str, patience: Duration) -> Ended {
        let mut command = (self.command)().expect("it is there");
        let others = self.base.iter().filter(|(name, _)| *name != flag);
        command.args(others.map(|(name, value)| format!("{name}={value}")));
        command.arg(format!("{flag}={value}"));
        (self.run)(command, patience)
    }

    /// Gives every flag every hostile number, and both ends of its range.
    fn try_all(&self, at_least: usize) {
        let flags = self.flags();
        assert!(flags.len() >= at_least, "{flags:?}");
        for flag in &flags {
            for value in HOSTILE {
                if let Ended::Refused(text) = self.given(flag, value, PATIENCE) {
                    assert!(text.contains(flag), "{flag}={value}: {text}");
                    let has_range = text.contains("expected ") && ends(&text).is_some();
                    assert!(has_range, "{flag}={value}: {text}");
                }
            }
            let Ended::Refused(text) = self.given(flag, "many", REFUSAL_PATIENCE) else {
                panic!("{flag} takes any word");
            };
            let (least, most) = ends(&text).expect("a range");
            // Of two numbers, as in MS:SHAPE, the ranges of both are named, and this is no end.
            for end in [least, most] {
                let ended = self.given(flag, &end, PATIENCE);
                let is_pair = text.contains("MS:SHAPE");
                let is_taken = match &ended {
                    Ended::Ran => true,
                    // The number is taken, and what it is for is missing.
                    Ended::Refused(text) => text.contains("were not provided"),
                };
                assert!(is_pair || is_taken, "{flag}={end}: {ended:?}");
            }
        }
    }
}

/// `--calls` of a line such as `      --calls <N>`, or `  --calls N  how many`.
fn flag_of(line: &str) -> Option<String> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| !word.starts_with("--"));
    let flag = words.next()?;
    let value = words.next()?.trim_matches(['<', '>']);
    NUMBERS.contains(&value).then(|| flag.to_owned())
}

/// The ends of the range in `expected a whole number from 1 to 64`.
fn ends(text: &str) -> Option<(String, String)> {
    let (least, rest) = text.split_once(" from ")?.1.split_once(" to ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || "-.".contains(c)));
    let most = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
    least.parse::<f64>().ok()?;
    Some((least.to_owned(), most.to_owned()))
}

fn refused_or_ran(output: &Output) -> Ended {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(is_calm(&text), "{text}");
    match output.status.code() {
        Some(2) => Ended::Refused(text),
        // With 1, calls were not in time, or the system had no room for so much.
        Some(0 | 1) => Ended::Ran,
        code => panic!("{code:?}: {text}"),
    }
}

/// Runs to the end, or for so long, which shows that it works.
fn run_to_the_end(mut command: Command, patience: Duration) -> Ended {
    let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let pause = Duration::from_millis(10);
    for _ in 0..patience.as_millis() / pause.as_millis() {
        if child.try_wait().expect("it was started").is_some() {
            return refused_or_ran(&child.wait_with_output().expect("it ends"));
        }
        std::thread::sleep(pause);
    }
    child.kill().expect("it runs");
    let output = child.wait_with_output().expect("it was killed");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(is_calm(&text), "{text}");
    Ended::Ran
}

fn is_calm(text: &str) -> bool {
    !text.contains("panicked") && !text.contains("Traceback")
}

/// Runs until it listens.
fn run_server(mut command: Command, _: Duration) -> Ended {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    if line.starts_with("listening on ") {
        child.kill().expect("it runs");
        let mut text = String::new();
        let mut stderr = child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut text).expect("text");
        child.wait().expect("it was killed");
        assert!(is_calm(&text), "{text}");
        return Ended::Ran;
    }
    refused_or_ran(&child.wait_with_output().expect("it ends"))
}

fn server() -> Option<Command> {
    Some(Command::new(env!("CARGO_BIN_EXE_counter-server")))
}

fn client() -> Option<Command> {
    Some(Command::new(env!("CARGO_BIN_EXE_counter-client")))
}

fn crash_safe() -> Option<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-safe"));
    let token = Path::new(env!("CARGO_TARGET_TMPDIR")).join("numbers.token");
    command.args(["--token".as_ref(), token.as_os_str()]);
    Some(command)
}

fn python() -> Option<Command> {
    script("counter_client.py")
}

fn session_client() -> Option<Command> {
    script("session_client.py")
}

fn script(name: &str) -> Option<Command> {
    static INTERPRETER: LazyLock<Option<String>> = LazyLock::new(|| {
        // Itself and not what may stand before it, which takes longer than it to start.
        let mut command = Command::new("python3");
        let output = command
            .args(["-c", "import sys; print(sys.executable)"])
            .output();
        let path = output.ok().filter(|output| output.status.success())?.stdout;
        Some(String::from_utf8(path).ok()?.trim().to_owned())
    });
    let Some(interpreter) = &*INTERPRETER else {
        println!("skipped: there is no python3");
        return None;
    };
    let mut command = Command::new(interpreter);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    Some(command)
}

/// A server for the clients, killed when it is dropped.
struct Counters(std::process::Child, String);

impl Counters {
    fn start() -> Self {
        let mut command = server().expect("it is there");
        let command = command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("text");
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .expect("an address");
        Self(child, address.to_owned())
    }

    fn clients_base(&self) -> Vec<(&'static str, String)> {
        [
            ("--connect", self.1.as_str()),
            ("--calls", "20"),
            ("--backoff-ms", "1"),
        ]
        .map(|(flag, value)| (flag, value.to_owned()))
        .into()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_servers_numbers_have_ranges() {
    let program = Program {
        command: server,
        base: vec![
            ("--listen", "127.0.0.1:0".to_owned()),
            // Without it there is nothing for --reply-delay-p to say.
            ("--reply-delay-ms", "1".to_owned()),
            // One is at most the other: each has all of its range then.
            ("--queue-target-ms", "1".to_owned()),
            (
                "--queue-interval-ms",
                redial_examples::flags::DAY_MS.to_string(),
            ),
        ],
        run: run_server,
    };
    program.try_all(18);
}

/// Kind: a number from a user that nothing bounds. Instance: `--concurrency 18446744073709551615`
/// panics with "capacity overflow".
#[test]
fn the_clients_numbers_have_ranges() {
    let counters = Counters::start();
    let program = Program {
        command: client,
        base: counters.clients_base(),
        run: run_to_the_end,
    };
    program.try_all(13);
}

#[test]
fn the_python_clients_numbers_have_ranges() {
    if python().is_none() {
        return;
    }
    let counters = Counters::start();
    let program = Program {
        command: python,
        base: counters.clients_base(),
        run: run_to_the_end,
    };
    program.try_all(10);
}

#[test]
fn the_numbers_of_the_python_client_with_sessions_have_ranges() {
    if python().is_none() {
        return;
    }
    let counters = Counters::start();
    let program = Program {
        command: session_client,
        base: vec![
            ("--connect", counters.1.clone()),
            ("--calls", "20".to_owned()),
        ],
        run: run_to_the_end,
    };
    program.try_all(4);
}

#[test]
fn a_port_is_a_number_too() {
    let refused = |command: Option<Command>, flag: &str, port: &str| {
        let Some(mut command) = command else { return };
        command.args([flag, &format!("127.0.0.1:{port}")]);
        let ended = match flag {
            "--listen" => run_server(command, REFUSAL_PATIENCE),
            _ => run_to_the_end(command, REFUSAL_PATIENCE),
        };
        let Ended::Refused(text) = ended else {
            panic!("{flag} {port} is taken");
        };
        assert!(
            text.contains(flag) && text.contains("expected "),
            "{port}: {text}"
        );
    };
    for port in [
        "-1",
        "65536",
        "18446744073709551616",
        "NaN",
        "http",
        "",
        " 7",
        "0x50",
    ] {
        refused(server(), "--listen", port);
        for command in [client(), crash_safe(), python()] {
            refused(command, "--connect", port);
        }
        refused(session_client(), "--connect", port);
    }
    // Something may listen on whatever port is free, but connect to none.
    for command in [client(), crash_safe(), python()] {
        refused(command, "--connect", "0");
    }
}
