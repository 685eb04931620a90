//! Servers that come and go: the client follows what its `Endpoints` say.

use redial_client::{Dns, Endpoint, Endpoints, EndpointsFuture};
use serde_json::json;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

use crate::peer::{
    fleet::{Fleet, address},
    ms, start, with_sessions,
};

/// What the test says.
struct ScriptedEndpoints(watch::Receiver<Vec<usize>>);

impl Endpoints for ScriptedEndpoints {
    fn changed(&mut self) -> EndpointsFuture<'_> {
        Box::pin(async {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let listed = self.0.borrow_and_update();
            Ok(listed
                .iter()
                .map(|at| Endpoint::new(address(*at)))
                .collect())
        })
    }
}

/// A server is no longer named, and another one that was taken to have its table says that it does not know the
/// session: what the first still owes is given up with it.
#[tokio::test(start_paused = true)]
async fn what_a_server_owes_that_is_no_longer_named_is_waited_for_whatever_another_one_knows() {
    let fleet = Fleet::new(&["t", "t", "u"]);
    let (say, listed) = watch::channel(vec![]);
    say.send(vec![0]).unwrap();
    let client =
        with_sessions().connect_endpoints_with(ScriptedEndpoints(listed), fleet.connector());
    let client = client.await.unwrap();
    tokio::time::sleep(ms(1)).await;
    fleet.servers[0].lose_replies(1);
    let open = start(client.request("inc", json!({"key": "open"})));
    tokio::time::sleep(ms(10)).await;
    fleet.servers[0].silence(true);
    say.send(vec![0, 1]).unwrap();
    tokio::time::sleep(ms(10)).await;
    say.send(vec![1]).unwrap();
    tokio::time::sleep(ms(10)).await;
    fleet.servers[1].become_like(&fleet.servers[2]);
    fleet.servers[1].cut();
    tokio::time::sleep(ms(500)).await;
    assert_eq!(client.stats().sessions_lost, 0);
    assert!(!open.is_finished(), "it is waited for");
    // The server is named again, and answers.
    fleet.servers[0].silence(false);
    say.send(vec![0, 1]).unwrap();
    open.await.unwrap().unwrap();
    fleet.check();
}

/// A server that was taken away, and is called still; or one that has come, and is not called.
#[tokio::test(start_paused = true)]
async fn servers_that_come_are_called_and_those_that_go_answer_what_is_open() {
    let fleet = Fleet::new(&["a", "b", "c"]);
    let (say, listed) = watch::channel(vec![]);
    say.send(vec![0, 1]).unwrap();
    let client =
        with_sessions().connect_endpoints_with(ScriptedEndpoints(listed), fleet.connector());
    let client = client.await.unwrap();
    let inc = |key: String| start(client.request("inc", json!({ "key": key })));
    tokio::time::sleep(ms(1)).await;
    for n in 0..40 {
        inc(format!("k{n}")).await.unwrap().unwrap();
    }
    let counts = || {
        fleet
            .servers
            .iter()
            .map(|server| server.calls())
            .collect::<Vec<_>>()
    };
    assert!(counts()[0] > 5 && counts()[1] > 5 && counts()[2] == 0);
    // What is open there is answered, late.
    fleet.servers[0].lose_replies(1);
    fleet.servers[1].lose_replies(1);
    let open = [inc("o0".into()), inc("o1".into())];
    tokio::time::sleep(ms(10)).await;
    say.send(vec![1, 2]).unwrap();
    tokio::time::sleep(ms(10)).await;
    let before = counts()[0];
    for n in 0..40 {
        inc(format!("l{n}")).await.unwrap().unwrap();
    }
    assert!(
        counts()[0] <= before + 1 && counts()[2] > 5,
        "{:?}",
        counts()
    );
    let stats = client.endpoints();
    let known: Vec<_> = stats.iter().map(|one| one.address.as_str()).collect();
    assert_eq!(known, ["s1:1", "s2:1"]);
    say.send(vec![0, 1, 2]).unwrap();
    for call in open {
        call.await.unwrap().unwrap();
    }
    tokio::time::sleep(ms(100)).await;
    for n in 0..60 {
        inc(format!("m{n}")).await.unwrap().unwrap();
    }
    assert!(counts()[0] > before + 5, "{:?}", counts());
    // Each of them once is renamed, as with addresses that are given out anew.
    for n in 0..30 {
        say.send(vec![n % 3, (n + 1) % 3]).unwrap();
        tokio::time::sleep(ms(20)).await;
        inc(format!("n{n}")).await.unwrap().unwrap();
    }
    fleet.check();
}

/// A name that gets other addresses.
#[tokio::test(start_paused = true)]
async fn a_name_that_changes_its_addresses_is_followed_within_its_interval() {
    let fleet = Fleet::new(&["t", "t", "t"]);
    let answer = Arc::new(Mutex::new(vec![1]));
    let resolver = {
        let answer = answer.clone();
        move |_| {
            let numbers = answer.lock().unwrap().clone();
            let address = |at: &u8| SocketAddr::from(([10, 0, 0, *at], 1));
            let found = numbers.iter().map(address).collect();
            std::future::ready(io::Result::Ok(found))
        }
    };
    let interval = Duration::from_secs(20);
    let dns = Dns::new("counter.example:1")
        .interval(interval)
        .resolver(resolver);
    let connector = fleet.connector();
    let by_number = move |endpoint: &Endpoint| {
        let last = endpoint
            .address()
            .host()
            .unwrap()
            .rsplit_once('.')
            .unwrap()
            .1;
        let number: usize = last.parse().unwrap();
        connector(&Endpoint::new(address(number - 1)))
    };
    let client = with_sessions().connect_endpoints_with(dns, by_number);
    let client = client.await.unwrap();
    let inc = |key: String| start(client.request("inc", json!({ "key": key })));
    inc("k".into()).await.unwrap().unwrap();
    *answer.lock().unwrap() = vec![2, 3];
    tokio::time::sleep(interval + ms(10)).await;
    let before = fleet.servers[0].calls();
    for n in 0..40 {
        inc(format!("l{n}")).await.unwrap().unwrap();
    }
    assert_eq!(fleet.servers[0].calls(), before);
    assert!(fleet.servers[1].calls() > 5 && fleet.servers[2].calls() > 5);
    // A server that dies has the name looked up at once.
    *answer.lock().unwrap() = vec![1];
    fleet.servers[1].kill();
    fleet.servers[2].kill();
    let reply = inc("m".into()).await.unwrap().unwrap();
    assert_eq!(reply.report.endpoint(), Some("10.0.0.1:1"));
    fleet.check();
}

/// A runtime that ends takes the task along that follows the endpoints, and the drivers of all of them.
#[test]
fn a_client_goes_on_with_all_its_servers_on_another_runtime() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    };
    let servers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let fleet = servers.block_on(async { Fleet::new(&["a", "b"]) });
    let (say, listed) = watch::channel(vec![]);
    say.send(vec![0, 1]).unwrap();
    let client =
        with_sessions().connect_endpoints_with(ScriptedEndpoints(listed), fleet.connector());
    let client = runtime().block_on(client).unwrap();
    let calls = |prefix: &'static str| {
        let client = client.clone();
        async move {
            for n in 0..40 {
                let params = json!({ "key": format!("{prefix}{n}") });
                client.request("inc", params).await.unwrap();
            }
        }
    };
    runtime().block_on(calls("k"));
    let before: Vec<_> = fleet.servers.iter().map(|server| server.calls()).collect();
    say.send(vec![1]).unwrap();
    runtime().block_on(calls("l"));
    let after: Vec<_> = fleet.servers.iter().map(|server| server.calls()).collect();
    assert!(after[1] > before[1] + 5, "{before:?} {after:?}");
    assert_eq!(
        client.endpoints().len(),
        1,
        "the set is followed there, too"
    );
    fleet.check();
}
