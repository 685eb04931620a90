//! What each part of a call costs by itself: `cargo bench -p redial-bench --bench cores`.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redial_bench::{
    clock,
    in_memory::{self, Path},
    load::{Mode, template::Template},
};
use redial_protocol::{
    Dialect, FrameDecoder, Incoming, Limits, Reply, ReplyMeta, RequestReader, SessionId,
    encode_result, write_frame, write_reply,
};

const SESSION: SessionId = SessionId::from_bits(0x123_4567_89ab_cdef);

const CALLS_PER_SERVER: u64 = 100_000;

const REPLY: &[u8] =
    br#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000007","result":1234567}"#;

/// The requests of one read.
fn requests(mode: Mode, count: u32) -> Vec<u8> {
    let template = Template::new(mode, SESSION, "k");
    let mut out = Vec::new();
    for number in 0..count {
        template.append(&mut out, number, number);
    }
    out
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame decode");
    group.throughput(Throughput::Elements(64));
    let wire = requests(Mode::Session, 64);
    group.bench_function("64 whole frames", |bencher| {
        let mut decoder = FrameDecoder::new(1 << 20);
        bencher.iter(|| {
            let mut input = black_box(wire.as_slice());
            while let Ok(Some(frame)) = decoder.next_frame(&mut input) {
                black_box(frame);
            }
        });
    });
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("message parse");
    let body = |mode| requests(mode, 1).split_off(4);
    let cases = [
        ("session", body(Mode::Session)),
        ("plain", body(Mode::Plain)),
        (
            "notebook",
            br#"{"id":"7","method":"inc","params":{"key":"k","delta":1}}"#.to_vec(),
        ),
        (
            "another order, with spaces",
            br#"{ "method": "get", "params": ["k"], "id": 7, "jsonrpc": "2.0" }"#.to_vec(),
        ),
    ];
    for (name, body) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter(|| Incoming::parse(black_box(&body), &limits).is_ok());
        });
        group.bench_function(format!("{name}, once more"), |bencher| {
            let mut reader = RequestReader::new(limits);
            bencher.iter(|| reader.read(black_box(&body)).is_ok());
        });
    }
    group.finish();
    criterion.bench_function("reply parse", |bencher| {
        bencher.iter(|| Reply::parse(black_box(REPLY)).is_ok());
    });
}

fn replies(criterion: &mut Criterion) {
    criterion.bench_function("reply encode", |bencher| {
        let (mut outcome, mut out) = (Vec::new(), Vec::new());
        bencher.iter(|| {
            outcome.clear();
            out.clear();
            encode_result(&mut outcome, black_box(&1_234_567)).expect("a number is JSON");
            write_frame(&mut out, 1 << 20, |out| {
                let id = black_box(r#""12345678-9abc-8def-8000-000000000007""#);
                write_reply(out, Dialect::JsonRpc2, id, &outcome, ReplyMeta::default());
            })
            .expect("it fits");
            black_box(&out);
        });
    });
}

/// The whole of one end, per call: routing, table, handler, all buffers; no system calls.
fn ends(criterion: &mut Criterion) {
    let paths = [
        ("server, query", Path::ServerQuery),
        ("server, plain ids", Path::ServerPlain),
        ("server, session", Path::ServerSession),
        ("server, session, metrics", Path::ServerSessionMetrics),
        ("client, session", Path::ClientSession),
    ];
    for (name, path) in paths {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        for at_once in [1, 64] {
            group.bench_function(format!("{at_once} at once"), |bencher| {
                bencher.iter_custom(|calls| calls_take(path, calls, at_once));
            });
        }
        group.finish();
    }
}

/// A server after the other, since one would keep a record of each of millions of plain ids.
fn calls_take(path: Path, calls: u64, at_once: u32) -> Duration {
    let start = clock::now();
    let mut left = calls;
    while left > 0 {
        let calls = left.min(CALLS_PER_SERVER);
        in_memory::run(path, calls as u32, at_once).expect("every call is answered");
        left -= calls;
    }
    clock::now().duration_since(start)
}

criterion_group!(cores, frames, messages, replies, ends);
criterion_main!(cores);
