//! A server that has more to do than it can refuses some calls early, so that others are served in time.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redial_server::{Config, Overload, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    task::JoinHandle,
    time::Instant,
};

use crate::common::{
    Peer, Service, code, executed, now, pipe_from,
    session::{attach, config, id, open, request, request_with},
    until,
};

/// What has become of a client's calls.
#[derive(Debug, Default)]
struct Heard {
    /// How long those took that were served.
    served: Vec<Duration>,
    refused: Vec<Value>,
}

impl Heard {
    fn p99(&mut self) -> Duration {
        self.served.sort_unstable();
        self.served[self.served.len() * 99 / 100]
    }
}

/// Calls of 10 ms that come at random for 10 s, each with these words of the member `redial`.
fn client(server: &Server, peer: &str, per_s: f64, redial: Value) -> JoinHandle<Heard> {
    let Peer { io } = pipe_from(server, peer);
    let (from, to) = tokio::io::split(io);
    let seed = peer
        .bytes()
        .fold(7, |seed, byte| seed * 31 + u64::from(byte));
    tokio::spawn(async move {
        let begun = now();
        let came = tokio::spawn(send(to, begun, per_s, seed, redial));
        let replies = hear(from, begun).await;
        let came = came.await.unwrap();
        assert_eq!(replies.len(), came.len());
        let mut heard = Heard::default();
        for (at, reply) in replies {
            let call = usize::try_from(reply["id"].as_u64().unwrap()).unwrap();
            match &reply["error"] {
                Value::Null => heard.served.push(at - came[call]),
                _ => heard.refused.push(reply),
            }
        }
        heard
    })
}

/// Sends calls, and nothing more at the end. Returns when each came.
async fn send(
    mut to: WriteHalf<DuplexStream>,
    begun: Instant,
    per_s: f64,
    seed: u64,
    redial: Value,
) -> Vec<Duration> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut at, mut came) = (Duration::ZERO, Vec::new());
    loop {
        at += Duration::from_secs_f64(-(1.0 - rng.random::<f64>()).ln() / per_s);
        if at > Duration::from_secs(10) {
            to.shutdown().await.unwrap();
            return came;
        }
        tokio::time::sleep_until(begun + at).await;
        let call = json!({
            "jsonrpc": "2.0", "id": came.len(), "method": "slow_inc", "params": {"ms": 10}, "redial": redial,
        });
        came.push(now() - begun);
        let call = call.to_string();
        let length = u32::try_from(call.len()).unwrap().to_be_bytes();
        let frame = [&length, call.as_bytes()].concat();
        to.write_all(&frame).await.unwrap();
    }
}

/// Takes replies until the server closes, with when each came.
async fn hear(mut from: ReadHalf<DuplexStream>, begun: Instant) -> Vec<(Duration, Value)> {
    let mut replies = Vec::new();
    while let Ok(length) = from.read_u32().await {
        let mut frame = vec![0; length as usize];
        from.read_exact(&mut frame).await.unwrap();
        let reply = serde_json::from_slice(&frame).unwrap();
        replies.push((now() - begun, reply));
    }
    replies
}

/// Eight at once, of 11 ms each as the timers count: about 730 a second.
fn server(overload: Overload) -> Server {
    Service::default().server(Config {
        max_running: 8,
        overload,
        ..config()
    })
}

/// Kind: one caller's calls cost another's their time. Instance: one at 12 times what each of the others sends,
/// which is more than the server can do.
#[tokio::test(start_paused = true)]
async fn one_peer_at_12_times_leaves_others_their_time() {
    let mut p99 = Vec::new();
    for times in [1.0, 12.0] {
        let server = server(Overload::default());
        let others: Vec<_> = (2..8)
            .map(|other| client(&server, &format!("192.0.2.{other}"), 50.0, json!({})))
            .collect();
        let hog = client(&server, "192.0.2.1", times * 50.0, json!({}));
        let mut worst = Duration::ZERO;
        for other in others {
            let mut heard = other.await.unwrap();
            assert!(
                heard.refused.len() * 1_000 <= heard.served.len(),
                "{heard:?}"
            );
            worst = worst.max(heard.p99());
        }
        p99.push(worst);
        let hog = hog.await.unwrap();
        assert!(hog.served.len() > 400, "{}", hog.served.len());
    }
    println!("alone {:?}, beside the one {:?}", p99[0], p99[1]);
    assert!(p99[1] <= 2 * p99[0], "{p99:?}");
}

/// Kind: a server that is asked for more than it can do serves all of it late. Instance: three times as much; and
/// the same without.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_served_in_time_is_refused_unexecuted() {
    let overloaded = server(Overload::default());
    let mut heard = client(&overloaded, "192.0.2.1", 2_100.0, json!({}))
        .await
        .unwrap();
    let p99 = heard.p99();
    assert!(p99 < Duration::from_millis(60), "{p99:?}");
    let shed = heard.refused.iter().filter(|reply| {
        assert_eq!((code(reply), executed(reply)), (-32001, "no"));
        let text = reply["error"]["data"].to_string() + &reply["error"]["message"].to_string();
        text.contains("was queued for")
    });
    let (shed, stats) = (shed.count() as u64, overloaded.stats());
    assert!(shed > 0 && stats.shed == shed, "{shed} {stats:?}");
    let waits = heard
        .refused
        .iter()
        .map(|reply| &reply["error"]["data"]["retry_after_ms"]);
    assert!(
        waits
            .clone()
            .all(|ms| (10..=10_000).contains(&ms.as_u64().unwrap()))
    );
    assert!(waits.clone().any(|ms| ms.as_u64() >= Some(100)));

    let naive = server(Overload::off());
    let mut heard = client(&naive, "192.0.2.1", 2_100.0, json!({}))
        .await
        .unwrap();
    assert!(heard.p99() > Duration::from_millis(1_000));
    assert_eq!((naive.stats().shed, naive.stats().overloaded), (0, false));
}

/// Kind: what matters is refused with what doesn't. Instance: twice as much as can be done, a third of which is
/// critical.
#[tokio::test(start_paused = true)]
async fn what_matters_most_is_served_and_what_matters_least_is_shed() {
    let server = server(Overload::default());
    let [critical, default, sheddable] = ["critical", "no such", "sheddable"]
        .map(|priority| client(&server, "192.0.2.1", 450.0, json!({"priority": priority})));
    let part = |heard: Heard| {
        let all = heard.served.len() + heard.refused.len();
        heard.served.len() as f64 / all as f64
    };
    let critical = part(critical.await.unwrap());
    let default = part(default.await.unwrap());
    let sheddable = part(sheddable.await.unwrap());
    println!("{critical} {default} {sheddable}");
    assert!(
        critical > 0.97 && sheddable < 0.1,
        "{critical} {default} {sheddable}"
    );
    assert!((0.2..0.8).contains(&default), "{default}");
}

/// Kind: work for callers that are gone. Instance: a session's call whose connection ends while it is queued,
/// which its client then makes again. Without overload it runs, as its call's and not its connection's.
#[tokio::test(start_paused = true)]
async fn under_overload_a_call_whose_connection_is_gone_does_not_run() {
    for is_overloaded in [true, false] {
        let service = Service::default();
        let server = service.server(Config {
            max_running: 1,
            ..config()
        });
        let (mut peer, mut other) = (
            pipe_from(&server, "192.0.2.2"),
            pipe_from(&server, "192.0.2.1"),
        );
        let (session, hog) = (open(&mut peer).await, open(&mut other).await);
        let slow = |number| request_with("slow_inc", hog, number, (json!({"ms": 20}), json!({})));
        let before = if is_overloaded { 40 } else { 1 };
        for number in 0..before {
            other.send(slow(number)).await;
        }
        if is_overloaded {
            until_overloaded(&server).await;
        }
        peer.send(request("inc", session, 0, json!({"attempt": 1})))
            .await;
        let queued = server.stats().queued;
        until("it is queued", || server.stats().queued == queued + 1).await;
        // What is sent to it fails, so that its connection is known to be gone, and not half closed.
        peer.send("no message").await;
        drop(peer);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (stats, all) = (server.stats(), before - u64::from(is_overloaded));
        assert_eq!(stats.queued, 0);
        assert_eq!(stats.given_up, u64::from(is_overloaded));
        assert_eq!(service.effects(), stats.finished);
        assert!(stats.finished <= all + 1, "{stats:?}");

        let effects = service.effects();
        let mut peer = pipe_from(&server, "192.0.2.2");
        peer.call(attach(session)).await;
        let reply = peer
            .call_json(request("inc", session, 0, json!({"attempt": 2})))
            .await;
        assert_eq!(reply["id"], id(session, 0));
        assert!(reply["error"].is_null(), "{reply}");
        assert_eq!(service.effects(), effects + u64::from(is_overloaded));
        assert_eq!(reply["redial"]["replayed"] == true, !is_overloaded);
        // The attempt that was dropped is over, whatever held a copy of it back.
        let copy = peer
            .call_json(request("inc", session, 0, json!({"attempt": 1})))
            .await;
        assert!(copy["error"].is_null(), "{copy}");
        assert_eq!(service.effects(), effects + u64::from(is_overloaded));
    }
}

async fn until_overloaded(server: &Server) {
    for _ in 0..1_000 {
        if server.stats().overloaded {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("there is no overload: {:?}", server.stats());
}
