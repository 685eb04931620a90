//! A handler may panic wherever its code runs: its call has one outcome, which every attempt gets,
//! and the calls beside it are unaffected.

use std::{
    collections::BTreeMap,
    panic::panic_any,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context as TaskContext, Poll},
};

use crate::common::{self, Peer, pipe, session::open, uuid};
use redial_protocol::SessionId;
use redial_server::{Abort, Config, Context, Server};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeStruct};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};

/// Where a handler panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum Point {
    Nowhere,
    Params,
    Call,
    CallWithAPanicThatPanics,
    Poll,
    PollWithAPanicThatPanics,
    FutureGoes,
    ParamsGo,
    HalfOfTheAnswer,
    HalfOfTheAnswerIsNoJson,
    AnswerGoes,
    AnswerIsTooLong,
    FailureGoes,
}

const POINTS: [Point; 13] = [
    Point::Nowhere,
    Point::Params,
    Point::Call,
    Point::CallWithAPanicThatPanics,
    Point::Poll,
    Point::PollWithAPanicThatPanics,
    Point::FutureGoes,
    Point::ParamsGo,
    Point::HalfOfTheAnswer,
    Point::HalfOfTheAnswerIsNoJson,
    Point::AnswerGoes,
    Point::AnswerIsTooLong,
    Point::FailureGoes,
];

/// Panics when it is dropped, if it is armed.
#[derive(Debug)]
struct Trap(bool);

impl Drop for Trap {
    fn drop(&mut self) {
        assert!(!self.0 || std::thread::panicking(), "trodden on");
    }
}

#[derive(Deserialize)]
struct Wish {
    #[serde(deserialize_with = "readable")]
    point: Point,
    /// How often it has to wait first.
    waits: u32,
    number: u32,
}

fn readable<'de, D: Deserializer<'de>>(from: D) -> Result<Point, D::Error> {
    let point = Point::deserialize(from)?;
    assert_ne!(point, Point::Params, "unreadable");
    Ok(point)
}

struct Answer {
    point: Point,
    number: u32,
    _trap: Trap,
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut answer = to.serialize_struct("Answer", 2)?;
        answer.serialize_field("number", &self.number)?;
        match self.point {
            Point::HalfOfTheAnswer => panic!("half"),
            Point::HalfOfTheAnswerIsNoJson => return Err(serde::ser::Error::custom("half")),
            Point::AnswerIsTooLong => answer.serialize_field("long", &"x".repeat(100_000))?,
            _ => {}
        }
        answer.end()
    }
}

struct Work {
    wish: Wish,
    params: Option<Trap>,
    _trap: Trap,
}

impl Future for Work {
    type Output = Result<Answer, Abort>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        if self.wish.waits > 0 {
            self.wish.waits -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        drop(self.params.take());
        let Wish { point, number, .. } = self.wish;
        match point {
            Point::Poll => panic!("poll"),
            Point::PollWithAPanicThatPanics => panic_any(Trap(true)),
            Point::FailureGoes => return Poll::Ready(Err(Abort::failed("as it was asked to"))),
            _ => {}
        }
        let trap = Trap(point == Point::AnswerGoes);
        Poll::Ready(Ok(Answer {
            point,
            number,
            _trap: trap,
        }))
    }
}

type Effects = Arc<Mutex<BTreeMap<u32, u32>>>;

fn server(effects: &Effects) -> Server {
    let effects = Arc::clone(effects);
    let handler = move |wish: Wish, _: Context| {
        *effects.lock().unwrap().entry(wish.number).or_default() += 1;
        match wish.point {
            Point::Call => panic!("call"),
            Point::CallWithAPanicThatPanics => panic_any(Trap(true)),
            point => Work {
                wish,
                params: Some(Trap(point == Point::ParamsGo)),
                _trap: Trap(matches!(point, Point::FutureGoes | Point::FailureGoes)),
            },
        }
    };
    let mut config = Config::default();
    config.limits.max_frame_bytes = 64 * 1024;
    let server = Server::builder().mutation("work", handler).config(config);
    server.build().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Session(SessionId),
    Plain,
    Notebook,
}

impl Kind {
    fn id(self, number: u32) -> String {
        match self {
            Self::Session(session) => common::session::id(session, number.into()),
            _ => uuid(number),
        }
    }

    fn request(self, number: u32, (point, waits): (Point, u32), attempt: u32) -> Value {
        let params = json!({"point": point, "waits": waits, "number": number});
        let id = self.id(number);
        match self {
            Self::Notebook => json!({"id": id, "method": "work", "params": params}),
            _ => json!({"jsonrpc": "2.0", "id": id, "method": "work", "params": params,
                "redial": {"attempt": attempt}}),
        }
    }
}

/// What a reply says, without what depends on the attempt.
fn outcome(reply: &Value) -> String {
    format!("{}{}", reply["result"], reply["error"])
}

fn check(point: Point, number: u32, reply: &Value) {
    let (code, executed) = match point {
        Point::Nowhere => return assert_eq!(reply["result"], json!({ "number": number })),
        Point::Params => (-32602, "no"),
        _ => (-32603, "yes"),
    };
    assert_eq!(common::code(reply), code, "{point:?}: {reply}");
    assert_eq!(common::executed(reply), executed, "{point:?}: {reply}");
}

/// The next replies, with batches taken apart.
async fn replies(peer: &mut Peer<DuplexStream>, count: usize) -> Vec<Value> {
    let mut replies = Vec::new();
    while replies.len() < count {
        match peer.receive_json().await {
            Value::Array(batch) => replies.extend(batch),
            reply => replies.push(reply),
        }
    }
    replies
}

#[tokio::test]
async fn a_handler_that_panics_anywhere_affects_only_its_own_call() {
    let effects = Effects::default();
    let server = server(&effects);
    let mut number = 0;
    for is_batch in [false, true] {
        for waits in [0, 1, 2] {
            for point in POINTS {
                let mut peer = pipe(&server);
                let session = open(&mut peer).await;
                for kind in [Kind::Session(session), Kind::Plain, Kind::Notebook] {
                    number += 10;
                    let at = if matches!(kind, Kind::Session(_)) {
                        0
                    } else {
                        number
                    };
                    one(&mut peer, kind, at, (point, waits), is_batch, &effects).await;
                }
            }
        }
    }
    common::eventually("all permits are free", || {
        let stats = server.stats();
        stats.running + stats.queued == 0 && stats.started == stats.finished
    })
    .await;
}

/// The same call three times among others in one read, and once more later.
async fn one(
    peer: &mut Peer<DuplexStream>,
    kind: Kind,
    at: u32,
    (point, waits): (Point, u32),
    is_batch: bool,
    effects: &Effects,
) {
    effects.lock().unwrap().clear();
    let broken = |attempt| kind.request(at + 1, (point, waits), attempt);
    let sound = |number| kind.request(at + number, (Point::Nowhere, 0), 1);
    let requests = [
        sound(0),
        broken(1),
        broken(2),
        sound(2),
        broken(3),
        sound(3),
    ];
    let bodies = if is_batch {
        vec![Value::Array(requests.to_vec())]
    } else {
        requests.to_vec()
    };
    let mut bytes = Vec::new();
    for body in bodies {
        let body = body.to_string();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
    }
    peer.io.write_all(&bytes).await.unwrap();
    let all = replies(peer, requests.len()).await;
    let what = format!("{kind:?} {point:?} {waits} {is_batch}");
    let to = |number| {
        let id = kind.id(at + number);
        let of_id = all.iter().filter(move |reply| reply["id"] == id.as_str());
        of_id.collect::<Vec<_>>()
    };
    for number in [0, 2, 3] {
        assert_eq!(to(number).len(), 1, "{what}: {all:?}");
        check(Point::Nowhere, at + number, to(number)[0]);
    }
    let first = to(1)[0].clone();
    let last = peer.call_json(broken(4).to_string()).await;
    assert_eq!(to(1).len(), 3, "{what}: {all:?}");
    for reply in to(1).into_iter().chain([&last]) {
        match point {
            Point::FailureGoes | Point::AnswerGoes => {
                assert!(reply["error"].is_object(), "{what}: {reply}");
            }
            _ => check(point, at + 1, reply),
        }
        let is_refusal = point == Point::Params;
        assert!(
            is_refusal || outcome(reply) == outcome(&first),
            "{what}: {reply}"
        );
    }
    let executions = effects.lock().unwrap().get(&(at + 1)).copied();
    assert_eq!(executions, (point != Point::Params).then_some(1), "{what}");
}
