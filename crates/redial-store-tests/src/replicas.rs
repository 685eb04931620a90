//! A primary and a standby on loopback, for tests that lose the database's machine.
//!
//! A commit is answered when the standby has it, too. The primary is killed (`kill -9` of all its processes), the
//! standby promoted, and a new standby made where the primary was. All of it ends with the test program, however
//! that ends. It takes Linux, whose `/proc` says which processes belong to a server.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    postgres::{PATIENCE, as_user, binaries, new_folder},
    processes::children,
};

/// Below those that a system gives to connections, since a server comes back to its port.
const PORTS: std::ops::Range<u16> = 15_000..20_000;

/// What both are called: a primary knows by this name whose receipt its commits wait for.
const NAME: &str = "redial";

/// Makes a server, of its own or as the copy of another, and runs it for as long as its standard input is
/// open. What `kill -9` leaves of its shared memory goes with it. Parameters: the folder, the port of the
/// other if there is one, and arguments of the server.
const SCRIPT: &str = r#"
set -e
folder=$1 from=$2
shift 2
if [ -z "$from" ]; then
    initdb -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C --no-sync
else
    pg_basebackup -D "$folder/data" -h 127.0.0.1 -p "$from" -U postgres -R -X stream -c fast --no-sync
fi >"$folder/log" 2>&1
postgres -D "$folder/data" -k "$folder" "$@" >>"$folder/log" 2>&1 &
server=$!
cat >/dev/null || true
memory=$(sed -n '7s/.* //p' "$folder/data/postmaster.pid" 2>/dev/null) || true
kill -KILL $server $(cat /proc/$server/task/$server/children 2>/dev/null) 2>/dev/null || true
wait $server || true
ipcrm -m "$memory" 2>/dev/null || true
rm -rf "$folder"
"#;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// Until the standby has it on its disk.
    Synchronous,
    /// For nothing but the primary's own disk: what the standby does not have yet is lost with the primary.
    Asynchronous,
}

/// How a server that was promoted goes on, which has no standby yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// Its commits wait for a standby of its own, so that there is no time in which one machine alone has a
    /// call that was answered.
    Waiting,
    /// It answers at once, until it has a standby. Nothing is lost by the first failure, since the server before
    /// it is gone for good and can't answer, and all that it has answered is here.
    Alone,
}

/// Both.
#[derive(Debug)]
pub struct Pair {
    /// The primary, and the standby while there is one.
    nodes: [Option<Node>; 2],
    ports: [u16; 2],
    primary: usize,
    commits: Commits,
}

#[derive(Debug)]
struct Node {
    folder: PathBuf,
    port: u16,
    keeper: Child,
}

impl Pair {
    /// A primary and its standby, which has all that the primary has; `None` if there are no binaries, or no
    /// user to run them as.
    ///
    /// # Panics
    ///
    /// If they can't be started.
    #[must_use]
    pub fn start(commits: Commits) -> Option<Self> {
        binaries().filter(|folder| folder.join("pg_basebackup").exists())?;
        let ports = free_ports();
        let primary = Node::start(ports[0], None)?;
        primary.ready();
        let mut pair = Self {
            nodes: [Some(primary), None],
            ports,
            primary: 0,
            commits,
        };
        pair.new_standby();
        Some(pair)
    }

    /// A connection string for a database of whichever is the primary.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let [one, other] = self.ports;
        format!(
            "postgres://postgres@127.0.0.1:{one},127.0.0.1:{other}/{database}\
             ?target_session_attrs=read-write"
        )
    }

    /// `kill -9` of the primary, with all its processes.
    ///
    /// # Panics
    ///
    /// If it has ended already.
    pub fn kill_primary(&mut self) {
        self.primary().kill();
    }

    /// Has the standby stand still, so that it takes no commit.
    pub fn freeze_standby(&self) {
        let (server, processes) = self.standby().processes();
        signal("STOP", &[server]);
        signal("STOP", &processes);
    }

    /// Has it go on.
    pub fn thaw_standby(&self) {
        let (server, processes) = self.standby().processes();
        signal("CONT", &processes);
        signal("CONT", &[server]);
    }

    /// How many commits wait for the standby.
    #[must_use]
    pub fn waiting_commits(&self) -> u64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        self.primary().ask(&[sql]).parse().expect("a number")
    }

    /// Ends one process of the primary's, whereupon that starts all of them anew and recovers.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub fn crash_primary(&self) {
        let find = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        let writer = self.primary().ask(&[find]);
        signal("KILL", &[writer.parse().expect("a number")]);
        self.primary().wait_until("it is back", || {
            let found = self.primary().try_ask(&[find]);
            found.is_ok_and(|found| !found.is_empty() && found != writer)
        });
    }

    /// Makes the standby the primary, and returns since when it has been. The other one has to be dead.
    ///
    /// # Panics
    ///
    /// If it can't be promoted.
    pub fn promote(&mut self, promoted: Promoted) -> SystemTime {
        let standby = self.standby();
        let is_waiting = promoted == Promoted::Waiting;
        standby.wait_for_standby(is_waiting && self.commits == Commits::Synchronous);
        // What looks at a standby for long holds up what it has to take on before that.
        drop(standby.ask(&["SELECT pg_promote(false)"]));
        standby.wait_until("it is promoted", || {
            standby.try_ask(&["SELECT pg_is_in_recovery()"]) == Ok("f".to_owned())
        });
        let since = standby.timeline_began();
        // Whatever it has left ends with it.
        self.nodes[self.primary] = None;
        self.primary = 1 - self.primary;
        since
    }

    /// Makes a standby where the primary was before, and waits until it has all that the primary has.
    ///
    /// # Panics
    ///
    /// If it can't be made.
    pub fn new_standby(&mut self) {
        let at = 1 - self.primary;
        self.nodes[at] = None;
        let node = Node::start(self.ports[at], Some(self.ports[self.primary]));
        let standby = self.nodes[at].insert(node.expect("the first one could be started"));
        standby.ready();
        let primary = self.primary();
        primary.wait_for_standby(self.commits == Commits::Synchronous);
        // From now on each commit waits; and what was committed alone is there, too.
        let position = primary.ask(&["SELECT pg_current_wal_lsn()"]);
        let state = match self.commits {
            Commits::Synchronous => "sync",
            Commits::Asynchronous => "async",
        };
        let has_all = format!(
            "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{NAME}' \
             AND sync_state = '{state}' AND flush_lsn >= '{position}'"
        );
        primary.wait_until("its standby has all", || primary.ask(&[&has_all]) == "1");
    }

    fn primary(&self) -> &Node {
        let node = self.nodes[self.primary].as_ref();
        node.expect("there is a primary")
    }

    fn standby(&self) -> &Node {
        let node = self.nodes[1 - self.primary].as_ref();
        node.expect("there is a standby")
    }
}

impl Node {
    /// A server of its own, or a copy of the one that listens there.
    fn start(port: u16, from: Option<u16>) -> Option<Self> {
        let folder = new_folder();
        let mut command = as_user(&folder)?;
        let path = env::var("PATH").unwrap_or_default();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("cluster_name={NAME}"),
            // Killed processes lose nothing by it, and a copy is made sooner.
            "fsync=off".to_owned(),
            "max_connections=200".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "wal_keep_size=512MB".to_owned(),
            "wal_retrieve_retry_interval=100ms".to_owned(),
            // In its folder, with which it goes.
            "dynamic_shared_memory_type=mmap".to_owned(),
        ];
        let settings = settings.iter().flat_map(|setting| ["-c", setting]);
        let keeper = command
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(&folder)
            .arg(from.map(|port| port.to_string()).unwrap_or_default())
            .args(settings)
            .env("PATH", format!("{}:{path}", binaries()?.display()))
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        Some(Self {
            folder,
            port,
            keeper,
        })
    }

    /// Waits until it takes connections.
    fn ready(&self) {
        self.wait_until("it takes connections", || self.state(7) == "ready");
    }

    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "not yet {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A line of what it says of itself.
    fn state(&self, line: usize) -> String {
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        let line = file.lines().nth(line).unwrap_or_default();
        line.trim().to_owned()
    }

    /// When it last wrote down that it goes its own way from here, which is what it does first as a primary.
    fn timeline_began(&self) -> SystemTime {
        let files = fs::read_dir(self.folder.join("data/pg_wal"));
        let files = files.into_iter().flatten().flatten();
        let histories = files.filter(|file| file.path().extension() == Some("history".as_ref()));
        let written = histories.filter_map(|file| file.metadata().ok()?.modified().ok());
        written.max().expect("it was promoted")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether its commits wait for a standby, from now on.
    fn wait_for_standby(&self, waits: bool) {
        let names = if waits { NAME } else { "" };
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        drop(self.ask(&[&set, "SELECT pg_reload_conf()"]));
    }

    /// What the last of these statements says.
    fn ask(&self, statements: &[&str]) -> String {
        let said = self.try_ask(statements);
        said.unwrap_or_else(|error| panic!("{statements:?}: {error}; {}", self.log()))
    }

    fn try_ask(&self, statements: &[&str]) -> Result<String, String> {
        ask(self.port, statements)
    }

    /// The server's own process, and those that it has started.
    fn processes(&self) -> (u32, Vec<u32>) {
        let server = self.state(0).parse().expect("it runs");
        (server, children(server))
    }

    /// At once: it starts no process between the looking and the killing.
    fn kill(&self) {
        let server = self.state(0).parse().expect("it runs");
        signal("STOP", &[server]);
        let mut all = children(server);
        all.push(server);
        signal("KILL", &all);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// What the last of these statements says to the server at this port.
fn ask(port: u16, statements: &[&str]) -> Result<String, String> {
    let psql = binaries().map_or_else(|| "psql".into(), |folder| folder.join("psql"));
    let statements = statements.iter().flat_map(|statement| ["-c", statement]);
    let output = Command::new(psql)
        .args(["-X", "-A", "-t", "-q"])
        .args(statements)
        .arg(format!(
            "postgres://postgres@127.0.0.1:{port}/postgres?connect_timeout=10"
        ))
        .output()
        .map_err(|error| format!("psql can't be started: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().last().unwrap_or_default().trim().to_owned())
}

/// One that has ended meanwhile is no error.
fn signal(name: &str, processes: &[u32]) {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$0\" \"$@\" 2>/dev/null || true", name]);
    command.args(processes.iter().map(u32::to_string));
    let sent = command.status().expect("there is a shell");
    assert!(sent.success(), "SIG{name} can't be sent");
}

/// No two of one program are the same: nothing listens on them yet when the next ones are looked for.
fn free_ports() -> [u16; 2] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Programs that run at once begin far from each other.
    let first = std::process::id().wrapping_mul(97);
    let mut free = (0..count).filter_map(|_| {
        let at = first.wrapping_add(TAKEN.fetch_add(1, Relaxed)) % count;
        let port = PORTS.start + at as u16;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    });
    let (one, other) = (free.next(), free.next());
    [one, other].map(|port| port.unwrap_or_else(|| panic!("no two ports of {PORTS:?} are free")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind of fault: a primary and a standby that are no pair: a standby without what was committed, a primary that
    /// answers without it, or one that lives on.
    #[test]
    fn what_was_committed_before_a_primary_is_killed_is_at_the_one_after_it() {
        let Some(mut pair) = Pair::start(Commits::Synchronous) else {
            println!("skipped: no PostgreSQL binaries of its own");
            return;
        };
        drop(pair.primary().ask(&["CREATE TABLE t (i int)"]));
        for (round, promoted) in [Promoted::Alone, Promoted::Waiting].into_iter().enumerate() {
            let insert = "INSERT INTO t VALUES (1)";
            drop(pair.primary().ask(&[insert]));
            pair.freeze_standby();
            assert_eq!(pair.waiting_commits(), 0);
            std::thread::scope(|scope| {
                scope.spawn(|| drop(pair.primary().try_ask(&[insert])));
                while pair.waiting_commits() == 0 {
                    std::thread::yield_now();
                }
                pair.primary().kill();
            });
            pair.thaw_standby();
            let _since = pair.promote(promoted);
            let count = "SELECT count(*) FROM t";
            let count: usize = pair.primary().ask(&[count]).parse().unwrap();
            // Those that were answered, and perhaps those that were not.
            assert!((2 * round + 1..=3 * round + 2).contains(&count), "{count}");
            std::thread::scope(|scope| {
                let port = pair.primary().port;
                let inserted = scope.spawn(move || ask(port, &[insert]).unwrap());
                if promoted == Promoted::Waiting {
                    while pair.waiting_commits() == 0 {
                        std::thread::yield_now();
                    }
                    pair.new_standby();
                    drop(inserted.join().unwrap());
                } else {
                    drop(inserted.join().unwrap());
                    pair.new_standby();
                }
            });
        }
        let folders: Vec<_> = pair
            .nodes
            .iter()
            .flatten()
            .map(|it| it.folder.clone())
            .collect();
        drop(pair);
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
