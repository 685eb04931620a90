//! Several servers: which of them a call goes to, and which of them it must not.

use std::time::Duration;

use redial_client::{CallError, CallToken, Cause, Client, EndpointHealth, Hedge, Resolution};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::peer::{
    Running,
    fleet::{Fleet, address},
    ms, start, with_sessions, with_sessions_and,
};

fn inc(client: &Client, key: &str) -> Running {
    start(client.request("inc", json!({ "key": key })))
}

fn get(client: &Client, key: &str) -> Running {
    start(client.query("get", json!({ "key": key })))
}

#[expect(clippy::disallowed_methods, reason = "the test's own clock is tokio's")]
fn now() -> Instant {
    Instant::now()
}

/// Makes calls one after the other. Gives how long each took.
async fn calls(client: &Client, prefix: &str, count: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..count {
        let began = now();
        let reply = inc(client, &format!("{prefix}{n}")).await.unwrap();
        reply.unwrap_or_else(|error| panic!("{prefix}{n}: {error}"));
        took.push(now() - began);
    }
    took
}

fn slow(took: &[Duration]) -> usize {
    took.iter().filter(|took| **took > ms(10)).count()
}

/// Servers with these tables, and a client of all of them.
async fn fleet(tables: &[&'static str]) -> (Fleet, Client) {
    let fleet = Fleet::new(tables);
    let client = fleet.client(with_sessions()).await;
    (fleet, client)
}

/// A call that has had its effect, and whose reply was lost. Gives the server that has executed it, too.
async fn lost(fleet: &Fleet, client: &Client, key: &str) -> (Running, usize) {
    fleet.lose_replies(1);
    let call = inc(client, key);
    tokio::time::sleep(ms(10)).await;
    fleet.lose_replies(0);
    (call, fleet.effects.lock().unwrap()[key][0])
}

/// The error of a call that ends as *unknown*.
async fn unknown(call: Running) -> CallError {
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    error
}

fn token(error: CallError) -> CallToken {
    match error {
        CallError::Unknown { token, .. } => *token,
        other => panic!("{other}"),
    }
}

/// A session for each server of one table: what one of them has executed, another could not replay.
#[tokio::test(start_paused = true)]
async fn servers_that_share_a_table_share_a_session_and_the_load() {
    let (fleet, client) = fleet(&["t", "t", "t"]).await;
    calls(&client, "k", 60).await;
    fleet.check();
    let stats = client.endpoints();
    for (server, stats) in fleet.servers.iter().zip(&stats) {
        assert!(server.calls() > 5, "{stats:?}");
        assert_eq!(stats.attempts, server.calls() as u64);
        assert_eq!(
            (stats.health, stats.table.as_deref()),
            (EndpointHealth::Ready, Some("t"))
        );
    }
    assert_eq!(fleet.servers[0].sessions_in_use().await, 1);
    // A reply that is lost with its server is replayed by another one.
    let (call, had_it) = lost(&fleet, &client, "lost").await;
    fleet.servers[had_it].kill();
    let reply = call.await.unwrap().unwrap();
    assert_eq!(reply.value, json!(had_it));
    let answered = reply.report.endpoint().unwrap();
    assert_ne!(answered, address(had_it), "another one has said so");
    fleet.check();
}

/// A call that may have reached one table, and is sent to another: it would be executed twice.
#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_reached_one_table_is_sent_to_no_other_and_ends_unknown() {
    let (fleet, client) = fleet(&["a", "b", "c"]).await;
    let began = now();
    let (call, had_it) = lost(&fleet, &client, "k").await;
    fleet.servers[had_it].kill();
    let error = unknown(call).await;
    assert!(now() - began >= ms(2_900), "at its deadline");
    assert!(error.to_string().contains(&address(had_it)), "{error}");
    assert_eq!(fleet.executions("k"), 1);
    // New calls go on elsewhere, and the token is good for the one server that knows.
    assert_eq!(slow(&calls(&client, "n", 50).await), 0);
    let token = token(error);
    let saved = serde_json::to_string(&token).unwrap();
    let name = ["a", "b", "c"][had_it];
    assert!(saved.contains(&format!(r#""table":"{name}""#)), "{saved}");
    fleet.servers[had_it].revive();
    let resolution = client.resolve(token).await.unwrap();
    assert_eq!(resolution, Resolution::Value(json!(had_it)));
    // A client of another process asks the right one, too.
    let other = fleet.client(with_sessions()).await;
    for _ in 0..10 {
        let token: CallToken = serde_json::from_str(&saved).unwrap();
        let resolution = other.resolve(token).await.unwrap();
        assert_eq!(resolution, Resolution::Value(json!(had_it)));
    }
    let token: CallToken = serde_json::from_str(&saved).unwrap();
    assert_eq!(other.resume(token).await.unwrap(), json!(had_it));
    fleet.check();
}

/// One that surely reached nothing waits for the server that it was numbered for.
#[tokio::test(start_paused = true)]
async fn a_call_that_reached_nothing_goes_anywhere() {
    let (fleet, client) = fleet(&["a", "b"]).await;
    for round in 0..20 {
        // Some of them lie in the buffer of a connection that is cut at this moment.
        let running: Vec<_> = (0..8)
            .map(|n| inc(&client, &format!("{round}.{n}")))
            .collect();
        fleet.servers[round % 2].kill();
        for call in running {
            match call.await.unwrap() {
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
        fleet.servers[round % 2].revive();
        tokio::time::sleep(ms(3_000)).await;
    }
    fleet.check();
}

/// Two servers that know nothing of each other, whose connections are cut all the time.
#[tokio::test(start_paused = true)]
async fn with_cut_connections_to_two_tables_no_call_is_unknown_while_both_servers_live() {
    let (fleet, client) = fleet(&["a", "b"]).await;
    for n in 0..400 {
        let server = &fleet.servers[n % 2];
        if n % 25 < 2 {
            // Half of the cuts lose a reply.
            server.lose_replies(n % 25);
        }
        let running: Vec<_> = (0..4)
            .map(|call| inc(&client, &format!("{n}.{call}")))
            .collect();
        if n % 25 < 2 {
            tokio::time::sleep(ms(1)).await;
            server.cut();
        }
        for call in running {
            call.await
                .unwrap()
                .unwrap_or_else(|error| panic!("{n}: {error}"));
        }
    }
    fleet.check();
    let stats = client.stats();
    assert_eq!((stats.sessions_opened, stats.sessions_lost), (2, 0));
}

/// A dead server that every third call finds out about anew.
#[tokio::test(start_paused = true)]
async fn a_dead_server_of_three_slows_no_call_down_and_is_called_again_when_it_is_back() {
    for table in [["t", "t", "t"], ["a", "b", "c"]] {
        let fleet = Fleet::new(&table);
        fleet.servers[1].kill();
        let client = fleet.client(with_sessions()).await;
        assert_eq!(slow(&calls(&client, "k", 200).await), 0);
        tokio::time::sleep(ms(5_000)).await;
        let dead = &client.endpoints()[1];
        assert!(dead.failures >= 5 && dead.connects == 0, "{dead:?}");
        fleet.servers[1].revive();
        tokio::time::sleep(ms(4_100)).await;
        assert_eq!(slow(&calls(&client, "l", 200).await), 0);
        assert!(fleet.servers[1].calls() > 20, "{:?}", client.endpoints());
        fleet.servers[2].kill();
        assert_eq!(slow(&calls(&client, "m", 200).await), 0);
        fleet.check();
    }
}

/// Servers that swallow what they are sent, or whose queue is full: nothing is refused.
#[tokio::test(start_paused = true)]
async fn a_black_hole_costs_no_more_than_the_first_attempt_timeout() {
    for table in [["t", "t", "t"], ["a", "b", "c"]] {
        let fleet = Fleet::new(&table);
        fleet.servers[1].fill();
        let client = fleet.client(with_sessions()).await;
        assert_eq!(
            slow(&calls(&client, "k", 200).await),
            0,
            "it never accepted"
        );
        fleet.servers[1].revive();
        tokio::time::sleep(ms(8_000)).await;
        calls(&client, "l", 100).await;
        assert!(fleet.servers[1].calls() > 10, "{:?}", client.endpoints());
        fleet.servers[1].silence(true);
        tokio::time::sleep(ms(1)).await;
        // What is on its way there is lost; where another server has the table it is sent again.
        let running: Vec<_> = (0..30).map(|n| inc(&client, &format!("m{n}"))).collect();
        tokio::time::sleep(ms(110)).await;
        let stats = client.endpoints();
        assert_eq!(
            stats[1].health,
            EndpointHealth::Silent,
            "{table:?} {stats:?}"
        );
        assert_eq!(slow(&calls(&client, "n", 200).await), 0);
        let mut unknown = 0;
        for call in running {
            unknown += usize::from(call.await.unwrap().is_err());
        }
        assert!(table[0] == "a" || unknown == 0, "{unknown}");
        fleet.check();
        fleet.servers[1].revive();
        fleet.servers[1].cut();
        tokio::time::sleep(ms(5_000)).await;
        assert_eq!(client.endpoints()[1].health, EndpointHealth::Ready);
    }
}

/// A handler that takes long is not a server that is gone: its pings are answered.
#[tokio::test(start_paused = true)]
async fn a_query_whose_server_is_gone_is_answered_by_one_of_another_table() {
    let (fleet, client) = fleet(&["a", "b"]).await;
    for n in 0..10 {
        fleet.lose_replies(1);
        let call = get(&client, "k");
        tokio::time::sleep(ms(10)).await;
        let [first, second] = &*fleet.servers else {
            panic!()
        };
        let (asked, other) = if n % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        other.lose_replies(0);
        asked.kill();
        asked.lose_replies(0);
        call.await.unwrap().unwrap();
        asked.revive();
        tokio::time::sleep(ms(5_000)).await;
    }
}

/// New calls for a server that shuts down, while others could take them.
#[tokio::test(start_paused = true)]
async fn a_server_that_drains_gets_no_new_calls_and_answers_the_open_ones() {
    let (fleet, client) = fleet(&["a", "b"]).await;
    calls(&client, "k", 20).await;
    fleet.servers[0].say_goaway();
    tokio::time::sleep(ms(1)).await;
    let before = fleet.servers[0].calls();
    assert_eq!(slow(&calls(&client, "l", 50).await), 0);
    assert_eq!(fleet.servers[0].calls(), before);
    fleet.check();
}

/// A copy of a call for a server that knows nothing of it.
#[tokio::test(start_paused = true)]
async fn hedges_go_to_servers_of_one_table_alone() {
    let hedged = |config: &mut redial_client::Config| {
        config.call.hedge = Hedge::After(ms(20));
        config.call.attempt_timeout = ms(1_000);
    };
    for (table, is_shared) in [(["t", "t"], true), (["a", "b"], false)] {
        let fleet = Fleet::new(&table);
        let client = fleet.client(with_sessions_and(hedged)).await;
        for n in 0..20 {
            calls(&client, &format!("k{n}."), 1).await;
            let (call, had_it) = lost(&fleet, &client, &format!("h{n}")).await;
            fleet.servers[had_it].silence(true);
            let began = now();
            tokio::time::sleep(ms(100)).await;
            if is_shared {
                assert!(
                    call.is_finished(),
                    "the copy was answered after {:?}",
                    now() - began
                );
            }
            fleet.servers[had_it].silence(false);
            call.await.unwrap().unwrap();
        }
        fleet.check();
    }
}

/// A server without sessions keeps its calls to itself: another would execute them again.
#[tokio::test(start_paused = true)]
async fn servers_without_sessions_are_tables_of_their_own() {
    let fleet = Fleet::new(&["a", "b"]);
    fleet.servers.iter().for_each(|server| server.be_plain());
    let client = fleet.client(with_sessions()).await;
    calls(&client, "k", 40).await;
    assert!(fleet.servers.iter().all(|server| server.calls() > 5));
    let (call, had_it) = lost(&fleet, &client, "lost").await;
    fleet.servers[had_it].kill();
    let error = unknown(call).await;
    assert_eq!(fleet.executions("lost"), 1);
    // To ask another one would have it say "never", and be wrong.
    let token = token(error);
    let before = fleet.servers[1 - had_it].calls();
    let error = client.resolve(token).deadline(ms(500)).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert_eq!(fleet.servers[1 - had_it].calls(), before);
}

/// A server that lost its table: as with one address, what it may have executed is unknown, at once.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_restarted_without_its_table_loses_its_session_alone() {
    let (fleet, client) = fleet(&["a", "b"]).await;
    let (call, had_it) = lost(&fleet, &client, "lost").await;
    fleet.servers[had_it].forget("a2").await;
    let began = now();
    fleet.servers[had_it].cut();
    let error = unknown(call).await;
    assert!(matches!(error.cause(), Cause::SessionLost), "{error}");
    assert!(now() - began < ms(200));
    let before = fleet.servers[had_it].calls();
    assert_eq!(slow(&calls(&client, "k", 40).await), 0);
    assert!(
        fleet.servers[had_it].calls() > before + 5,
        "{:?}",
        client.endpoints()
    );
    assert_eq!(client.stats().sessions_lost, 1);
    fleet.check();
}

/// The servers of a shared table have all forgotten the session: each would send the client to the
/// others, round and round.
#[tokio::test(start_paused = true)]
async fn a_session_that_a_shared_table_has_forgotten_is_given_up_once() {
    let (fleet, client) = fleet(&["t", "t"]).await;
    calls(&client, "k", 10).await;
    fleet.servers[0].forget("t").await;
    fleet.servers.iter().for_each(|server| server.cut());
    tokio::time::sleep(ms(2_000)).await;
    calls(&client, "l", 40).await;
    assert!(fleet.servers.iter().all(|server| server.calls() > 15));
    assert_eq!(fleet.servers[0].sessions_in_use().await, 1);
    assert_eq!(client.stats().sessions_lost, 1);
    fleet.check();
}

/// One server of a table gets another one: the others keep theirs, and their calls.
#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_a_shared_table_takes_no_call_of_it_along() {
    let (fleet, client) = fleet(&["t", "t", "u"]).await;
    calls(&client, "k", 30).await;
    // What is at the address of the first is the third's table now.
    let (first, third) = (&fleet.servers[0], &fleet.servers[2]);
    first.become_like(third);
    first.cut();
    tokio::time::sleep(ms(100)).await;
    calls(&client, "l", 60).await;
    let tables: Vec<_> = client
        .endpoints()
        .into_iter()
        .map(|one| one.table.unwrap())
        .collect();
    assert_eq!(tables, ["u", "t", "u"]);
    assert_eq!(client.stats().sessions_lost, 0);
    fleet.check();
}

/// A server with several connections leaves a table: what the second of them hears is taken for a loss of the
/// session, which the servers of that table still have.
#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_a_shared_table_says_so_on_each_connection() {
    let fleet = Fleet::new(&["t", "t", "u"]);
    let pooled = with_sessions_and(|config| config.connections = 3);
    let client = fleet.client(pooled).await;
    calls(&client, "k", 30).await;
    let (first, third) = (&fleet.servers[0], &fleet.servers[2]);
    // All its connections say hello again at the same time.
    first.silence(true);
    first.become_like(third);
    first.cut();
    tokio::time::sleep(ms(500)).await;
    first.silence(false);
    tokio::time::sleep(ms(3_000)).await;
    calls(&client, "l", 60).await;
    let tables: Vec<_> = client
        .endpoints()
        .into_iter()
        .map(|one| one.table.unwrap())
        .collect();
    assert_eq!(tables, ["u", "t", "u"]);
    let stats = client.stats();
    assert_eq!(stats.sessions_lost, 0, "{stats:?}");
    fleet.check();
}

/// Calls that wait for room at a server that has fallen silent pass the only place there to each other, without
/// pause: a whole processor, and no timer runs.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_silent_server_do_not_wake_each_other_without_pause() {
    let fleet = Fleet::new(&["a", "b"]);
    fleet.servers.iter().for_each(|server| server.be_plain());
    let narrow = with_sessions_and(|config| {
        config.sessions = false;
        config.max_in_flight = 1;
    });
    let client = fleet.client(narrow).await;
    fleet.servers[1].kill();
    tokio::time::sleep(ms(10)).await;
    fleet.servers[0].silence(true);
    let call = |n: u32, deadline| {
        let call = client.request("inc", json!({ "key": format!("k{n}") }));
        let (mut call, mut polls) = (call.deadline(ms(deadline)).into_future(), 0);
        tokio::spawn(std::future::poll_fn(move |context| {
            polls += 1;
            assert!(polls < 1_000, "it is polled without pause");
            std::pin::Pin::new(&mut call).poll(context)
        }))
    };
    let running: Vec<_> = (0..12).map(|n| call(n, 300 + 200 * u64::from(n))).collect();
    for call in running {
        call.await.unwrap().unwrap_err();
    }
}

/// Nothing can be connected to: the error says so, and of each what.
#[tokio::test(start_paused = true)]
async fn a_client_that_can_connect_to_none_says_so_and_a_lazy_one_waits() {
    let fleet = Fleet::new(&["a", "b"]);
    fleet.servers.iter().for_each(|server| server.kill());
    let refused = with_sessions().connect_endpoints_with(fleet.addresses(), fleet.connector());
    let error = refused.await.unwrap_err().to_string();
    assert!(error.contains("cannot connect to s"), "{error}");
    fleet.servers[0].revive();
    let client = fleet.client(with_sessions()).await;
    fleet.servers[0].kill();
    let error = inc(&client, "k").await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NotExecuted { .. }), "{error}");
    let waiting = inc(&client, "l");
    tokio::time::sleep(ms(500)).await;
    fleet.servers[1].revive();
    let reply = waiting.await.unwrap().unwrap();
    assert_eq!(reply.report.endpoint(), Some("s1:1"));
    assert_eq!(reply.value, Value::from(1));
}
