//! `redial decode`.

use serde_json::{Value, json};

use crate::world::{Folder, command, frame, redial, run_with_input};

pub(crate) fn lines(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A message of each kind.
pub(crate) const MESSAGES: [&str; 8] = [
    r#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000007","method":"inc","params":{"key":"k"},"redial":{"attempt":2,"timeout_ms":950,"ack":5,"meta":{"tenant":"acme"}}}"#,
    r#"{"id":"u","method":"get","params":{"key":"k"}}"#,
    r#"{"jsonrpc":"2.0","method":"rpc.ack","params":{"session":"123456789abcdef","ack":8}}"#,
    r#"{"jsonrpc":"2.0","id":"12345678-9abc-8def-8000-000000000007","result":{"value":1},"redial":{"replayed":true}}"#,
    r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"Overloaded","data":{"executed":"no","retry_after_ms":40,"detail":"the queue is full"}}}"#,
    r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32008,"message":"Interrupted","data":{"executed":"unknown"}}}"#,
    r#"{"jsonrpc":"2.0","id":3,"method":"rpc.auth","params":{"token":"open sesame"}}"#,
    r#"[{"jsonrpc":"2.0","id":4,"method":"a"},{"jsonrpc":"2.0","method":"b"}]"#,
];

/// Members whose meaning stays in the dark.
#[test]
fn every_kind_of_message_is_explained() {
    let folder = Folder::new();
    let file = folder.write("frames", MESSAGES.map(frame).concat());
    let run = redial(&format!("decode {file}"));
    assert_eq!(run.code, 0, "{run:?}");
    for said in [
        "#1 170 bytes, request inc (JSON-RPC 2.0)",
        "call 7 of session 123456789abcdef",
        "attempt 2, the caller waits 950 ms more, acknowledges all calls below 5",
        "meta: tenant (values not shown)",
        "request get (notebook dialect)\n    id \"u\"\n    params {\"key\":\"k\"}",
        "notification rpc.ack",
        "replayed: recorded by an earlier attempt\n    result {\"value\":1}",
        "error -32001 Overloaded (JSON-RPC 2.0)\n    id 1\n    not executed; the call may be sent again after 40 ms",
        "detail \"the queue is full\"",
        "it is unknown whether it was executed; sending it again would not help",
        "{\"token\":\"(not shown)\"}",
        "#8 70 bytes, batch 1/2: request a",
        "batch 2/2: notification b",
    ] {
        assert!(run.out.contains(said), "no {said:?} in\n{}", run.out);
    }
    assert!(
        !run.out.contains("sesame") && !run.out.contains("acme"),
        "{}",
        run.out
    );
    let members = lines(&redial(&format!("decode {file} --json")).out);
    assert_eq!(members.len(), 9);
    let first = &members[0];
    assert_eq!(
        (&first["kind"], &first["call"], &first["attempt"]),
        (&json!("request"), &json!(7), &json!(2))
    );
    assert_eq!(
        (&members[4]["error"]["name"], &members[4]["retryable"]),
        (&json!("Overloaded"), &json!(true))
    );
    assert!(!members.iter().any(|one| one.to_string().contains("sesame")));
}

/// Kind: a number that a machine has no room for, and that is another one afterwards. Instances: ids, params, and
/// the data of errors, which need not stand in one line either.
#[test]
fn numbers_and_members_are_printed_as_they_are_written() {
    for (message, written) in [
        (
            r#"{"jsonrpc":"2.0","id":18446744073709551617,"method":"a","params":[1e400, 0.10]}"#,
            [r#""id":18446744073709551617"#, r#""params":[1e400,0.10]"#],
        ),
        (
            "{\"id\":1,\"result\":{\"b c\": \"d \\\" e\",\n \"a\":123456789012345678901}}",
            [r#"{"b c":"d \" e","a":123456789012345678901}"#, r#""id":1"#],
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":-1e999}"#,
            [r#""result":-1e999"#, r#""dialect":"jsonrpc2""#],
        ),
        (
            r#"{"id":1,"error":{"code":7,"message":"m","data":[9007199254740993.0]}}"#,
            [r#""data":[9007199254740993.0]"#, r#""code":7"#],
        ),
    ] {
        let mut decode = command();
        decode.args(["decode", "--json"]);
        let run = run_with_input(&mut decode, &frame(message));
        assert_eq!((run.code, run.out.lines().count()), (0, 1), "{run:?}");
        for written in written {
            assert!(run.out.contains(written), "no {written} in {}", run.out);
        }
    }
}

/// Input that is no frames.
#[test]
fn what_is_no_message_is_said_and_the_rest_explained() {
    let decode = |input: &[u8]| run_with_input(command().arg("decode"), input);
    let run = decode(b"{\"id\":1,\"result\":2}\n\n{\"id\":2,\n");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.out.contains("result (notebook dialect)") && run.out.contains("no message"),
        "{run:?}"
    );
    let run = decode(&[frame(r#"{"id":1,"result":2}"#), vec![0, 0, 0, 9, b'{']].concat());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.out
            .contains("the last frame is not whole: 1 of 9 bytes"),
        "{run:?}"
    );
    assert!(decode(b"GET / HTTP/1.1\r\n\r\n").out.contains("HTTP"));
    let nothing = decode(b"");
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(
        nothing
            .err
            .contains("FILE, standard input: there is no frame"),
        "{nothing:?}"
    );
}

/// A packet of the loopback device: Ethernet, IPv4, TCP.
pub(crate) fn packet(from: u16, to: u16, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut tcp = [from.to_be_bytes(), to.to_be_bytes()].concat();
    tcp.extend(seq.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 5 << 4, flags, 1, 0, 0, 0, 0, 0]);
    tcp.extend(payload);
    let length = (20 + tcp.len() as u16).to_be_bytes();
    let mut packet = vec![0; 12];
    packet.extend([
        8, 0, 0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 6, 0, 0,
    ]);
    packet.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    packet.extend(tcp);
    packet
}

pub(crate) fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut capture = vec![
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
    ];
    for (number, packet) in (0_u32..).zip(packets) {
        let length = (packet.len() as u32).to_le_bytes();
        capture.extend(3_723_u32.to_le_bytes());
        capture.extend(number.to_le_bytes());
        capture.extend(length);
        capture.extend(length);
        capture.extend(packet);
    }
    capture
}

/// Segments that a network has shuffled.
#[test]
fn a_capture_is_put_together_and_shown_in_order() {
    let request = frame(r#"{"jsonrpc":"2.0","id":1,"method":"inc"}"#);
    let reply = frame(r#"{"jsonrpc":"2.0","id":1,"result":2}"#);
    let (first, second) = request.split_at(10);
    let packets = [
        packet(5000, 7077, 100, 2, b""),
        packet(7077, 5000, 900, 0x12, b""),
        packet(5000, 7077, 111, 0x10, second),
        packet(5000, 7077, 101, 0x10, first),
        packet(5000, 7077, 101, 0x10, first),
        packet(7077, 5000, 901, 0x10, &reply),
        packet(6000, 80, 1, 0x10, b"GET / HTTP/1.1\r\n"),
    ];
    let folder = Folder::new();
    let file = folder.write("calls.pcap", capture(&packets));
    let run = redial(&format!("decode {file} --port 7077"));
    assert_eq!(run.code, 0, "{run:?}");
    let heads: Vec<_> = run
        .out
        .lines()
        .filter(|line| line.starts_with('#'))
        .collect();
    assert_eq!(
        heads,
        [
            "#1 01:02:03.000003, 127.0.0.1:5000 -> 127.0.0.1:7077, 39 bytes, request inc (JSON-RPC 2.0)",
            "#2 01:02:03.000005, 127.0.0.1:7077 -> 127.0.0.1:5000, 35 bytes, result (JSON-RPC 2.0)",
        ]
    );
    let line = &lines(&redial(&format!("decode {file} --json --port 7077")).out)[1];
    assert_eq!(line["way"], "127.0.0.1:7077 -> 127.0.0.1:5000");
}

/// A block of pcapng: its type, its body, and its length before and after that.
fn block(kind: u32, body: &[u8], is_big: bool) -> Vec<u8> {
    let number = |number: u32| {
        if is_big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let length = number(padded.len() as u32 + 12);
    [&number(kind)[..], &length, &padded, &length].concat()
}

/// The same packets as pcapng: a section with an interface that counts nanoseconds.
fn capture_ng(packets: &[Vec<u8>], is_big: bool) -> Vec<u8> {
    let numbers = |numbers: &[u32]| -> Vec<u8> {
        let bytes = numbers.iter().map(|number| {
            if is_big {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        });
        bytes.flatten().collect()
    };
    let shorts = |shorts: &[u16]| -> Vec<u8> {
        let bytes = shorts.iter().map(|short| {
            if is_big {
                short.to_be_bytes()
            } else {
                short.to_le_bytes()
            }
        });
        bytes.flatten().collect()
    };
    let mut section = numbers(&[0x1a2b_3c4d]);
    section.extend(shorts(&[1, 0]));
    section.extend([0xff; 8]);
    let mut interface = shorts(&[1, 0]);
    interface.extend(numbers(&[0]));
    interface.extend(shorts(&[9, 1]));
    interface.extend([9, 0, 0, 0]);
    interface.extend(shorts(&[0, 0]));
    let mut capture = block(0x0a0d_0d0a, &section, is_big);
    // A block of a kind that is passed over.
    capture.extend(block(4, b"names", is_big));
    capture.extend(block(1, &interface, is_big));
    for (number, packet) in (0_u64..).zip(packets) {
        let time = 3_723_000_000_000 + number * 1_000;
        let length = packet.len() as u32;
        let mut body = numbers(&[0, (time >> 32) as u32, time as u32, length, length]);
        body.extend(packet);
        capture.extend(block(6, &body, is_big));
    }
    capture
}

/// A format that is taken for another, or numbers that are.
#[test]
fn a_capture_in_pcapng_says_the_same_as_in_pcap() {
    let request = frame(r#"{"jsonrpc":"2.0","id":1,"method":"inc"}"#);
    let reply = frame(r#"{"jsonrpc":"2.0","id":1,"result":2}"#);
    let packets = [
        packet(5000, 7077, 100, 2, b""),
        packet(5000, 7077, 101, 0x10, &request),
        packet(7077, 5000, 901, 0x10, &reply),
    ];
    let folder = Folder::new();
    let file = folder.write("calls.pcap", capture(&packets));
    let classic = redial(&format!("decode {file}"));
    assert_eq!(classic.code, 0, "{classic:?}");
    for is_big in [false, true] {
        let mut bytes = capture_ng(&packets, is_big);
        let cut_off = block(6, &[0; 40], is_big);
        bytes.extend(&cut_off[..30]);
        let file = folder.write("calls.pcapng", bytes);
        let run = redial(&format!("decode {file}"));
        assert_eq!((run.code, &run.out), (0, &classic.out), "{run:?}");
    }
    let mut wrong = capture_ng(&packets, false);
    wrong[32] = 9;
    for (bytes, words) in [
        (&[10, 13, 13, 10, 0, 0][..], "no frame"),
        (&wrong, "a block of the capture has 9 bytes"),
        (
            &[10, 13, 13, 10, 28, 0, 0, 0, 1, 2, 3, 4],
            "no order of bytes",
        ),
    ] {
        let run = run_with_input(command().arg("decode"), bytes);
        assert!(run.code == 2 && run.err.contains(words), "{run:?}");
    }
}
