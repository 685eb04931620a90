//! The program, and servers for it: Redial's, and others that know less.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use redial_server::{Abort, FaultControl, Server, ServerBuilder, ServerTls, TokenFile};
use redial_test_ca::TestCa;
use serde_json::{Value, json};

/// What the program did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// Its output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Where nothing of the user's own configuration is found.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redial"));
    command.env_clear().env("HOME", "/nonexistent");
    command
}

/// Runs the program with words, of which none has a blank in it.
pub(crate) fn redial(words: &str) -> Run {
    run(command().args(words.split_whitespace()))
}

/// Words that make no sense: what is wrong is named, with what would be right, and nothing is done.
#[track_caller]
pub(crate) fn refuses(words: &str, said: [&str; 2]) {
    let run = redial(words);
    assert_eq!((run.code, &*run.out), (2, ""), "{words}: {run:?}");
    for said in said {
        assert!(run.err.contains(said), "{words}: no {said:?}: {run:?}");
    }
}

/// An address on which none listens any more.
pub(crate) fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

pub(crate) fn run(command: &mut Command) -> Run {
    run_with_input(command, b"")
}

pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Run {
    let command = command.stdin(Stdio::piped());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A folder that is gone with its test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let name = format!("redial-cli-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// The path of a file in it, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Redial's server, with counters: `inc`, `get`, `fail`, and `hang`, whose handler never ends.
pub(crate) struct CounterServer {
    pub(crate) address: String,
    pub(crate) server: Server,
    counters: Arc<Mutex<BTreeMap<String, i64>>>,
    /// The server ends with it.
    runtime: Option<tokio::runtime::Runtime>,
}

/// How it is reached.
pub(crate) enum Door {
    Tcp,
    Unix(PathBuf),
    /// With a certificate of this authority, and asking for tokens of this file.
    Tls(ServerTls, TokenFile),
}

impl CounterServer {
    pub(crate) fn start() -> Self {
        Self::start_at(Door::Tcp)
    }

    pub(crate) fn start_at(door: Door) -> Self {
        let counters = Arc::default();
        let mut builder = methods(&counters);
        let mut tls = None;
        let at = match door {
            Door::Tcp => "127.0.0.1:0".to_owned(),
            Door::Unix(path) => format!("unix:{}", path.display()),
            Door::Tls(found, tokens) => {
                tls = Some(found);
                builder = builder.authenticate(tokens);
                "127.0.0.1:0".to_owned()
            }
        };
        let server = builder.build().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(server.listen(&*at)).unwrap();
        let local = listener.local_addr();
        let address = if at.starts_with("unix:") {
            at
        } else {
            local.unwrap().to_string()
        };
        let serving = server.clone();
        runtime.spawn(async move {
            match tls {
                Some(tls) => serving.serve_tls(listener, tls).await,
                None => serving.serve(listener).await,
            }
        });
        let runtime = Some(runtime);
        Self {
            address,
            server,
            counters,
            runtime,
        }
    }

    /// A counter's value, without a call.
    pub(crate) fn value(&self, key: &str) -> i64 {
        self.counters.lock().unwrap().get(key).copied().unwrap_or(0)
    }

    /// Runs the program, whose words have `ADDR` for the address.
    pub(crate) fn run(&self, words: &str) -> Run {
        redial(&words.replace("ADDR", &self.address))
    }
}

impl Drop for CounterServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn methods(counters: &Arc<Mutex<BTreeMap<String, i64>>>) -> ServerBuilder {
    let (adding, reading) = (Arc::clone(counters), Arc::clone(counters));
    let key = |params: &Value| params["key"].as_str().unwrap_or("k").to_owned();
    Server::builder()
        .fault_control(FaultControl::Local)
        .info("counters", "7")
        .mutation("inc", move |params: Value| {
            let counters = Arc::clone(&adding);
            async move {
                let mut counters = counters.lock().unwrap();
                let value = counters.entry(key(&params)).or_default();
                *value += params["delta"].as_i64().unwrap_or(1);
                Ok(json!({"key": key(&params), "value": *value}))
            }
        })
        .query("get", move |params: Value| {
            let counters = Arc::clone(&reading);
            async move {
                let counters = counters.lock().unwrap();
                Ok(json!({"value": counters.get(&key(&params)).copied().unwrap_or(0)}))
            }
        })
        .mutation("fail", async |_: Value| {
            Err::<(), _>(Abort::failed("not enough").code(7))
        })
        .mutation("hang", async |_: Value| {
            std::future::pending::<()>().await;
            Ok(())
        })
}

/// A server of another make: one request after the other, answered by a function that gives the reply,
/// or nothing.
pub(crate) struct OtherServer {
    pub(crate) address: String,
    /// What it was sent.
    pub(crate) requests: mpsc::Receiver<Value>,
}

impl OtherServer {
    pub(crate) fn start(answer: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, requests) = mpsc::channel();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (sender, answer) = (sender.clone(), answer.clone());
                thread::spawn(move || serve(connection, &sender, &*answer));
            }
        });
        Self { address, requests }
    }

    /// JSON-RPC 2.0, and one method, whose result is made of its params.
    pub(crate) fn of_method(
        name: &'static str,
        result: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |request| {
            let reply = |result| json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
            Some(if request["method"] == name {
                reply(result(&request["params"]))
            } else {
                Self::no_method(request)
            })
        })
    }

    /// JSON-RPC 2.0, and nothing else: it doesn't know the method.
    pub(crate) fn no_method(request: &Value) -> Value {
        let error = json!({"code": -32601, "message": "Method not found"});
        json!({"jsonrpc": "2.0", "id": request["id"], "error": error})
    }
}

fn serve(
    mut connection: TcpStream,
    requests: &mpsc::Sender<Value>,
    answer: &dyn Fn(&Value) -> Option<Value>,
) -> Option<()> {
    loop {
        let mut length = [0; 4];
        connection.read_exact(&mut length).ok()?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut message).ok()?;
        let request = serde_json::from_slice(&message).unwrap();
        let reply = answer(&request);
        let _ = requests.send(request);
        if let Some(reply) = reply {
            connection.write_all(&frame(&reply.to_string())).ok()?;
        }
    }
}

/// A message with its length before it.
pub(crate) fn frame(message: &str) -> Vec<u8> {
    let mut frame = (message.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(message.as_bytes());
    frame
}

/// TLS for a server on loopback, a token that it asks for, and the files that a client needs for both:
/// `ca.pem` and `token`.
pub(crate) fn tls_door(folder: &Folder) -> Door {
    let ca = TestCa::new("redial-cli");
    folder.write("ca.pem", ca.pem());
    folder.write("token", "open sesame\n");
    let tokens = folder.write("tokens", TokenFile::line("billing", "open sesame") + "\n");
    let (certificate, key) = ca
        .sign(&["127.0.0.1"])
        .write(Path::new(&folder.0), "server")
        .unwrap();
    let tls = ServerTls::builder()
        .certificate_files(certificate, key)
        .build()
        .unwrap();
    Door::Tls(tls, TokenFile::open(tokens).unwrap())
}
