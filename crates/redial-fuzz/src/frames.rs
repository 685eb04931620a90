//! The frame decoder against a model that has the whole stream before it.

use redial_protocol::{FRAME_HEADER_BYTES, FrameDecoder, FrameError};

use crate::script::Script;

/// Small, so that a fuzzer meets the limit.
const MAX_FRAME_BYTES: usize = 600;

/// What a stream holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    frames: Vec<Vec<u8>>,
    error: Option<FrameError>,
    /// How many bytes of an unfinished frame there are at the end, and how many it has in all.
    rest: (usize, Option<usize>),
}

/// Decodes the bytes after the first eight in pieces whose lengths the first eight say.
///
/// # Panics
///
/// If that gives anything else than decoding them in one go by hand.
pub fn check(data: &[u8]) {
    let mut script = Script::new(data);
    let lengths: Vec<_> = (0..8).map_while(|_| script.byte()).collect();
    let stream = script.rest();
    assert_eq!(decode(stream, &lengths), model(stream));
}

fn decode(mut stream: &[u8], lengths: &[u8]) -> Read {
    let mut decoder = FrameDecoder::new(MAX_FRAME_BYTES);
    let mut read = Read::default();
    for length in lengths.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        // 255 is for pieces that hold several frames.
        let bytes = match length {
            255 => 1500,
            _ => usize::from(*length) + 1,
        };
        let (mut piece, rest) = stream.split_at(bytes.min(stream.len()));
        stream = rest;
        loop {
            match decoder.next_frame(&mut piece) {
                Ok(Some(frame)) => read.frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    read.error = Some(error);
                    return read;
                }
            }
        }
        assert!(piece.is_empty(), "bytes were left over");
        assert_eq!(decoder.is_mid_frame(), decoder.progress().0 > 0);
    }
    read.rest = decoder.progress();
    read
}

fn model(mut stream: &[u8]) -> Read {
    let mut read = Read::default();
    while let Some((header, body)) = stream.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let length = u32::from_be_bytes(*header) as usize;
        read.error = match length {
            0 => Some(FrameError::Empty),
            _ if length > MAX_FRAME_BYTES => Some(FrameError::TooLarge {
                len_bytes: length,
                max_bytes: MAX_FRAME_BYTES,
            }),
            _ => None,
        };
        if read.error.is_some() {
            return read;
        }
        if body.len() < length {
            read.rest = (stream.len(), Some(FRAME_HEADER_BYTES + length));
            return read;
        }
        let (frame, rest) = body.split_at(length);
        read.frames.push(frame.to_vec());
        stream = rest;
    }
    read.rest = (stream.len(), None);
    read
}
