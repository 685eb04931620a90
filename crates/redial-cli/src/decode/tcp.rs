//! The streams of a capture, put together from segments that come out of order, twice, or never.

use std::{collections::HashMap, net::SocketAddr};

use super::{
    packet::{self, LINKS, Segment},
    pcap::{self, Packet},
    stream::{Frames, Piece},
};

/// How many segments wait for one that is missing, until it is given up.
const MAX_WAITING: usize = 256;

/// One direction of a connection.
struct Flow {
    frames: Frames,
    /// The number of the next byte.
    next: u32,
    /// Segments that came before those ahead of them.
    waiting: Vec<(u32, Vec<u8>)>,
}

/// The messages of all connections, in the order in which they were whole.
pub(super) fn pieces(capture: &[u8], port: Option<u16>) -> Result<Vec<Piece>, String> {
    let packets = pcap::packets(capture)?;
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
        if segment.is_syn {
            flows.insert(ends, Flow::begun(segment.seq));
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
    let mut ends: Vec<_> = flows.iter().collect();
    ends.sort_by_key(|(ends, _)| **ends);
    for (ends, flow) in ends {
        let left = flow.frames.finish();
        pieces.extend(left.map(|piece| Piece {
            way: Some(way(*ends)),
            ..piece
        }));
    }
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
            next,
            waiting: Vec::new(),
        }
    }

    /// The connection is older than the capture.
    fn joined(seq: u32) -> Self {
        Self {
            frames: Frames::from_the_middle(),
            next: seq,
            waiting: Vec::new(),
        }
    }

    fn push(&mut self, segment: &Segment<'_>) -> Vec<Piece> {
        let first = segment.seq.wrapping_add(u32::from(segment.is_syn));
        self.waiting.push((first, segment.payload.to_vec()));
        let mut pieces = Vec::new();
        loop {
            let next = self.next;
            let ready = self
                .waiting
                .iter()
                .position(|(seq, _)| ahead(*seq, next) <= 0);
            if let Some(ready) = ready {
                let (seq, bytes) = self.waiting.swap_remove(ready);
                let known = ahead(next, seq) as usize;
                let new = bytes.get(known..).unwrap_or_default();
                self.next = next.wrapping_add(new.len() as u32);
                pieces.extend(self.frames.push(new));
                continue;
            }
            if self.waiting.len() < MAX_WAITING {
                return pieces;
            }
            // What is missing was not captured.
            let nearest = self.waiting.iter().map(|(seq, _)| ahead(*seq, next)).min();
            let missing = nearest.unwrap_or_default() as u32;
            self.next = next.wrapping_add(missing);
            pieces.push(self.frames.lose(missing));
        }
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
}
