//! What one server has fenced, or taken over, and attempts that are those of another call.

use redial_server::Config;

use super::{TwoServers, is_silent};
use crate::common::{
    code, executed,
    session::{ask, attempt, config, id, inc, reply_to},
};

/// Kind of fault: what was fenced at one server while it had run at another is answered without a look at
/// whose outcome it is, so that an attempt of another call gets it.
#[tokio::test(start_paused = true)]
async fn what_was_asked_about_at_another_server_is_still_compared_with_each_attempt() {
    for question in ["rpc.resolve", "rpc.cancel"] {
        let world = TwoServers::new();
        let ([mut one, mut other], session) = world.client().await;
        let ran = one.call_json(inc(session, 0)).await;
        let state = other.call_json(ask(question, session, 0)).await;
        assert!(state["error"].is_null(), "{state}");
        let reused = other.call_json(attempt("fail", session, 0, 2)).await;
        assert_eq!(code(&reused), -32003, "{question}: {reused}");
        let again = other.call_json(attempt("inc", session, 0, 3)).await;
        assert_eq!(again["result"], ran["result"], "{question}: {again}");
        assert_eq!(world.service.effects(), 1);
    }
}

/// Kind of fault: the same of attempts that waited for room when their call was cancelled.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_cancelled_in_the_queue_gets_no_other_calls_outcome() {
    let world = TwoServers::with(Config {
        max_running: 1,
        ..config()
    });
    let ([mut one, mut other], session) = world.client().await;
    let ran = one.call_json(inc(session, 0)).await;
    other.send(attempt("wait", session, 1, 1)).await;
    world.runs(1).await;
    other.send(attempt("fail", session, 0, 2)).await;
    is_silent(&mut other).await;
    other.send(ask("rpc.cancel", session, 0)).await;
    let replies = other.receive_all::<2>().await;
    let refused = reply_to(&replies, &id(session, 0));
    assert_eq!((code(refused), executed(refused)), (-32001, "unknown"));
    world.go.notify_waiters();
    other.receive_json().await;
    let reused = other.call_json(attempt("fail", session, 0, 3)).await;
    assert_eq!(code(&reused), -32003, "{reused}");
    let again = other.call_json(attempt("inc", session, 0, 4)).await;
    assert_eq!(again["result"], ran["result"], "{again}");
}

/// Kind of fault: who cancels a call that its server has left in the middle keeps it from being run again.
#[tokio::test(start_paused = true)]
async fn a_call_that_could_not_be_cancelled_is_taken_over_by_the_next_attempt() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    one.send(attempt("again", session, 0, 1)).await;
    world.runs(0).await;
    world.table.end_lease(0);
    let state = other.call_json(ask("rpc.cancel", session, 0)).await;
    assert_eq!(state["result"]["state"], "running", "{state}");
    other.send(attempt("again", session, 0, 2)).await;
    world.runs(1).await;
    world.go.notify_waiters();
    let ran = other.receive_json().await;
    assert!(ran["result"].is_i64(), "{ran}");
}

/// Kind of fault: a call that is run again for who asks about it answers an attempt of another one, too.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_taken_over_answers_no_attempt_of_another_call() {
    let world = TwoServers::new();
    let ([mut one, mut other], session) = world.client().await;
    one.send(attempt("again", session, 0, 1)).await;
    world.runs(0).await;
    world.table.end_lease(0);
    other.send(ask("rpc.resolve", session, 0)).await;
    other.send(attempt("fail", session, 0, 2)).await;
    let reused = other.receive_json().await;
    assert_eq!(code(&reused), -32003, "{reused}");
    world.runs(1).await;
    world.go.notify_waiters();
    let resolved = other.receive_json().await;
    assert_eq!(resolved["result"]["state"], "done", "{resolved}");
}
