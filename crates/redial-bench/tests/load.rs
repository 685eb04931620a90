//! The load generator completes its calls, and reports what is wrong.

use std::{future::ready, net::SocketAddr, thread, time::Duration};

use redial_bench::{
    counters::{Counters, server},
    load::{Load, Mode},
    methods::{GetParams, IncParams},
};
use redial_server::{Abort, Context, Server, ServerTls};
use redial_test_ca::TestCa;
use redial_tls::ClientTls;

/// Lets a server serve on its own thread until this process ends.
fn serve(server: Server) -> SocketAddr {
    serve_over(server, None)
}

fn serve_over(server: Server, tls: Option<ServerTls>) -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = server.bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            match tls {
                Some(tls) => server.serve_tls(listener, tls).await.unwrap(),
                None => server.serve(listener).await.unwrap(),
            }
        });
    });
    receiver.recv().unwrap()
}

fn load(peer: SocketAddr, mode: Mode) -> Load {
    Load {
        peer,
        tls: None,
        mode,
        connections: 2,
        in_flight: 8,
        duplicates: 0.0,
        warmup: Duration::from_millis(5),
        length: Duration::from_millis(50),
        spin: false,
        watch: None,
    }
}

#[test]
fn every_mode_completes_with_and_without_duplicates() {
    let peer = serve(server(Duration::from_secs(60), 10_000_000).unwrap());
    for mode in [Mode::Query, Mode::Plain, Mode::Session] {
        let summary = load(peer, mode).run().unwrap();
        assert!(summary.calls > 0, "{mode:?}");
    }
    for mode in [Mode::Plain, Mode::Session] {
        let load = Load {
            duplicates: 0.3,
            spin: true,
            ..load(peer, mode)
        };
        assert!(load.run().unwrap().calls > 0, "{mode:?}");
    }
}

/// More calls at once than a record of TLS holds, so that replies lie across two.
#[test]
fn calls_over_tls_complete_too() {
    let ca = TestCa::new("load");
    let pair = ca.sign(&["127.0.0.1"]);
    let tls = ServerTls::builder().certificate_pem(pair.certificate, pair.key);
    let tls = Some(tls.build().unwrap());
    let peer = serve_over(server(Duration::from_secs(60), 10_000_000).unwrap(), tls);
    let tls = ClientTls::builder().roots_pem(ca.pem()).build().unwrap();
    for (in_flight, spin) in [(1, false), (512, true)] {
        let load = Load {
            tls: Some(tls.config()),
            in_flight,
            spin,
            ..load(peer, Mode::Session)
        };
        assert!(load.run().unwrap().calls > 0, "{in_flight}");
    }
}

#[test]
fn one_effect_too_many_is_reported() {
    let counters = Counters::default();
    let (inc, get) = (counters.clone(), counters);
    let server = Server::builder()
        .mutation("inc", move |params: IncParams, _: Context| {
            let _ = inc.inc(params.clone());
            ready(Ok(inc.inc(params)))
        })
        .query("get", move |params: GetParams, _: Context| {
            ready(Ok(get.get(&params)))
        });
    let peer = serve(server.build().unwrap());
    let error = load(peer, Mode::Session).run().unwrap_err().to_string();
    assert!(error.contains("calls too many had an effect"), "{error}");
}

#[test]
fn an_error_reply_is_reported() {
    let server = Server::builder()
        .mutation("inc", |_: IncParams, _: Context| {
            ready(Err::<i64, _>(Abort::failed("no room")))
        })
        .query("get", |_: GetParams, _: Context| ready(Ok(0)));
    let peer = serve(server.build().unwrap());
    let error = load(peer, Mode::Session).run().unwrap_err().to_string();
    assert!(error.contains("no room"), "{error}");
}

#[test]
fn more_calls_than_a_session_allows_are_refused_at_once() {
    let peer = serve(server(Duration::from_secs(60), 1000).unwrap());
    let load = Load {
        in_flight: 513,
        ..load(peer, Mode::Session)
    };
    let error = load.run().unwrap_err().to_string();
    assert!(error.contains("--in-flight 513"), "{error}");
}
