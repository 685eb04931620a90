//! The system gives a program fewer descriptors than it would take.

use std::{
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

#[cfg(target_os = "linux")]
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

#[cfg(target_os = "linux")]
use crate::frozen_programs::signal;
use crate::{
    counter_server::CounterServer,
    frozen_programs::{receive, send},
};

/// A counter server with so many descriptors.
fn start(limit: &str) -> CounterServer {
    let script = format!("{limit}; exec \"$0\" --listen 127.0.0.1:0");
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command.arg(env!("CARGO_BIN_EXE_counter-server"));
    CounterServer::spawn(command.stderr(Stdio::piped()))
}

/// A connection from this address of the machine.
async fn connect(from: &str, server: &CounterServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let connected = socket.connect(server.address.parse().unwrap()).await;
    let stream = connected.unwrap().into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).unwrap();
    stream
}

/// Kind: a share that holds of a limit which is never reached, because another one is before it.
/// Instance: one address takes all descriptors, and every other one waits for ever.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_that_takes_all_descriptors_shuts_no_other_one_out() {
    others_get_in(|_, _| {}).await;
}

/// The server takes all connections out of its backlog before it serves any.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn nor_does_one_whose_connections_came_while_the_server_was_stopped() {
    others_get_in(signal).await;
}

/// Stops the server, if that is what `signal` does, until all of the first address have connected, and
/// the first other one.
#[cfg(target_os = "linux")]
async fn others_get_in(signal: fn(&CounterServer, Signal)) {
    let server = start("ulimit -n 40");
    let mut held = Vec::new();
    signal(&server, Signal::STOP);
    for _ in 0..60 {
        held.push(connect("127.0.0.1", &server).await);
    }
    for number in 0..4 {
        let mut other = connect("127.0.0.2", &server).await;
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        send(
            &mut other,
            &json!({"id": id, "method": "inc", "params": {"key": "k"}}),
        );
        signal(&server, Signal::CONT);
        let reply: Value = serde_json::from_str(&receive(&mut other)).unwrap();
        assert_eq!(reply["result"]["value"], number + 1, "{reply}");
        held.push(other);
    }
    // Who had to go, or found no room, hears why.
    let mut words = String::new();
    let mut given_up = 0;
    for stream in &mut held[..60] {
        stream.set_nonblocking(true).unwrap();
        let mut byte = [0];
        if matches!(stream.peek(&mut byte), Ok(1)) {
            stream.set_nonblocking(false).unwrap();
            words = receive(stream);
            given_up += 1;
        }
    }
    assert!(given_up > 4, "{given_up} connections heard something");
    assert!(words.contains("out of file descriptors"), "{words}");
}

/// Kind: a limit of the system that a program could have had higher.
#[cfg(unix)]
#[tokio::test]
async fn a_server_takes_all_descriptors_that_it_may_have() {
    let server = start("ulimit -Sn 40");
    let mut held = Vec::new();
    for number in 0..80 {
        let mut stream = connect("127.0.0.1", &server).await;
        send(&mut stream, &json!({"id": number, "method": "rpc.ping"}));
        assert!(receive(&mut stream).contains("pong"), "{number}");
        held.push(stream);
    }
}
