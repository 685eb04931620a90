//! Calls that are awaited on another runtime than their connections' end by their deadlines,
//! whatever happens to either runtime.

use std::{
    future::{Future, IntoFuture, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use crate::peer::{builder, connected};
use redial_client::{Call, CallError};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, timeout},
};

const DEADLINE: Duration = Duration::from_millis(80);

/// Much longer than anything here takes.
const FOR_EVER: Duration = Duration::from_secs(20);

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().unwrap()
}

fn with_deadline(call: Call<Value>) -> Call<Value> {
    call.deadline(DEADLINE).attempt_timeout(DEADLINE * 2)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures the time of its runtime"
)]
async fn ends_by_its_deadline(call: impl Future<Output = Result<Value, CallError>>) {
    let start = Instant::now();
    let ended = timeout(FOR_EVER, call).await.expect("it ends");
    assert!(ended.is_err(), "no reply was sent");
    assert!(start.elapsed() <= DEADLINE + Duration::from_millis(1));
}

#[test]
fn the_runtime_of_the_connections_stands_still() {
    let (home, other) = (runtime(), runtime());
    let (client, _peer, _network) = home.block_on(connected(builder()));
    let call = with_deadline(client.request("inc", json!({})));
    other.block_on(ends_by_its_deadline(call.into_future()));
}

#[test]
fn the_runtime_that_a_call_began_on_is_gone() {
    let (home, first, second) = (runtime(), runtime(), runtime());
    let (client, _peer, _network) = home.block_on(connected(builder()));
    let mut call = pin!(with_deadline(client.request("inc", json!({}))).into_future());
    first.block_on(poll_fn(|context| {
        assert!(call.as_mut().poll(context).is_pending());
        Poll::Ready(())
    }));
    drop(first);
    second.block_on(ends_by_its_deadline(call));
}
