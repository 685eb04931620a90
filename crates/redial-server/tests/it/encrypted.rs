//! TLS: who calls is who the certificate says, and handshakes that come to nothing cost others nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use redial_server::{Config, Context, Server, ServerTls};
use redial_test_ca::{Pair, TestCa};
use redial_tls::{ClientTls, TlsStream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::common::{Names, PATIENCE, Peer, Service, code, eventually, executed};

const HOST: &str = "counter.example";
const PING: &str = r#"{"id":"p","method":"rpc.ping"}"#;

struct TlsServer {
    ca: TestCa,
    server: Server,
    address: SocketAddr,
}

impl TlsServer {
    async fn new(server: Server, change: impl FnOnce(Tls<'_>) -> Tls<'_>) -> Self {
        let ca = TestCa::new("server");
        let pair = ca.sign(&[HOST]);
        let builder = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
        let tls = change(Tls { builder, ca: &ca }).builder.build().unwrap();
        let listener = server.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve_tls(listener, tls).await.unwrap() });
        Self {
            ca,
            server,
            address,
        }
    }

    fn client(&self, pair: Option<Pair>) -> ClientTls {
        let builder = ClientTls::builder().roots_pem(self.ca.pem());
        let builder = match pair {
            Some(pair) => builder.certificate_pem(pair.certificate, pair.key),
            None => builder,
        };
        builder.build().unwrap()
    }

    async fn connect(&self, pair: Option<Pair>) -> Peer<TlsStream<TcpStream>> {
        self.connect_from("127.0.0.1", pair).await
    }

    async fn connect_from(&self, source: &str, pair: Option<Pair>) -> Peer<TlsStream<TcpStream>> {
        let io = from(source, self.address).await;
        let io = self.client(pair).connect(HOST, io).await.unwrap();
        Peer { io }
    }
}

/// What a test may change.
struct Tls<'a> {
    builder: redial_tls::ServerTlsBuilder,
    ca: &'a TestCa,
}

impl Tls<'_> {
    fn with(
        self,
        change: impl FnOnce(redial_tls::ServerTlsBuilder) -> redial_tls::ServerTlsBuilder,
    ) -> Self {
        Self {
            builder: change(self.builder),
            ..self
        }
    }
}

async fn from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

fn plain(tls: Tls<'_>) -> Tls<'_> {
    tls
}

fn server(config: Config) -> Server {
    Service::default().server(config)
}

#[tokio::test]
async fn who_calls_is_who_the_certificate_says() {
    let who = |_: Value, context: Context| async move {
        Ok(context.principal().map(ToString::to_string))
    };
    let server = Server::builder().query("who", who).build().unwrap();
    let world = TlsServer::new(server, |tls| {
        let ca = tls.ca.pem().to_owned();
        tls.with(|builder| builder.client_ca_pem(ca).client_certificates_optional())
    })
    .await;
    for (names, expected) in [
        (
            Some(&["billing.example", "other.example"][..]),
            r#""cert:billing.example""#,
        ),
        (
            Some(&["spiffe://corp/billing"]),
            r#""cert:spiffe://corp/billing""#,
        ),
        (None, "null"),
    ] {
        let pair = names.map(|names| world.ca.sign(names));
        let mut peer = world.connect(pair).await;
        let reply = peer.call(r#"{"id":1,"method":"who"}"#).await;
        assert_eq!(reply, format!(r#"{{"id":1,"result":{expected}}}"#));
    }
}

/// Kind: clients that have shown who they are, and are taken for one another. Instances: certificates
/// without a name, with none that a principal may have, and a URI that is another's DNS name: all of
/// them had the records of callers without a principal, or those of the other.
#[tokio::test]
async fn a_client_whose_certificate_does_not_say_who_calls_is_refused() {
    let long = format!("spiffe://corp/{}", "x".repeat(300));
    let nameless: [&[&str]; 5] = [
        &[],
        &[&long],
        &["spiffe://corp/a\nb"],
        &["127.0.0.1"],
        &["spiffe://corp/\u{1b}[2J"],
    ];
    for is_optional in [false, true] {
        let service = Service::default();
        let world = TlsServer::new(service.server(Config::default()), |tls| {
            let ca = tls.ca.pem().to_owned();
            tls.with(|builder| {
                let builder = builder.client_ca_pem(ca);
                if is_optional {
                    builder.client_certificates_optional()
                } else {
                    builder
                }
            })
        })
        .await;
        for names in nameless {
            let mut peer = world.connect(Some(world.ca.sign(names))).await;
            peer.send(r#"{"id":"a","method":"inc"}"#).await;
            let words = peer.receive_json().await;
            assert_eq!(
                (code(&words), executed(&words)),
                (-32005, "no"),
                "{names:?}"
            );
            let detail = words["error"]["data"]["detail"].as_str().unwrap();
            assert!(detail.contains("does not say who calls"), "{detail}");
            peer.expect_end().await;
        }
        // A URI without a scheme, which no builder of certificates objects to.
        let relative = world.ca.sign_with(&[], |params| {
            let uri = "a.example".to_owned().try_into().unwrap();
            params
                .subject_alt_names
                .push(redial_test_ca::SanType::URI(uri));
        });
        let mut peer = world.connect(Some(relative)).await;
        assert_eq!(code(&peer.receive_json().await), -32005);
        assert_eq!(service.effects(), 0);
        let named = world.ca.sign(&["a.example"]);
        let mut peer = world.connect(Some(named)).await;
        assert!(
            peer.call(r#"{"id":"a","method":"inc"}"#)
                .await
                .contains("result")
        );
    }
}

/// Where tokens are asked for, a token says it instead.
#[tokio::test]
async fn a_nameless_certificate_and_a_token_are_the_tokens_principal() {
    let who = |_: Value, context: Context| async move {
        Ok(context.principal().map(ToString::to_string))
    };
    let server = Server::builder().query("who", who).authenticate(Names);
    let world = TlsServer::new(server.build().unwrap(), |tls| {
        let ca = tls.ca.pem().to_owned();
        tls.with(|builder| builder.client_ca_pem(ca))
    })
    .await;
    let mut peer = world.connect(Some(world.ca.sign(&[]))).await;
    let refused = peer.call_json(r#"{"id":1,"method":"who"}"#).await;
    assert_eq!((code(&refused), executed(&refused)), (-32005, "no"));
    peer.call(r#"{"id":2,"method":"rpc.auth","params":{"token":"token:t"}}"#)
        .await;
    let reply = peer.call(r#"{"id":3,"method":"who"}"#).await;
    assert_eq!(reply, r#"{"id":3,"result":"token:t"}"#);
}

/// A session and its records are those of the server, whatever they came through.
#[tokio::test]
async fn a_call_is_replayed_on_another_connection() {
    let world = TlsServer::new(server(Config::default()), plain).await;
    let request = r#"{"id":"a","method":"inc"}"#;
    let first = world.connect(None).await.call(request).await;
    assert_eq!(first, r#"{"id":"a","result":{"value":1}}"#);
    assert_eq!(world.connect(None).await.call(request).await, first);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_crowd_that_never_shakes_hands_keeps_no_other_address_out() {
    let config = Config {
        max_connections: 10,
        ..Config::default()
    };
    let world = TlsServer::new(server(config), |tls| {
        tls.with(|builder| builder.handshake_timeout(PATIENCE * 10))
    })
    .await;
    let closed = Arc::new(AtomicUsize::new(0));
    for number in 0..100 {
        let mut io = from("127.0.0.1", world.address).await;
        // Some are silent, some begin.
        if number % 2 == 0 {
            io.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        }
        let closed = Arc::clone(&closed);
        tokio::spawn(async move {
            let _ = io.read_to_end(&mut Vec::new()).await;
            closed.fetch_add(1, SeqCst);
        });
    }
    eventually("all others are closed", || closed.load(SeqCst) == 90).await;
    assert_eq!(world.server.stats().connections, 10);
    let mut other = world.connect_from("127.0.0.2", None).await;
    assert!(other.call(PING).await.contains("pong"));
    eventually("one gave its slot", || closed.load(SeqCst) == 91).await;
    assert_eq!(world.server.stats().connections, 10);
}

/// Kind: what counts as one before it is known who it is goes on to count as that. Instance: connections
/// with certificates stayed their address's: a principal there kept the others out.
#[tokio::test]
async fn a_connection_is_its_certificates_once_that_is_known() {
    let config = Config {
        max_connections: 8,
        ..Config::default()
    };
    let world = TlsServer::new(server(config), |tls| {
        let ca = tls.ca.pem().to_owned();
        tls.with(|builder| builder.client_ca_pem(ca))
    })
    .await;
    let (hog, other) = (
        world.ca.sign(&["hog.example"]),
        world.ca.sign(&["other.example"]),
    );
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut peer = world.connect(Some(hog.clone())).await;
        assert!(peer.call(PING).await.contains("pong"));
        held.push(peer);
    }
    for turn in 1..=2 {
        let mut peer = world.connect(Some(other.clone())).await;
        assert!(peer.call(PING).await.contains("pong"), "{turn}");
        held.push(peer);
    }
    let words = held[0].receive_json().await;
    assert_eq!((code(&words), executed(&words)), (-32001, "unknown"));
    assert_eq!(world.server.stats().connections, 8);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_or_is_garbage_is_closed_and_counted() {
    let limit = Duration::from_millis(50);
    let world = TlsServer::new(server(Config::default()), |tls| {
        tls.with(|builder| builder.handshake_timeout(limit))
    })
    .await;
    let mut good = world.connect(None).await;
    let mut silent = from("127.0.0.1", world.address).await;
    let closed = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 10])).await;
    assert!(matches!(closed.expect("it is closed"), Ok(0) | Err(_)));
    let mut garbage = from("127.0.0.1", world.address).await;
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut alert = Vec::new();
    let read = tokio::time::timeout(PATIENCE, garbage.read_to_end(&mut alert)).await;
    let _ = read.expect("it is closed");
    eventually("both count", || world.server.stats().failed_handshakes == 2).await;
    eventually("both are gone", || world.server.stats().connections == 1).await;
    assert!(good.call(PING).await.contains("pong"));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_handshake_for_long() {
    let world = TlsServer::new(server(Config::default()), plain).await;
    let _silent = from("127.0.0.1", world.address).await;
    let mut peer = world.connect(None).await;
    assert!(peer.call(PING).await.contains("pong"));
    let server = world.server.clone();
    let shutdown = tokio::time::timeout(Duration::from_secs(5), server.shutdown());
    let ((), shutdown) = tokio::join!(peer.expect_end(), shutdown);
    assert_eq!(shutdown.expect("it ends").interrupted, 0);
}

/// A handshake that is refused in its last step has sent its requests by then: nothing of them is
/// executed.
#[tokio::test]
async fn nothing_of_a_client_without_a_certificate_is_executed() {
    let service = Service::default();
    let server = service.server(Config::default());
    let world = TlsServer::new(server, |tls| {
        let ca = tls.ca.pem().to_owned();
        tls.with(|builder| builder.client_ca_pem(ca))
    })
    .await;
    let io = from("127.0.0.1", world.address).await;
    let mut io = world.client(None).connect(HOST, io).await.unwrap();
    io.write_all(b"\0\0\0\x19{\"id\":\"a\",\"method\":\"inc\"}")
        .await
        .unwrap();
    let _ = io.flush().await;
    let error = io.read(&mut [0; 100]).await.expect_err("an alert");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert_eq!(service.effects(), 0);
    let mut known = world.connect(Some(world.ca.sign(&["a.example"]))).await;
    let refused = known.call_json(r#"{"id":"b","method":"none"}"#).await;
    assert_eq!((code(&refused), executed(&refused)), (-32601, "no"));
}
