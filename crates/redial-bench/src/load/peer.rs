//! The requests before and after the load: hello, and the value of the peer's counter.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use redial_protocol::{
    Reply, SessionId,
    rpc::{self, Hello},
};
use serde_json::{Value, json};

use super::{Load, Mode, template::Template, wire::Wire};

/// How long a reply may take.
const REPLY: Duration = Duration::from_secs(10);

/// The largest reply, in bytes.
const MAX_REPLY_BYTES: u32 = 64 * 1024;

/// A counter of the peer's, and its value before the load.
pub struct Peer {
    load: Load,
    key: String,
    value: i64,
}

impl Peer {
    /// Opens a connection, and a session on it if the mode has them.
    ///
    /// # Errors
    ///
    /// If the peer can't be reached, or its replies are not those that were expected.
    pub fn open(load: &Load, index: usize) -> Result<(Self, Wire<mio::net::TcpStream>, Template)> {
        let random = some_bits(index);
        let key = format!("bench-{index}");
        let mut wire = connect(load)?;
        let session = match load.mode {
            Mode::Session | Mode::Query => hello(&mut wire, load.in_flight)?,
            _ => SessionId::from_bits(random),
        };
        let template = Template::new(load.mode, session, &key);
        let mut peer = Self {
            load: load.clone(),
            key,
            value: 0,
        };
        peer.value = peer.ask()?;
        Ok((peer, wire.nonblocking()?, template))
    }

    /// How many of so many calls had no effect; less than zero if there were more effects.
    ///
    /// # Errors
    ///
    /// If the peer doesn't answer.
    pub fn missing(&self, calls: u32) -> Result<i64> {
        match self.load.mode {
            Mode::Echo => Ok(0),
            _ => Ok(self.value + i64::from(calls) - self.ask()?),
        }
    }

    /// The value of the counter. An echo has none.
    fn ask(&self) -> Result<i64> {
        if self.load.mode == Mode::Echo {
            return Ok(0);
        }
        let mut wire = connect(&self.load)?;
        let answer = ask(&mut wire, "get", &json!({"key": self.key}))?;
        let value = serde_json::from_str(&answer).ok();
        value
            .as_ref()
            .and_then(value_of)
            .with_context(|| format!("expected a counter from get, got {answer}"))
    }
}

/// The value of a counter: a number, or an object that has it among its members.
pub(super) fn value_of(result: &Value) -> Option<i64> {
    result.as_i64().or_else(|| result["value"].as_i64())
}

/// Bits that no other connection has, in this run or in another.
fn some_bits(index: usize) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "ids must differ from those of the runs before this one"
    )]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = since.unwrap_or_default().as_nanos() as u64;
    // The multiplier of Knuth's linear congruential generator (MMIX), to spread the time's bits.
    let seed = time.wrapping_add(index as u64);
    seed.wrapping_mul(6_364_136_223_846_793_005) ^ u64::from(std::process::id()) << 32
}

fn connect(load: &Load) -> Result<Wire<TcpStream>> {
    let stream = TcpStream::connect_timeout(&load.peer, REPLY)
        .with_context(|| format!("can't connect to {}", load.peer))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY))?;
    Wire::new(stream, load.tls.as_ref())
}

fn hello(wire: &mut Wire<TcpStream>, in_flight: usize) -> Result<SessionId> {
    let answer = ask(wire, rpc::HELLO, &json!({}))?;
    let hello: Hello<'_> = serde_json::from_str(&answer)
        .with_context(|| format!("expected a session from rpc.hello, got {answer}"))?;
    ensure!(
        in_flight as u64 <= hello.max_in_flight,
        "--in-flight {in_flight}: the server takes {} at most",
        hello.max_in_flight
    );
    Ok(hello.session)
}

fn ask(wire: &mut Wire<TcpStream>, method: &str, params: &Value) -> Result<String> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let body = request.to_string();
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body.as_bytes());
    wire.write_all(&frame)?;
    wire.flush()?;
    let mut header = [0; 4];
    let received = wire.read_exact(&mut header);
    received.with_context(|| format!("no reply to {method}"))?;
    let length = u32::from_be_bytes(header);
    ensure!(
        length <= MAX_REPLY_BYTES,
        "a reply of {length} bytes to {method}; expected at most {MAX_REPLY_BYTES}"
    );
    let mut body = vec![0; length as usize];
    wire.read_exact(&mut body)?;
    let reply = Reply::parse(&body)?;
    let text = || String::from_utf8_lossy(&body);
    let result = reply.outcome.ok().map(ToOwned::to_owned);
    result.with_context(|| format!("expected a result from {method}, got {}", text()))
}
