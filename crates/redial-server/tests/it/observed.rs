//! What an observer hears is not what happened: nothing, too much, or without saying of whom.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_protocol::SessionId;
use redial_server::{
    Abort, Config, Context, ErrorCode, Event, EventKind, Extensions, MethodLimits, Observer,
    Principal, Server, Stats,
};
use serde_json::{Value, json};

use crate::common::{
    Service, pipe_with,
    session::{ask, open, request_with},
    until,
};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An event, with what it borrows.
#[derive(Clone, Debug)]
struct OwnedEvent {
    kind: EventKind,
    method: String,
    attempt: u32,
    peer: Option<SocketAddr>,
    principal: Option<String>,
    session: Option<SessionId>,
    traceparent: Option<String>,
    error: Option<ErrorCode>,
    queued: Duration,
    ran: Duration,
}

#[derive(Clone, Default)]
struct Ear {
    heard: Arc<Mutex<Vec<OwnedEvent>>>,
    names: Arc<Mutex<Vec<String>>>,
    stats: Arc<Mutex<Vec<Stats>>>,
    unwanted: Option<EventKind>,
}

impl Observer for Ear {
    fn wants(&self, kind: EventKind) -> bool {
        self.unwanted != Some(kind)
    }

    fn observe_methods(&self, names: &[&str]) {
        let mut known = self.names.lock().unwrap();
        known.extend(names.iter().map(|name| (*name).to_owned()));
    }

    fn observe_stats(&self, stats: &Stats) {
        self.stats.lock().unwrap().push(*stats);
    }

    fn observe(&self, event: &Event<'_>) {
        self.heard.lock().unwrap().push(OwnedEvent {
            kind: event.kind,
            method: event.method.to_owned(),
            attempt: event.attempt,
            peer: event.peer,
            principal: event.principal.map(|name| name.to_string()),
            session: event.session,
            traceparent: event.traceparent.map(str::to_owned),
            error: event.error,
            queued: event.queued,
            ran: event.ran,
        });
    }
}

impl Ear {
    fn kinds(&self) -> Vec<EventKind> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|event| event.kind).collect()
    }

    fn of(&self, kind: EventKind) -> Vec<OwnedEvent> {
        let heard = self.heard.lock().unwrap();
        let of_kind = heard.iter().filter(|event| event.kind == kind);
        of_kind.cloned().collect()
    }
}

fn server(ear: &Ear) -> Server {
    let one = MethodLimits {
        max_running: Some(1),
        ..MethodLimits::default()
    };
    let fail = async |(): (), _: Context| Err::<(), _>(Abort::failed("no").code(7));
    let builder = Service::default().builder().observer(ear.clone());
    builder
        .query("seven", fail)
        .method_limits("slow_inc", one)
        .config(Config::default())
        .build()
        .unwrap()
}

fn caller() -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(Principal::new("token:ops").unwrap());
    extensions.insert("192.0.2.7:9".parse::<SocketAddr>().unwrap());
    extensions
}

fn traced(method: &str, session: SessionId, number: u64, params: Value) -> String {
    request_with(
        method,
        session,
        number,
        (params, json!({ "traceparent": TRACE })),
    )
}

/// Kind: an event that doesn't say of whom it is. Instances: of a call that finishes in place, of one that
/// waits, of those that are queued, join or are replayed, each of which is emitted elsewhere in the server.
#[tokio::test(start_paused = true)]
async fn every_event_of_an_attempt_says_whose_it_is() {
    let ear = Ear::default();
    let server = server(&ear);
    let mut peer = pipe_with(&server, caller());
    let session = open(&mut peer).await;
    ear.heard.lock().unwrap().clear();
    let slow = |number| traced("slow_inc", session, number, json!({"ms": 100}));
    peer.call(traced("inc", session, 0, json!({}))).await;
    // The second is queued behind the first, and the third joins that.
    for request in [slow(1), slow(2), slow(1)] {
        peer.send(request).await;
    }
    peer.receive_all::<3>().await;
    peer.call(slow(1)).await;
    let heard = ear.heard.lock().unwrap().clone();
    assert!(heard.len() > 12, "{heard:?}");
    for event in &heard {
        assert_eq!(
            event.peer,
            Some("192.0.2.7:9".parse().unwrap()),
            "{event:?}"
        );
        assert_eq!(event.principal.as_deref(), Some("token:ops"), "{event:?}");
        assert_eq!(event.session, Some(session), "{event:?}");
        assert_eq!(event.traceparent.as_deref(), Some(TRACE), "{event:?}");
        assert!(event.attempt == 1 && !event.method.is_empty(), "{event:?}");
    }
    let count = |kind| ear.of(kind).len();
    assert_eq!(
        (count(EventKind::Joined), count(EventKind::Replayed)),
        (1, 1)
    );
    assert_eq!(
        (count(EventKind::Finished), count(EventKind::Replied)),
        (3, 5)
    );
}

/// Kind: a duration that leaves something out, or takes something in that is another's.
#[tokio::test(start_paused = true)]
async fn what_has_finished_says_how_and_how_long_it_took() {
    let ear = Ear::default();
    let server = server(&ear);
    let mut peer = pipe_with(&server, caller());
    let session = open(&mut peer).await;
    for number in [0, 1] {
        let params = json!({"ms": 100});
        peer.send(traced("slow_inc", session, number, params)).await;
    }
    peer.receive_all::<2>().await;
    let ms = |time: Duration| time.as_millis() / 10 * 10;
    let finished = ear.of(EventKind::Finished);
    let times: Vec<_> = finished
        .iter()
        .map(|it| (ms(it.queued), ms(it.ran)))
        .collect();
    assert_eq!(times, [(0, 100), (100, 100)]);
    assert!(finished.iter().all(|event| event.error.is_none()));

    peer.call(r#"{"id":"e","method":"seven"}"#).await;
    peer.call(traced("panic", session, 2, json!({"ms": 50})))
        .await;
    let finished = ear.of(EventKind::Finished).split_off(2);
    let errors: Vec<_> = finished.iter().map(|event| event.error).collect();
    assert_eq!(
        errors,
        [Some(ErrorCode::from(7)), Some(ErrorCode::INTERNAL_ERROR)]
    );
    assert_eq!(ms(finished[1].ran), 50);
    // A replay says what the recorded reply says.
    peer.call(traced("panic", session, 2, json!({"ms": 50})))
        .await;
    let replied = ear.of(EventKind::Replied).pop().unwrap();
    assert_eq!(replied.error, Some(ErrorCode::INTERNAL_ERROR));
    // A notification, which nothing waits for.
    peer.send(r#"{"method":"slow_inc","params":{"ms":30}}"#)
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let finished = ear.of(EventKind::Finished).pop().unwrap();
    assert_eq!(
        (ms(finished.ran), finished.principal.as_deref()),
        (30, Some("token:ops"))
    );
}

/// Kind: what begins and is not heard to end. Instances: notifications that leave the queue without running, in each way
/// in which they can; and a call beside them, which must not be heard to end twice.
#[tokio::test(start_paused = true)]
async fn what_is_refused_out_of_the_queue_is_heard_to_end_once() {
    let notification = |redial: Value| {
        json!({"jsonrpc": "2.0", "method": "slow_inc", "params": {"ms": 50}, "redial": redial})
            .to_string()
    };
    for way in ["expired", "displaced", "drained", "shed", "cancelled"] {
        let ear = Ear::default();
        let config = Config {
            max_running: 1,
            max_queued: if way == "displaced" { 1 } else { 100 },
            ..Config::default()
        };
        let builder = Service::default().builder().observer(ear.clone());
        let server = builder.config(config).build().unwrap();
        let mut peer = pipe_with(&server, caller());
        let session = open(&mut peer).await;
        peer.send(notification(json!({}))).await;
        let (sent, redial) = match way {
            "expired" => (3, json!({"timeout_ms": 10})),
            "displaced" => (1, json!({"priority": "sheddable"})),
            "shed" => (30, json!({})),
            _ => (3, json!({})),
        };
        for _ in 0..sent {
            peer.send(notification(redial.clone())).await;
        }
        let critical = (json!({}), json!({"priority": "critical"}));
        peer.send(request_with("inc", session, 0, critical)).await;
        let all = sent + 2;
        until("all are admitted", || {
            ear.of(EventKind::Accepted).len() == all
        })
        .await;
        match way {
            "drained" => drop(server.shutdown().await),
            "cancelled" => peer.send(ask("rpc.cancel", session, 0)).await,
            _ => {}
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let kinds = ear.kinds();
        let refused = kinds
            .iter()
            .filter(|kind| matches!(kind, EventKind::Refused(_)));
        let (refused, finished) = (refused.count(), ear.of(EventKind::Finished).len());
        let stats = server.stats();
        println!("{way}: {refused} of {all} were refused");
        assert!(refused > 0 && refused + finished == all, "{way}: {kinds:?}");
        assert_eq!(stats.refused, refused as u64, "{way}: {stats:?}");
        let heard = ear.heard.lock().unwrap().clone();
        let is_whole = |event: &OwnedEvent| event.principal.as_deref() == Some("token:ops");
        let mut of_calls = heard.iter().filter(|event| event.attempt > 0);
        assert!(of_calls.all(is_whole), "{way}: {heard:?}");
    }
}

/// Kind: what begins and is not heard to end.
#[tokio::test(start_paused = true)]
async fn connections_and_sessions_are_heard_to_begin_and_to_end() {
    let ear = Ear::default();
    let server = server(&ear);
    assert!(
        ear.names
            .lock()
            .unwrap()
            .iter()
            .any(|name| name == "slow_inc")
    );
    let mut peer = pipe_with(&server, caller());
    let session = open(&mut peer).await;
    let kinds = ear.kinds();
    assert_eq!(
        kinds[..2],
        [EventKind::ConnectionOpened, EventKind::SessionOpened],
        "{kinds:?}"
    );
    let opened = ear.of(EventKind::SessionOpened).remove(0);
    assert_eq!((opened.session, opened.attempt), (Some(session), 0));
    let goodbye = json!({"method": "rpc.goodbye", "params": {"session": session}});
    peer.send(goodbye.to_string()).await;
    drop(peer);
    until("both have ended", || {
        let kinds = ear.kinds();
        kinds.contains(&EventKind::SessionEnded) && kinds.contains(&EventKind::ConnectionClosed)
    })
    .await;
    assert_eq!(ear.of(EventKind::SessionEnded)[0].session, Some(session));
    assert_eq!(ear.of(EventKind::ConnectionClosed)[0].peer, opened.peer);

    tokio::time::sleep(Duration::from_secs(3)).await;
    let stats = ear.stats.lock().unwrap().clone();
    assert!((2..=5).contains(&stats.len()), "{}", stats.len());
    assert_eq!(stats[stats.len() - 1].connections, 0);
}

/// Kind: an event that is made though nothing wants it.
#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_is_not_heard() {
    let ear = Ear {
        unwanted: Some(EventKind::Started),
        ..Ear::default()
    };
    let other = Ear::default();
    let builder = Service::default().builder().observer(ear.clone());
    let server = builder.observer(other.clone()).build().unwrap();
    let mut peer = pipe_with(&server, caller());
    peer.call(r#"{"id":"a","method":"get"}"#).await;
    assert!(!ear.kinds().contains(&EventKind::Started));
    assert!(ear.kinds().contains(&EventKind::Finished));
    assert!(other.kinds().contains(&EventKind::Started));
}
