//! Redis with a script that makes a retry safe: the usual way to have it there.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context, Result, bail, ensure};

use super::{KEY, Records, Subject};

/// Finds a call that was made before by its id, or makes it and keeps its outcome for 10 s.
const SCRIPT: &str = "local known = redis.call('GET', KEYS[1])
if known then return known end
local value = redis.call('INCRBY', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], value, 'PX', 10000)
return tostring(value)";

/// A connection, over which a batch of calls is sent at once and answered before the next.
pub struct Redis {
    stream: BufReader<TcpStream>,
    records: Records,
    script: String,
    out: Vec<u8>,
    line: String,
}

impl Redis {
    /// Connects, and loads the script.
    ///
    /// # Errors
    ///
    /// If there is no Redis, or none that syncs each write.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("can't connect to Redis at {address}"))?;
        stream.set_nodelay(true)?;
        let mut redis = Self {
            stream: BufReader::with_capacity(64 * 1024, stream),
            records: Records::new(),
            script: String::new(),
            out: Vec::new(),
            line: String::new(),
        };
        redis.command(&[b"CONFIG", b"GET", b"appendfsync"]);
        redis.flush()?;
        ensure!(
            redis.line()? == "*2" && redis.bulk()? == "appendfsync" && redis.bulk()? == "always",
            "Redis at {address} does not sync each write; expected appendfsync always"
        );
        redis.command(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()]);
        redis.flush()?;
        redis.script = redis.bulk()?;
        Ok(redis)
    }

    fn command(&mut self, words: &[&[u8]]) {
        append(&mut self.out, words);
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn line(&mut self) -> Result<&str> {
        self.line.clear();
        let count = self.stream.read_line(&mut self.line)?;
        ensure!(count > 0, "Redis closed the connection");
        let line = self.line.trim_end();
        if line.starts_with('-') {
            bail!("Redis says {line}");
        }
        Ok(line)
    }

    /// A string with its length before it.
    fn bulk(&mut self) -> Result<String> {
        let line = self.line()?;
        ensure!(line.starts_with('$'), "expected a string, got {line}");
        Ok(self.line()?.to_owned())
    }
}

/// A command in Redis's protocol.
fn append(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

impl Subject for Redis {
    fn run(&mut self, batch: usize) -> Result<()> {
        for _ in 0..batch {
            let id = self.records.next().id;
            let words: [&[u8]; 6] = [
                b"EVALSHA",
                self.script.as_bytes(),
                b"2",
                &id,
                KEY.as_bytes(),
                b"1",
            ];
            append(&mut self.out, &words);
        }
        self.flush()?;
        for _ in 0..batch {
            let line = self.line()?;
            ensure!(line.starts_with('$'), "expected a string, got {line}");
            self.line()?;
        }
        Ok(())
    }
}
