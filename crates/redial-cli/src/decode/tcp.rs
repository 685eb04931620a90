//! The streams of a capture, put together from segments that come out of order, twice, or never.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    packet::{self, LINKS, Segment},
    pcap::{self, Packet},
    pcapng,
    stream::{Frames, Piece},
};

/// How many segments wait for one that is missing, until it is given up.
const MAX_WAITING: usize = 256;

/// One direction of a connection.
struct Flow {
    frames: Frames,
    /// The number with which it began, if the capture has its beginning.
    begun: Option<u32>,
    /// The number of the next byte.
    next: u32,
    /// Segments that came before those ahead of them.
    waiting: Vec<(u32, Vec<u8>)>,
}

/// The messages of all connections, in the order in which they were whole.
pub(super) fn pieces(capture: &[u8], port: Option<u16>) -> Result<Vec<Piece>, String> {
    let packets = if pcapng::is_one(capture) {
        pcapng::packets(capture)?
    } else {
        pcap::packets(capture)?
    };
    if let Some(first) = packets.first()
        && !packet::is_known_link(first.link)
    {
        return Err(format!(
            "its packets are of link type {}; expected {LINKS}",
            first.link
        ));
    }
    let mut flows: HashMap<(SocketAddr, SocketAddr), Flow> = HashMap::new();
    let mut pieces = Vec::new();
    for packet in &packets {
        let Some(segment) = packet::segment(packet.link, packet.bytes) else {
            continue;
        };
        let ports = [segment.from.port(), segment.to.port()];
        if port.is_some_and(|port| !ports.contains(&port)) {
            continue;
        }
        let ends = (segment.from, segment.to);
        let is_known = |flow: &Flow| flow.begun == Some(segment.seq);
        if segment.is_syn && !flows.get(&ends).is_some_and(is_known) {
            // The same ports as of a connection before.
            let before = flows.insert(ends, Flow::begun(segment.seq));
            pieces.extend(before.into_iter().flat_map(|flow| flow.finish(ends)));
        }
        if segment.payload.is_empty() {
            continue;
        }
        let flow = flows
            .entry(ends)
            .or_insert_with(|| Flow::joined(segment.seq));
        pieces.extend(
            flow.push(&segment)
                .into_iter()
                .map(|piece| placed(piece, packet, ends)),
        );
    }
    let mut flows: Vec<_> = flows.into_iter().collect();
    flows.sort_by_key(|(ends, _)| *ends);
    let left = flows.into_iter().flat_map(|(ends, flow)| flow.finish(ends));
    pieces.extend(left);
    Ok(pieces)
}

fn way((from, to): (SocketAddr, SocketAddr)) -> String {
    format!("{from} -> {to}")
}

fn placed(piece: Piece, packet: &Packet<'_>, ends: (SocketAddr, SocketAddr)) -> Piece {
    let of_day = packet.at_us / 1_000_000 % 86_400;
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = packet.at_us % 1_000_000;
    let at = format!("{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}");
    Piece {
        at: Some(at),
        way: Some(way(ends)),
        ..piece
    }
}

impl Flow {
    fn begun(seq: u32) -> Self {
        let (frames, next) = (Frames::from_the_start(), seq.wrapping_add(1));
        Self {
            frames,
            begun: Some(seq),
            next,
            waiting: Vec::new(),
        }
    }

    /// The connection is older than the capture.
    fn joined(seq: u32) -> Self {
        Self {
            frames: Frames::from_the_middle(),
            begun: None,
            next: seq,
            waiting: Vec::new(),
        }
    }

    fn push(&mut self, segment: &Segment<'_>) -> Vec<Piece> {
        let first = segment.seq.wrapping_add(u32::from(segment.is_syn));
        self.waiting.push((first, segment.payload.to_vec()));
        let mut pieces = self.take_ready();
        while self.waiting.len() >= MAX_WAITING {
            pieces.extend(self.give_up());
        }
        pieces
    }

    /// The messages that end in segments of which nothing before is missing.
    fn take_ready(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let next = self.next;
            let mut waiting = self.waiting.iter();
            let Some(ready) = waiting.position(|(seq, _)| ahead(*seq, next) <= 0) else {
                return pieces;
            };
            let (seq, bytes) = self.waiting.swap_remove(ready);
            let known = ahead(next, seq) as usize;
            let new = bytes.get(known..).unwrap_or_default();
            self.next = next.wrapping_add(new.len() as u32);
            pieces.extend(self.frames.push(new));
        }
    }

    /// What is missing was not captured: goes on behind it.
    fn give_up(&mut self) -> Vec<Piece> {
        let next = self.next;
        let nearest = self.waiting.iter().map(|(seq, _)| ahead(*seq, next)).min();
        let missing = nearest.unwrap_or_default() as u32;
        self.next = next.wrapping_add(missing);
        let mut pieces: Vec<_> = self.frames.lose(missing).into_iter().collect();
        pieces.extend(self.take_ready());
        pieces
    }

    /// The end of the capture: what is missing by now won't come.
    fn finish(mut self, ends: (SocketAddr, SocketAddr)) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while !self.waiting.is_empty() {
            pieces.extend(self.give_up());
        }
        pieces.extend(self.frames.finish());
        let placed = |piece| Piece {
            way: Some(way(ends)),
            ..piece
        };
        pieces.into_iter().map(placed).collect()
    }
}

/// How far a number is ahead of another one; the numbers wrap around.
fn ahead(seq: u32, other: u32) -> i32 {
    seq.wrapping_sub(other) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(flow: &mut Flow, seq: u32, payload: &[u8]) -> Vec<Piece> {
        let end = "127.0.0.1:1".parse().unwrap();
        flow.push(&Segment {
            from: end,
            to: end,
            seq,
            is_syn: false,
            payload,
        })
    }

    /// Segments out of order, twice, overlapping, across the end of the numbers, or never there.
    #[test]
    fn a_stream_is_put_together_from_its_segments() {
        let bytes = b"\0\0\0\x02{}\0\0\0\x03[1]";
        let expected = [
            Piece::message(b"{}".to_vec()),
            Piece::message(b"[1]".to_vec()),
        ];
        let start = u32::MAX - 3;
        let at = |offset: u32| start.wrapping_add(1 + offset);
        let mut flow = Flow::begun(start);
        let mut pieces = Vec::new();
        for (from, to) in [(4, 9), (0, 2), (0, 2), (9, 13), (1, 6)] {
            pieces.extend(push(&mut flow, at(from as u32), &bytes[from..to]));
        }
        assert_eq!(pieces, expected);
        let mut flow = Flow::begun(0);
        let mut pieces = Vec::new();
        for part in 0..=MAX_WAITING {
            pieces.extend(push(&mut flow, 101 + 13 * part as u32, bytes));
        }
        assert!(
            pieces[0]
                .content
                .as_ref()
                .unwrap_err()
                .starts_with("100 bytes are missing")
        );
        assert_eq!(pieces[1..3], expected);
    }

    /// Kind: what is missing hides what is there. Instance: a segment was not captured, and few came after it.
    #[test]
    fn what_came_after_a_missing_segment_is_shown_at_the_end() {
        let bytes = b"\0\0\0\x02{}\0\0\0\x03[1]";
        let end = "127.0.0.1:1".parse().unwrap();
        let mut flow = Flow::begun(0);
        assert_eq!(push(&mut flow, 101, &bytes[..6]), []);
        assert_eq!(push(&mut flow, 201, &bytes[6..]), []);
        let pieces = flow.finish((end, end));
        let texts = pieces.iter().map(|piece| match &piece.content {
            Ok(message) => String::from_utf8_lossy(message).into_owned(),
            Err(problem) => problem.clone(),
        });
        let expected = [
            "100 bytes are missing in the capture",
            "{}",
            "94 bytes are missing in the capture",
            "[1]",
        ];
        assert_eq!(texts.collect::<Vec<_>>(), expected);
        assert!(pieces.iter().all(|piece| piece.way.is_some()));
    }
}
