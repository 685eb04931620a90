//! What a client has not asked for: notifications and requests of the peer, and replies to calls that
//! there never were, between the replies that it waits for.

use crate::rng::Rng;

/// A value that no counter has: a caller that hears it was misled.
const VALUE: i64 = -7;

/// The body of such a message. `asked` is the id of a call that may still be in flight.
pub(super) fn draw(rng: &mut Rng, asked: Option<&str>) -> String {
    let number = rng.number(0..=999);
    let params = format!(r#""params":{{"value":{VALUE}}}"#);
    let result = format!(r#""result":{{"value":{VALUE}}}"#);
    match (rng.number(0..=4), asked) {
        (0 | 1, Some(id)) => format!(r#"{{"id":{id},"method":"news",{params}}}"#),
        (0..=2, _) => format!(r#"{{"jsonrpc":"2.0","method":"news",{params}}}"#),
        (3, _) => format!(r#"{{"jsonrpc":"2.0","id":"own-{number}","method":"news",{params}}}"#),
        _ => format!(r#"{{"id":"00000000-0000-4000-8000-000000000{number:03}",{result}}}"#),
    }
}
