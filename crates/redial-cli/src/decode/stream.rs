//! One direction of a connection, taken apart into messages.

use redial_protocol::{FRAME_HEADER_BYTES, FrameDecoder};

/// The largest frame that is believed in, in bytes.
const MAX_FRAME_BYTES: usize = 128 * 1024 * 1024;

/// Something that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// When it came, in a capture.
    pub(super) at: Option<String>,
    /// From where to where, in a capture.
    pub(super) way: Option<String>,
    /// A message, or what there is in its place.
    pub(super) content: Result<Vec<u8>, String>,
}

impl Piece {
    pub(super) fn message(message: Vec<u8>) -> Self {
        Self {
            at: None,
            way: None,
            content: Ok(message),
        }
    }

    pub(super) fn problem(text: impl Into<String>) -> Self {
        Self {
            at: None,
            way: None,
            content: Err(text.into()),
        }
    }
}

/// Frames out of bytes as they come.
#[derive(Debug)]
pub(super) struct Frames {
    decoder: FrameDecoder,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come yet, and a frame begins with the first byte.
    Start,
    /// A frame may begin anywhere: bytes before are missing.
    Lost,
    /// At a frame, or within one.
    Framed,
    /// No frames come any more.
    Over,
}

impl Frames {
    pub(super) fn from_the_start() -> Self {
        Self::new(State::Start)
    }

    /// Of a connection that was there before its capture.
    pub(super) fn from_the_middle() -> Self {
        Self::new(State::Lost)
    }

    fn new(state: State) -> Self {
        Self {
            decoder: FrameDecoder::new(MAX_FRAME_BYTES),
            state,
        }
    }

    /// The messages that end in these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut input = bytes;
        match self.state {
            State::Over => return pieces,
            State::Start | State::Lost if is_tls(bytes) => {
                self.state = State::Over;
                let text = "TLS: what is encrypted can't be decoded";
                pieces.push(Piece::problem(text));
                return pieces;
            }
            State::Lost => {
                let Some(start) = frame_start(bytes) else {
                    return pieces;
                };
                if start > 0 {
                    pieces.push(Piece::problem(format!(
                        "{start} bytes passed over: the beginning of their frame is missing"
                    )));
                }
                input = &bytes[start..];
            }
            State::Start | State::Framed => {}
        }
        self.state = State::Framed;
        loop {
            match self.decoder.next_frame(&mut input) {
                Ok(Some(frame)) => pieces.push(Piece::message(frame.to_vec())),
                Ok(None) => return pieces,
                Err(error) => {
                    self.state = State::Over;
                    pieces.push(Piece::problem(format!(
                        "{error}; nothing after it can be read"
                    )));
                    return pieces;
                }
            }
        }
    }

    /// Bytes are missing from here on. Where nothing can be read any more, that changes nothing.
    pub(super) fn lose(&mut self, bytes: u32) -> Option<Piece> {
        if self.state == State::Over {
            return None;
        }
        *self = Self::from_the_middle();
        let text = format!("{bytes} bytes are missing in the capture");
        Some(Piece::problem(text))
    }

    /// What is left at the end, if that is no whole frame.
    pub(super) fn finish(&self) -> Option<Piece> {
        let (arrived, whole) = self.decoder.progress();
        let of = whole.map_or_else(String::new, |whole| {
            format!(" of {}", whole - FRAME_HEADER_BYTES)
        });
        let body = arrived.saturating_sub(FRAME_HEADER_BYTES);
        (self.state != State::Over && arrived > 0).then(|| {
            Piece::problem(format!(
                "the last frame is not whole: {body}{of} bytes of it"
            ))
        })
    }
}

/// The first record of a handshake (RFC 8446, section 5.1).
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x16, 3, 0..=4, ..])
}

/// Where a frame seems to begin: a length, and then JSON.
fn frame_start(bytes: &[u8]) -> Option<usize> {
    let is_start = |window: &[u8]| {
        let length = u32::from_be_bytes([window[0], window[1], window[2], window[3]]);
        let is_length = (2..=MAX_FRAME_BYTES as u32).contains(&length);
        is_length && matches!(window[4], b'{' | b'[')
    };
    bytes.windows(FRAME_HEADER_BYTES + 1).position(is_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Vec<u8> {
        let mut frame = (text.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    /// Bytes of which the beginning, the middle or the end is missing.
    #[test]
    fn frames_are_found_where_bytes_are_missing() {
        let message = |text: &str| Piece::message(text.as_bytes().to_vec());
        let both = [frame("{}"), frame("[1]")].concat();
        for split in 0..both.len() {
            let mut frames = Frames::from_the_start();
            let mut pieces = frames.push(&both[..split]);
            pieces.extend(frames.push(&both[split..]));
            assert_eq!(pieces, [message("{}"), message("[1]")], "{split}");
            assert_eq!(frames.finish(), None);
        }
        let mut frames = Frames::from_the_middle();
        let pieces = frames.push(&both[3..]);
        assert_eq!(pieces[1..], [message("[1]")]);
        let mut frames = Frames::from_the_start();
        assert_eq!(frames.push(&both[..8]), [message("{}")]);
        assert!(
            frames
                .finish()
                .unwrap()
                .content
                .unwrap_err()
                .contains("not whole")
        );
        assert!(frames.lose(9).unwrap().content.is_err());
        assert_eq!(frames.push(&both), [message("{}"), message("[1]")]);
    }

    /// Other protocols.
    #[test]
    fn what_is_no_frame_is_called_by_its_name() {
        for (bytes, name) in [
            (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
            (b"\x16\x03\x01\x02\x00\x01", "TLS"),
            (b"\0\0\0\0{}", "frame of 0 bytes"),
        ] {
            let mut frames = Frames::from_the_start();
            let pieces = frames.push(bytes);
            let text = pieces[0].content.as_ref().unwrap_err();
            assert!(text.contains(name), "{text}");
            assert_eq!((frames.lose(9), frames.push(bytes).len()), (None, 0));
            assert_eq!(frames.finish(), None);
        }
    }
}
