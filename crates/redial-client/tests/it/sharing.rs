//! Many tasks share one client: every caller gets its own reply, in whatever order they arrive.

use crate::peer::{self, builder, config, connected, ms, network};
use redial_client::{Client, Config};
use redial_protocol::{FrameDecoder, Incoming, Limits, write_frame, write_reply};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Fails to compile if a client can't be shared, or a call can't be moved to another task.
#[test]
fn clients_are_shared_and_calls_are_sent() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Client>();
    sent::<redial_client::Call<u64>>();
    sent::<redial_client::CallError>();
}

#[tokio::test(start_paused = true)]
async fn replies_in_any_order_find_their_calls() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls: Vec<_> = (0..100)
        .map(|n| tokio::spawn(client.request("echo", json!([n])).with_report()))
        .collect();
    let mut requests = Vec::new();
    for _ in 0..calls.len() {
        requests.push(peer.next().await);
    }
    // Every seventh in turn: neither first come, first served nor its reverse.
    for step in 0..requests.len() {
        let request = &requests[step * 7 % requests.len()];
        peer.result(request, request.params[0].clone()).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap().value, n);
    }
    assert_eq!(client.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn all_ready_requests_leave_in_one_write() {
    let (client, mut peer, _network) = connected(builder()).await;
    let calls: Vec<_> = (0..10).map(|_| peer::inc(&client)).collect();
    let first = peer.next().await;
    // The others arrived with it: they are there without another read.
    for _ in 1..calls.len() {
        let next = tokio::time::timeout(ms(0), peer.next()).await.unwrap();
        assert_eq!(next.at, first.at);
    }
}

/// A client whose connections take 600 calls, started in order, and the servers' ends.
async fn crowd(connections: usize) -> (Client, Vec<peer::Peer>, Vec<peer::Running>) {
    let (mut network, connector) = network(1 << 20);
    let config = Config {
        connections,
        ..config()
    };
    let builder = Client::builder().config(config);
    let client = builder.connect_with(connector).await.unwrap();
    let mut peers = Vec::new();
    for _ in 0..connections {
        peers.push(network.accept().await);
    }
    let call = || client.request("slow", json!({})).deadline(ms(60_000));
    let calls = (0..600)
        .map(|_| peer::start(call().attempt_timeout(ms(50_000))))
        .collect();
    (client, peers, calls)
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_window_of_a_connection_wait_for_a_slot() {
    let (client, mut peers, calls) = crowd(1).await;
    let peer = &mut peers[0];
    let mut unanswered = std::collections::VecDeque::new();
    for _ in 0..512 {
        unanswered.push_back(peer.next().await);
    }
    for waiting in (0..88).rev() {
        assert!(peer.is_quiet_for(ms(1)).await, "512 are unanswered");
        let request = unanswered.pop_front().unwrap();
        peer.result(&request, json!(1)).await;
        let next = tokio::time::timeout(ms(1), peer.next()).await;
        unanswered.push_back(next.expect("there is room for one"));
        assert_eq!(client.stats().in_flight, 512 + waiting);
    }
    for request in unanswered {
        peer.result(&request, json!(1)).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().report.attempts(), 1);
    }
    assert_eq!(client.stats().connects, 1);
}

#[tokio::test(start_paused = true)]
async fn another_connection_of_the_pool_is_used_before_a_call_waits() {
    let (client, mut peers, first) = crowd(2).await;
    for _ in 0..300 {
        let request = peers[1].next().await;
        peers[1].result(&request, json!(1)).await;
    }
    // 300 are unanswered on one connection, none on the other: there is room for all.
    let second: Vec<_> = (0..600).map(|_| peer::inc(&client)).collect();
    let mut arrived = [0, 0];
    for (peer, arrived) in peers.iter_mut().zip(&mut arrived) {
        while tokio::time::timeout(ms(1), peer.next()).await.is_ok() {
            *arrived += 1;
        }
    }
    assert_eq!(arrived, [512, 388]);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_freed_slot_goes_to_a_waiting_call() {
    let config = Config {
        max_in_flight: 1,
        ..config()
    };
    let (client, mut peer, _network) = connected(builder().config(config)).await;
    let greedy = client.clone();
    let loops = tokio::spawn(async move {
        for _ in 0..3 {
            greedy.request("greedy", json!({})).await.unwrap();
        }
    });
    let first = peer.next().await;
    let given_up = peer::start(client.request("never", json!({})).deadline(ms(10)));
    let dropped = peer::inc(&client);
    let patient = peer::start(client.request("patient", json!({})));
    let error = given_up.await.unwrap().unwrap_err();
    assert_eq!(error.executed(), redial_client::Executed::No);
    assert_eq!(error.report().attempts(), 0);
    dropped.abort();
    dropped.await.unwrap_err();
    peer.result(&first, json!(1)).await;
    for method in ["patient", "greedy", "greedy"] {
        let request = peer.next().await;
        assert_eq!(request.method, method);
        peer.result(&request, json!(1)).await;
    }
    patient.await.unwrap().unwrap();
    loops.await.unwrap();
}

/// Answers every request with its own params, each read's replies in reverse.
async fn echo(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut decoder, mut buffer) = (FrameDecoder::new(1 << 20), vec![0; 65536]);
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let (mut input, mut replies) = (&buffer[..count], Vec::new());
                while let Some(frame) = decoder.next_frame(&mut input).unwrap() {
                    let Ok(Incoming::Request(request)) = Incoming::parse(frame, &Limits::default())
                    else {
                        panic!("not a request");
                    };
                    let outcome = format!(r#""result":{}"#, request.params.unwrap());
                    let mut out = Vec::new();
                    write_frame(&mut out, 1 << 20, |out| {
                        let id = request.id.unwrap();
                        let meta = redial_protocol::ReplyMeta::default();
                        write_reply(out, request.dialect, id.raw(), outcome.as_bytes(), meta);
                    })
                    .unwrap();
                    replies.push(out);
                }
                replies.reverse();
                stream.write_all(&replies.concat()).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    }
}

/// Over real TCP, on real threads, with a buffer so small that callers wait for room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tasks_share_one_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(echo(listener));
    let config = Config {
        connections: 2,
        max_buffered_bytes: 1000,
        ..Config::default()
    };
    let client = Client::builder()
        .config(config)
        .connect(address)
        .await
        .unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for call in 0..50 {
                    let params = json!([task, call]);
                    let value = client.request("echo", params.clone()).await.unwrap();
                    assert_eq!(value, params);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(client.stats().connects, 2);
    assert_eq!(client.stats().unmatched_replies, 0);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pool_shares_the_calls_and_survives_the_loss_of_a_connection() {
    let (mut network, connector) = network(1 << 16);
    let config = Config {
        connections: 3,
        ..config()
    };
    let client = builder()
        .config(config)
        .connect_with(connector)
        .await
        .unwrap();
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(network.accept().await);
    }
    let calls: Vec<_> = (0..6).map(|_| peer::inc(&client)).collect();
    for peer in &mut peers {
        for _ in 0..2 {
            let request = peer.next().await;
            peer.result(&request, json!(1)).await;
        }
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    network.refuse(true);
    peers.remove(0);
    for _ in 0..6 {
        let call = peer::inc(&client);
        let (one, other) = peers.split_at_mut(1);
        let (peer, request) = tokio::select! {
            request = one[0].next() => (&mut one[0], request),
            request = other[0].next() => (&mut other[0], request),
        };
        peer.result(&request, json!(1)).await;
        call.await.unwrap().unwrap();
    }
    assert!(network.is_quiet());
}
