//! Several servers at once, which answer by themselves, in virtual time: what each executes is noted,
//! and each can be killed, cut off, silenced or sent home.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_client::{Addresses, Client, ClientBuilder, Connector, Endpoint};
use serde_json::json;
use tokio::{io::DuplexStream, sync::watch};

use super::{
    Network, Peer, SentRequest, network,
    session::{Sessions, call},
};

/// Every effect, by the key of the call, and which server had it.
pub(crate) type Effects = Arc<Mutex<BTreeMap<String, Vec<usize>>>>;

/// Servers, and the network to them.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Server>,
    pub(crate) effects: Effects,
}

/// One server.
pub(crate) struct Server {
    state: Arc<ServerState>,
    connector: Arc<dyn CloneConnect>,
    sessions: SlotOfSessions,
}

/// The table of a server, which may get another one.
type SlotOfSessions = Arc<Mutex<SharedSessions>>;

type SharedSessions = Arc<tokio::sync::Mutex<Sessions>>;

struct ServerState {
    number: usize,
    /// Connections are refused.
    is_down: AtomicBool,
    /// What is sent to it is read, and never answered.
    is_silent: AtomicBool,
    /// Connections are neither made nor refused.
    is_full: AtomicBool,
    /// It has no sessions, and executes whatever it gets.
    is_plain: AtomicBool,
    /// Its next so many calls have their effect, and no reply.
    loses_replies: AtomicUsize,
    /// How many calls it got, attempts included.
    calls: AtomicUsize,
    /// Connections are to end, all of those that there are.
    cut: watch::Sender<u32>,
    goaway: watch::Sender<u32>,
    effects: Effects,
}

trait CloneConnect: Send + Sync {
    fn connect(&self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;
}

impl<C: Connector<Io = DuplexStream> + Clone> CloneConnect for C {
    fn connect(&self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>> {
        let connector = self.clone();
        Box::pin(async move { Connector::connect(&connector).await })
    }
}

/// What connects to one server.
pub(crate) struct ToServer {
    state: Arc<ServerState>,
    connector: Arc<dyn CloneConnect>,
    peer: String,
}

impl Connector for ToServer {
    type Io = DuplexStream;

    async fn connect(&self) -> io::Result<DuplexStream> {
        if self.state.is_down.load(SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if self.state.is_full.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.connector.connect().await
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }
}

/// The address of a server.
pub(crate) fn address(server: usize) -> String {
    format!("s{server}:1")
}

impl Fleet {
    /// Servers with these tables. Those with one name share it.
    pub(crate) fn new(tables: &[&'static str]) -> Self {
        let effects = Effects::default();
        let mut shared: BTreeMap<&str, SharedSessions> = BTreeMap::new();
        let server = |(number, table): (usize, &&'static str)| {
            let sessions = shared.entry(*table).or_insert_with(|| {
                let mut sessions = Sessions::new();
                sessions.table = *table;
                // So that no two tables open sessions of one name.
                sessions.opened = 1_000 * number as u64;
                Arc::new(tokio::sync::Mutex::new(sessions))
            });
            Server::start(number, sessions.clone(), effects.clone())
        };
        let servers = tables.iter().enumerate().map(server).collect();
        Self { servers, effects }
    }

    /// What connects to each of them.
    pub(crate) fn connector(&self) -> impl Fn(&Endpoint) -> ToServer + Send + Sync + use<> {
        let servers: Vec<_> = self.servers.iter().map(Server::to).collect();
        move |endpoint| {
            let text = endpoint.address().to_string();
            let number = text.trim_start_matches('s').trim_end_matches(":1");
            let server: &(Arc<ServerState>, Arc<dyn CloneConnect>) =
                &servers[number.parse::<usize>().unwrap()];
            ToServer {
                state: server.0.clone(),
                connector: server.1.clone(),
                peer: text,
            }
        }
    }

    /// All of their addresses.
    pub(crate) fn addresses(&self) -> Addresses {
        (0..self.servers.len()).map(address).collect()
    }

    /// A client of all of them, once it has all its connections.
    pub(crate) async fn client(&self, builder: ClientBuilder) -> Client {
        let client = builder.connect_endpoints_with(self.addresses(), self.connector());
        let client = client.await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        client
    }

    /// The next so many calls of each server have their effect, and no reply.
    pub(crate) fn lose_replies(&self, count: usize) {
        for server in &self.servers {
            server.lose_replies(count);
        }
    }

    /// How often each call had its effect.
    pub(crate) fn executions(&self, key: &str) -> usize {
        self.effects.lock().unwrap().get(key).map_or(0, Vec::len)
    }

    /// No call had its effect twice.
    pub(crate) fn check(&self) {
        for (key, servers) in &*self.effects.lock().unwrap() {
            assert_eq!(servers.len(), 1, "{key} was executed by {servers:?}");
        }
    }
}

impl Server {
    fn start(number: usize, sessions: SharedSessions, effects: Effects) -> Self {
        let (network, connector) = network(1 << 16);
        let state = Arc::new(ServerState {
            number,
            is_down: false.into(),
            is_silent: false.into(),
            is_full: false.into(),
            is_plain: false.into(),
            loses_replies: 0.into(),
            calls: 0.into(),
            cut: watch::Sender::new(0),
            goaway: watch::Sender::new(0),
            effects,
        });
        let sessions = Arc::new(Mutex::new(sessions));
        tokio::spawn(accept(network, state.clone(), sessions.clone()));
        Self {
            state,
            connector: Arc::new(connector),
            sessions,
        }
    }

    fn to(&self) -> (Arc<ServerState>, Arc<dyn CloneConnect>) {
        (self.state.clone(), self.connector.clone())
    }

    /// Its connections end, and no other can be made.
    pub(crate) fn kill(&self) {
        self.state.is_down.store(true, SeqCst);
        self.cut();
    }

    /// It is there again, with its table if that is shared or durable.
    pub(crate) fn revive(&self) {
        self.state.is_down.store(false, SeqCst);
        self.state.is_full.store(false, SeqCst);
        self.silence(false);
    }

    /// It has lost its table, and has another one now.
    pub(crate) async fn forget(&self, table: &'static str) {
        let sessions = self.sessions.lock().unwrap().clone();
        let mut sessions = sessions.lock().await;
        sessions.known.clear();
        sessions.table = table;
    }

    /// From the next connection on it has the table of another one.
    pub(crate) fn become_like(&self, other: &Self) {
        let sessions = other.sessions.lock().unwrap().clone();
        *self.sessions.lock().unwrap() = sessions;
    }

    pub(crate) fn cut(&self) {
        self.state.cut.send_modify(|count| *count += 1);
    }

    pub(crate) fn silence(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, SeqCst);
    }

    /// A listener whose queue is full, behind which no process accepts.
    pub(crate) fn fill(&self) {
        self.state.is_full.store(true, SeqCst);
    }

    pub(crate) fn be_plain(&self) {
        self.state.is_plain.store(true, SeqCst);
    }

    pub(crate) fn lose_replies(&self, count: usize) {
        self.state.loses_replies.store(count, SeqCst);
    }

    /// It says on all its connections that it shuts down, and takes no other.
    pub(crate) fn say_goaway(&self) {
        self.state.is_down.store(true, SeqCst);
        self.state.goaway.send_modify(|count| *count += 1);
    }

    /// How many attempts it got.
    pub(crate) fn calls(&self) -> usize {
        self.state.calls.load(SeqCst)
    }

    /// How many sessions of its table have not ended.
    pub(crate) async fn sessions_in_use(&self) -> usize {
        let sessions = self.sessions.lock().unwrap().clone();
        let sessions = sessions.lock().await;
        let known = sessions.known.keys();
        known.filter(|id| !sessions.ended.contains(*id)).count()
    }
}

async fn accept(mut network: Network, state: Arc<ServerState>, sessions: SlotOfSessions) {
    loop {
        let Some(peer) = network.accept_unhurried().await else {
            return;
        };
        let sessions = sessions.lock().unwrap().clone();
        tokio::spawn(serve(peer, state.clone(), sessions));
    }
}

async fn serve(mut peer: Peer, state: Arc<ServerState>, sessions: SharedSessions) {
    peer.shows_pings = true;
    let (mut cut, mut goaway) = (state.cut.subscribe(), state.goaway.subscribe());
    loop {
        tokio::select! {
            biased;
            _ = cut.changed() => return,
            _ = goaway.changed() => {
                peer.frame(br#"{"jsonrpc":"2.0","method":"rpc.goaway"}"#).await;
            }
            seen = peer.unhurried_request() => {
                let Some(seen) = seen else { return };
                if !state.is_silent.load(SeqCst) {
                    answer(&mut peer, &state, &sessions, &seen).await;
                }
            }
        }
    }
}

async fn answer(
    peer: &mut Peer,
    state: &ServerState,
    sessions: &SharedSessions,
    seen: &SentRequest,
) {
    let is_call = !seen.method.starts_with("rpc.");
    if state.is_plain.load(SeqCst) {
        match seen.method.as_str() {
            "rpc.ping" => peer.result(seen, json!("pong")).await,
            _ if is_call => {
                if state.executes(seen) {
                    peer.result(seen, json!(state.number)).await;
                }
            }
            _ => peer.error(seen, -32601, json!(null)).await,
        }
        return;
    }
    let mut sessions = sessions.lock().await;
    if !is_call {
        peer.serve(&mut sessions, seen).await;
        return;
    }
    let id = call(seen);
    let known = id.and_then(|id| sessions.known.get(&id.session.to_string()));
    let record = known
        .and_then(|table| table.executed.get(&id?.number))
        .cloned();
    match (record, known.is_some()) {
        (Some(value), _) => {
            state.calls.fetch_add(1, SeqCst);
            peer.result(seen, value).await;
        }
        (None, true) => {
            let number = state.number;
            if state.executes(seen) {
                peer.execute(&mut sessions, seen, json!(number)).await;
            } else {
                let (session, number) = id.map(|id| (id.session, id.number)).unwrap();
                let table = sessions.known.get_mut(&session.to_string()).unwrap();
                table.executed.insert(number, json!(state.number));
            }
        }
        (None, false) => peer.execute(&mut sessions, seen, json!(0)).await,
    }
}

impl ServerState {
    /// The effect. Whether a reply follows.
    fn executes(&self, seen: &SentRequest) -> bool {
        self.calls.fetch_add(1, SeqCst);
        let key = seen.params["key"].as_str().unwrap_or("?").to_owned();
        if seen.method != "get" {
            let mut effects = self.effects.lock().unwrap();
            effects.entry(key).or_default().push(self.number);
        }
        let fewer = |left: usize| left.checked_sub(1);
        self.loses_replies
            .fetch_update(SeqCst, SeqCst, fewer)
            .is_err()
    }
}
