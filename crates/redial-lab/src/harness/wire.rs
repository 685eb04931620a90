//! Frames written by hand: a length in 4 bytes, big-endian, then JSON. The demo asks the server
//! for its ledger this way, so that no code of the client can colour the answer.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::clock::Deadline;

/// The counter service gives no longer replies.
const MAX_REPLY_BYTES: u32 = 1 << 20;
/// How long one connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long to wait before the next try of a `get` that was refused or cut.
const PAUSE: Duration = Duration::from_millis(10);

/// `body` with its length before it.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a hand-written request is short");
    [&length.to_be_bytes(), body].concat()
}

/// A bare connection: no retries, no matching of ids.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)
            .with_context(|| format!("can't connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// A connection that there is already.
    #[cfg(test)]
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self(stream)
    }

    pub(crate) fn send(&mut self, body: &[u8]) -> Result<()> {
        self.0.write_all(&frame(body)).context("can't send a frame")
    }

    /// The body of the next frame, waited for at most `limit`.
    pub(crate) fn receive(&mut self, limit: Duration) -> Result<Vec<u8>> {
        let deadline = Deadline::after(limit);
        let mut length = [0; 4];
        self.fill(&mut length, deadline)?;
        let length = u32::from_be_bytes(length);
        ensure!(length <= MAX_REPLY_BYTES, "a reply of {length} bytes");
        let mut body = vec![0; length as usize];
        self.fill(&mut body, deadline)?;
        Ok(body)
    }

    /// Sends a request and gives the reply to it, waited for at most `limit`.
    pub(crate) fn ask(&mut self, request: &Value, limit: Duration) -> Result<Value> {
        self.send(request.to_string().as_bytes())?;
        let reply: Value = serde_json::from_slice(&self.receive(limit)?)?;
        ensure!(
            reply["id"] == request["id"],
            "expected the reply to {}, got another request's: {reply}",
            request["id"]
        );
        Ok(reply)
    }

    /// Whether the connection is open and nothing has arrived on it.
    pub(crate) fn is_silent(&mut self) -> Result<bool> {
        self.0.set_nonblocking(true)?;
        let read = self.0.read(&mut [0; 1]);
        self.0.set_nonblocking(false)?;
        Ok(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
    }

    fn fill(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            self.0.set_read_timeout(Some(deadline.left()))?;
            let read = self.0.read(&mut buffer[filled..]).context("no reply")?;
            ensure!(read > 0, "the server closed the connection");
            filled += read;
        }
        Ok(())
    }
}

/// The value of a counter once the server has come to rest: `get` is called, on a fresh connection
/// each time, until two replies that lie `settle` apart agree. A call that its client gave up may still
/// be executing when the client ends.
pub(crate) fn settled_value(address: SocketAddr, key: &str, settle: Duration) -> Result<i64> {
    let deadline = Deadline::after(Duration::from_secs(15) + settle * 4);
    let mut last = get(address, key, settle, deadline)?;
    loop {
        thread::sleep(settle);
        let value = get(address, key, settle, deadline)?;
        if value == last {
            return Ok(value);
        }
        ensure!(
            !deadline.has_passed(),
            "the counter did not come to rest: {last}, then {value}"
        );
        last = value;
    }
}

/// One reply to `get`, however many calls it takes: the server's faults hit a `get` as well.
fn get(address: SocketAddr, key: &str, settle: Duration, deadline: Deadline) -> Result<i64> {
    let mut tries = 0;
    loop {
        tries += 1;
        match get_once(address, key, tries, settle) {
            Ok(value) => return Ok(value),
            Err(error) if deadline.has_passed() => {
                return Err(error.context(format!("the final `get` failed {tries} times")));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn get_once(address: SocketAddr, key: &str, tries: u32, settle: Duration) -> Result<i64> {
    let id = format!("final-get-{tries}");
    let request = json!({"id": id, "method": "get", "params": {"key": key}});
    let mut wire = Wire::connect(address)?;
    wire.send(request.to_string().as_bytes())?;
    let body = wire.receive(settle + Duration::from_millis(250))?;
    value_of(&body, &id)
}

/// The counter's value in a reply to `id`.
pub(crate) fn value_of(body: &[u8], id: &str) -> Result<i64> {
    let reply: Value = serde_json::from_slice(body).context("expected a reply in JSON")?;
    ensure!(
        reply["id"] == id,
        "expected the reply to {id}, got another request's: {reply}"
    );
    reply["result"]["value"].as_i64().with_context(|| {
        format!("expected a counter's value, got a reply without a value: {reply}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_frame_is_a_big_endian_length_and_the_body() {
        assert_eq!(frame(b"{}"), b"\0\0\0\x02{}");
        assert_eq!(frame(&[7; 258])[..5], [0, 0, 1, 2, 7]);
    }

    #[test]
    fn only_a_result_for_the_same_id_has_a_value() {
        assert_eq!(
            value_of(br#"{"id":"a","result":{"key":"k","value":-3}}"#, "a").unwrap(),
            -3
        );
        for (body, expected) in [
            (
                &br#"{"id":"b","result":{"key":"k","value":1}}"#[..],
                "another request",
            ),
            (
                br#"{"id":"a","error":{"code":-32001,"message":"no room"}}"#,
                "without a value",
            ),
            (b"{", "in JSON"),
        ] {
            let error = value_of(body, "a").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// A server that cuts the first connection, replies 1, 2, 2 on the next ones, and ends.
    fn restless_server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for value in [None, Some(1), Some(2), Some(2)] {
                let mut wire = Wire(listener.accept().unwrap().0);
                let Some(value) = value else { continue };
                let body = wire.receive(Duration::from_secs(20)).unwrap();
                let request: Value = serde_json::from_slice(&body).unwrap();
                let reply = json!({"id": request["id"], "result": {"key": "k", "value": value}});
                wire.send(reply.to_string().as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn the_counter_is_read_until_it_rests_and_past_cut_connections() {
        let value = settled_value(restless_server(), "k", Duration::from_millis(1)).unwrap();
        assert_eq!(value, 2);
    }
}
