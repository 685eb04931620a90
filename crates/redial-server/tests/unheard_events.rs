//! What nothing wants to hear costs nothing. The allocator counts for the whole program, so this file has one test.

#[path = "it/common/mod.rs"]
mod common;

use allocation_counter::measure;
use common::pipe;
use redial_server::{Context, Event, EventKind, Observer, Server, ServerBuilder};
use tokio::{runtime, task::yield_now};

const CALLS: u64 = 100;
const CALL: &str = r#"{"id":1,"method":"waits"}"#;

/// Wants to hear of connections alone.
struct OfConnections;

impl Observer for OfConnections {
    fn wants(&self, kind: EventKind) -> bool {
        kind == EventKind::ConnectionOpened
    }

    fn observe(&self, event: &Event<'_>) {
        assert_eq!(event.kind, EventKind::ConnectionOpened);
    }
}

/// How much is allocated for calls that don't end at once.
fn allocations(builder: impl FnOnce(ServerBuilder) -> ServerBuilder) -> u64 {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let waits = async |(): (), _: Context| {
        yield_now().await;
        Ok(())
    };
    let server = builder(Server::builder().query("waits", waits));
    let mut peer = runtime.block_on(async {
        let mut peer = pipe(&server.build().unwrap());
        peer.call(CALL).await;
        peer
    });
    let calls = || {
        runtime.block_on(async {
            for _ in 0..CALLS {
                peer.call(CALL).await;
            }
        });
    };
    measure(calls).count_total
}

/// Kind: an event is prepared though nothing wants it. Instance: what the events of an attempt would say, at a
/// server whose observer wants those of connections alone.
#[test]
fn what_an_observer_does_not_want_is_not_prepared() {
    let unobserved = allocations(|builder| builder);
    let observed = allocations(|builder| builder.observer(OfConnections));
    println!("{unobserved} without an observer, {observed} with one");
    assert!(observed < unobserved + CALLS);
}
