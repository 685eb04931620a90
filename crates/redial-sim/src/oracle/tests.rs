//! Histories made by hand: a good one passes, and each violation is found by its own rule, and by
//! no other.

mod history_builder;
mod several;

use std::time::Duration;

use self::history_builder::HistoryBuilder;
use crate::journal::{End, Event, Executed, Frame, Method, Way};

/// Numbers 0 and 1 of one session, and a plain id.
const FIRST: &str = r#""12345678-9abc-8def-8000-000000000000""#;
const SECOND: &str = r#""12345678-9abc-8def-8000-000000000001""#;
const PLAIN: &str = r#""12345678-9abc-4def-8000-000000000000""#;

#[test]
fn a_good_history_passes() {
    let history = HistoryBuilder::new()
        .good(1, FIRST, 1)
        .good(2, SECOND, 2)
        .acks(2);
    history.breaks(&[]);
}

#[test]
fn a_second_effect() {
    let history = HistoryBuilder::new().calls(1, Method::Inc).sends(1, FIRST);
    let history = history.runs(1, 1, 1).runs(1, 1, 2).answers(FIRST, 1);
    history.ends(1, End::Ok(1)).breaks(&["at most one effect"]);
}

#[test]
fn a_second_execution_without_effect() {
    let mut history = HistoryBuilder::new()
        .calls(1, Method::FailBefore)
        .sends(1, FIRST);
    for _ in 0..2 {
        history = history.note(Event::Began { tag: 1, life: 1 });
    }
    let history = history.refuses(FIRST, -32000, "yes");
    let history = history.ends(1, End::Failed(-32000, None));
    history.breaks(&["at most one execution"]);
}

/// A plain id is known for the TTL, and by one life of the server.
#[test]
fn a_second_effect_of_a_plain_id_is_excused_only_after_the_ttl_or_a_restart() {
    let twice = |life, pause| {
        let history = HistoryBuilder::new().calls(1, Method::Inc).sends(1, PLAIN);
        let history = history.runs(1, 1, 1).answers(PLAIN, 1).after_ms(pause);
        history.runs(1, life, 2).ends(1, End::Ok(1))
    };
    twice(1, 40).breaks(&["at most one effect"]);
    twice(1, 60).breaks(&[]);
    twice(2, 0).breaks(&[]);
}

#[test]
fn an_ok_without_effect_with_another_value_or_before_it() {
    let called = || HistoryBuilder::new().calls(1, Method::Inc).sends(1, FIRST);
    let rules = ["ok means exactly one effect"];
    called().ends(1, End::Ok(1)).breaks(&rules);
    called().runs(1, 1, 1).ends(1, End::Ok(2)).breaks(&rules);
    called().ends(1, End::Ok(1)).runs(1, 1, 1).breaks(&rules);
}

#[test]
fn an_effect_of_a_call_reported_as_not_executed() {
    for (end, rule) in [
        (
            End::NotExecuted("busy".into()),
            "not executed means no effect",
        ),
        (End::Never, "never means no effect"),
    ] {
        let called = || HistoryBuilder::new().calls(1, Method::Inc).sends(1, FIRST);
        called().runs(1, 1, 1).ends(1, end.clone()).breaks(&[rule]);
        called()
            .ends(1, end)
            .after_ms(90_000)
            .runs(1, 1, 1)
            .breaks(&[rule]);
    }
}

/// With a store a copy of a refused attempt may run, but not before the server that refused it has ended.
#[test]
fn an_effect_of_a_refused_call_is_excused_only_after_a_restart() {
    let refused = |life| {
        let mut history = HistoryBuilder::new();
        history.run.is_stored = true;
        let accepted = Event::Server {
            life: 1,
            what: "Accepted".to_owned(),
            id: None,
            attempt: 1,
        };
        let history = history.note(accepted).calls(1, Method::Inc).sends(1, FIRST);
        let history = history.refuses(FIRST, -32001, "no");
        let history = history.ends(1, End::NotExecuted("busy".into()));
        let history = history.sends_frame(Frame {
            method: Some("inc".to_owned()),
            tag: Some(1),
            id: Some(FIRST.to_owned()),
            is_copy: true,
            ..Frame::default()
        });
        history.runs(1, life, 1).answers(FIRST, 1)
    };
    refused(1).breaks(&["not executed means no effect"]);
    refused(2).breaks(&[]);
}

#[test]
fn a_session_that_is_unknown_before_its_lease_has_ended() {
    let unknown_after = |ms, is_stored| {
        let mut history = HistoryBuilder::new();
        history.run.is_stored = is_stored;
        let history = history.good(1, FIRST, 1).after_ms(ms);
        let history = history.calls(2, Method::Inc).sends(2, SECOND);
        let text = r#""error":{"code":-32004,"data":{"unknown_session":"123456789abcdef"}}"#;
        let history = history.answers_frame(Frame {
            id: Some(SECOND.to_owned()),
            outcome: Some(text.to_owned()),
            code: Some(-32004),
            executed: Some(Executed::Unknown),
            text: text.to_owned(),
            ..Frame::default()
        });
        history.ends(2, End::Unknown("no session".into()))
    };
    unknown_after(10, true).breaks(&["a session survives a restart"]);
    unknown_after(10, false).breaks(&[]);
    unknown_after(2000, true).breaks(&[]);
}

#[test]
fn a_transaction_that_was_interrupted() {
    let interrupted = |is_transactional| {
        let mut history = HistoryBuilder::new();
        (history.run.is_stored, history.run.is_transactional) = (true, is_transactional);
        let history = history.calls(1, Method::Inc).sends(1, FIRST);
        let history = history.refuses(FIRST, -32008, "unknown");
        history.ends(1, End::Unknown("interrupted".into()))
    };
    interrupted(true).breaks(&["a transaction is never interrupted"]);
    interrupted(false).breaks(&[]);
}

#[test]
fn an_outcome_after_the_call_was_interrupted() {
    let interrupted = |is_cut_off| {
        let history = HistoryBuilder::new();
        let history = history.calls(1, Method::Inc).sends(1, FIRST).runs(1, 1, 1);
        let remark = |text: &str| Event::Remark(text.to_owned());
        let history = if is_cut_off {
            history.note(remark("server is shut down"))
        } else {
            history
        };
        let history = history.refuses(FIRST, -32008, "unknown");
        let history = history.ends(1, End::Unknown("interrupted".into()));
        let history = history.note(remark("server is down, 1 calls interrupted"));
        history.sends(1, FIRST).answers(FIRST, 1)
    };
    interrupted(false).breaks(&["one id has one outcome"]);
    interrupted(true).breaks(&[]);
}

#[test]
fn a_patient_caller_that_does_not_know_before_its_deadline() {
    let ended = |why: &str, is_patient| {
        let mut history = HistoryBuilder::new();
        history.run.is_patient = is_patient;
        let history = history.calls(1, Method::Inc).sends(1, FIRST);
        history.ends(1, End::Unknown(why.to_owned()))
    };
    let rule = "unknown only past the deadline";
    ended("the connection broke", true).breaks(&[rule]);
    ended("the connection broke", false).breaks(&[]);
    ended("the server answered -32008 Interrupted", true).breaks(&[]);
}

#[test]
fn an_effect_after_a_cancellation_got_never() {
    let history = HistoryBuilder::new().calls(1, Method::Inc).sends(1, FIRST);
    let history = history.sends_frame(Frame {
        id: Some("\"c\"".to_owned()),
        method: Some("rpc.cancel".to_owned()),
        about: Some(FIRST.to_owned()),
        ..Frame::default()
    });
    let never = r#""result":{"state":"never"}"#;
    let history = history.answers_frame(Frame {
        id: Some("\"c\"".to_owned()),
        outcome: Some(never.to_owned()),
        text: never.to_owned(),
        ..Frame::default()
    });
    let history = history.runs(1, 1, 1).answers(FIRST, 1);
    history
        .ends(1, End::Ok(1))
        .breaks(&["never means no effect"]);
}

#[test]
fn an_effect_of_a_call_reported_as_fenced() {
    let history = HistoryBuilder::new()
        .good(1, FIRST, 1)
        .acks(1)
        .sends(1, FIRST);
    history
        .refuses(FIRST, -32007, "no")
        .breaks(&["never means no effect"]);
}

#[test]
fn a_failure_of_a_handler_that_succeeded() {
    let history = HistoryBuilder::new().calls(1, Method::Inc).sends(1, FIRST);
    let history = history.runs(1, 1, 1).answers(FIRST, 1);
    history
        .ends(1, End::Failed(-32000, None))
        .breaks(&["failed means that the handler failed"]);
}

#[test]
fn a_handlers_error_that_reaches_its_caller_changed_or_as_a_refusal() {
    let passed_on = || {
        let history = HistoryBuilder::new()
            .calls(1, Method::PassOn)
            .sends(1, FIRST);
        history.runs(1, 1, 1).refuses(FIRST, -32001, "yes")
    };
    let failed = |data: &str| passed_on().ends(1, End::Failed(-32001, Some(data.to_owned())));
    failed(r#"{"executed":"no"}"#).breaks(&[]);
    let rules = ["failed means that the handler failed"];
    failed(r#"{"executed":"yes","data":{"executed":"unknown"}}"#).breaks(&rules);
    let refused = passed_on().ends(1, End::NotExecuted("busy".into()));
    refused.breaks(&["not executed means no effect"]);
}

#[test]
fn two_outcomes_of_one_id() {
    let history = HistoryBuilder::new().good(1, FIRST, 1).sends(1, FIRST);
    history
        .refuses(FIRST, -32603, "yes")
        .breaks(&["one id has one outcome"]);
    let history = HistoryBuilder::new().good(1, FIRST, 1).sends(1, FIRST);
    history.refuses(FIRST, -32001, "no").breaks(&[]);
}

#[test]
fn a_reply_with_the_outcome_of_another_call() {
    let history = HistoryBuilder::new()
        .good(1, FIRST, 1)
        .calls(2, Method::Inc);
    let history = history.sends(2, SECOND).runs(2, 1, 2).answers(SECOND, 1);
    history
        .ends(2, End::Unknown("lost".into()))
        .breaks(&["a reply is about what was asked"]);
}

#[test]
fn two_calls_under_one_id() {
    let history = HistoryBuilder::new()
        .good(1, FIRST, 1)
        .calls(2, Method::Inc);
    let history = history.sends(2, FIRST).runs(2, 1, 2);
    history
        .ends(2, End::Unknown("lost".into()))
        .breaks(&["an id names one call"]);
}

#[test]
fn a_malformed_reply() {
    let history = HistoryBuilder::new().good(1, FIRST, 1);
    let history = history.answers_frame(Frame {
        text: format!(r#"{{"id":{FIRST},"result":1"result":2}}"#),
        ..Frame::default()
    });
    history.breaks(&["a reply can be read"]);
}

#[test]
fn a_request_without_a_reply_on_an_open_connection() {
    let asked_twice = || {
        let history = HistoryBuilder::new().calls(1, Method::Inc);
        let mut history = history.sends(1, FIRST).sends(1, FIRST).runs(1, 1, 1);
        history.run.lasted = Duration::from_secs(10);
        history.answers(FIRST, 1).ends(1, End::Ok(1))
    };
    asked_twice().breaks(&["every request is answered"]);
    let closed = Event::Closed { wire: 1 };
    asked_twice().note(closed).breaks(&[]);
    asked_twice().answers(FIRST, 1).breaks(&[]);
    let lost = Event::Server {
        life: 1,
        what: "ReplyDropped".to_owned(),
        id: Some(FIRST.to_owned()),
        attempt: 1,
    };
    asked_twice().note(lost).breaks(&[]);
}

#[test]
fn an_acknowledgement_while_a_caller_waits_or_before_it_asks_again() {
    let rules = ["acknowledged means delivered"];
    let called = || HistoryBuilder::new().calls(1, Method::Inc).sends(1, FIRST);
    let waiting = called().runs(1, 1, 1).acks(1).answers(FIRST, 1);
    waiting.ends(1, End::Ok(1)).breaks(&rules);
    let unknown = || {
        let history = called().runs(1, 1, 1).answers(FIRST, 1);
        history.ends(1, End::Unknown("late".into())).acks(1)
    };
    let resumed = unknown().asks(1, Method::Inc, Way::Resume);
    resumed.hears(1, Way::Resume, End::Ok(1)).breaks(&rules);
    // Without a later question it is fine.
    unknown().breaks(&[]);
}

#[test]
fn a_reply_that_claims_an_acknowledgement_that_was_not_sent() {
    let refused = |below, executed| {
        let history = HistoryBuilder::new()
            .good(1, FIRST, 1)
            .acks(below)
            .sends(1, FIRST);
        history.refuses(FIRST, -32007, executed)
    };
    refused(0, "unknown").breaks(&["stale means acknowledged"]);
    refused(1, "unknown").breaks(&[]);
}

#[test]
fn a_plain_call_sent_again_after_its_resend_window() {
    let again_after = |pause| {
        let history = HistoryBuilder::new().calls(1, Method::Inc).sends(1, PLAIN);
        let history = history.after_ms(pause).sends(1, PLAIN).runs(1, 1, 1);
        history.answers(PLAIN, 1).ends(1, End::Ok(1))
    };
    again_after(190).breaks(&[]);
    again_after(210).breaks(&["not sent again too late"]);
}

#[test]
fn a_call_that_does_not_end_and_one_that_ends_too_late() {
    let history = HistoryBuilder::new().calls(1, Method::Inc);
    history.breaks(&["every call ends"]);
    let history = HistoryBuilder::new().calls(1, Method::Inc).after_ms(2000);
    history
        .ends(1, End::NotExecuted("late".into()))
        .breaks(&["every call ends by its deadline"]);
}

#[test]
fn values_out_of_order_and_reads_of_old_and_of_unknown_values() {
    let read = |value| {
        let history = HistoryBuilder::new().good(1, FIRST, 1);
        history.calls(2, Method::Get).ends(2, End::Ok(value))
    };
    read(1).breaks(&[]);
    read(0).breaks(&["linearizable"]);
    read(2).breaks(&["linearizable"]);
    let history = HistoryBuilder::new().good(1, FIRST, 1).good(2, SECOND, 1);
    history.breaks(&["additions add up", "linearizable"]);
}

#[test]
fn an_execution_that_the_last_word_left_out() {
    let rules = ["what the last word leaves out never runs"];
    let said = |history: HistoryBuilder| history.says_hello().calls(1, Method::Inc).sends(1, FIRST);
    let unknown = || End::Unknown("lost".into());
    let early = said(HistoryBuilder::new()).runs(1, 1, 1);
    let early = early.notifies("rpc.goaway", true).ends(1, unknown());
    early.breaks(&rules);
    let late = said(HistoryBuilder::new()).notifies("rpc.goaway", true);
    late.runs(1, 1, 1).ends(1, unknown()).breaks(&rules);
    // Answered, or not the last word.
    let history = said(HistoryBuilder::new()).runs(1, 1, 1).answers(FIRST, 1);
    let history = history.notifies("rpc.goaway", true);
    history.ends(1, End::Ok(1)).breaks(&[]);
    let history = said(HistoryBuilder::new()).notifies("rpc.goaway", false);
    history.runs(1, 1, 1).ends(1, unknown()).breaks(&[]);
}

#[test]
fn a_notification_that_no_client_expects_and_a_frame_after_the_last_word() {
    let announces = ["a server announces its end to those who said hello, and nothing else"];
    let goaway = |history: HistoryBuilder| history.notifies("rpc.goaway", true);
    goaway(HistoryBuilder::new()).breaks(&announces);
    let history = HistoryBuilder::new().says_hello();
    history.notifies("news", false).breaks(&announces);
    goaway(HistoryBuilder::new().says_hello()).breaks(&[]);
    let twice = goaway(goaway(HistoryBuilder::new().says_hello()));
    twice.breaks(&["nothing follows the last word"]);
}

#[test]
fn a_panic() {
    let mut history = HistoryBuilder::new();
    history.run.panics.push("index out of bounds".to_owned());
    history.breaks(&["nothing panics"]);
}
