//! Kind of fault: how an endpoint is, or was, is taken for something else.

use std::time::Duration;

use redial_protocol::ErrorCode;

use super::*;

/// A driver that is taken to run, and was never started: calls that fail fast have several endpoints looked
/// after at once.
#[test]
fn each_endpoint_that_is_down_gets_its_driver() {
    let mut servers = Servers::new(|_| ());
    let mut links = ["a", "b", "c"].map(|name| servers.refuse(name));
    let key = servers.call();
    let mut started = Vec::new();
    for _ in 0..links.len() {
        assert!(servers.mux.known_down(key, servers.now).is_some());
        started.extend(servers.mux.driverless.take());
    }
    started.sort_unstable();
    links.sort_unstable();
    assert_eq!(started, links);
    assert!(servers.mux.known_down(key, servers.now).is_some());
    assert_eq!(servers.mux.driverless, None);
    // Where the task that looks after the endpoints is gone, it starts them all.
    servers.mux.has_discovery = false;
    assert!(servers.mux.known_down(key, servers.now).is_some());
    assert_eq!(servers.mux.driverless, Some(DISCOVERY));
}

/// A server that only fails, and draws all calls to itself since it does so quickly. Neighbour: what it has not
/// executed pays for no retries.
#[test]
fn what_fails_quickly_is_not_quick() {
    let (quick, slow) = (Duration::from_millis(1), Duration::from_millis(100));
    for code in [ErrorCode::HANDLER_ERROR, ErrorCode::OUTCOME_UNKNOWN] {
        let budget = RetryBudget {
            percent_of_calls: 1.0,
            min_per_second: 0.0,
            burst: 10.0,
        };
        let mut servers = Servers::new(|config| config.retry_budget = budget);
        let links = [servers.start("a", 7, 512), servers.start("b", 8, 512)];
        let [failing, works] = links.map(|link| servers.mux.endpoint_of(link));
        for state in &mut servers.mux.endpoints {
            state.budget.charge();
        }
        for _ in 0..200 {
            let key = servers.call();
            assert_eq!(servers.send(key), SendStatus::Queued);
            let link = servers.sent_to(key);
            if link == links[0] {
                servers.answer(link, key, quick, Some(code));
            } else {
                servers.answer(link, key, slow, None);
            }
        }
        let Mux {
            endpoints, pace, ..
        } = &servers.mux;
        for at in [failing, works] {
            assert_eq!(endpoints[at].pace.times(pace, servers.now), 1.0);
        }
        let is_paid = endpoints[failing].budget.tokens_at(servers.now) > 4.1;
        assert_eq!(is_paid, code == ErrorCode::HANDLER_ERROR);
    }
}
