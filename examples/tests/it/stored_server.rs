//! The kind of fault: something is wrong with the disk or the file of a server's store, and the program
//! starts all the same, doesn't say what to do, or loses a call that it has acknowledged.
#![cfg(unix)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use redial_client::{Client, Config, Executed};
use redial_examples::methods::{Get, GetParams, Inc, IncParams};
use redial_store_sqlite::rusqlite::Connection;

use crate::counter_server::CounterServer;

/// A folder of its own, gone at the end.
struct StoreFolder(PathBuf);

impl StoreFolder {
    fn new(name: &str) -> Self {
        let name = format!("redial-stored-server-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("calls.db")
    }
}

impl Drop for StoreFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(file: &Path) -> Command {
    let mut command = CounterServer::command("127.0.0.1:0");
    command.args(["--keep-effects", "--store"]).arg(file);
    command
}

/// A server with this store.
fn start(file: &Path) -> CounterServer {
    CounterServer::spawn(&mut command(file))
}

async fn connect(server: &CounterServer) -> Client {
    Client::connect(server.address.as_str()).await.unwrap()
}

/// That a server with this store says all of this and ends with exit code 2.
fn assert_refused(output: &Output, expected: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(output.stdout.is_empty(), "it listens");
    for words in expected {
        assert!(error.contains(words), "expected {words:?} in: {error}");
    }
}

fn inc(key: &str) -> IncParams {
    IncParams {
        key: key.to_owned(),
        delta: 1,
    }
}

/// Adds 1 to these counters.
async fn count(server: &CounterServer, keys: std::ops::Range<usize>) {
    let client = connect(server).await;
    for key in keys {
        let counter = client.call::<Inc>(inc(&format!("k{key}"))).await.unwrap();
        assert_eq!(counter.value, 1);
    }
    client.close().await;
}

/// How many effects the file has for each key.
fn effects(file: &Path) -> BTreeMap<String, i64> {
    let store = Connection::open(file).unwrap();
    let mut rows = store
        .prepare("SELECT key, count(*) FROM effects GROUP BY key")
        .unwrap();
    let rows = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.map(Result::unwrap).collect()
}

fn once_each(keys: std::ops::Range<usize>) -> BTreeMap<String, i64> {
    keys.map(|key| (format!("k{key}"), 1)).collect()
}

#[tokio::test]
async fn a_second_server_names_the_first_and_takes_nothing_from_it() {
    let folder = StoreFolder::new("second");
    let first = start(&folder.file());
    count(&first, 0..3).await;
    let owner = format!("in use by process {}", first.child.id());
    let second = command(&folder.file()).output().unwrap();
    assert_refused(&second, &["calls.db", &owner, "stop that one first"]);
    count(&first, 3..6).await;
    drop(first);
    let next = start(&folder.file());
    count(&next, 6..9).await;
    drop(next);
    assert_eq!(effects(&folder.file()), once_each(0..9));
}

#[tokio::test]
async fn a_file_that_is_damaged_newer_or_foreign_is_left_as_it_is() {
    let folder = StoreFolder::new("files");
    let file = folder.file();
    let server = start(&file);
    count(&server, 0..20).await;
    drop(server);
    // With all that is in its log.
    drop(Connection::open(&file).unwrap().query_row(
        "SELECT count(*) FROM effects",
        [],
        |_| Ok(()),
    ));
    let whole = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], expected: &[&str]| {
        fs::write(&file, bytes).unwrap();
        assert_refused(&command(&file).output().unwrap(), expected);
        assert!(
            fs::read(&file).unwrap() == bytes,
            "{expected:?}: the file was changed"
        );
    };
    refused(
        &whole[..whole.len() / 2],
        &["calls.db: damaged", "restore a backup"],
    );
    refused(
        b"Dear diary, today the disk held. ".repeat(99).as_slice(),
        &["calls.db: not an SQLite database", "nothing was changed"],
    );
    fs::write(&file, &whole).unwrap();
    let version = |version: i64| {
        let store = Connection::open(&file).unwrap();
        store
            .execute("UPDATE redial_meta SET version = ?1", [version])
            .unwrap()
    };
    let known: i64 = Connection::open(&file)
        .unwrap()
        .query_row("SELECT version FROM redial_meta", [], |row| row.get(0))
        .unwrap();
    version(known + 8);
    let newer = format!(
        "version {}, and this program knows version {known}",
        known + 8
    );
    assert_refused(
        &command(&file).output().unwrap(),
        &["calls.db", &newer, "use the newer program"],
    );
    version(known);
    let server = start(&file);
    count(&server, 20..25).await;
    drop(server);
    assert_eq!(effects(&file), once_each(0..25));
}

#[test]
fn a_folder_that_is_missing_is_told_at_the_start() {
    let folder = StoreFolder::new("missing");
    let file = folder.0.join("no/such/calls.db");
    let output = command(&file).output().unwrap();
    assert_refused(&output, &["no/such: no such folder", "create it"]);
}

/// A shell in which `folder` is a disk of its own, where a test may have one.
#[cfg(target_os = "linux")]
fn with_disk(folder: &StoreFolder, options: &str) -> Option<Command> {
    let path = folder.0.display();
    let mount = format!("mount -t tmpfs -o {options} tmpfs '{path}'");
    let shell = |script: &str| {
        let mut shell = Command::new("unshare");
        shell.args(["-rm", "sh", "-c", script]);
        shell
    };
    let may_mount = shell(&mount).output();
    if may_mount.is_ok_and(|output| output.status.success()) {
        return Some(shell(&format!("{mount} && exec \"$0\" \"$@\"")));
    }
    assert!(
        std::env::var_os("REDIAL_REQUIRE_SERVICES").is_none(),
        "no `unshare -rm`"
    );
    println!("skipped: no `unshare -rm`");
    None
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_told_at_the_start() {
    let folder = StoreFolder::new("read-only");
    let Some(mut shell) = with_disk(&folder, "size=1m,ro") else {
        return;
    };
    let server = command(&folder.file());
    let output = shell
        .arg(server.get_program())
        .args(server.get_args())
        .output()
        .unwrap();
    assert_refused(&output, &["calls.db", "make both writable"]);
}

#[cfg(target_os = "linux")]
const FOLDER: &str = "REDIAL_TEST_FOLDER";

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_no_acknowledged_call_and_its_end_is_noticed() {
    let folder = StoreFolder::new("full");
    let Some(mut shell) = with_disk(&folder, "size=4m") else {
        return;
    };
    let output = shell
        .arg(std::env::current_exe().unwrap())
        .args(["stored_server::on_a_small_disk", "--exact", "--ignored"])
        .env(FOLDER, &folder.0)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{error}"
    );
}

/// Fills the disk of a folder to the last byte.
#[cfg(target_os = "linux")]
fn fill(ballast: &Path) {
    use std::io::Write;

    let mut file = fs::File::create(ballast).unwrap();
    let mut bytes = 1 << 20;
    while bytes > 0 {
        if file.write_all(&vec![0; bytes]).is_err() {
            bytes /= 2;
        }
    }
}

/// Clients that connect while the disk is full: one with a session, one with plain ids.
#[cfg(target_os = "linux")]
struct Newcomers([Client; 2]);

#[cfg(target_os = "linux")]
impl Newcomers {
    /// Their queries are answered, and their mutations hear why not.
    async fn come(server: &CounterServer) -> Self {
        let plain = Client::builder().config(Config {
            sessions: false,
            ..Config::default()
        });
        let plain = plain.connect(server.address.as_str()).await.unwrap();
        let clients = [connect(server).await, plain];
        for client in &clients {
            let get = client.call::<Get>(GetParams {
                key: "k7".to_owned(),
            });
            assert_eq!(get.await.unwrap().value, 1);
            let key = "x".repeat(20_000);
            let call = client.call::<Inc>(inc(&key)).max_attempts(2);
            let error = call.deadline(Duration::from_secs(1)).await.unwrap_err();
            assert_eq!(error.executed(), Executed::No, "{error}");
            let error = error.to_string();
            for words in ["calls.db", "full", "make room", "Store unavailable"] {
                assert!(error.contains(words), "{error}");
            }
        }
        Self(clients)
    }

    /// There is room: each makes a call, which it may wait for. Returns the counters.
    async fn stay(self) -> BTreeMap<String, i64> {
        let mut counters = BTreeMap::new();
        for (number, client) in self.0.into_iter().enumerate() {
            let key = format!("newcomer {number}");
            let call = client.call::<Inc>(inc(&key)).max_attempts(1000);
            let call = call.deadline(Duration::from_secs(60));
            assert_eq!(call.await.unwrap().value, 1);
            let opened = client.stats().sessions_opened;
            assert_eq!(opened, u64::from(number == 0), "sessions");
            counters.insert(key, 1);
        }
        counters
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "run by another test"]
async fn on_a_small_disk() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("it is run by another test"));
    let (file, ballast) = (folder.join("calls.db"), folder.join("ballast"));
    let server = start(&file);
    count(&server, 0..20).await;
    let mut expected = once_each(0..21);
    // A session can't be opened on a full disk.
    let client = connect(&server).await;
    assert_eq!(client.call::<Inc>(inc("k20")).await.unwrap().value, 1);
    fill(&ballast);
    // What was room in the log already holds a few calls more.
    let mut refusals = 0;
    for number in 0..200 {
        let key = format!("{number} {}", "x".repeat(20_000));
        let call = client.call::<Inc>(inc(&key)).max_attempts(1);
        match call.await {
            Ok(_) => {
                expected.insert(key, 1);
            }
            Err(error) => {
                assert_eq!(error.executed(), Executed::No, "{error}");
                let error = error.to_string();
                assert!(
                    error.contains("full") && error.contains("make room"),
                    "{error}"
                );
                refusals += 1;
            }
        }
        if refusals == 3 {
            break;
        }
    }
    assert_eq!(refusals, 3, "the disk was never full");
    let get = |key: &str| {
        client.call::<Get>(GetParams {
            key: key.to_owned(),
        })
    };
    assert_eq!(get("k7").await.unwrap().value, 1, "queries go on");
    let newcomers = Newcomers::come(&server).await;
    // A call that is made on the full disk, and waits for room.
    let key = format!("late {}", "x".repeat(20_000));
    let late = client
        .call::<Inc>(inc(&key))
        .max_attempts(1000)
        .deadline(Duration::from_secs(60));
    let (late, ()) = tokio::join!(late, async { fs::remove_file(&ballast).unwrap() });
    assert_eq!(late.unwrap().value, 1);
    expected.insert(key, 1);
    expected.extend(newcomers.stay().await);
    drop(server);
    assert_eq!(effects(&file), expected);
    let server = start(&file);
    count(&server, 21..30).await;
    drop(server);
    expected.extend(once_each(21..30));
    assert_eq!(effects(&file), expected);
}
