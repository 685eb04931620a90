//! Each fault does what its name says, to the requests it is set for, from the moment it is set.

use std::time::Duration;

use crate::common::{self, Service, pipe, until, uuid};
use redial_server::{Config, CutPoint, Delay, Fault, FaultRule, Server};

fn inc(number: u32) -> String {
    format!(r#"{{"id":"{}","method":"inc"}}"#, uuid(number))
}

fn always(server: &Server, fault: Fault) {
    server.faults().set([FaultRule::new(fault, 1.0).unwrap()]);
}

#[tokio::test]
async fn a_dropped_request_has_no_effect_and_a_dropped_reply_has_one() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    for (number, fault, effects) in [(1, Fault::DropRequest, 0), (2, Fault::DropReply, 1)] {
        server
            .faults()
            .set([FaultRule::new(fault, 1.0).unwrap().for_method("inc")]);
        peer.send(inc(number)).await;
        let reply = peer.call_json(r#"{"id":"g","method":"get"}"#).await;
        assert_eq!(reply["id"], "g", "something was answered");
        assert_eq!(reply["result"], effects);
    }
    server.faults().clear();
    let retry = peer.call(inc(2)).await;
    assert!(
        retry.contains(r#""value":1"#),
        "the effect was doubled: {retry}"
    );
}

#[tokio::test(start_paused = true)]
async fn delays_last_as_long_as_they_say() {
    let service = Service::default();
    let server = service.server(Config::default());
    let mut peer = pipe(&server);
    let delay = Delay::Fixed(Duration::from_millis(120));
    for (number, fault) in [
        (1, Fault::DelayExecution(delay)),
        (2, Fault::DelayReply(delay)),
    ] {
        always(&server, fault);
        let before = common::now();
        peer.send(inc(number)).await;
        until("the request was accepted", || {
            server.stats().records == number as usize
        })
        .await;
        let at_once = u64::from(fault == Fault::DelayReply(delay));
        assert_eq!(service.effects(), u64::from(number) - 1 + at_once);
        peer.receive().await.unwrap();
        assert_eq!(before.elapsed().as_millis(), 120);
    }
}

#[tokio::test]
async fn a_cut_ends_the_connection_where_it_says() {
    for (point, effects, bytes) in [
        (CutPoint::BeforeExecution, 0, 0),
        (CutPoint::BeforeReply, 1, 0),
        (CutPoint::MidReply, 1, 35),
        (CutPoint::AfterReply, 1, 70),
    ] {
        let service = Service::default();
        let server = service.server(Config::default());
        always(&server, Fault::Cut(point));
        let mut peer = pipe(&server);
        peer.send(inc(1)).await;
        let mut received = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut peer.io, &mut received)
            .await
            .unwrap();
        assert_eq!(
            (received.len(), service.effects()),
            (bytes, effects),
            "{point:?}"
        );
        server.faults().clear();
        assert!(pipe(&server).call(inc(1)).await.contains(r#""value":1"#));
        assert_eq!(service.effects(), 1);
    }
}

#[tokio::test]
async fn a_duplicated_request_has_one_effect_and_two_equal_answers() {
    let service = Service::default();
    let server = service.server(Config::default());
    always(&server, Fault::Duplicate);
    let mut peer = pipe(&server);
    let one = peer.call(inc(1)).await;
    assert_eq!(peer.receive().await.unwrap(), one);
    assert_eq!((service.effects(), server.stats().replayed), (1, 1));
}

#[tokio::test]
async fn a_batch_loses_only_the_entries_that_are_dropped() {
    let service = Service::default();
    let server = service.server(Config::default());
    let drop = FaultRule::new(Fault::DropReply, 1.0)
        .unwrap()
        .for_method("inc");
    server.faults().set([drop]);
    let mut peer = pipe(&server);
    let batch = format!(r#"[{},{{"id":"g","method":"get"}},{}]"#, inc(1), inc(2));
    assert_eq!(peer.call(batch).await, r#"[{"id":"g","result":1}]"#);
}

#[tokio::test]
async fn the_same_seed_loses_the_same_requests() {
    let survivors = async |seed: u64| {
        let faults = redial_server::Faults::new(seed);
        faults.set([FaultRule::new(Fault::DropRequest, 0.5)
            .unwrap()
            .for_method("inc")]);
        let server = Service::default().builder().faults(faults).build().unwrap();
        let mut peer = pipe(&server);
        for number in 0..100 {
            peer.send(inc(number)).await;
        }
        peer.send(r#"{"id":"end","method":"rpc.ping"}"#).await;
        let mut survivors = Vec::new();
        loop {
            let reply = peer.receive().await.unwrap();
            if reply.contains("pong") {
                return survivors;
            }
            survivors.push(reply[7..43].to_owned());
        }
    };
    let (one, again, other) = (survivors(7).await, survivors(7).await, survivors(8).await);
    assert!(
        (30..70).contains(&one.len()),
        "{} of 100 survived",
        one.len()
    );
    assert_eq!(one, again);
    assert_ne!(one, other);
}
