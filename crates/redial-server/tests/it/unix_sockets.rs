//! Unix sockets: who may connect, who does, and files that are there already.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use redial_server::{Config, Context, Server};
use serde_json::Value;
use tokio::net::UnixStream;

use crate::common::{Peer, Service};

/// A folder that is gone with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("redial-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("counter.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn server() -> Server {
    Service::default().server(Config::default())
}

/// Who calls, as the handler sees it.
fn naming(has_principals: bool) -> Server {
    let who = |_: Value, context: Context| async move {
        Ok(context.principal().map(ToString::to_string))
    };
    let builder = Server::builder().query("who", who);
    builder.unix_principals(has_principals).build().unwrap()
}

async fn connect(path: &Path) -> Peer<UnixStream> {
    Peer {
        io: UnixStream::connect(path).await.unwrap(),
    }
}

#[tokio::test]
async fn its_owner_alone_may_connect_and_the_file_goes_with_the_server() {
    let (folder, server) = (Folder::new(), server());
    let path = folder.socket();
    let listener = server
        .listen(format!("unix:{}", path.display()))
        .await
        .unwrap();
    assert_eq!(
        listener.local_addr().unwrap().to_string(),
        format!("unix:{}", path.display())
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let mut peer = connect(&path).await;
    let reply = peer.call(r#"{"id":"a","method":"inc"}"#).await;
    assert_eq!(reply, r#"{"id":"a","result":{"value":1}}"#);
    server.shutdown().await;
    serving.await.unwrap().unwrap();
    assert!(!path.exists());
    let open = server.bind_unix_with_mode(&path, 0o666).await.unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    drop(open);
    assert!(
        !path.exists(),
        "it goes with a listener that never served, too"
    );
}

#[tokio::test]
async fn a_file_on_which_nothing_listens_is_replaced_and_no_other() {
    let (folder, server) = (Folder::new(), server());
    let path = folder.socket();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    let listener = server.bind_unix(&path).await.unwrap();
    let error = server.bind_unix(&path).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "can't listen on unix:{}: another server listens there",
            path.display()
        )
    );
    assert!(path.exists(), "it is the first one's");
    drop(listener);
    fs::write(&path, "precious").unwrap();
    let error = server.bind_unix(&path).await.unwrap_err().to_string();
    assert!(error.contains("is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let error = server.bind_unix(folder.0.join("none/a")).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    let long = folder.0.join("x".repeat(200));
    let error = server.bind_unix(long).await.unwrap_err().to_string();
    assert!(error.contains("SUN_LEN"), "{error}");
}

/// A call that takes one kind of address says of the other one which call takes it.
#[tokio::test]
async fn bind_says_of_a_unix_socket_that_listen_takes_it() {
    for address in [
        "unix:/run/counter.sock",
        "unix:./counter.sock",
        "unix:@counter",
    ] {
        let error = server().bind(address).await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "can't listen on {address}: `bind` takes TCP alone; expected host:port, or \
                 `Server::listen`, which takes both"
            )
        );
    }
}

/// A server that took over the path keeps its file when the one before it goes.
#[tokio::test]
async fn a_file_that_is_anothers_by_now_stays() {
    let (folder, server) = (Folder::new(), server());
    let path = folder.socket();
    let old = server.bind_unix(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    let new = server.bind_unix(&path).await.unwrap();
    drop(old);
    assert!(path.exists());
    UnixStream::connect(&path).await.unwrap();
    drop(new);
}

/// Each looks whether the file is stale, and one of them may just have begun to listen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_servers_that_begin_at_once_one_gets_the_path() {
    for _ in 0..300 {
        let folder = Folder::new();
        let path = folder.socket();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let begin = || {
            let (server, path) = (server(), path.clone());
            tokio::spawn(async move { server.bind_unix(&path).await })
        };
        let all = [begin(), begin(), begin(), begin()];
        let mut listeners = Vec::new();
        for one in all {
            listeners.extend(one.await.unwrap());
        }
        assert_eq!(listeners.len(), 1);
        UnixStream::connect(&path).await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_without_a_file_is_free_again_when_its_server_is_gone() {
    let server = server();
    let name = format!("unix:@redial-test-{}", std::process::id());
    let listener = server.listen(&name).await.unwrap();
    assert_eq!(listener.local_addr().unwrap().to_string(), name);
    let error = server.listen(&name).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let path = redial_protocol::Address::from(&name).unix_path().unwrap();
    let mut peer = connect(&path).await;
    assert!(
        peer.call(r#"{"id":1,"method":"rpc.ping"}"#)
            .await
            .contains("pong")
    );
    drop(peer);
    server.shutdown().await;
    self::server().listen(&name).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_connects_is_known_by_the_number_of_its_user_where_that_is_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let own = fs::metadata("/proc/self").unwrap().uid();
    for (has_principals, expected) in [(true, format!("\"uid:{own}\"")), (false, "null".into())] {
        let (folder, server) = (Folder::new(), naming(has_principals));
        let listener = server.bind_unix(folder.socket()).await.unwrap();
        tokio::spawn(async move { server.serve(listener).await });
        let mut peer = connect(&folder.socket()).await;
        let reply = peer.call(r#"{"id":1,"method":"who"}"#).await;
        assert_eq!(reply, format!(r#"{{"id":1,"result":{expected}}}"#));
    }
}

/// Kind: what any process of the machine may do keeps a server from starting. Instance: a lock on the
/// folder, for which it is enough to read it.
#[tokio::test(start_paused = true)]
async fn a_lock_on_the_folder_delays_a_server_and_no_more() {
    let folder = Folder::new();
    let lock = fs::File::open(&folder.0).unwrap();
    lock.lock().unwrap();
    let before = crate::common::now();
    server().bind_unix(folder.socket()).await.unwrap();
    assert!(before.elapsed() < std::time::Duration::from_secs(3));
}
