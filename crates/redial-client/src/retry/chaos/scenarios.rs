//! Courses of events that once went wrong, or that show where the line is.

use super::{ChaosEvent, Heard, outcomes, server::ServeAction};

/// A second connection is sent a call of a session that it has not said hello to yet, because it is
/// still busy with the session before. Its server executes the call, and then forgets the session.
#[test]
fn a_session_that_is_unknown_by_now_may_have_been_known() {
    use ChaosEvent::{Begin, Connect, Expire, Lose, Serve as Served, Write};
    let everything = |link| Write(link, 100_000);
    let answer = |link| Served(link, ServeAction::Answer);
    // On the one connection the first session is found to be gone, and another one opened.
    let on_the_one = [Connect(1), Expire, Begin, everything(0), answer(0)];
    let a_new_session = [everything(0), answer(0)];
    // On the other one both hellos and the call between them are answered.
    let on_the_other = [Begin, everything(1), answer(1), everything(1)];
    let silently = Served(1, ServeAction::ExecuteSilently);
    let executed = [silently, Lose(0, true), Expire, answer(1)];
    let at_last = [everything(1), answer(1)];
    let begin = on_the_one.into_iter().chain(a_new_session);
    let all = begin.chain(on_the_other).chain(executed);
    let unknown = Some(Heard::Unknown);
    let expected = [(0, unknown), (1, unknown)];
    assert_eq!(outcomes(all.chain(at_last).chain(at_last)), expected);
}

/// It may be sent again only if no copy of it can have been executed: not if one was on a connection
/// whose server knew the session, although the server that is asked last does not.
#[test]
fn a_call_with_a_copy_elsewhere_is_not_sent_again_when_a_hello_finds_no_session() {
    use ChaosEvent::{Advance, Begin, Connect, Expire, Lose, Serve as Served, Write};
    let everything = |link| Write(link, 100_000);
    let answer = |link| Served(link, ServeAction::Answer);
    let mut heard = Vec::new();
    for serve in [ServeAction::ExecuteSilently, ServeAction::Ignore] {
        for is_lost in [true, false] {
            // The hedge leaves right behind a hello that has no answer yet.
            let on_one = [Begin, everything(0), Served(0, serve), Connect(1)];
            let on_other = [Advance(60), everything(1)];
            let lost = is_lost.then_some(Lose(0, true));
            let expired = [Expire, answer(1), answer(1)];
            let at_last = [everything(0), answer(0), everything(1), answer(1)];
            let begin = on_one.into_iter().chain(on_other).chain(lost);
            let all = begin.chain(expired).chain([Connect(0), Connect(1)]);
            heard.extend(outcomes(all.chain(at_last).chain(at_last)));
        }
    }
    let unknown = Some(Heard::Unknown);
    let expected = [1, 1, 0, 0].map(|executions| (executions, unknown));
    assert_eq!(heard, expected);
}

/// The other half: a server that never knew the session has executed nothing.
#[test]
fn a_call_that_only_followed_a_hello_which_found_no_session_is_sent_again() {
    use ChaosEvent::{Begin, Connect, Expire, Lose, Serve as Served, Write};
    let (everything, answer) = (Write(1, 100_000), Served(1, ServeAction::Answer));
    let refused = [Lose(0, true), Expire, Connect(1), Begin, everything, answer];
    let a_new_session = [answer, everything, answer];
    let again = [Begin, everything, answer, answer];
    let all = refused.into_iter().chain(a_new_session).chain(again);
    assert_eq!(outcomes(all), [(1, Some(Heard::Value)); 2]);
}
