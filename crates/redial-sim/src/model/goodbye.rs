//! How the model server shuts down: it reads nothing more, answers what it has read, and says so in
//! its last word to those who said hello.

use redial_protocol::{Dialect, RequestMeta, rpc, write_frame, write_request};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Duration, timeout},
};

use super::{MAX_FRAME_BYTES, Model};
use crate::{bug::Bug, net::Wire};

const LAST: &[u8] = br#"{"last":true}"#;

/// Waits until the server shuts down.
pub(super) async fn is_due(closing: &mut watch::Receiver<bool>) {
    // The sender lives as long as the server.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}

impl Model {
    /// Ends once everything is answered, or after this time, without a last word where some is not.
    pub(crate) async fn shut_down(&self, at_most: Duration) {
        self.0.closing.send_replace(true);
        // Nothing is left to be done once nothing listens any more.
        let _ = timeout(at_most, self.0.closing.closed()).await;
        self.kill();
    }

    /// Sends the replies that are still owed, and the last word. The channel ends with the last
    /// request that waits for a reply.
    pub(super) async fn say_goodbye(
        &self,
        wire: &mut Wire,
        replies: &mut UnboundedReceiver<Vec<u8>>,
        said_hello: Option<Dialect>,
    ) {
        while self.0.bug != Some(Bug::LastTooEarly)
            && let Some(reply) = replies.recv().await
        {
            if wire.write_all(&reply).await.is_err() {
                return;
            }
        }
        let Some(dialect) = said_hello else {
            return;
        };
        let mut frame = Vec::new();
        let meta = RequestMeta::default();
        write_frame(&mut frame, MAX_FRAME_BYTES, |out| {
            write_request(out, dialect, None, rpc::GOAWAY, Some(LAST), &meta);
        })
        .expect("it is short");
        // The connection may be gone.
        let _ = wire.write_all(&frame).await;
    }
}
