//! The slowest call while the table of plain ids grows, next to the slowest once it is as large.

use std::{
    fs, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use redial_bench::{
    clock,
    flags::whole,
    load::template::{RESULT, Template, number_of},
    methods::IncParams,
};
use redial_protocol::FRAME_HEADER_BYTES;
use redial_server::{Config, Context as CallContext, Server};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Builder,
};
use uuid::Uuid;

/// Makes calls with plain ids, one after the other and through memory, against a server that keeps
/// each for as long as `--ttl-ms` says, and reports those before the first record expires, while the
/// table grows, apart from those after, while it stays as it is.
///
/// All rounds are printed: on a machine that does something else now and then, the slowest call
/// of a round is whatever that was, so the round with the least says most.
#[derive(Debug, Parser)]
#[command(name = "bench-growth", version)]
struct Args {
    /// How many milliseconds a finished call is kept, which decides how far the table grows
    #[arg(long, value_name = "N", default_value = "2000", value_parser = whole::<u64>(10, 60_000), allow_negative_numbers = true)]
    ttl_ms: u64,
    /// How many rounds, each with a new server
    #[arg(long, value_name = "N", default_value = "5", value_parser = whole::<u32>(1, 1_000), allow_negative_numbers = true)]
    rounds: u32,
    /// The length of a call's result in bytes
    #[arg(long, value_name = "N", default_value = "100", value_parser = whole::<usize>(2, 60_000), allow_negative_numbers = true)]
    result_bytes: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!(
        "{:<9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "calls", "p50 us", "p99.9 us", "p99.99 us", "max us"
    );
    for _ in 0..args.rounds {
        let run = run(&args)?;
        print_line("growing", &run.growing);
        print_line("as large", &run.as_large);
        println!(
            "{} records when it stopped growing, {} bytes each on record{}",
            run.records,
            run.record_bytes / run.records.max(1),
            match run.resident {
                Some(bytes) => format!(
                    ", {} bytes each of resident memory",
                    bytes / run.records.max(1)
                ),
                None => String::new(),
            }
        );
    }
    Ok(())
}

fn print_line(name: &str, latency: &Histogram<u64>) {
    let us = |ns: u64| ns as f64 / 1_000.0;
    let at = |quantile| us(latency.value_at_quantile(quantile));
    println!(
        "{name:<9} {:>9} {:>9.2} {:>9.2} {:>9.1} {:>9.1}",
        latency.len(),
        at(0.5),
        at(0.999),
        at(0.9999),
        us(latency.max())
    );
}

/// The figures of one server.
struct Run {
    growing: Histogram<u64>,
    as_large: Histogram<u64>,
    records: usize,
    record_bytes: usize,
    /// By how much the program grew while the table did, where the system reports it.
    resident: Option<usize>,
}

fn run(args: &Args) -> Result<Run> {
    let ttl = Duration::from_millis(args.ttl_ms);
    let config = Config {
        ttl,
        max_records: 100_000_000,
        max_record_bytes: usize::MAX / 2,
        ..Config::default()
    };
    let result = "x".repeat(args.result_bytes - 2);
    let handler = move |_: IncParams, _: CallContext| std::future::ready(Ok(result.clone()));
    let server = Server::builder()
        .mutation("fill", handler)
        .config(config)
        .build()?;
    let state = Arc::new(Mutex::new(State::new(ttl, server.clone())));
    let client = StubClient(Arc::clone(&state));
    Builder::new_current_thread()
        .enable_time()
        .build()?
        .block_on(server.serve_connection(client));
    let state = state.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        state.is_finished(),
        "the server closed the connection, or answered a call with an error"
    );
    let stopped = state.stopped.expect("it is finished");
    Ok(Run {
        growing: state.growing.clone(),
        as_large: state.as_large.clone(),
        records: stopped.records,
        record_bytes: stopped.record_bytes,
        resident: stopped.resident,
    })
}

/// What there was when the first record was about to expire.
#[derive(Clone, Copy)]
struct Stopped {
    records: usize,
    record_bytes: usize,
    resident: Option<usize>,
}

struct State {
    server: Server,
    template: Template,
    request: Vec<u8>,
    made: u32,
    answered: u32,
    begin: Instant,
    sent: Instant,
    ttl: Duration,
    resident_before: Option<usize>,
    stopped: Option<Stopped>,
    growing: Histogram<u64>,
    as_large: Histogram<u64>,
}

impl State {
    fn new(ttl: Duration, server: Server) -> Self {
        let id = Uuid::from_u128(0x0bad_cafe_0ddb_4a11_8000_0000_0000_0000);
        let latency = || Histogram::new(3).expect("3 digits are not too many");
        let (growing, as_large) = (latency(), latency());
        Self {
            server,
            template: Template::with_plain_ids(id, "fill", "k"),
            request: Vec::new(),
            made: 0,
            answered: 0,
            begin: clock::now(),
            sent: clock::now(),
            ttl,
            resident_before: resident(),
            stopped: None,
            growing,
            as_large,
        }
    }

    /// Whether the table has been as large for as long as it took to grow.
    fn is_finished(&self) -> bool {
        self.stopped.is_some() && self.sent - self.begin > self.ttl * 2
    }

    fn answer(&mut self, frame: &[u8]) -> bool {
        let number = frame
            .get(FRAME_HEADER_BYTES..)
            .and_then(|body| number_of(body, RESULT));
        if number != Some(self.answered) {
            return false;
        }
        self.answered += 1;
        let ns = (clock::now() - self.sent).as_nanos() as u64;
        match self.stopped {
            None => self.growing.record(ns).is_ok(),
            Some(_) => self.as_large.record(ns).is_ok(),
        }
    }

    fn make(&mut self) {
        self.request.clear();
        self.template.append(&mut self.request, self.made, 0);
        self.made += 1;
        if self.stopped.is_none() && clock::now() - self.begin >= self.ttl {
            let stats = self.server.stats();
            let resident = resident().zip(self.resident_before);
            self.stopped = Some(Stopped {
                records: stats.records,
                record_bytes: stats.record_bytes,
                resident: resident.map(|(now, before)| now.saturating_sub(before)),
            });
        }
        self.sent = clock::now();
    }
}

/// The resident memory of this program in bytes, where the system reports it (Linux).
fn resident() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// A connection without a client at the other end: each request is made when the server reads.
struct StubClient(Arc<Mutex<State>>);

impl AsyncRead for StubClient {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.answered < state.made {
            // Its reply is about to be written.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !state.is_finished() {
            state.make();
            buffer.put_slice(&state.request);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StubClient {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(if state.answer(bytes) {
            Ok(bytes.len())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
