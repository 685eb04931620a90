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

fn take(queue: &Queue) -> usize {
    let mut jobs = Vec::new();
    queue.take(&mut jobs, Duration::MAX, None);
    jobs.len()
}

fn take_more(queue: &Queue) -> usize {
    let mut jobs = vec![call()];
    queue.take_more(&mut jobs);
    jobs.len() - 1
}

#[test]
fn the_first_calls_start_early_and_the_rest_joins_them() {
    let queue = Queue::new();
    push(&queue, HEAD_START - 1);
    assert!(!queue.lock().has_news());
    push(&queue, 1);
    assert_eq!(take(&queue), HEAD_START);
    push(&queue, 3);
    queue.flush();
    assert_eq!((take_more(&queue), take_more(&queue)), (3, 0));
}

#[test]
fn a_flush_with_nothing_left_to_take_ends_an_early_batch() {
    let queue = Queue::new();
    push(&queue, HEAD_START);
    assert_eq!(take(&queue), HEAD_START);
    assert!(queue.lock().is_early);
    queue.flush();
    assert_eq!(take_more(&queue), 0);
    assert!(!queue.lock().has_news());
}

#[test]
fn a_batch_that_was_flushed_waits_for_no_other() {
    let queue = Queue::new();
    push(&queue, 1);
    queue.flush();
    assert_eq!(take(&queue), 1);
    push(&queue, 1);
    assert_eq!(take_more(&queue), 0);
    queue.flush();
    assert_eq!((take_more(&queue), take_more(&queue)), (1, 0));
}

#[test]
fn acknowledgements_start_no_batch() {
    let queue = Queue::new();
    for _ in 0..HEAD_START {
        queue.push(Job::Acknowledge(
            SessionId::from_bits(7),
            Acknowledged::default(),
        ));
    }
    assert!(!queue.lock().has_news());
}

#[test]
fn the_end_of_the_store_is_no_flush_to_wait_for() {
    let queue = Queue::new();
    push(&queue, HEAD_START);
    assert_eq!(take(&queue), HEAD_START);
    queue.end(Course::Close);
    assert_eq!(take_more(&queue), 0);
}
