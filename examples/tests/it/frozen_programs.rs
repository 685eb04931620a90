//! A server program that is stopped for longer than its TTL, and then goes on: what was sent
//! meanwhile is a retry of what it knows.

#![cfg(unix)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::counter_server::CounterServer;

const TTL: Duration = Duration::from_millis(2_000);

const CONNECTIONS: usize = 8;
const CALLS: usize = 50;

pub(crate) fn signal(server: &CounterServer, signal: Signal) {
    kill_process(Pid::from_child(&server.child), signal).unwrap();
}

fn connect(server: &CounterServer) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).unwrap();
    stream
}

pub(crate) fn send(stream: &mut TcpStream, request: &Value) {
    let text = request.to_string();
    let header = (text.len() as u32).to_be_bytes();
    stream
        .write_all(&[&header, text.as_bytes()].concat())
        .unwrap();
}

pub(crate) fn receive(stream: &mut TcpStream) -> String {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut text = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn inc(number: u32) -> Value {
    let id = format!("00000000-0000-4000-8000-{number:012x}");
    json!({"id": id, "method": "inc", "params": {"key": "k"}})
}

/// The same calls each time.
fn send_all(streams: &mut [TcpStream]) {
    for (stream, first) in streams.iter_mut().zip((0..).step_by(CALLS)) {
        (first..first + CALLS as u32).for_each(|number| send(stream, &inc(number)));
    }
}

fn receive_all(streams: &mut [TcpStream]) -> Vec<Vec<String>> {
    let replies = |stream: &mut TcpStream| (0..CALLS).map(|_| receive(stream)).collect();
    streams.iter_mut().map(replies).collect()
}

/// Time passes while a process is stopped, and lies in its clock when it goes on.
#[test]
fn a_stopped_server_replays_what_lay_in_its_sockets() {
    let server = CounterServer::start(["--ttl-ms", &TTL.as_millis().to_string()]);
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
    send_all(&mut streams);
    let first = receive_all(&mut streams);
    for freeze in 0..2 {
        signal(&server, Signal::STOP);
        send_all(&mut streams);
        std::thread::sleep(TTL + TTL / 4);
        signal(&server, Signal::CONT);
        assert_eq!(receive_all(&mut streams), first, "after freeze {freeze}");
    }
    let mut stream = connect(&server);
    send(
        &mut stream,
        &json!({"id": "g", "method": "get", "params": {"key": "k"}}),
    );
    let reply: Value = serde_json::from_str(&receive(&mut stream)).unwrap();
    assert_eq!(reply["result"]["value"], CONNECTIONS * CALLS, "{reply}");
}
