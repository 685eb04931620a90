//! pgbouncer for tests, in transaction mode: each transaction on whichever connection is free.
//!
//! It runs in front of a cluster of the test program's own. Without the binary a test says `skipped: no
//! pgbouncer` and ends, or fails where `REDIAL_REQUIRE_SERVICES=1`.

use std::{
    env, fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::OnceLock,
    time::Instant,
};

use crate::postgres::{Cluster, PATIENCE, as_user, encoded, new_folder};

/// Where distributions put the binary, beside `PATH`.
const FOLDER: &str = "/usr/sbin";

/// Runs it for as long as its standard input is open. Parameters: the folder, and the binary.
const SCRIPT: &str = r#"
"$2" "$1/pgbouncer.ini" >"$1/log" 2>&1 &
bouncer=$!
cat >/dev/null || true
kill -INT $bouncer
wait $bouncer || true
rm -rf "$1"
"#;

/// Few connections to the database, so that they change hands all the time.
const POOL: usize = 5;

/// A pgbouncer that tests may use.
#[derive(Debug)]
pub struct Bouncer {
    folder: PathBuf,
    keeper: Child,
}

/// The one in front of the test program's cluster; `None`, with a word on why, where it can't be had.
///
/// # Panics
///
/// If there should be one (`REDIAL_REQUIRE_SERVICES=1`) and is not, or if it can't be started.
pub fn bouncer(cluster: &Cluster) -> Option<&'static Bouncer> {
    static BOUNCER: OnceLock<Option<Bouncer>> = OnceLock::new();
    let Some(sockets) = cluster.sockets() else {
        println!("skipped: pgbouncer is tested with a cluster of its own");
        return None;
    };
    let bouncer = BOUNCER.get_or_init(|| Bouncer::start(sockets)).as_ref();
    if bouncer.is_none() {
        assert!(
            env::var("REDIAL_REQUIRE_SERVICES").as_deref() != Ok("1"),
            "no pgbouncer, and REDIAL_REQUIRE_SERVICES=1; expected it in PATH or in {FOLDER}"
        );
        println!("skipped: no pgbouncer");
    }
    bouncer
}

impl Bouncer {
    fn start(sockets: &Path) -> Option<Self> {
        let in_path = env::var_os("PATH").unwrap_or_default();
        let mut folders = env::split_paths(&in_path).chain([PathBuf::from(FOLDER)]);
        let binary = folders.find_map(|folder| {
            let binary = folder.join("pgbouncer");
            binary.exists().then_some(binary)
        })?;
        let folder = new_folder();
        let [own, users] =
            [folder.clone(), folder.join("users")].map(|it| it.display().to_string());
        let config = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {own}\n\
             auth_type = trust\nauth_file = {users}\npool_mode = transaction\n\
             default_pool_size = {POOL}\nmax_client_conn = 1000\nserver_idle_timeout = 5\n",
            sockets.display()
        );
        fs::write(folder.join("pgbouncer.ini"), config).expect("the folder is there");
        fs::write(&users, "\"postgres\" \"\"\n").expect("the folder is there");
        let mut command = as_user(&folder)?;
        let keeper = command
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(&folder)
            .arg(binary)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        let bouncer = Self { folder, keeper };
        bouncer.wait();
        Some(bouncer)
    }

    /// A connection string for a database of its cluster.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@{}:6432/{database}",
            encoded(&self.folder)
        )
    }

    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    fn wait(&self) {
        let start = Instant::now();
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        while UnixStream::connect(self.folder.join(".s.PGSQL.6432")).is_err() {
            assert!(start.elapsed() < PATIENCE, "no pgbouncer yet: {}", log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}
