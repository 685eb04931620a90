//! The promise over every transport: what is duplicated, lost, cut off or killed on the way counts once,
//! over TCP, TLS, TLS with client certificates and Unix sockets alike.

use std::{
    collections::HashMap,
    future::IntoFuture,
    sync::{Arc, Mutex, mpsc},
};

use redial_client::{CallError, Client, ClientBuilder, ClientTls, Config as ClientConfig};
use redial_protocol::Address;
use redial_server::{Config, Context, CutPoint, Fault, FaultRule, Server, ServerTls};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use crate::{
    doors::Files,
    world::{ms, patient, seconds},
};

#[derive(Clone, Copy, PartialEq)]
enum Transport {
    Tcp,
    Tls,
    Mtls,
    #[cfg(unix)]
    Unix,
}

/// How often each call took effect, in all lives of the server.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<HashMap<u64, u64>>>);

impl Effects {
    fn of(&self, call: u64) -> u64 {
        self.0.lock().unwrap().get(&call).copied().unwrap_or(0)
    }
}

/// One life of a server, and what its clients need to find it.
struct RestartedServer {
    transport: Transport,
    files: Files,
    effects: Effects,
    address: Address,
    life: Option<ServerLife>,
}

struct ServerLife {
    server: Server,
    runtime: Runtime,
}

impl RestartedServer {
    fn new(transport: Transport) -> Self {
        let files = Files::new();
        let address = match transport {
            #[cfg(unix)]
            Transport::Unix => format!("unix:{}/s", files.folder.display()).into(),
            _ => "127.0.0.1:0".into(),
        };
        let mut server = Self {
            transport,
            files,
            effects: Effects::default(),
            address,
            life: None,
        };
        server.begin();
        server
    }

    /// Begins a life of the server, at the address of the one before it.
    fn begin(&mut self) {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let effects = self.effects.clone();
        let server = Server::builder()
            .config(Config::default())
            .unix_principals(true)
            .mutation("run", move |(call,): (u64,), _: Context| {
                *effects.0.lock().unwrap().entry(call).or_default() += 1;
                async move { Ok(call) }
            })
            .build()
            .unwrap();
        let (serving, tls, address) = (server.clone(), self.server_tls(), self.address.clone());
        let (bound, listens) = mpsc::channel();
        runtime.spawn(async move {
            let listener = loop {
                // The life before may take a moment to end.
                if let Ok(listener) = serving.listen(address.clone()).await {
                    break listener;
                }
                tokio::time::sleep(ms(1)).await;
            };
            bound.send(listener.local_addr().unwrap()).unwrap();
            match tls {
                Some(tls) => serving.serve_tls(listener, tls).await,
                None => serving.serve(listener).await,
            }
        });
        self.address = listens.recv().expect("it listens");
        self.life = Some(ServerLife { server, runtime });
    }

    /// Ends the life as a crash does: nothing is answered any more.
    fn kill(&mut self) {
        let life = self.life.take().expect("it lives");
        life.runtime.shutdown_background();
    }

    fn fault(&self, faults: &[(Fault, f64)]) {
        let life = self.life.as_ref().expect("it lives");
        let rule = |(fault, p): &(Fault, f64)| FaultRule::new(*fault, *p).unwrap();
        life.server
            .faults()
            .set(faults.iter().map(rule).collect::<Vec<_>>());
    }

    fn server_tls(&self) -> Option<ServerTls> {
        let path = |name: &str| self.files.folder.join(name);
        let builder = ServerTls::builder();
        let builder = builder.certificate_files(path("server.pem"), path("server-key.pem"));
        match self.transport {
            Transport::Tls => Some(builder.build().unwrap()),
            Transport::Mtls => Some(builder.client_ca_file(path("ca.pem")).build().unwrap()),
            _ => None,
        }
    }

    fn client(&self, config: ClientConfig) -> ClientBuilder {
        let path = |name: &str| self.files.folder.join(name);
        let builder = Client::builder().config(config);
        let roots = ClientTls::builder().roots_file(path("ca.pem"));
        match self.transport {
            Transport::Tls => builder.tls(roots.build().unwrap()),
            Transport::Mtls => {
                let tls = roots.certificate_files(path("client.pem"), path("client-key.pem"));
                builder.tls(tls.build().unwrap())
            }
            _ => builder,
        }
    }
}

fn config() -> ClientConfig {
    let mut config = patient();
    config.call.attempt_timeout = ms(100);
    config
}

const CALLS: u64 = 150;

/// Makes the calls; all that end well ran once, and none ran twice.
async fn all_succeed(server: &RestartedServer) {
    let client = server
        .client(config())
        .connect(server.address.clone())
        .await
        .unwrap();
    let calls = (0..CALLS).map(|call| client.request("run", (call,)).into_future());
    for outcome in calls.collect::<JoinSet<_>>().join_all().await {
        outcome.unwrap();
    }
    client.close().await;
    // What was duplicated may still come.
    tokio::time::sleep(ms(50)).await;
    for call in 0..CALLS {
        assert_eq!(server.effects.of(call), 1, "call {call}");
    }
}

async fn duplicates(server: &mut RestartedServer) {
    server.fault(&[(Fault::Duplicate, 1.0)]);
    all_succeed(server).await;
}

async fn lost(server: &mut RestartedServer) {
    server.fault(&[(Fault::DropRequest, 0.2), (Fault::DropReply, 0.3)]);
    all_succeed(server).await;
}

async fn cuts(server: &mut RestartedServer) {
    let points = [
        CutPoint::BeforeExecution,
        CutPoint::BeforeReply,
        CutPoint::MidReply,
    ];
    let cuts = points.map(|point| (Fault::Cut(point), 0.02));
    server.fault(&cuts);
    all_succeed(server).await;
}

/// A call whose caller is gone is asked for by another one, over another connection.
async fn replays(server: &mut RestartedServer) {
    let first = server
        .client(config())
        .connect(server.address.clone())
        .await
        .unwrap();
    let mut call = first.request("run", (7,));
    let token = call.token().await.unwrap();
    let saved = serde_json::to_string(&token).unwrap();
    call.await.unwrap();
    // As if it had crashed: its session is not ended.
    std::mem::forget(first);
    let second = server
        .client(config())
        .connect(server.address.clone())
        .await
        .unwrap();
    let token: redial_client::CallToken = serde_json::from_str(&saved).unwrap();
    let resumed = second.resume(token).await.unwrap();
    assert_eq!((resumed, server.effects.of(7)), (7.into(), 1));
}

/// The server crashes again and again. Without a store a call may end as unknown, and none runs twice.
async fn kills(server: &mut RestartedServer) {
    let mut config = config();
    config.call.deadline = seconds(20);
    let client = server
        .client(config)
        .connect(server.address.clone())
        .await
        .unwrap();
    let mut call = 0;
    let (mut ok, mut unknown) = (0, 0);
    for _ in 0..8 {
        let calls = (call..call + 20).map(|call| {
            let request = client.request("run", (call,)).into_future();
            async move { (call, request.await) }
        });
        let calls = calls.collect::<JoinSet<_>>();
        call += 20;
        tokio::time::sleep(ms(3)).await;
        server.kill();
        server.begin();
        for (call, outcome) in calls.join_all().await {
            let effects = server.effects.of(call);
            match outcome {
                Ok(_) => {
                    assert_eq!(effects, 1, "call {call} is ok");
                    ok += 1;
                }
                Err(CallError::NotExecuted { .. }) => assert_eq!(effects, 0, "call {call}"),
                Err(CallError::Unknown { .. }) => {
                    assert!(effects <= 1, "call {call} ran {effects} times");
                    unknown += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!("{ok} ok, {unknown} unknown");
    goes_on(server, &client, call).await;
}

/// After all that the client goes on with the server that there is, once it knows of it.
async fn goes_on(server: &RestartedServer, client: &Client, from: u64) {
    for call in from..from + 20 {
        if client.request("run", (call,)).await.is_ok() {
            assert_eq!(server.effects.of(call), 1);
            return;
        }
    }
    panic!("no call succeeds any more");
}

/// Each line of the list over each transport.
macro_rules! matrix {
    ($($scenario:ident),*) => {$(
        mod $scenario {
            use super::{RestartedServer, Transport, Builder};

            fn run(transport: Transport) {
                let mut server = RestartedServer::new(transport);
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(super::$scenario(&mut server));
                server.kill();
            }

            #[test]
            fn over_tcp() {
                run(Transport::Tcp);
            }

            #[test]
            fn over_tls() {
                run(Transport::Tls);
            }

            #[test]
            fn over_mtls() {
                run(Transport::Mtls);
            }

            #[cfg(unix)]
            #[test]
            fn over_unix() {
                run(Transport::Unix);
            }
        }
    )*};
}

matrix!(duplicates, lost, cuts, replays, kills);
