//! Programs that fork after they have made a client or a server, as those do that start their
//! workers that way: each process counts its own calls, and each call counts once.
//!
//! Its own program, and not a test of a harness with threads: only the thread that forks goes on in
//! the copy.

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
#[path = "it/counter_server.rs"]
mod counter_server;

#[cfg(unix)]
mod unix {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        process::{Command, exit},
        time::Duration,
    };

    use fork::{Fork, fork, waitpid};
    use redial_client::{Client, Config};
    use redial_server::Server;
    use serde_json::{Value, json};
    use tokio::runtime::{Builder, Runtime};

    use super::counter_server::CounterServer;

    const CALLS: u64 = 50;

    pub(super) fn main() {
        for sessions in [false, true] {
            let config = Config {
                sessions,
                ..Config::default()
            };
            for used_before in [false, true] {
                a_client_counts_its_calls_in_each_process(&config, used_before);
            }
            a_copy_that_ends_takes_nothing_along(&config);
        }
        a_server_opens_other_sessions_in_each_process();
        println!("test result: ok. forked clients and servers");
    }

    /// Its randomness, its connections and its session were made, or not, before the fork.
    fn a_client_counts_its_calls_in_each_process(config: &Config, used_before: bool) {
        let server = CounterServer::start([""; 0]);
        let before = runtime();
        let client = client(&server, config);
        let mut expected = 0;
        if used_before {
            call_all(&before, &client);
            expected += CALLS;
        }
        let child = child(|| call_all(&runtime(), &client));
        call_all(&before, &client);
        assert_eq!(waitpid(child).unwrap(), 0, "a call of the copy failed");
        expected += 2 * CALLS;
        let effects = before.block_on(client.query("get", json!({"key": "k"})).into_future());
        let effects = effects.unwrap()["value"].as_u64();
        assert_eq!(
            effects,
            Some(expected),
            "{} sessions, used before: {used_before}",
            if config.sessions { "with" } else { "without" }
        );
    }

    fn a_copy_that_ends_takes_nothing_along(config: &Config) {
        let server = CounterServer::start([""; 0]);
        let runtime = runtime();
        let client = client(&server, config);
        call_all(&runtime, &client);
        let child = child(|| drop(client.clone()));
        assert_eq!(waitpid(child).unwrap(), 0);
        call_all(&runtime, &client);
        let stats = client.stats();
        assert_eq!((stats.connects, stats.sessions_lost), (1, 0));
    }

    fn a_server_opens_other_sessions_in_each_process() {
        let server = Server::builder().build().unwrap();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [of_parent, of_child] = [0, 1].map(|at| listeners[at].local_addr().unwrap());
        let [for_parent, for_child] = listeners;
        let serve = move |listener: TcpListener| {
            listener.set_nonblocking(true).unwrap();
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                server.serve(listener).await.unwrap();
            });
        };
        let in_child = serve.clone();
        let child = child(move || in_child(for_child));
        std::thread::spawn(move || serve(for_parent));
        let mut peers = [of_parent, of_child].map(|address| TcpStream::connect(address).unwrap());
        let [mut known, mut tables] = [Vec::new(), Vec::new()];
        for peer in &mut peers {
            for _ in 0..8 {
                let hello = call(peer, &json!({}));
                let session = hello["result"]["session"].as_str().unwrap().to_owned();
                assert!(!known.contains(&session), "a session in two processes");
                known.push(session);
                tables.push(hello["result"]["table"].to_string());
            }
        }
        assert_ne!(tables[0], tables[8], "two tables have one name");
        let stranger = call(&mut peers[1], &json!({"session": known[0]}));
        assert_eq!(stranger["error"]["code"], -32004, "{stranger}");
        let kill = Command::new("kill").arg(child.to_string()).status();
        assert!(kill.unwrap().success());
        waitpid(child).unwrap();
    }

    fn call(peer: &mut TcpStream, params: &Value) -> Value {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "rpc.hello", "params": params});
        let text = hello.to_string();
        let header = (text.len() as u32).to_be_bytes();
        peer.write_all(&[&header, text.as_bytes()].concat())
            .unwrap();
        let mut header = [0; 4];
        peer.read_exact(&mut header).unwrap();
        let mut text = vec![0; u32::from_be_bytes(header) as usize];
        peer.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// All alike: only their ids say which of them are one call.
    fn call_all(runtime: &Runtime, client: &Client) {
        runtime.block_on(async {
            for _ in 0..CALLS {
                let inc = client.request("inc", json!({"key": "k"}));
                inc.await.expect("no call fails");
            }
        });
    }

    /// Runs in a copy of this process, which ends with it.
    fn child(run: impl FnOnce()) -> i32 {
        match fork().expect("the system can fork") {
            Fork::Parent(child) => child,
            Fork::Child => {
                let run = std::panic::AssertUnwindSafe(run);
                exit(i32::from(std::panic::catch_unwind(run).is_err()));
            }
        }
    }

    fn client(server: &CounterServer, config: &Config) -> Client {
        let mut config = config.clone();
        config.call.deadline = Duration::from_secs(30);
        let builder = Client::builder().config(config);
        builder.connect_lazy(server.address.as_str()).unwrap()
    }
}
