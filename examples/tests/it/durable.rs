//! The promise over the lives of a server: what a store keeps is found again, by the client that was cut
//! off and over the wire.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_protocol::{SessionCall, SessionId};
use redial_server::{
    Abort, BuildError, Config, Context, LayerCall, MethodLimits, Next, Server, ServerBuilder,
};
use redial_store_sqlite::{OpenError, SqliteMethods, SqliteStore};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::Notify};

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("redial-durable-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("calls.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens the file as soon as the life before has let go of it.
fn open(file: &Path) -> SqliteStore {
    for tries in 0_u32.. {
        let opened = SqliteStore::options()
            .migrate(|connection| {
                connection
                    .execute_batch("CREATE TABLE IF NOT EXISTS sum (value INTEGER NOT NULL)")?;
                Ok(())
            })
            .open(file);
        match opened {
            Err(OpenError::InUse { .. }) if tries < 1_000_000 => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
    unreachable!("it is opened, or the test has failed")
}

/// One life of a server.
struct Life {
    runtime: Runtime,
    server: Server,
    address: SocketAddr,
}

impl Life {
    fn begin(file: &Path, methods: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let store = open(file);
        let builder = Server::builder().store(store).transaction_named(
            "add",
            |(n,): (i64,), transaction, _| {
                transaction.execute("INSERT INTO sum VALUES (?1)", [n])?;
                let sum = "SELECT sum(value) FROM sum";
                Ok(transaction.query_row(sum, [], |row| row.get::<_, i64>(0))?)
            },
        );
        let server = methods(builder).build().unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(server.bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server.clone();
        runtime.spawn(async move { serving.serve(listener).await });
        Self {
            runtime,
            server,
            address,
        }
    }

    /// Ends it without a word, with handlers in the middle of what they do.
    fn crash(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        drop(self.server);
    }

    fn shut_down(self) {
        self.runtime.block_on(self.server.shutdown());
        self.crash();
    }

    fn connect(&self) -> FramePeer {
        FramePeer(TcpStream::connect(self.address).unwrap())
    }
}

/// A client that speaks frames.
struct FramePeer(TcpStream);

impl FramePeer {
    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        let mut frame = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> Value {
        self.0
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut header = [0; 4];
        self.0.read_exact(&mut header).unwrap();
        let mut text = vec![0; u32::from_be_bytes(header) as usize];
        self.0.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.send(message);
        self.receive()
    }

    fn hello(&mut self, params: Value) -> Value {
        self.ask(&json!({"id": "hello", "method": "rpc.hello", "params": params}))
    }

    fn open(&mut self) -> (SessionId, Value) {
        let hello = self.hello(json!({}))["result"].take();
        let session = serde_json::from_value(hello["session"].clone()).unwrap();
        (session, hello["table"].clone())
    }
}

fn id(session: SessionId, number: u64) -> Value {
    json!(SessionCall { session, number }.uuid().to_string())
}

fn same(server: ServerBuilder) -> ServerBuilder {
    server
}

/// The end of a life, in order or not: the session, the table and every reply are there in the next.
#[test]
fn a_client_finds_its_session_and_its_replies_in_the_next_life() {
    let folder = Folder::new("session");
    let mut life = Life::begin(&folder.file(), same);
    let mut peer = life.connect();
    let (session, table) = peer.open();
    let call = json!({"id": id(session, 0), "method": "add", "params": [7]});
    let reply = peer.ask(&call);
    assert_eq!(reply["result"], 7);
    for in_order in [true, false, true] {
        if in_order {
            life.shut_down()
        } else {
            life.crash()
        }
        life = Life::begin(&folder.file(), same);
        let mut peer = life.connect();
        let hello = peer.hello(json!({"session": session}));
        assert_eq!(hello["result"]["table"], table);
        let mut again = peer.ask(&call);
        assert_eq!(again["redial"]["replayed"], true, "{again}");
        again.as_object_mut().unwrap().remove("redial");
        assert_eq!(again, reply);
    }
    let mut peer = life.connect();
    let next = peer.ask(
        &json!({"id": id(session, 1), "method": "add", "params": [1],
                                "redial": {"ack": 1}}),
    );
    assert_eq!(next["result"], 8, "each call had one effect");
    assert_eq!(
        peer.ask(&call)["error"]["code"],
        -32007,
        "acknowledged, it runs no more"
    );
    life.shut_down();
}

/// A promise that nothing will run: it holds in the next life, too.
#[test]
fn what_was_fenced_never_runs_in_the_next_life() {
    let folder = Folder::new("fenced");
    let life = Life::begin(&folder.file(), same);
    let mut peer = life.connect();
    let (session, _) = peer.open();
    let resolve = json!({"id": "r", "method": "rpc.resolve", "params": {"id": id(session, 0)}});
    assert_eq!(peer.ask(&resolve)["result"]["state"], "never");
    let cancel = json!({"id": "c", "method": "rpc.cancel", "params": {"id": id(session, 1)}});
    assert_eq!(peer.ask(&cancel)["result"]["state"], "never");
    life.crash();
    let life = Life::begin(&folder.file(), same);
    let mut peer = life.connect();
    for number in [0, 1] {
        let call = json!({"id": id(session, number), "method": "add", "params": [1]});
        let refusal = peer.ask(&call);
        assert_eq!(refusal["error"]["code"], -32007, "{refusal}");
        assert_eq!(refusal["error"]["data"]["executed"], "no");
    }
    life.shut_down();
}

/// A handler that never ends, in the first life.
fn stuck(started: &Arc<Notify>) -> impl FnOnce(ServerBuilder) -> ServerBuilder {
    let started = Arc::clone(started);
    move |server| {
        server.mutation("pay", move |(): (), _: Context| {
            let started = Arc::clone(&started);
            async move {
                started.notify_one();
                std::future::pending::<()>().await;
                Ok(())
            }
        })
    }
}

/// An effect outside the store, cut off in the middle: the call is never run again, and says so.
#[test]
fn an_interrupted_mutation_is_interrupted_for_good() {
    let folder = Folder::new("interrupted");
    let started = Arc::new(Notify::new());
    let life = Life::begin(&folder.file(), stuck(&started));
    let mut peer = life.connect();
    let (session, _) = peer.open();
    let call = json!({"id": id(session, 0), "method": "pay"});
    peer.send(&call);
    life.runtime.block_on(started.notified());
    life.crash();
    for _ in 0..2 {
        let life = Life::begin(&folder.file(), |server| {
            server.mutation("pay", async |(): ()| Ok("it ran again"))
        });
        let reply = life.connect().ask(&call);
        assert_eq!(reply["error"]["code"], -32008, "{reply}");
        assert_eq!(reply["error"]["data"]["executed"], "unknown");
        life.crash();
    }
}

/// A handler that the server has stopped, resumable or not: the record says so in every life, and nothing
/// runs again. Its timeout does not hold inside a transaction.
#[test]
fn a_mutation_that_ran_into_its_timeout_is_interrupted_for_good() {
    for is_resumable in [false, true] {
        let folder = Folder::new(&format!("timeout-{is_resumable}"));
        let started = Arc::new(Notify::new());
        let life = Life::begin(&folder.file(), |server| {
            let server = stuck(&started)(server).config(Config {
                execution_timeout: Some(Duration::from_millis(50)),
                ..Config::default()
            });
            let server = server.transaction_named("slow", |(): (), _, _| {
                // The test is about time that passes on the store's thread.
                std::thread::sleep(Duration::from_millis(200));
                Ok(1)
            });
            if is_resumable {
                server.resumable("pay")
            } else {
                server
            }
        });
        let mut peer = life.connect();
        let (session, _) = peer.open();
        let call = json!({"id": id(session, 0), "method": "pay"});
        let reply = peer.ask(&call);
        assert_eq!(reply["error"]["code"], -32008, "{reply}");
        let slow = json!({"id": id(session, 1), "method": "slow"});
        assert_eq!(peer.ask(&slow)["result"], 1);
        life.crash();
        let life = Life::begin(&folder.file(), |server| {
            let server = server.mutation("pay", async |(): ()| Ok("it ran again"));
            if is_resumable {
                server.resumable("pay")
            } else {
                server
            }
        });
        let again = life.connect().ask(&call);
        assert_eq!(again["error"], reply["error"]);
        assert_eq!(again["redial"]["replayed"], true);
        life.crash();
    }
    let limits = MethodLimits {
        execution_timeout: Some(Duration::from_secs(1)),
        ..MethodLimits::default()
    };
    let server = Server::builder().transaction_named("add", |(): (), _, _| Ok(()));
    let built = server.method_limits("add", limits).build();
    assert!(matches!(built, Err(BuildError::MethodLimits { .. })));
}

/// A layer around all methods, and one of them where no layer can be: it is not left without in silence.
#[test]
fn a_layer_around_a_transaction_is_an_error_of_the_program() {
    let folder = Folder::new("layer");
    let pass = async |call: LayerCall, next: Next| next.run(call).await;
    let server = || {
        let server = Server::builder().store(open(&folder.file()));
        server
            .transaction_named("add", |(): (), _, _| Ok(()))
            .query("get", async |(): ()| Ok(()))
    };
    let refused = server().layer(pass).build();
    assert!(matches!(refused, Err(BuildError::Layer { method, .. }) if method == "add"));
    let refused = server().layer_of("add", pass).build();
    let Err(error) = refused else {
        panic!("it was built");
    };
    assert!(error.to_string().contains("transaction"), "{error}");
    assert!(server().layer_of("get", pass).build().is_ok());
}

/// What a layer says of a mutation, in the lives after it: that it had no effect, though its handler was
/// stopped midway, or never started; and of one that is run again by itself.
#[test]
fn what_a_layer_says_of_a_mutation_is_durable() {
    let folder = Folder::new("layered");
    let started = Arc::new(Notify::new());
    let refusing = async |call: LayerCall, next: Next| {
        let no_effect = || Abort::no_effect("not now").code(8).into();
        match call.context().meta().get("how") {
            Some("cut") => {
                let run = tokio::time::timeout(Duration::from_millis(50), next.run(call));
                run.await.unwrap_or_else(|_| no_effect())
            }
            Some(_) => no_effect(),
            None => next.run(call).await,
        }
    };
    let life = Life::begin(&folder.file(), |server| {
        stuck(&started)(server)
            .resumable("pay")
            .layer_of("pay", refusing)
    });
    let mut peer = life.connect();
    let (session, _) = peer.open();
    let call = |number: u64, attempt: u32, how: Option<&str>| {
        let meta = how.map_or(json!({}), |how| json!({"how": how}));
        json!({"id": id(session, number), "method": "pay",
               "redial": {"attempt": attempt, "meta": meta}})
    };
    let cut = peer.ask(&call(0, 1, Some("cut")));
    assert_eq!(cut["error"]["code"], -32008, "{cut}");
    let refused = peer.ask(&call(1, 1, Some("refuse")));
    assert_eq!(refused["error"]["data"]["executed"], "no", "{refused}");
    peer.send(&call(2, 1, None));
    // Once of the call that was cut, and once of this one.
    for _ in 0..2 {
        life.runtime.block_on(started.notified());
    }
    life.crash();
    let resumed = Arc::new(AtomicU32::new(0));
    let life = Life::begin(&folder.file(), |server| {
        let resumed = Arc::clone(&resumed);
        let counting = move |call: LayerCall, next: Next| {
            resumed.fetch_add(1, SeqCst);
            next.run(call)
        };
        let server = server.mutation("pay", async |(): ()| Ok("paid"));
        server.resumable("pay").layer_of("pay", counting)
    });
    let mut peer = life.connect();
    assert_eq!(peer.ask(&call(0, 2, None))["error"], cut["error"]);
    assert_eq!(peer.ask(&call(2, 2, None))["result"], "paid");
    assert_eq!(
        resumed.load(SeqCst),
        1,
        "layers are around what is run again"
    );
    assert_eq!(
        peer.ask(&call(1, 2, None))["result"],
        "paid",
        "it was not executed"
    );
    assert_eq!(resumed.load(SeqCst), 2);
    life.shut_down();
}

/// The same where it is safe to run it again: the next life does so by itself, under the same id.
#[test]
fn a_resumable_mutation_is_run_again_under_its_id() {
    let folder = Folder::new("resumed");
    let started = Arc::new(Notify::new());
    let life = Life::begin(&folder.file(), {
        let stuck = stuck(&started);
        move |server| stuck(server).resumable("pay")
    });
    let mut peer = life.connect();
    let (session, _) = peer.open();
    let call = json!({"id": id(session, 0), "method": "pay"});
    peer.send(&call);
    life.runtime.block_on(started.notified());
    life.crash();
    let (runs, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None)));
    let life = Life::begin(&folder.file(), {
        let (runs, seen) = (Arc::clone(&runs), Arc::clone(&seen));
        move |server| {
            let pay = move |(): (), context: Context| {
                runs.fetch_add(1, SeqCst);
                *seen.lock().unwrap() = context.call_id();
                std::future::ready(Ok("paid"))
            };
            server.mutation("pay", pay).resumable("pay")
        }
    });
    let mut peer = life.connect();
    assert_eq!(peer.ask(&call)["result"], "paid");
    let resolve = json!({"id": "r", "method": "rpc.resolve", "params": {"id": id(session, 0)}});
    assert_eq!(peer.ask(&resolve)["result"]["result"], "paid");
    assert_eq!(runs.load(SeqCst), 1);
    assert_eq!(
        seen.lock().unwrap().clone().map(Value::from),
        Some(id(session, 0))
    );
    life.shut_down();
}

/// A plain id is known again, for a `ttl` from the start of the next life on.
#[test]
fn a_plain_id_is_known_in_the_next_life() {
    let folder = Folder::new("plain");
    let call = json!({"id": "an order of ours", "method": "add", "params": [3]});
    let life = Life::begin(&folder.file(), same);
    let reply = life.connect().ask(&call);
    life.crash();
    let life = Life::begin(&folder.file(), same);
    assert_eq!(life.connect().ask(&call), reply);
    let other = json!({"id": "another order", "method": "add", "params": [1]});
    assert_eq!(life.connect().ask(&other)["result"], 4);
    life.shut_down();
}

/// A method that needs a store is not served without one.
#[test]
fn a_transaction_without_a_store_is_an_error_of_the_program() {
    let built = Server::builder()
        .transaction_named("add", |(): (), _, _| Ok(()))
        .build();
    assert!(matches!(built, Err(BuildError::NoStore(name)) if name == "add"));
}

/// Two limits that say the same thing and disagree: the store would forget an id that the server still promises to
/// know.
#[test]
fn a_store_that_forgets_plain_ids_too_early_is_an_error_of_the_program() {
    let folder = Folder::new("ttl");
    let [short, long] = [1, 10].map(Duration::from_secs);
    for (of_store, of_server) in [(short, long), (long, long), (long, short)] {
        let store = SqliteStore::options()
            .ttl(of_store)
            .open(folder.file())
            .unwrap();
        let config = Config {
            ttl: of_server,
            ..Config::default()
        };
        let built = Server::builder().config(config).store(store).build();
        let Err(error) = built else {
            assert!(of_store >= of_server);
            continue;
        };
        let expected = BuildError::StoreTtl {
            store: short,
            server: long,
        };
        assert_eq!(error.to_string(), expected.to_string());
        assert!(of_store < of_server);
    }
}
