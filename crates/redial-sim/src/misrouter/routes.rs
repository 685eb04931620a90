//! Where the frames of one client go under each bug, and under which names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use crate::{bug::Bug, clock, journal::numbered, scenario::EndpointsPlan};

/// A later attempt that is made within this time of the first, whose connection stands, is taken for a hedge.
const HEDGED_WITHIN: Duration = Duration::from_millis(40);

/// All clones are of one client.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Mutex<RouteState>>);

struct RouteState {
    bug: Bug,
    /// For each address one that leads to another server, if there is one.
    others: Vec<Option<u32>>,
    /// How many connections there were, and those that are gone.
    opened: u32,
    closed: BTreeSet<u32>,
    /// The connection of each call's first attempt, and when that was.
    first: BTreeMap<String, (u32, Instant)>,
    disguise: Option<Disguise>,
    /// The session that stands for it at each address.
    sessions: BTreeMap<u32, String>,
    /// The hellos that wait for an answer, by address and id.
    hellos: BTreeSet<(u32, String)>,
}

/// What the client takes for the one table, and for its session there.
#[derive(Clone)]
struct Disguise {
    table: String,
    session: String,
}

/// The text with the names of one session in place of those of another.
pub(super) fn renamed(text: &str, from: &str, to: &str) -> String {
    let prefix =
        |session: &str| format!("{}-{}-8{}", &session[..8], &session[8..12], &session[12..]);
    text.replace(&prefix(from), &prefix(to)).replace(from, to)
}

impl Routes {
    pub(crate) fn new(bug: Bug, plan: Option<&EndpointsPlan>) -> Self {
        let addresses = plan.map_or(&[][..], |plan| &plan.addresses);
        let other = |own: &Vec<u32>| {
            let mut others = addresses.iter();
            let other = others.position(|other| other.iter().all(|server| !own.contains(server)));
            other.map(|other| other as u32)
        };
        Self(Arc::new(Mutex::new(RouteState {
            bug,
            others: addresses.iter().map(other).collect(),
            opened: 0,
            closed: BTreeSet::new(),
            first: BTreeMap::new(),
            disguise: None,
            sessions: BTreeMap::new(),
            hellos: BTreeSet::new(),
        })))
    }

    /// The number of a new connection.
    pub(super) fn open(&self) -> u32 {
        let mut state = self.lock();
        state.opened += 1;
        state.opened
    }

    pub(super) fn close(&self, connection: u32) {
        self.lock().closed.insert(connection);
    }

    /// The address to which a message goes instead, under a bug that has it go elsewhere.
    pub(super) fn elsewhere(&self, message: &Value, own: u32, connection: u32) -> Option<u32> {
        let mut state = self.lock();
        let is_mutation = message["params"]["call"].is_u64() && message["method"] != "get";
        let id = message["id"].to_string();
        if state.bug == Bug::TableIgnored || !is_mutation || numbered(&id).is_none() {
            return None;
        }
        let now = clock::now();
        let (first, at) = *state.first.entry(id).or_insert((connection, now));
        if message["redial"]["attempt"].as_u64().unwrap_or(1) < 2 {
            return None;
        }
        let is_lost = state.closed.contains(&first);
        let goes = match state.bug {
            Bug::LostElsewhere => is_lost,
            Bug::HedgeElsewhere => !is_lost && now - at <= HEDGED_WITHIN,
            _ => true,
        };
        state.others[own as usize].filter(|_| goes)
    }

    /// What is sent to a server that is passed off as one of the client's table.
    pub(super) fn disguised(&self, message: &Value, text: &str, address: u32) -> String {
        let mut state = self.lock();
        if state.bug != Bug::TableIgnored {
            return text.to_owned();
        }
        if message["method"] == "rpc.hello" {
            state.hellos.insert((address, message["id"].to_string()));
        }
        let Some(disguise) = state.disguise.clone() else {
            return text.to_owned();
        };
        match state.sessions.get(&address) {
            Some(session) => renamed(text, &disguise.session, session),
            None if message["params"]["session"] == *disguise.session => {
                let mut hello = message.clone();
                hello["params"] = Value::Object(serde_json::Map::new());
                hello.to_string()
            }
            None => text.to_owned(),
        }
    }

    /// What the client hears of it.
    pub(super) fn undisguised(&self, text: &str, address: u32) -> String {
        let mut state = self.lock();
        if state.bug != Bug::TableIgnored {
            return text.to_owned();
        }
        let mut message: Value = serde_json::from_str(text).unwrap_or_default();
        let is_hello = state.hellos.remove(&(address, message["id"].to_string()));
        let result = &message["result"];
        let said = (result["session"].as_str(), result["table"].as_str());
        if let (true, (Some(session), Some(table))) = (is_hello, said) {
            let (session, table) = (session.to_owned(), table.to_owned());
            let new = || Disguise {
                table,
                session: session.clone(),
            };
            let disguise = state.disguise.get_or_insert_with(new).clone();
            state.sessions.insert(address, session);
            message["result"]["session"] = disguise.session.into();
            message["result"]["table"] = disguise.table.into();
            return message.to_string();
        }
        let session = state.sessions.get(&address);
        match (session, &state.disguise) {
            (Some(session), Some(disguise)) => renamed(text, session, &disguise.session),
            _ => text.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RouteState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
