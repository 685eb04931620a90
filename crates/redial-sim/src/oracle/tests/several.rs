//! Histories of clients with a list of addresses.

use std::{sync::Arc, time::Duration};

use super::{FIRST, PLAIN, history_builder::HistoryBuilder};
use crate::journal::{End, Event, Executed, Frame, Invocation, Method, Way};

const DEADLINE: Duration = Duration::from_secs(10);

/// Too late for another attempt.
const ALMOST: Duration = Duration::from_millis(9_900);

/// Servers 0 and 1 with lives 1 and 2, each with a table of its own, at addresses of their own.
fn two_servers() -> HistoryBuilder {
    let mut history = HistoryBuilder::new();
    (history.run.has_endpoints, history.run.is_patient) = (true, true);
    history.run.is_smooth = true;
    for server in 0..2 {
        let life = server + 1;
        history = history.note(Event::Started { server, life });
    }
    history.note(reachable(&[(0, 1), (1, 2)])).accepts(0, 1)
}

/// Both addresses are listed, and these work.
fn reachable(tables: &[(u32, u32)]) -> Event {
    let (listed, tables) = (vec![0, 1], tables.to_vec());
    Event::Reachable { listed, tables }
}

impl HistoryBuilder {
    /// The connection of all frames here is to this address, and this life.
    fn accepts(self, address: u32, life: u32) -> Self {
        self.note(Event::Accepted {
            wire: 1,
            address: Some(address),
            life,
        })
    }

    fn calls_patiently(self) -> Self {
        self.note(Event::Invoked(Invocation {
            op: 10 + Way::Call as u32,
            tag: 1,
            client: 0,
            way: Way::Call,
            method: Method::Inc,
            key: 0,
            deadline: DEADLINE,
            patience: None,
            sessions: true,
            resend_window: DEADLINE,
            is_saved: false,
        }))
    }

    /// A call that was sent to the first server, and ends without its reply.
    fn ends_after(self, time: Duration, end: End) -> Self {
        let history = self.calls_patiently().sends(1, FIRST);
        history.after_ms(time.as_millis() as u64).ends(1, end)
    }
}

fn unknown() -> End {
    End::Unknown("the session went with its server".into())
}

#[test]
fn a_call_that_is_executed_by_two_tables() {
    let history = || {
        two_servers()
            .calls_patiently()
            .sends(1, FIRST)
            .runs(1, 1, 1)
    };
    let rules = [
        "at most one effect",
        "a call is executed by one table alone",
    ];
    history().runs(1, 2, 2).ends(1, End::Ok(2)).breaks(&rules);
    history().ends(1, End::Ok(1)).breaks(&[]);
}

/// A plain id is executed by another life, which is excused at the address of the one before it alone.
#[test]
fn a_plain_call_that_is_executed_by_two_servers() {
    let history = || {
        two_servers()
            .calls(1, Method::Inc)
            .sends(1, PLAIN)
            .runs(1, 1, 1)
    };
    let rule = "a call is executed by one table alone";
    history().runs(1, 2, 2).ends(1, End::Ok(2)).breaks(&[rule]);
    let led_elsewhere = |history: HistoryBuilder| {
        history.note(Event::Accepted {
            wire: 2,
            address: Some(0),
            life: 2,
        })
    };
    led_elsewhere(history())
        .runs(1, 2, 2)
        .ends(1, End::Ok(2))
        .breaks(&[]);
    let restarted = history().note(Event::Started { server: 0, life: 3 });
    restarted.runs(1, 3, 2).ends(1, End::Ok(2)).breaks(&[]);
}

#[test]
fn an_unknown_call_whose_table_is_there() {
    let rule = "unknown only when its table is gone or out of reach";
    let soon = Duration::from_millis(100);
    two_servers().ends_after(soon, unknown()).breaks(&[rule]);
    let called = || two_servers().calls_patiently().sends(1, FIRST);
    let ended = called().note(Event::LifeEnds { life: 1 });
    ended.ends(1, unknown()).breaks(&[]);
    // The other one's end is no excuse.
    let other = called().note(Event::LifeEnds { life: 2 });
    other.ends(1, unknown()).breaks(&[rule]);
}

#[test]
fn a_call_that_no_one_answered_though_its_table_was_within_reach() {
    let rule = "a table within reach answers";
    two_servers().ends_after(ALMOST, unknown()).breaks(&[rule]);
    let out_of_reach = two_servers().note(reachable(&[(1, 2)]));
    out_of_reach.ends_after(ALMOST, unknown()).breaks(&[]);
    let refused = || End::NotExecuted("no server".into());
    let rule = "a server within reach takes calls";
    let one_is_there = two_servers().note(reachable(&[(1, 2)]));
    one_is_there.ends_after(ALMOST, refused()).breaks(&[rule]);
    let none_is_there = two_servers().note(reachable(&[]));
    none_is_there.ends_after(ALMOST, refused()).breaks(&[]);
}

/// A call goes on at another table once all its attempts were refused. What a copy hears says nothing of them.
#[test]
fn an_acknowledgement_of_a_call_of_which_a_copy_alone_was_refused() {
    let called = || {
        let mut history = two_servers();
        history.run.is_smooth = false;
        history.calls_patiently().sends(1, FIRST)
    };
    let ends = |history: HistoryBuilder| history.acks(1).ends(1, End::NotExecuted("no".into()));
    ends(called().refuses(FIRST, -32006, "no")).breaks(&[]);
    let copy = |frame: Frame| {
        Arc::new(Frame {
            wire: 9,
            id: Some(FIRST.to_owned()),
            ..frame
        })
    };
    let copied = called().note(Event::Sent(copy(Frame {
        is_copy: true,
        method: Some("inc".to_owned()),
        tag: Some(1),
        attempt: 1,
        ..Frame::default()
    })));
    let refused = copied.note(Event::Answered(copy(Frame {
        executed: Some(Executed::No),
        code: Some(-32006),
        outcome: Some(String::new()),
        ..Frame::default()
    })));
    ends(refused).breaks(&["acknowledged means delivered"]);
}

/// A call goes on at another table, under an id that no server sees, since its connection there swallows it. Neighbour:
/// it was swallowed under its own id, and may arrive after all.
#[test]
fn an_acknowledgement_of_a_call_that_went_on_where_it_was_swallowed() {
    let ends = |id: &str| {
        let mut history = two_servers();
        history.run.is_smooth = false;
        let refused = history
            .calls_patiently()
            .sends(1, FIRST)
            .refuses(FIRST, -32001, "no");
        let swallowed = refused.note(Event::Swallowed(Arc::new(Frame {
            wire: 9,
            id: Some(id.to_owned()),
            method: Some("inc".to_owned()),
            tag: Some(1),
            attempt: 2,
            ..Frame::default()
        })));
        swallowed.acks(1).ends(1, End::NotExecuted("no".into()))
    };
    ends("5b8c6e97-5c92-801e-8000-000000000009").breaks(&[]);
    ends(FIRST).breaks(&["acknowledged means delivered"]);
}
