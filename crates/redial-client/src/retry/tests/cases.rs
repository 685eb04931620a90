//! The same world, step by step: one case at a time.

use super::*;

/// A world in which everything is written at once.
fn written() -> OneCallWorld {
    let mut world = OneCallWorld::new(limits(), RetryBudget::unlimited());
    world.context.limits.backoff = Backoff::new(ms(10), 2.0, ms(100), Jitter::None).unwrap();
    world.happen(OneCallEvent::Connect);
    world.step();
    world.write(usize::MAX);
    world
}

#[test]
fn an_attempt_that_is_not_written_is_waited_for_without_another() {
    let mut world = OneCallWorld::new(limits(), RetryBudget::unlimited());
    for _ in 0..10 {
        world.step();
        world.now += ms(100);
    }
    world.happen(OneCallEvent::Connect);
    world.write(usize::MAX);
    assert_eq!(world.arrived.len(), 1);
}

#[test]
fn an_attempt_that_times_out_is_followed_by_one_with_its_number_and_what_is_left_of_the_time() {
    let mut world = written();
    assert!(world.arrived[0].ends_with(r#""redial":{"timeout_ms":2000}}"#));
    assert_eq!(world.step(), Some(world.now + ms(100)));
    world.now += ms(100);
    assert_eq!(world.step(), Some(world.now + ms(10)), "the backoff");
    world.now += ms(10);
    assert_eq!(world.step(), Some(world.now + ms(100)));
    world.write(usize::MAX);
    assert!(world.arrived[1].ends_with(r#""redial":{"attempt":2,"timeout_ms":1890}}"#));
}

#[test]
fn a_refusal_of_an_older_attempt_leaves_the_younger_one_alone() {
    let mut world = written();
    world.now += ms(100);
    world.step();
    world.serve(OneCallServe::Refuse(-32001));
    world.now += ms(10);
    world.step();
    world.write(usize::MAX);
    let attempt_deadline = world.step().unwrap();
    assert_eq!(attempt_deadline, world.now + ms(100));
    let (completion, pending) = world.finish();
    assert!(
        matches!(completion, Completion::GiveUp { .. }),
        "{completion:?}"
    );
    assert!(may_have_executed(&pending));
    let ends: Vec<_> = pending
        .attempts
        .iter()
        .map(|attempt| attempt.ended.unwrap().1)
        .collect();
    assert_eq!(ends[..2], [AttemptEnd::Refused, AttemptEnd::Timeout]);
}

#[test]
fn a_refusal_is_not_put_to_an_attempt_that_was_not_written() {
    let mut world = written();
    world.now += ms(100);
    world.step();
    world.now += ms(10);
    world.step();
    // The second lies in the buffer while the first is refused.
    world.serve(OneCallServe::Refuse(-32001));
    let (_, pending) = world.finish();
    let ends: Vec<_> = pending
        .attempts
        .iter()
        .map(|attempt| attempt.ended.map(|end| end.1))
        .collect();
    assert_eq!(
        ends,
        [Some(AttemptEnd::Refused)],
        "and the second was withdrawn"
    );
}

#[test]
fn retry_after_counts_during_the_backoff_too() {
    let mut world = written();
    world.now += ms(100);
    world.step();
    let busy = ErrorObject::raised(ErrorCode::OVERLOADED, "").with_retry_after_ms(500);
    let reply = ServerMessage::Reply {
        id: ID,
        outcome: Err(busy),
        meta: ReplyMeta::default(),
    };
    world
        .mux
        .handle_replies(0, &mut [reply].into(), world.now)
        .unwrap();
    assert_eq!(world.step(), Some(world.now + ms(500)));
}

#[test]
fn a_copy_that_lies_in_the_buffer_for_too_long_is_withdrawn() {
    let mut world = written();
    world.retrier.resend_window = Some(ms(300));
    let first_sent = world.now;
    world.now += ms(100);
    world.step();
    world.now += ms(10);
    world.step();
    // The second is never written; meanwhile the server forgets the first.
    while world.now < first_sent + ms(300) {
        world.now = world.step().unwrap();
    }
    assert_eq!(
        world.step(),
        Some(world.retrier.deadline()),
        "only listening"
    );
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.retrier.used), (1, 1));
    world.serve(OneCallServe::Answer);
    let (completion, _) = world.finish();
    assert!(matches!(completion, Completion::Answer(Answer::Result(..))));
}

/// Or it would be looked after only when its timeout has passed, and leave with the connection that
/// comes before that.
#[test]
fn a_copy_is_looked_after_when_it_gets_too_late_for_it() {
    let mut world = written();
    world.retrier.resend_window = Some(ms(150));
    let first_sent = world.now;
    world.now += ms(100);
    world.step();
    world.now += ms(10);
    assert_eq!(world.step(), Some(first_sent + ms(150)), "now it is queued");
    world.now = first_sent + ms(150);
    world.step();
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.retrier.used), (1, 1));
}

#[test]
fn a_hedge_is_withdrawn_when_it_gets_too_late_for_it() {
    let mut world = OneCallWorld::new(limits(), RetryBudget::unlimited());
    world.context.limits.hedge = Hedge::After(ms(50));
    world.retrier.resend_window = Some(ms(80));
    world.happen(OneCallEvent::Connect);
    world.step();
    world.write(usize::MAX);
    let (first_sent, resend_limit) = (world.now, world.now + ms(80));
    world.now = first_sent + ms(50);
    assert_eq!(world.step(), Some(resend_limit), "now it is queued");
    assert_eq!((world.step(), world.retrier.used), (Some(resend_limit), 2));
    world.now = resend_limit;
    world.step();
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.retrier.used), (1, 1));
}

/// Its clock stood still, and the server's did not.
#[test]
fn after_a_suspension_no_call_is_sent_again_that_a_server_may_have_forgotten() {
    let mut world = written();
    world.retrier.resend_window = Some(ms(300));
    world.now += ms(100);
    world.mux.handle_suspension(world.now);
    world.now += ms(1);
    assert_eq!(
        world.step(),
        Some(world.retrier.deadline()),
        "only listening"
    );
    world.write(usize::MAX);
    assert_eq!((world.arrived.len(), world.retrier.used), (1, 1));
}

#[test]
fn a_first_attempt_may_lie_in_the_buffer_for_as_long_as_the_deadline_allows() {
    let mut world = OneCallWorld::new(limits(), RetryBudget::unlimited());
    world.retrier.resend_window = Some(ms(300));
    while world.now < world.retrier.started().unwrap() + ms(1500) {
        world.now = world.step().unwrap();
    }
    world.happen(OneCallEvent::Connect);
    world.write(usize::MAX);
    assert_eq!(world.arrived.len(), 1);
}

#[test]
fn a_token_that_was_reserved_for_a_retry_goes_back_if_there_is_none() {
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 1.0,
    };
    let mut world = OneCallWorld::new(limits(), budget);
    world.happen(OneCallEvent::Connect);
    world.step();
    world.write(usize::MAX);
    world.now += ms(100);
    world.step();
    world.serve(OneCallServe::Answer);
    assert_eq!(world.step(), None);
    let later = world.now + ms(1000);
    assert_eq!(world.context.bucket.reserve(world.now, later), None);
    world.retrier.refund(&mut world.mux, &mut world.context);
    assert_eq!(
        world.context.bucket.reserve(world.now, later),
        Some(world.now)
    );
}

/// A hedge that never left and the attempt beside it, which are lost before the call looks: a token that is paid
/// twice, and an attempt that counts though it was not made.
#[test]
fn a_hedge_that_never_left_costs_nothing_though_the_other_attempt_is_lost_too() {
    let config = Config {
        sessions: false,
        connections: 2,
        ..Config::default()
    };
    let budget = RetryBudget {
        percent_of_calls: 0.0,
        min_per_second: 0.0,
        burst: 1.0,
    };
    let limits = CallLimits {
        hedge: Hedge::After(ms(50)),
        ..limits()
    };
    let mut world = OneCallWorld::with(&config, limits, budget);
    world.step();
    let (first, second) = match world.mux.in_flight_on(0) {
        1 => (0, 1),
        _ => (1, 0),
    };
    world.mux.handle_connected(first, world.now);
    let mut transmit = Transmit::default();
    let waker = std::task::Waker::noop();
    assert!(world.mux.poll_transmit(first, &mut transmit, waker));
    let written = transmit.ready().len();
    transmit.advance(written);
    world.mux.handle_written(first, transmit.offset());
    world.now += ms(50);
    world.step();
    assert_eq!((world.retrier.used, world.mux.in_flight_on(second)), (2, 1));
    let error = ConnectError {
        peer: "peer".into(),
        connector: None,
        reason: std::sync::Arc::new(std::io::ErrorKind::ConnectionRefused.into()),
    };
    world.mux.handle_connect_failed(second, &error, world.now);
    let written = Some(transmit.offset());
    world
        .mux
        .handle_disconnect(first, written, &"peer".into(), "cut", world.now);
    assert!(world.step().is_some(), "it is sent again");
    assert_eq!(world.retrier.used, 1);
    let (now, later) = (world.now, world.now + ms(1_000));
    assert_eq!(
        world.context.bucket.reserve(now, later),
        None,
        "it keeps its token"
    );
    world.retrier.refund(&mut world.mux, &mut world.context);
    assert_eq!(world.context.bucket.reserve(now, later), Some(now));
}
