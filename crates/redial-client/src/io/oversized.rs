//! Frames that are larger than the client takes: they are passed over, and each ends the one call that
//! it answers.

use redial_protocol::{FrameDecoder, FrameError, MessageEnds, OversizedFrame};

use super::decode::Addressee;
use crate::{
    config::Config,
    mux::{
        control::HelloReply,
        link_auth::AuthReply,
        replies::{PeerRequest, Replies, ServerMessage},
    },
};

/// The frame of one connection that is being passed over, if there is one.
pub(super) struct Oversized {
    max_skipped_frame_bytes: usize,
    /// It, and what is wrong with it.
    frame: Option<(OversizedFrame, FrameError)>,
}

impl Oversized {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            max_skipped_frame_bytes: config.max_skipped_frame_bytes,
            frame: None,
        }
    }

    /// Whether a frame has begun and has not ended.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Begins to pass over the frame that the decoder refused.
    ///
    /// # Errors
    ///
    /// What is wrong with it, if it can't be passed over.
    pub(super) fn begin(
        &mut self,
        error: FrameError,
        decoder: &mut FrameDecoder,
        input: &mut &[u8],
        replies: &mut Replies,
    ) -> Result<(), FrameError> {
        match error {
            FrameError::TooLarge { len_bytes, .. } if len_bytes <= self.max_skipped_frame_bytes => {
                decoder.skip_header(input);
                self.frame = Some((OversizedFrame::new(len_bytes), error));
                self.skip(input, replies);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Passes over what has arrived of such a frame. At its end it is known what it was.
    pub(super) fn skip(&mut self, input: &mut &[u8], replies: &mut Replies) {
        if let Some((frame, error)) = &mut self.frame
            && frame.skip(input)
        {
            replies.push(read(frame, *error));
            self.frame = None;
        }
    }
}

fn read(frame: &OversizedFrame, error: FrameError) -> ServerMessage {
    let (id, is_result) = match frame.ends() {
        Some(MessageEnds::Result { id }) => (id, true),
        Some(MessageEnds::Error { id }) => (id, false),
        Some(MessageEnds::Request { dialect, id }) => {
            return ServerMessage::Request(PeerRequest { dialect, id });
        }
        None => {
            let text = format!("{error}, and neither end of it says which call it answers");
            return ServerMessage::Unusable(text);
        }
    };
    match Addressee::of(&id) {
        Addressee::Call(id) => ServerMessage::OversizedReply {
            id,
            error,
            is_result,
        },
        Addressee::Hello(serial) => ServerMessage::Hello(serial, HelloReply::TooLarge(error)),
        Addressee::Auth(serial) => ServerMessage::Auth(serial, AuthReply::Invalid),
        Addressee::Ping => ServerMessage::Pong,
        Addressee::Unknown => ServerMessage::Unmatched,
    }
}
