//! Which jobs are one batch. The kind of fault: a batch that ends before the flush that it waits for, or
//! waits for one that has been.

use std::sync::Arc;

use redial_server::Context;

use super::*;
use crate::transaction::{Handler, Transaction};

fn call() -> Job {
    let handler = Arc::new(Handler {
        function: |(): (), _: &mut Transaction<'_>, _: Context| Ok(()),
        failures: Arc::default(),
    });
    let prepared = Prepared::new::<(), (), _>(&handler, (), None, Context::default());
    let call = StoreCall {
        key: None,
        fingerprint: 0,
        max_outcome_bytes: 1024,
        acknowledged: Acknowledged::default(),
        awake: Duration::ZERO,
        failure_texts: Default::default(),
    };
    Job::Execute(call, prepared, Box::new(drop))
}

fn push(queue: &Queue, calls: usize) {
    for _ in 0..calls {
        queue.push(call());
    }
}

fn take(queue: &Queue) -> (usize, Option<Duration>) {
    let mut jobs = Vec::new();
    let input = queue.take(&mut jobs, Duration::ZERO, Some(Duration::ZERO));
    (jobs.len(), input.awake)
}

#[test]
fn nothing_starts_before_its_flush_and_all_of_it_after() {
    let queue = Queue::new();
    push(&queue, 20);
    queue.push(Job::Acknowledge(
        SessionId::from_bits(7),
        Acknowledged::default(),
    ));
    assert!(!queue.lock().is_ready);
    queue.flush();
    assert!(queue.lock().is_ready);
    assert_eq!(take(&queue).0, 21);
    queue.flush();
    assert!(!queue.lock().is_ready, "nothing waits");
}

#[test]
fn what_comes_after_a_flush_starts_with_it() {
    let queue = Queue::new();
    push(&queue, 1);
    queue.flush();
    push(&queue, 1);
    assert_eq!(take(&queue).0, 2);
    assert!(!queue.lock().is_ready);
}

#[test]
fn so_many_start_without_a_flush() {
    let queue = Queue::new();
    push(&queue, PILE);
    assert!(queue.lock().is_ready);
}

#[test]
fn the_end_of_the_store_is_no_flush_to_wait_for() {
    let queue = Queue::new();
    push(&queue, 1);
    queue.end(WriterMode::Close);
    let mut jobs = Vec::new();
    let input = queue.take(&mut jobs, Duration::MAX, None);
    assert_eq!((jobs.len(), input.mode), (1, WriterMode::Close));
}

/// The kind of fault: an old tick counts as a new one.
#[test]
fn a_tick_tells_the_time_once() {
    let queue = Queue::new();
    assert_eq!(take(&queue).1, None);
    queue.tick(Duration::from_secs(3));
    queue.tick(Duration::from_secs(2));
    assert_eq!(take(&queue).1, Some(Duration::from_secs(3)));
    assert_eq!(take(&queue).1, None);
}
