//! A server program that is stopped for longer than its TTL, and then goes on: what was sent
//! meanwhile is a retry of what it knows.

#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const TTL: Duration = Duration::from_millis(2_000);

const CONNECTIONS: usize = 8;
const CALLS: usize = 50;

/// A counter server, killed at the latest when the test ends.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let ttl = TTL.as_millis().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_counter-server"))
            .args(["--listen", "127.0.0.1:0", "--ttl-ms", &ttl])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().into();
        Self { child, address }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let server = Server::start();
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    send_all(&mut streams);
    let first = receive_all(&mut streams);
    for freeze in 0..2 {
        server.signal(Signal::STOP);
        send_all(&mut streams);
        std::thread::sleep(TTL + TTL / 4);
        server.signal(Signal::CONT);
        assert_eq!(receive_all(&mut streams), first, "after freeze {freeze}");
    }
    let mut stream = server.connect();
    send(
        &mut stream,
        &json!({"id": "g", "method": "get", "params": {"key": "k"}}),
    );
    let reply: Value = serde_json::from_str(&receive(&mut stream)).unwrap();
    assert_eq!(reply["result"]["value"], CONNECTIONS * CALLS, "{reply}");
}
