//! Fault rules are changed from outside by those who may not, or can't be taken off again.

use redial_server::{Extensions, Fault, FaultControl, FaultRule, Principal};
use serde_json::{Value, json};

use crate::common::{Service, code, pipe, pipe_from, pipe_with};

fn ask(params: Value) -> String {
    json!({"id": "f", "method": "rpc.faults", "params": params}).to_string()
}

fn of(principal: &str) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(Principal::new(principal).unwrap());
    // From another machine.
    extensions.insert("192.0.2.7:1".parse::<std::net::SocketAddr>().unwrap());
    extensions
}

/// Kind: a door for experiments that stands open. Instance: a server that was not told to have it,
/// another machine, another principal, a policy that knows better.
#[tokio::test(start_paused = true)]
async fn only_those_who_may_see_and_change_the_rules() {
    let service = Service::default();
    let drop = json!({"add": [{"fault": "drop_request"}]});
    let server = service.builder().build().unwrap();
    let found = pipe(&server).call_json(ask(drop.clone())).await;
    assert_eq!(code(&found), -32601, "{found}");

    let local = || service.builder().fault_control(FaultControl::Local);
    let server = local().build().unwrap();
    for mut peer in [
        pipe_from(&server, "192.0.2.1"),
        pipe_with(&server, of("token:ops")),
    ] {
        for params in [json!({}), drop.clone(), json!({"clear": true})] {
            let refused = peer.call_json(ask(params)).await;
            assert_eq!(code(&refused), -32009, "{refused}");
        }
    }
    for mut peer in [pipe(&server), pipe_from(&server, "127.0.0.1")] {
        assert_eq!(
            peer.call_json(ask(json!({}))).await["result"],
            json!({"rules": []})
        );
    }
    let server = local()
        .policy(|_, method| method != "rpc.faults")
        .build()
        .unwrap();
    assert_eq!(code(&pipe(&server).call_json(ask(json!({}))).await), -32009);

    let ops = FaultControl::Principals(vec![Principal::new("token:ops").unwrap()]);
    let server = service.builder().fault_control(ops).build().unwrap();
    let found = pipe_with(&server, of("token:ops"))
        .call_json(ask(json!({})))
        .await;
    assert_eq!(found["result"], json!({"rules": []}));
    for mut peer in [pipe_with(&server, of("token:other")), pipe(&server)] {
        assert_eq!(code(&peer.call_json(ask(drop.clone())).await), -32009);
    }
    assert!(server.faults().rules().is_empty());
}

/// Kind: rules that no request can remove. Instance: one that drops every request, and one that drops
/// every reply.
#[tokio::test(start_paused = true)]
async fn the_request_that_removes_the_rules_is_not_subject_to_them() {
    let server = Service::default()
        .builder()
        .fault_control(FaultControl::Local);
    let server = server.build().unwrap();
    let mut peer = pipe(&server);
    for fault in [Fault::DropRequest, Fault::DropReply] {
        server.faults().set([FaultRule::new(fault, 1.0).unwrap()]);
        let found = peer.call_json(ask(json!({"clear": true}))).await;
        assert_eq!(found["result"], json!({"rules": []}));
        assert!(server.faults().rules().is_empty());
    }
}

/// Kind: a rule that is another one than was said. Instance: every fault there and back, and rules that
/// make no sense.
#[tokio::test(start_paused = true)]
async fn rules_are_answered_as_they_were_said_and_bad_ones_change_nothing() {
    let server = Service::default()
        .builder()
        .fault_control(FaultControl::Local);
    let server = server.build().unwrap();
    let mut peer = pipe(&server);
    let rules = json!([
        {"fault": "drop_request", "probability": 0.25},
        {"fault": "drop_reply", "probability": 1.0, "method": "inc"},
        {"fault": "delay_execution", "probability": 1.0, "delay": {"exponential_ms": 2.5}},
        {"fault": "delay_reply", "probability": 1.0, "delay": {"pareto_ms": [2.0, 1.5]}},
        {"fault": "cut", "probability": 1.0, "at": "after_reply"},
        {"fault": "duplicate", "probability": 0.0},
    ]);
    let found = peer
        .call_json(ask(json!({"clear": true, "add": rules})))
        .await;
    assert_eq!(found["result"]["rules"], rules);
    for (wrong, said) in [
        (json!({"fault": "drop"}), "drop_request"),
        (json!({"fault": "cut", "probability": 2.0}), "from 0 to 1"),
        (
            json!({"fault": "drop_reply", "at": "mid_reply"}),
            "with cut alone",
        ),
        (
            json!({"fault": "delay_reply"}),
            "\"delay\" with delay_execution",
        ),
        (
            json!({"fault": "delay_reply", "delay": {"fixed_ms": 1e9}}),
            "600000",
        ),
        (
            json!({"fault": "delay_reply", "delay": {"uniform_ms": [2, 1]}}),
            "min <= max",
        ),
        (json!({"fault": "cut", "probabilty": 1.0}), "probabilty"),
    ] {
        let refused = peer.call_json(ask(json!({"add": [wrong]}))).await;
        assert_eq!(code(&refused), -32602, "{refused}");
        let text = refused["error"]["data"]["detail"].as_str().unwrap();
        assert!(text.contains(said), "no {said:?} in {text:?}");
    }
    let many: Vec<_> = (0..59).map(|_| json!({"fault": "duplicate"})).collect();
    let refused = peer.call_json(ask(json!({ "add": many }))).await;
    assert!(
        refused
            .to_string()
            .contains("65 fault rules; expected at most 64"),
        "{refused}"
    );
    assert_eq!(
        peer.call_json(ask(json!({}))).await["result"]["rules"],
        rules
    );
}
