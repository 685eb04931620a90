//! A client whose server answers anything: every call ends in time, and no call gets a value that no
//! reply to it had.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use redial_client::{CallLimits, Client, Config};
use redial_protocol::{FrameDecoder, Id, Incoming, Limits, Reply, Request, SessionId, rpc};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime, task,
    time::timeout,
};

use crate::script::{Script, frame};

const PIPE_BYTES: usize = 4096;
const CALLS: u64 = 4;
/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(3);
/// By when it has to end: timers are rounded up to milliseconds.
const LIMIT: Duration = Duration::from_millis(3010);

/// Makes some calls to a peer that follows the bytes as a script.
///
/// # Panics
///
/// If the client panics, if a call does not end by its deadline, or if it ends with a value that no
/// reply to it had.
pub fn check(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) -> u64 {
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    runtime.block_on(calls(data))
}

/// How many of the calls came to a value.
async fn calls(data: &[u8]) -> u64 {
    let mut script = Script::new(data);
    let first = script.byte().unwrap_or(0);
    let peer = Arc::new(Mutex::new(Peer {
        script: script.rest().to_vec(),
        ..Peer::default()
    }));
    let client = Client::builder()
        .config(config(first))
        .connect_lazy_with(connector(&peer))
        .expect("its limits are right");
    let calls = (0..CALLS).map(|tag| {
        let call = client.request("inc", json!({"tag": tag}));
        tokio::spawn(timeout(LIMIT, call.into_future()))
    });
    let mut values = 0;
    for (tag, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let ended = call.await.expect("a call panicked");
        let ended = ended.unwrap_or_else(|_| panic!("call {tag} did not end"));
        if let Ok(value) = ended {
            let peer = peer.lock().expect("the peer does not panic");
            assert!(peer.has_sent(tag as u64, &value), "call {tag}: {value}");
            values += 1;
        }
    }
    drop(client);
    // Its connections see that, and so do those of the peer.
    task::yield_now().await;
    values
}

/// With and without sessions, with one connection or two.
fn config(first: u8) -> Config {
    Config {
        call: CallLimits {
            attempt_timeout: Duration::from_millis(200),
            deadline: DEADLINE,
            ..CallLimits::default()
        },
        sessions: first & 1 == 0,
        connections: 1 + usize::from(first >> 1 & 1),
        seed: Some(1),
        jitter_seed: Some(1),
        ..Config::default()
    }
}

fn connector(
    peer: &Arc<Mutex<Peer>>,
) -> impl Fn() -> std::future::Ready<std::io::Result<DuplexStream>> + Send + Sync + 'static {
    let peer = Arc::clone(peer);
    move || {
        let (near, far) = duplex(PIPE_BYTES);
        tokio::spawn(serve(far, Arc::clone(&peer)));
        std::future::ready(Ok(near))
    }
}

/// The peer's side of one connection, until either end closes it.
async fn serve(mut io: DuplexStream, peer: Arc<Mutex<Peer>>) {
    let mut decoder = FrameDecoder::new(1 << 20);
    let mut buffer = vec![0; PIPE_BYTES];
    while let Ok(read @ 1..) = io.read(&mut buffer).await {
        let mut input = &buffer[..read];
        loop {
            let frame = decoder.next_frame(&mut input);
            let Some(body) = frame.expect("a client sends whole frames") else {
                break;
            };
            let output = peer.lock().expect("it does not panic").answer(body);
            if io.write_all(&output.bytes).await.is_err() || output.is_end {
                return;
            }
        }
    }
}

/// What the peer does, and what it has sent to whom.
#[derive(Default)]
struct Peer {
    script: Vec<u8>,
    /// How much of the script has been played.
    played: usize,
    /// The ids that each call was sent under.
    names: HashMap<u64, Vec<String>>,
    /// The results that were sent to each id, as they were written.
    sent: HashMap<String, Vec<String>>,
    /// Every reply that was honest.
    replies: Vec<Vec<u8>>,
}

/// What the peer does when a request has come.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_end: bool,
}

impl Peer {
    /// Follows the next line of the script; without one the peer answers honestly.
    fn answer(&mut self, request: &[u8]) -> Output {
        let limits = Limits::default();
        let Ok(Incoming::Request(request)) = Incoming::parse(request, &limits) else {
            panic!("no request: {}", String::from_utf8_lossy(request));
        };
        self.name(&request);
        let (line, piece) = self.line();
        let mut output = Output::default();
        let honest = honest(&request);
        match line {
            None | Some(0..=63) => self.send(&mut output, honest),
            Some(64..=79) => {
                self.send(&mut output, honest.clone());
                self.send(&mut output, honest);
            }
            Some(80..=99) => self.send(&mut output, with_result(&request, &piece)),
            Some(100..=119) => self.send(&mut output, error(&request, &piece)),
            Some(120..=159) => self.send(&mut output, piece),
            // Not a frame, perhaps, or more than one, or half of one.
            Some(160..=179) => self.send_raw(&mut output, &piece),
            Some(180..=199) => self.send_again(&mut output, &piece),
            Some(200..=209) => self.send_changed(&mut output, honest, &piece),
            Some(210..=219) => output.is_end = true,
            Some(220..=229) => {
                let whole = frame(&honest);
                let cut = usize::from(piece.first().copied().unwrap_or(0)) % whole.len();
                output.bytes = whole[..cut].to_vec();
                output.is_end = true;
            }
            // Silence.
            Some(230..) => {}
        }
        output
    }

    fn line(&mut self) -> (Option<u8>, Vec<u8>) {
        let mut script = Script::new(&self.script[self.played..]);
        let before = script.len();
        let line = script.byte();
        let needs_piece = line.is_some_and(|byte| (80..=229).contains(&byte));
        let piece = if needs_piece {
            script.piece().to_vec()
        } else {
            Vec::new()
        };
        self.played += before - script.len();
        (line, piece)
    }

    fn name(&mut self, request: &Request<'_>) {
        let params = params(request);
        if let (Some(tag), Some(id)) = (params["tag"].as_u64(), &request.id) {
            let id = name_of(id);
            self.names.entry(tag).or_default().push(id);
        }
    }

    fn send(&mut self, output: &mut Output, body: Vec<u8>) {
        if let Ok(reply) = Reply::parse(&body)
            && let Ok(result) = reply.outcome
        {
            let sent = self.sent.entry(name_of(&reply.id)).or_default();
            sent.push(result.to_owned());
        }
        output.bytes.extend(frame(&body));
        self.replies.push(body);
    }

    /// Whatever of it is a frame is one.
    fn send_raw(&mut self, output: &mut Output, bytes: &[u8]) {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut input = bytes;
        while let Ok(Some(body)) = decoder.next_frame(&mut input) {
            self.send(&mut Output::default(), body.to_vec());
        }
        output.bytes.extend_from_slice(bytes);
        // What would follow would be read as the rest of it.
        output.is_end = true;
    }

    fn send_again(&mut self, output: &mut Output, piece: &[u8]) {
        let which = usize::from(piece.first().copied().unwrap_or(0));
        let count = self.replies.len().max(1);
        if let Some(reply) = self.replies.get(which % count) {
            output.bytes.extend(frame(reply));
        }
    }

    /// One byte of an honest reply becomes another one.
    fn send_changed(&mut self, output: &mut Output, mut reply: Vec<u8>, piece: &[u8]) {
        if let [at, byte, ..] = piece {
            let at = usize::from(*at) % reply.len();
            reply[at] = *byte;
        }
        self.send(output, reply);
    }

    /// Whether a reply to that call had this result.
    fn has_sent(&self, tag: u64, value: &Value) -> bool {
        let ids = self.names.get(&tag).into_iter().flatten();
        let mut sent = ids.filter_map(|id| self.sent.get(id)).flatten();
        sent.any(|text| serde_json::from_str::<Value>(text).is_ok_and(|sent| sent == *value))
    }
}

/// One text for all that a client may take for the same id.
fn name_of(id: &Id<'_>) -> String {
    match id.as_uuid() {
        Some(uuid) => uuid.to_string(),
        None => id.raw().to_owned(),
    }
}

/// What a server would answer. No call has the result of another one.
fn honest(request: &Request<'_>) -> Vec<u8> {
    let result = match &*request.method {
        rpc::HELLO => {
            let session = SessionId::from_bits(1);
            json!({
                "session": session, "table": "t", "lease_ms": 60_000, "max_frame": 1 << 20,
                "max_in_flight": 512,
            })
        }
        _ => params(request),
    };
    with_result(request, result.to_string().as_bytes())
}

fn params(request: &Request<'_>) -> Value {
    serde_json::from_str(request.params.unwrap_or("null")).expect("params are JSON")
}

fn with_result(request: &Request<'_>, result: &[u8]) -> Vec<u8> {
    let id = request.id.as_ref().map_or("null", |id| id.raw());
    [br#"{"id":"#, id.as_bytes(), br#","result":"#, result, b"}"].concat()
}

fn error(request: &Request<'_>, piece: &[u8]) -> Vec<u8> {
    let id = request.id.as_ref().map_or("null", |id| id.raw());
    let (code, executed) = match piece {
        [a, b, ..] => (
            -32_000 - i64::from(*a % 10),
            ["no", "yes", "unknown"][usize::from(*b % 3)],
        ),
        _ => (-32_603, "yes"),
    };
    let error = json!({"code": code, "message": "m", "data": {"executed": executed}});
    [
        br#"{"id":"#,
        id.as_bytes(),
        br#","error":"#,
        error.to_string().as_bytes(),
        b"}",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_peer_is_believed_and_a_silent_one_is_given_up() {
        assert_eq!([0, 1, 2, 3].map(|first| run(&[first])), [CALLS; 4]);
        assert_eq!(
            run(&[1; 1]
                .iter()
                .chain(&[255; 100])
                .copied()
                .collect::<Vec<_>>()),
            0
        );
    }

    #[test]
    fn what_was_not_said_to_a_call_is_not_its_value() {
        let mut peer = Peer::default();
        let request = br#"{"id":"a","method":"inc","params":{"tag":1}}"#;
        peer.answer(request);
        assert!(peer.has_sent(1, &json!({"tag": 1})));
        assert!(!peer.has_sent(1, &json!({"tag": 2})) && !peer.has_sent(2, &json!({"tag": 1})));
    }
}
