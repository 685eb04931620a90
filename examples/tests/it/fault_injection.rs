//! How to test your own service under faults: the rules are part of the server, are seeded, and can
//! be changed while it runs.

use std::time::Duration;

use redial_client::Client;
use redial_examples::{
    counters::Counters,
    methods::{GetParams, Inc, IncParams},
};
use redial_server::{CutPoint, Fault, FaultRule, Faults, Server};

const SEED: u64 = 7;

#[tokio::test]
async fn every_call_counts_once_although_replies_and_connections_are_lost() {
    let faults = Faults::new(SEED);
    faults.set([
        FaultRule::new(Fault::DropReply, 0.2).unwrap(),
        FaultRule::new(Fault::Cut(CutPoint::BeforeReply), 0.1)
            .unwrap()
            .for_method("inc"),
    ]);
    let counters = Counters::default();
    let server = counters
        .register(Server::builder())
        .faults(faults.clone())
        .build()
        .unwrap();
    let listener = server.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });

    let client = Client::connect(address).await.unwrap();
    for _ in 0..50 {
        client
            .call::<Inc>(IncParams {
                key: "k".into(),
                delta: 1,
            })
            .attempt_timeout(Duration::from_millis(20))
            .max_attempts(1000)
            .await
            .unwrap_or_else(|error| panic!("seed {SEED}: {error}"));
    }

    faults.clear();
    assert_eq!(
        counters.get(GetParams { key: "k".into() }).value,
        50,
        "seed {SEED}"
    );
    assert!(
        server.stats().replayed > 0,
        "seed {SEED} lost no reply, so nothing was tested"
    );
}
