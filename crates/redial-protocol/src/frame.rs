//! Frames: a 4-byte big-endian length N, then N bytes, with 1 <= N <= `max_frame_bytes`.
//!
//! The decoder takes the bytes in any split. A frame that lies whole in the input is handed out
//! from where it lies; one that was split is gathered in a buffer that grows as bytes arrive and
//! is never more than 64 KiB ahead of them, so that a header alone costs nothing.

use thiserror::Error;

/// The size of a frame's header, in bytes.
pub const FRAME_HEADER_BYTES: usize = 4;

/// How far the gathering buffer may be allocated ahead of the bytes that have arrived.
const MAX_AHEAD_BYTES: usize = 64 * 1024;

/// A gathering buffer that grew beyond this is freed after its frame: a connection that once received
/// a large frame should not go on paying for it.
const KEEP_BYTES: usize = 1024;

/// A length that no frame may have. The stream can't be resynchronised after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is 0.
    #[error("frame of 0 bytes; expected 1 or more")]
    Empty,
    /// The length is over the limit.
    #[error(
        "frame of {len_bytes} bytes; at most {max_bytes} are allowed{}",
        foreign(*len_bytes)
    )]
    TooLarge {
        /// The length that was announced or about to be written, in bytes.
        len_bytes: usize,
        /// The limit in force, in bytes.
        max_bytes: usize,
    },
}

/// What a length is that belongs to another protocol.
fn foreign(len_bytes: usize) -> &'static str {
    let bytes = u32::try_from(len_bytes).map(u32::to_be_bytes);
    match bytes {
        _ if is_http(len_bytes) => {
            " (these are the first bytes of an HTTP request, and this is not an HTTP port)"
        }
        Ok([b'H', b'T', b'T', b'P']) => {
            " (these are the first bytes of an HTTP response: its port is not one of ours)"
        }
        // An alert, or a handshake (RFC 8446, section 5.1).
        Ok([0x15 | 0x16, 3, 0..=4, _]) => {
            " (these are the first bytes of TLS: only one of the two ends speaks it)"
        }
        _ => "",
    }
}

/// Whether a length is the first four letters of an HTTP request (RFC 9110, RFC 5789; the last is the
/// preface of RFC 9113).
fn is_http(len_bytes: usize) -> bool {
    const METHODS: [&[u8; FRAME_HEADER_BYTES]; 10] = [
        b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI ",
    ];
    let is =
        |letters: &[u8; FRAME_HEADER_BYTES]| u32::from_be_bytes(*letters) as usize == len_bytes;
    METHODS.into_iter().any(is)
}

/// Splits a stream of bytes into frames.
///
/// ```
/// use redial_protocol::FrameDecoder;
///
/// let mut decoder = FrameDecoder::new(1024);
/// let mut first = &b"\0\0\0\x05he"[..];
/// assert_eq!(decoder.next_frame(&mut first)?, None);
/// assert!(decoder.is_mid_frame());
/// let mut second = &b"llo\0\0\0\x02hi"[..];
/// assert_eq!(decoder.next_frame(&mut second)?, Some(&b"hello"[..]));
/// assert_eq!(decoder.next_frame(&mut second)?, Some(&b"hi"[..]));
/// assert_eq!(decoder.next_frame(&mut second)?, None);
/// # Ok::<(), redial_protocol::FrameError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    max_frame_bytes: usize,
    /// Header and body of a frame that did not arrive in one piece.
    partial: Vec<u8>,
    /// `partial` holds a frame that has been handed out.
    handed_out: bool,
}

impl FrameDecoder {
    /// A decoder that refuses frames over `max_frame_bytes`. It allocates nothing yet.
    #[must_use]
    pub fn new(max_frame_bytes: usize) -> Self {
        Self {
            max_frame_bytes,
            partial: Vec::new(),
            handed_out: false,
        }
    }

    /// Takes the next whole frame off the front of `input`, or everything there is if the frame
    /// isn't whole yet (`None`). Call it until it gives `None`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a length of 0 or over the limit. Nothing has been allocated for it,
    /// and the decoder is of no further use, unless the frame is passed over
    /// ([`skip_header`](Self::skip_header)).
    pub fn next_frame<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<&'a [u8]>, FrameError> {
        self.forget_handed_out();
        if self.partial.is_empty()
            && let Some(len_bytes) = self.whole_frame_in(input)?
        {
            let (frame, rest) = input[FRAME_HEADER_BYTES..].split_at(len_bytes);
            *input = rest;
            return Ok(Some(frame));
        }
        self.gather(input)
    }

    /// Takes the header that was refused off the front of `input`: its body begins there, to be passed
    /// over by the caller ([`OversizedFrame`](crate::OversizedFrame)), and the next frame behind that.
    pub fn skip_header(&mut self, input: &mut &[u8]) {
        // Whatever of it came before has been gathered, and of this frame nothing else.
        let gathered = self.partial.len();
        *input = &input[FRAME_HEADER_BYTES.saturating_sub(gathered)..];
        self.partial.clear();
    }

    /// Whether a frame has begun and has not ended.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.handed_out && !self.partial.is_empty()
    }

    /// How many bytes of the unfinished frame have arrived, and how many it has in all, both with
    /// the header; the latter is `None` until the header is complete.
    #[must_use]
    pub fn progress(&self) -> (usize, Option<usize>) {
        if !self.is_mid_frame() {
            return (0, None);
        }
        (
            self.partial.len(),
            announced(&self.partial).map(|len| FRAME_HEADER_BYTES + len),
        )
    }

    fn forget_handed_out(&mut self) {
        if self.handed_out {
            self.handed_out = false;
            self.partial.clear();
            if self.partial.capacity() > KEEP_BYTES {
                self.partial = Vec::new();
            }
        }
    }

    fn check(&self, len_bytes: usize) -> Result<usize, FrameError> {
        match len_bytes {
            0 => Err(FrameError::Empty),
            _ if len_bytes > self.max_frame_bytes => Err(FrameError::TooLarge {
                len_bytes,
                max_bytes: self.max_frame_bytes,
            }),
            _ => Ok(len_bytes),
        }
    }

    /// The length of the frame at the front of `input`, if all of it lies there.
    fn whole_frame_in(&self, input: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(announced) = announced(input) else {
            return Ok(None);
        };
        let len_bytes = self.check(announced)?;
        Ok(Some(len_bytes).filter(|len_bytes| input.len() - FRAME_HEADER_BYTES >= *len_bytes))
    }

    fn gather(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, FrameError> {
        self.take(input, FRAME_HEADER_BYTES);
        let Some(announced) = announced(&self.partial) else {
            return Ok(None);
        };
        let whole = FRAME_HEADER_BYTES + self.check(announced)?;
        self.take(input, whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(Some(&self.partial[FRAME_HEADER_BYTES..]))
    }

    /// Moves bytes from `input` to `partial` until that holds `until` bytes.
    fn take(&mut self, input: &mut &[u8], until: usize) {
        let missing = until.saturating_sub(self.partial.len());
        let (now, rest) = input.split_at(missing.min(input.len()));
        if self.partial.capacity() - self.partial.len() < now.len() {
            self.partial
                .reserve_exact(missing.min(now.len().max(MAX_AHEAD_BYTES)));
        }
        self.partial.extend_from_slice(now);
        *input = rest;
    }
}

/// The length in a complete header.
fn announced(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    Some(u32::from_be_bytes(*header) as usize)
}

/// Appends one frame to `out`, its body written by `body`.
///
/// ```
/// let mut out = Vec::new();
/// redial_protocol::write_frame(&mut out, 1024, |out| out.extend_from_slice(b"{}"))?;
/// assert_eq!(out, b"\0\0\0\x02{}");
/// # Ok::<(), redial_protocol::FrameError>(())
/// ```
///
/// # Errors
///
/// [`FrameError`] if the body is empty or longer than `max_frame_bytes`; `out` is then as it was.
pub fn write_frame(
    out: &mut Vec<u8>,
    max_frame_bytes: usize,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    body(out);
    let len_bytes = out.len() - start - FRAME_HEADER_BYTES;
    let max_bytes = max_frame_bytes.min(u32::MAX as usize);
    if len_bytes == 0 || len_bytes > max_bytes {
        out.truncate(start);
        return Err(match len_bytes {
            0 => FrameError::Empty,
            _ => FrameError::TooLarge {
                len_bytes,
                max_bytes,
            },
        });
    }
    let header = u32::try_from(len_bytes)
        .expect("checked against u32::MAX above")
        .to_be_bytes();
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(decoder: &mut FrameDecoder, mut input: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut found = Vec::new();
        while let Some(frame) = decoder.next_frame(&mut input)? {
            found.push(frame.to_vec());
        }
        assert!(input.is_empty(), "the decoder left bytes in the input");
        Ok(found)
    }

    #[test]
    fn length_zero_is_refused() {
        assert_eq!(
            frames(&mut FrameDecoder::new(8), &[0; 4]),
            Err(FrameError::Empty)
        );
    }

    #[test]
    fn length_over_the_limit_is_refused_before_anything_is_allocated_for_it() {
        let mut decoder = FrameDecoder::new(8);
        assert_eq!(frames(&mut decoder, &[0xff, 0xff]), Ok(vec![]));
        assert_eq!(
            frames(&mut decoder, &[0xff, 0xff]),
            Err(FrameError::TooLarge {
                len_bytes: u32::MAX as usize,
                max_bytes: 8
            })
        );
        assert!(decoder.partial.capacity() <= MAX_AHEAD_BYTES);
    }

    #[test]
    fn what_speaks_another_protocol_hears_which() {
        let error_of = |start: &[u8]| {
            let error = frames(&mut FrameDecoder::new(1 << 20), start).unwrap_err();
            error.to_string()
        };
        for start in ["GET / HTTP/1.1", "POST / HTTP/1.1", "PRI * HTTP/2.0"] {
            let text = error_of(start.as_bytes());
            assert!(
                text.ends_with(
                    "(these are the first bytes of an HTTP request, and this is not an HTTP port)"
                ),
                "{text}"
            );
        }
        let answer = error_of(b"HTTP/1.1 400 Bad Request");
        assert!(
            answer.contains("the first bytes of an HTTP response"),
            "{answer}"
        );
        for tls in [b"\x16\x03\x01\x02\x00", b"\x15\x03\x03\x00\x02"] {
            let text = error_of(tls);
            assert!(text.contains("the first bytes of TLS"), "{text}");
        }
        assert_eq!(
            error_of(b"GOT /"),
            "frame of 1196381216 bytes; at most 1048576 are allowed"
        );
    }

    #[test]
    fn a_frame_that_is_passed_over_is_followed_by_the_next_in_any_split() {
        let wire = b"\0\0\0\x02ok\0\0\0\x09123456789\0\0\0\x02go";
        for first in 0..wire.len() {
            let mut decoder = FrameDecoder::new(8);
            let (mut found, mut left) = (Vec::new(), 0);
            for mut input in [&wire[..first], &wire[first..]] {
                loop {
                    let skipped = left.min(input.len());
                    (input, left) = (&input[skipped..], left - skipped);
                    match decoder.next_frame(&mut input) {
                        Ok(Some(frame)) => found.push(frame.to_vec()),
                        Ok(None) => break,
                        Err(_) => {
                            decoder.skip_header(&mut input);
                            left = 9;
                        }
                    }
                }
            }
            assert_eq!(found, [b"ok", b"go"], "split at {first}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn a_header_alone_costs_at_most_what_may_be_ahead() {
        let mut decoder = FrameDecoder::new(1 << 30);
        let header = (1u32 << 30).to_be_bytes();
        assert_eq!(frames(&mut decoder, &header), Ok(vec![]));
        assert_eq!(frames(&mut decoder, b"x"), Ok(vec![]));
        assert!(decoder.partial.capacity() <= MAX_AHEAD_BYTES + FRAME_HEADER_BYTES);
        assert_eq!(decoder.progress(), (5, Some((1 << 30) + 4)));
    }

    #[test]
    fn the_buffer_of_a_large_frame_is_freed() {
        let mut wire = Vec::new();
        write_frame(&mut wire, 1 << 20, |out| {
            out.resize(out.len() + 100_000, b' ')
        })
        .unwrap();
        let mut decoder = FrameDecoder::new(1 << 20);
        assert_eq!(frames(&mut decoder, &wire[..50]).unwrap().len(), 0);
        assert_eq!(frames(&mut decoder, &wire[50..]).unwrap().len(), 1);
        assert!(decoder.partial.capacity() <= KEEP_BYTES);
        assert!(!decoder.is_mid_frame());
    }

    #[test]
    fn a_body_that_does_not_fit_leaves_the_output_as_it_was() {
        let mut out = b"before".to_vec();
        let too_large = write_frame(&mut out, 2, |out| out.extend_from_slice(b"abc"));
        assert_eq!(
            too_large,
            Err(FrameError::TooLarge {
                len_bytes: 3,
                max_bytes: 2
            })
        );
        assert_eq!(write_frame(&mut out, 2, |_| ()), Err(FrameError::Empty));
        assert_eq!(out, b"before");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_split_gives_the_same_frames(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            splits in prop::collection::vec(0usize..200, 0..12),
        ) {
            let mut wire = Vec::new();
            for body in &bodies {
                write_frame(&mut wire, 64, |out| out.extend_from_slice(body)).unwrap();
            }
            let mut cuts: Vec<usize> = splits.iter().map(|at| at % (wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let mut decoder = FrameDecoder::new(64);
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                found.extend(frames(&mut decoder, &wire[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(found, bodies);
            prop_assert!(!decoder.is_mid_frame());
        }
    }
}
