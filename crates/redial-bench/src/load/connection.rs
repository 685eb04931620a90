//! One connection under load: replies are taken as they come, and as many requests as there is room
//! for are written at once.

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::{Interest, Poll, Token, net::TcpStream};
use redial_protocol::FRAME_HEADER_BYTES;
use serde_json::Value;

use super::{
    Load, Mode,
    peer::value_of,
    slots::{Replied, Slots},
    template::{ID_AT, ID_BYTES, REQUEST, RESULT, Template, number_of},
    wire::Wire,
};
use crate::clock;

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;

/// One of so many replies is read as JSON.
const READ_AS_JSON: u32 = 1000;

/// One connection.
pub struct Connection {
    wire: Wire<TcpStream>,
    template: Template,
    mode: Mode,
    max_in_flight: usize,
    duplicates: f64,
    /// Rises by `duplicates` with each call; at 1 one is sent twice.
    due_copies: f64,
    slots: Slots,
    out: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Takes a connection that is not blocking.
    ///
    /// # Errors
    ///
    /// If the system can't watch it.
    pub fn new(
        mut wire: Wire<TcpStream>,
        template: Template,
        load: &Load,
        poll: &Poll,
        token: Token,
    ) -> Result<Self> {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(wire.socket(), token, both)?;
        Ok(Self {
            wire,
            template,
            mode: load.mode,
            max_in_flight: load.in_flight,
            duplicates: load.duplicates,
            due_copies: 0.0,
            slots: Slots::new(load.in_flight),
            out: Vec::with_capacity(READ_BYTES),
            written: 0,
            buffer: vec![0; READ_BYTES],
            filled: 0,
        })
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.slots.calls()
    }

    /// Makes all the calls that there is room for.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    pub fn send(&mut self, now_ns: u64) -> Result<()> {
        self.flush()?;
        if !self.out.is_empty() {
            return Ok(());
        }
        let watermark = self.slots.watermark();
        while self.slots.in_flight() < self.max_in_flight && self.slots.has_room() {
            self.due_copies += self.duplicates;
            let is_sent_twice = self.due_copies >= 1.0;
            self.due_copies -= f64::from(u8::from(is_sent_twice));
            let number = self.slots.take(1 + u8::from(is_sent_twice), now_ns);
            // As if each reply had led to one request, as with tasks that call in a loop: the
            // client acknowledges no more than it knows to have completed when it writes.
            let ack = (number + 1).saturating_sub(self.max_in_flight as u32);
            let ack = ack.min(watermark);
            for _ in 0..1 + u8::from(is_sent_twice) {
                self.template.append(&mut self.out, number, ack);
            }
        }
        self.flush()
    }

    /// Writes what is left to write.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    pub fn flush(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.wire.write(&self.out[self.written..]) {
                Ok(0) => bail!("the peer closed the connection"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        match self.wire.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Reads and takes all replies that are there.
    ///
    /// # Errors
    ///
    /// If the connection breaks, or at the first reply that isn't a result.
    pub fn receive(&mut self, start: Instant, latencies: &mut Histogram<u64>) -> Result<()> {
        loop {
            let room = self.buffer.len() - self.filled;
            match self.wire.read(&mut self.buffer[self.filled..]) {
                Ok(0) => bail!("the peer closed the connection"),
                Ok(count) => {
                    self.filled += count;
                    let now = clock::now().duration_since(start);
                    self.work_off(now.as_nanos() as u64, latencies)?;
                    if count < room && !self.wire.may_have_more() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn work_off(&mut self, now_ns: u64, latencies: &mut Histogram<u64>) -> Result<()> {
        let expected = match self.mode {
            Mode::Echo => REQUEST,
            _ => RESULT,
        };
        let twice = self.duplicates > 0.0;
        let (mut sent, mut count) = (0, 0);
        let mut rest = &self.buffer[..self.filled];
        while let Some((body, after)) = next_body(rest)? {
            rest = after;
            let Some(number) = number_of(body, expected) else {
                bail!("expected a result, got {}", String::from_utf8_lossy(body));
            };
            let replied = match self.slots.replied(number, body, twice) {
                Ok(replied) => replied,
                Err(wrong) => bail!("{}: {wrong}", String::from_utf8_lossy(body)),
            };
            if number % READ_AS_JSON == 0 {
                check(body, number, self.mode)?;
            }
            if let Replied::First { sent_ns } = replied {
                if sent_ns != sent && count > 0 {
                    latencies.saturating_record_n(now_ns.saturating_sub(sent), count);
                    count = 0;
                }
                (sent, count) = (sent_ns, count + 1);
            }
        }
        if count > 0 {
            latencies.saturating_record_n(now_ns.saturating_sub(sent), count);
        }
        let left = rest.len();
        self.buffer.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(())
    }
}

/// The first body, and what comes after it, if it is there as a whole.
pub(crate) fn next_body(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*header) as usize;
    ensure!(
        length <= READ_BYTES / 2,
        "the peer announced a reply of {length} bytes"
    );
    Ok(rest.split_at_checked(length))
}

/// Reads a reply as any other client would.
fn check(body: &[u8], number: u32, mode: Mode) -> Result<()> {
    let text = || String::from_utf8_lossy(body);
    let Ok(reply) = serde_json::from_slice::<Value>(body) else {
        bail!("expected a reply in JSON, got {}", text());
    };
    let id = reply["id"].as_str().unwrap_or_default();
    let is_named = id.len() == ID_BYTES && id.ends_with(&format!("{number:08x}"));
    let is_named = is_named && body[ID_AT..].starts_with(id.as_bytes());
    let has_value = mode == Mode::Echo || value_of(&reply["result"]).is_some();
    ensure!(
        is_named && has_value,
        "expected a number for call {number}, got {}",
        text()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_found_whatever_came_with_them() {
        let bytes = b"\0\0\0\x02ab\0\0\0\x01c\0\0";
        let (body, rest) = next_body(bytes).unwrap().unwrap();
        assert_eq!((body, rest.len()), (&b"ab"[..], 7));
        let (body, rest) = next_body(rest).unwrap().unwrap();
        assert_eq!((body, rest), (&b"c"[..], &b"\0\0"[..]));
        assert!(next_body(rest).unwrap().is_none());
        assert!(next_body(b"\0\0\0\x03ab").unwrap().is_none());
        assert!(next_body(b"HTTP/1.1").is_err());
    }

    #[test]
    fn a_reply_is_read_as_json() {
        let id = "12345678-9abc-8def-8000-0000000000ff";
        let good = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":5}}"#);
        let check_reply = |body: &str, number| check(body.as_bytes(), number, Mode::Session);
        assert!(check_reply(&good, 255).is_ok());
        assert!(check_reply(&good, 254).is_err());
        assert!(check_reply(&good.replace(":5", ":null"), 255).is_err());
        assert!(check_reply(&good.replace(":5", ":5,"), 255).is_err());
    }
}
