//! Kind of fault: two servers announce one table though each keeps its own, as after a copy of a database that nothing
//! could tell from the original, and a call that the one has executed is executed by the other.
#![cfg(unix)]

use std::time::Duration;

use redial_client::{CallError, CallLimits, Client, Config};
use redial_examples::methods::{Inc, IncParams};

use crate::{
    counter_server::CounterServer,
    databases::{new_database, sql},
};

const CALLS: usize = 200;

/// A server on a database of its own, whose table is called as all of them are called.
async fn server() -> Option<(CounterServer, String)> {
    let url = new_database().await?;
    drop(CounterServer::start(["--store", &url]));
    let rename = "UPDATE redial.meta SET table_name = 'the same'";
    sql(&url).await.batch_execute(rename).await.unwrap();
    let flags = ["--cut", "0.05", "--drop-reply", "0.05", "--seed", "1"];
    let flags = [&flags[..], &["--keep-effects", "--store", &url]].concat();
    Some((CounterServer::start(flags), url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_announce_one_table_and_have_two_execute_no_call_twice() {
    let (Some(first), Some(second)) = (server().await, server().await) else {
        return;
    };
    let servers = [first, second];
    let addresses = servers.iter().map(|(server, _)| server.address.as_str());
    let addresses: Vec<_> = addresses.collect();
    let config = Config {
        call: CallLimits {
            attempt_timeout: Duration::from_millis(200),
            max_attempts: 20,
            deadline: Duration::from_secs(10),
            ..CallLimits::default()
        },
        ..Config::default()
    };
    let client = Client::builder().config(config);
    let client = client.connect(addresses.join(",")).await.unwrap();
    let mut heard = Vec::new();
    for call in 0..CALLS {
        let params = IncParams {
            key: format!("k-{call}"),
            delta: 1,
        };
        heard.push(client.call::<Inc>(params).await);
    }
    let mut effects = vec![0; CALLS];
    for (_, url) in &servers {
        let database = sql(url).await;
        let rows = database.query_typed("SELECT key FROM effects", &[]);
        for row in rows.await.unwrap() {
            let key: String = row.get(0);
            effects[key.trim_start_matches("k-").parse::<usize>().unwrap()] += 1;
        }
    }
    for (call, (heard, effects)) in heard.iter().zip(&effects).enumerate() {
        match heard {
            Ok(_) => assert_eq!(*effects, 1, "{call} was done"),
            Err(CallError::NotExecuted { .. }) => assert_eq!(*effects, 0, "{call}"),
            Err(CallError::Unknown { .. }) => assert!(*effects <= 1, "{call}: {effects}"),
            Err(error) => panic!("{call}: {error}"),
        }
    }
    let done = heard.iter().filter(|heard| heard.is_ok()).count();
    assert!(done > CALLS / 4, "{done} were done");
}
