//! PostgreSQL for tests: a cluster of the test program's own, or a server that the environment names.
//!
//! `REDIAL_POSTGRES_URL` points to a server, as a role that may create databases. Without it a cluster
//! is made from the installed binaries, in a temporary folder and behind a Unix socket. Without those a
//! test says `skipped: no PostgreSQL` and ends, or fails where `REDIAL_REQUIRE_SERVICES=1`.

use std::{
    env, fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::processes;

/// Where distributions put the binaries, beside `PATH`.
const FOLDERS: &str = "/usr/lib/postgresql";

/// The user that a distribution makes for it. PostgreSQL refuses to run as root.
const USER: &str = "postgres";

/// How long a cluster may take to start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the cluster and runs it for as long as its standard input is open, which ends with the test
/// program, however that ends. Parameters: the folder, and arguments of the server.
const SCRIPT: &str = r#"
set -e
folder=$1
shift
initdb -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$folder/log" 2>&1
postgres -D "$folder/data" -k "$folder" -c max_connections=400 -c shared_buffers=32MB "$@" \
    >>"$folder/log" 2>&1 &
server=$!
cat >/dev/null || true
kill -INT $server
wait $server || true
rm -rf "$folder"
"#;

/// A server that tests may use.
#[derive(Debug)]
pub struct Cluster {
    /// A connection string for its database `postgres`, without the name of the database.
    base: String,
    /// Held open for as long as the cluster is to run.
    keeper: Option<Child>,
    /// Where its socket is, if it is one of its own.
    sockets: PathBuf,
}

/// The cluster of this test program; `None`, with a word on why, where there is no PostgreSQL.
///
/// # Panics
///
/// If there should be one (`REDIAL_REQUIRE_SERVICES=1`) and is not, or if it can't be started.
pub fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(Cluster::find).as_ref();
    if cluster.is_none() {
        assert!(
            env::var("REDIAL_REQUIRE_SERVICES").as_deref() != Ok("1"),
            "no PostgreSQL, and REDIAL_REQUIRE_SERVICES=1; expected `initdb` and `postgres` in PATH or \
             in {FOLDERS}, and a user `{USER}` if this is root"
        );
        println!("skipped: no PostgreSQL");
    }
    cluster
}

impl Cluster {
    fn find() -> Option<Self> {
        if let Ok(base) = env::var("REDIAL_POSTGRES_URL") {
            return Some(Self {
                base,
                keeper: None,
                sockets: PathBuf::new(),
            });
        }
        Self::start(false)
    }

    /// A cluster of the caller's own, which ends with it; `None` if there are no binaries, or no user to
    /// run them as. `is_synced`: whether a commit reaches the disk before it is answered.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    pub fn start(is_synced: bool) -> Option<Self> {
        let synced = if is_synced { "on" } else { "off" };
        let settings = [
            "listen_addresses=".to_owned(),
            format!("fsync={synced}"),
            format!("full_page_writes={synced}"),
        ];
        Self::with(&settings, &[], encoded)
    }

    /// A cluster of the caller's own that listens on loopback, with this certificate and its key as PEM.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[must_use]
    pub fn encrypted(certificate: &str, key: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = port.expect("a port is free").port();
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "fsync=off".to_owned(),
            "ssl=on".to_owned(),
            "ssl_cert_file=../server.pem".to_owned(),
            "ssl_key_file=../server-key.pem".to_owned(),
        ];
        let files = [("server.pem", certificate), ("server-key.pem", key)];
        Self::with(&settings, &files, |_| format!("127.0.0.1:{port}"))
    }

    /// With these settings, and files of its own. `host` says from its folder how to reach it.
    fn with(
        settings: &[String],
        files: &[(&str, &str)],
        host: impl FnOnce(&Path) -> String,
    ) -> Option<Self> {
        let binaries = binaries()?;
        let folder = new_folder();
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("the folder is there");
        }
        let mut command = as_user(&folder)?;
        let path = env::var("PATH").unwrap_or_default();
        for (name, _) in files {
            own(&folder.join(name));
        }
        let settings = settings.iter().flat_map(|setting| ["-c", setting]);
        let keeper = command
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(&folder)
            .args(settings)
            .env("PATH", format!("{}:{path}", binaries.display()))
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let mut cluster = Self {
            base: format!("postgres://postgres@{}", host(&folder)),
            keeper: Some(keeper),
            sockets: folder.clone(),
        };
        cluster.wait_for(&folder);
        Some(cluster)
    }

    /// Whether it ends with this program, and all that is in it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.keeper.is_some()
    }

    /// The processor time that it has taken so far, if it is one of its own.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        let file = self.sockets()?.join("data/postmaster.pid");
        let file = fs::read_to_string(file).ok()?;
        let server = file.lines().next()?.trim().parse().ok()?;
        Some(processes::cpu(server))
    }

    /// The folder of its socket, if it is one of its own.
    pub(crate) fn sockets(&self) -> Option<&Path> {
        self.is_own().then_some(&*self.sockets)
    }

    /// The process that starts all others of it, if it is one of its own.
    ///
    /// # Panics
    ///
    /// If it does not run any more.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        let file = self.sockets()?.join("data/postmaster.pid");
        let text = fs::read_to_string(file).expect("it runs");
        text.lines().next()?.parse().ok()
    }

    /// A connection string for a database of this name.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let base = self.base.split('?').next().unwrap_or_default();
        let options = self.base.strip_prefix(base).unwrap_or_default();
        let server = match base.splitn(4, '/').collect::<Vec<_>>()[..] {
            [scheme, _, server, ..] => format!("{scheme}//{server}"),
            _ => base.to_owned(),
        };
        format!("{server}/{database}{options}")
    }

    /// A name for a database that no other test uses.
    #[must_use]
    pub fn new_name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Relaxed);
        format!("redial_test_{}_{count}", std::process::id())
    }

    /// Its file of readiness says when it takes connections.
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    fn wait_for(&mut self, folder: &Path) {
        let start = Instant::now();
        loop {
            let file = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
            if file.lines().nth(7).map(str::trim) == Some("ready") {
                return;
            }
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            let ended = self.keeper.as_mut().and_then(|it| it.try_wait().ok()?);
            assert!(ended.is_none(), "PostgreSQL has ended: {}", log());
            assert!(start.elapsed() < PATIENCE, "no PostgreSQL yet: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            drop(keeper.stdin.take());
            drop(keeper.wait());
        }
    }
}

/// The folder of `initdb`, `postgres` and `psql`: the newest version's.
#[must_use]
pub fn binaries() -> Option<PathBuf> {
    let in_path = env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir(FOLDERS).into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    let folders = versions.into_iter().rev().chain(env::split_paths(&in_path));
    let has = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|name| folder.join(name).exists())
    };
    folders.into_iter().find(has)
}

/// A folder with a short name, since that of a socket is limited to about 100 bytes.
pub(crate) fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Relaxed);
    let folder = env::temp_dir().join(format!("redial-pg-{}-{count}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder can be made");
    folder
}

/// A command that is completed by another one, which it runs as a user that PostgreSQL runs as.
pub(crate) fn as_user(folder: &Path) -> Option<Command> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    if id(&["-u"])? != "0" {
        return Some(Command::new("env"));
    }
    let (user, group) = (id(&["-u", USER])?, id(&["-g", USER])?);
    let owner = format!("{user}:{group}");
    let is_given = Command::new("chown").arg(&owner).arg(folder).status();
    if !is_given.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}"));
    command.arg(format!("--regid={group}"));
    command.arg("--clear-groups");
    Some(command)
}

/// Gives a file to the user that PostgreSQL runs as, who alone may read it then: it refuses other keys.
fn own(file: &Path) {
    let folder = file.parent().expect("a file in a folder");
    let owner = fs::metadata(folder).expect("the folder is there");
    let (user, group) = (owner.uid(), owner.gid());
    chown(file, Some(user), Some(group)).expect("a file of its own can be given away");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("the same");
}

/// A path as it stands in the place of a host.
pub(crate) fn encoded(path: &Path) -> String {
    let mut host = Vec::new();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => host.push(byte),
            byte => write!(host, "%{byte:02X}").expect("a vector takes all"),
        }
    }
    String::from_utf8(host).expect("ASCII alone")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_cluster_takes_connections_and_leaves_nothing_behind() {
        let Some(_) = cluster() else {
            return;
        };
        let Some(cluster) = Cluster::start(false) else {
            println!("skipped: no PostgreSQL binaries of its own");
            return;
        };
        let host = cluster.url("x");
        let host = host.trim_start_matches("postgres://postgres@");
        let folder = PathBuf::from(host.trim_end_matches("/x").replace("%2F", "/"));
        drop(UnixStream::connect(folder.join(".s.PGSQL.5432")).unwrap());
        drop(cluster);
        assert!(!folder.exists());
    }

    #[test]
    fn a_database_is_named_in_every_form_of_a_url() {
        for (base, url) in [
            ("postgres://u@h:1", "postgres://u@h:1/d"),
            ("postgres://u@h/other", "postgres://u@h/d"),
            (
                "postgres://h/other?sslmode=disable",
                "postgres://h/d?sslmode=disable",
            ),
        ] {
            let cluster = Cluster {
                base: base.to_owned(),
                keeper: None,
                sockets: PathBuf::new(),
            };
            assert_eq!(cluster.url("d"), url);
        }
    }
}
