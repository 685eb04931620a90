//! Tokens are guessed from one address on many connections, or on one after the other: how many are looked
//! at is bounded, and those who know theirs get in all the same.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_server::{Config, Principal, Server, Verified, Verifier, VerifyError};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, task::JoinHandle};

use crate::common::{Peer, Service, code, executed, now, pipe_from, pipe_with, session::PING};

const HOG: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// How many wrong ones an address may show before they have to wait, and how seldom one is looked at then.
const BURST: u32 = 40;
const PERIOD: Duration = Duration::from_millis(100);

/// Counts what it is asked, and knows a token by how it begins.
#[derive(Clone, Default)]
struct CountingVerifier(Arc<AtomicU64>);

impl Verifier for CountingVerifier {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        self.0.fetch_add(1, SeqCst);
        if token.starts_with("down") {
            let retry_after = Duration::from_millis(1);
            return Err(VerifyError::Unavailable { retry_after });
        }
        let name = token.strip_prefix("right-").ok_or(VerifyError::Rejected)?;
        Ok(Verified {
            principal: Principal::new(name).unwrap(),
            expires: None,
        })
    }
}

impl CountingVerifier {
    fn asked(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

fn server() -> (Server, CountingVerifier) {
    let verifier = CountingVerifier::default();
    let config = Config {
        max_peer_auth_failures: BURST,
        max_connections: 10_000,
        ..Config::default()
    };
    let builder = Service::default().builder().config(config);
    let server = builder.authenticate(verifier.clone()).build().unwrap();
    (server, verifier)
}

fn auth(token: &str) -> String {
    json!({"id": "a", "method": "rpc.auth", "params": {"token": token}}).to_string()
}

async fn show(peer: &mut Peer<DuplexStream>, token: &str) -> Value {
    peer.call_json(auth(token)).await
}

/// Shows wrong tokens on one connection after the other, for ever.
fn guess(server: &Server, address: &'static str, name: usize) -> JoinHandle<()> {
    let server = server.clone();
    tokio::spawn(async move {
        for connection in 0_u64.. {
            let mut peer = pipe_from(&server, address);
            for turn in 0.. {
                peer.send(auth(&format!("wrong {name} {connection} {turn}")))
                    .await;
                match peer.receive().await {
                    Some(reply) if reply.contains("-32005") => {}
                    _ => break,
                }
            }
        }
    })
}

/// How many tokens may have been looked at in this time.
fn allowed(time: Duration) -> u64 {
    u64::from(BURST) + (time.as_millis() / PERIOD.as_millis()) as u64 + 1
}

/// Kind: a limit for each connection, where connections cost nothing. Instance: ten guesses on each.
#[tokio::test(start_paused = true)]
async fn guesses_are_bounded_by_address_whatever_number_of_connections_they_come_on() {
    let (server, verifier) = server();
    let begun = now();
    let guessing: Vec<_> = (0..60).map(|name| guess(&server, HOG, name)).collect();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (asked, allowed) = (verifier.asked(), allowed(begun.elapsed()));
        assert!(asked <= allowed, "{asked} of {allowed} guesses");
    }
    assert!(verifier.asked() > 250, "they go on: {}", verifier.asked());
    // Of another address that is no matter.
    let mut other = pipe_from(&server, OTHER);
    let before = now();
    assert_eq!(
        show(&mut other, "right-other").await["result"]["principal"],
        "other"
    );
    assert_eq!(before.elapsed(), Duration::ZERO);
    guessing.iter().for_each(JoinHandle::abort);
}

/// A guess whose connection doesn't wait for the answer is one, too.
#[tokio::test(start_paused = true)]
async fn a_guess_counts_though_its_connection_has_gone() {
    let (server, verifier) = server();
    for number in 0..1_000 {
        let mut peer = pipe_from(&server, HOG);
        peer.send(auth(&format!("wrong {number}"))).await;
        peer.send(PING).await;
        peer.receive().await;
    }
    let asked = verifier.asked();
    assert!(
        (u64::from(BURST)..=allowed(Duration::ZERO)).contains(&asked),
        "{asked}"
    );
}

/// Behind an address that others guess from: who was let in before waits for nothing, and who comes for
/// the first time gets in.
#[tokio::test(start_paused = true)]
async fn those_who_know_their_token_get_in_while_others_guess_from_their_address() {
    let (server, _) = server();
    let mut known = pipe_from(&server, HOG);
    assert!(show(&mut known, "right-known").await["error"].is_null());
    let guessing: Vec<_> = (0..80).map(|name| guess(&server, HOG, name)).collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..20 {
        let before = now();
        let mut again = pipe_from(&server, HOG);
        assert_eq!(
            show(&mut again, "right-known").await["result"]["principal"],
            "known"
        );
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
    for name in ["one", "two", "three"] {
        let before = now();
        loop {
            let mut new = pipe_from(&server, HOG);
            let reply = show(&mut new, &format!("right-{name}")).await;
            if reply["error"].is_null() {
                assert_eq!(reply["result"]["principal"], name);
                break;
            }
            assert_eq!((code(&reply), executed(&reply)), (-32001, "no"));
            let data = &reply["error"]["data"];
            let wait = data["retry_after_ms"].as_u64().unwrap();
            assert!((1..10_000).contains(&wait), "{reply}");
            new.expect_end().await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        let waited = before.elapsed();
        assert!(
            waited < Duration::from_secs(20),
            "{name} waited for {waited:?}"
        );
    }
    guessing.iter().for_each(JoinHandle::abort);
}

/// What is no guess is not counted: right tokens, the same wrong one over and over, and what can't be
/// verified. Neither are they of one who is known by another name, if they are right.
#[tokio::test(start_paused = true)]
async fn only_guesses_are_counted() {
    let (server, _) = server();
    for number in 0..20 * u64::from(BURST) {
        let mut peer = pipe_from(&server, HOG);
        let token = match number % 4 {
            0 => format!("right-{number}"),
            1 => "wrong for ever".to_owned(),
            2 => format!("down {number}"),
            _ => {
                let mut extensions = redial_server::Extensions::new();
                extensions.insert(Principal::new("cert:a").unwrap());
                extensions.insert::<SocketAddr>(format!("{HOG}:1").parse().unwrap());
                peer = pipe_with(&server, extensions);
                format!("right-{number}")
            }
        };
        let before = now();
        let reply = show(&mut peer, &token).await;
        let detail = reply["error"]["data"]["detail"]
            .as_str()
            .unwrap_or_default();
        assert!(!detail.contains("from this address"), "{reply}");
        assert!(before.elapsed() <= PERIOD, "{token}");
    }
    let mut new = pipe_from(&server, HOG);
    assert!(show(&mut new, "right-new").await["error"].is_null());
}

/// Kind: what gives nothing away is free, and costs the verifier all the same. Instance: one wrong token on
/// however many connections.
#[tokio::test(start_paused = true)]
async fn the_same_wrong_token_is_looked_at_a_hundred_times_a_second_at_most() {
    let (server, verifier) = server();
    let begun = now();
    let showing: Vec<_> = (0..100)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move {
                loop {
                    let mut peer = pipe_from(&server, HOG);
                    peer.send(auth("wrong for ever")).await;
                    peer.receive().await;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let again = begun.elapsed().as_millis() as u64 / 10;
        let allowed = 2 * u64::from(BURST) + again + 2;
        assert!(
            verifier.asked() <= allowed,
            "{} of {allowed}",
            verifier.asked()
        );
    }
    let mut new = pipe_from(&server, HOG);
    assert!(show(&mut new, "right-new").await["error"].is_null());
    showing.iter().for_each(JoinHandle::abort);
}

/// A connection that is known guesses as others do.
#[tokio::test(start_paused = true)]
async fn a_principal_that_guesses_anothers_token_is_bounded_too() {
    let (server, verifier) = server();
    let begun = now();
    let mut peers = Vec::new();
    for number in 0..200 {
        let mut extensions = redial_server::Extensions::new();
        extensions.insert(Principal::new("cert:a").unwrap());
        extensions.insert::<SocketAddr>(format!("{HOG}:1").parse().unwrap());
        let mut peer = pipe_with(&server, extensions);
        peer.send(auth(&format!("wrong {number}"))).await;
        peers.push(peer);
    }
    for peer in &mut peers {
        let reply = peer.receive_json().await;
        assert!(matches!(code(&reply), -32005 | -32001), "{reply}");
    }
    let (asked, allowed) = (verifier.asked(), allowed(begun.elapsed()));
    assert!(asked <= allowed && allowed < 150, "{asked} of {allowed}");
}
