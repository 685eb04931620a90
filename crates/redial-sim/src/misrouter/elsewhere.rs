//! One attempt that is made at another address, under the same number in a session of its own there.

use redial_client::Connector;
use redial_protocol::FrameDecoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Inbox, MAX_FRAME_BYTES, routes::renamed};
use crate::{
    caller::Dialer,
    journal::numbered,
    net::{Wire, tap::framed},
};

/// Sends the request, and gives the client the reply as if it had come to the id that the client knows.
pub(super) async fn ask(dialer: Dialer, request: Value, inbox: Inbox) {
    // What fails here is as lost as any attempt may be.
    let _ = exchange(&dialer, request, &inbox).await;
}

async fn exchange(dialer: &Dialer, request: Value, inbox: &Inbox) -> Option<()> {
    let id = request["id"].to_string();
    let (own, _) = numbered(&id)?;
    let mut io = dialer.connect().await.ok()?;
    let mut frames = FrameDecoder::new(MAX_FRAME_BYTES);
    let hello = json!({"jsonrpc": "2.0", "id": "elsewhere", "method": "rpc.hello"});
    io.write_all(&framed(hello.to_string().as_bytes()))
        .await
        .ok()?;
    let answer = reply(&mut io, &mut frames, "elsewhere").await?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    let session = answer["result"]["session"].as_str()?.to_owned();
    let text = renamed(&request.to_string(), &own, &session);
    io.write_all(&framed(text.as_bytes())).await.ok()?;
    let id = renamed(&id, &own, &session);
    let answer = reply(&mut io, &mut frames, id.trim_matches('"')).await?;
    inbox.push(renamed(&answer, &session, &own).as_bytes());
    Some(())
}

/// The reply to this id.
async fn reply(io: &mut Wire, frames: &mut FrameDecoder, id: &str) -> Option<String> {
    let mut chunk = [0; 4096];
    loop {
        let count = io.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        let mut input = &chunk[..count];
        while let Ok(Some(frame)) = frames.next_frame(&mut input) {
            let message: Value = serde_json::from_slice(frame).unwrap_or_default();
            let is_its = message["id"] == id && message["method"].is_null();
            if is_its {
                return Some(String::from_utf8_lossy(frame).into_owned());
            }
        }
    }
}
