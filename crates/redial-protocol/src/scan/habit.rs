//! What a peer's messages have in common: a program that has sent `{"jsonrpc":"2.0","id":…` once
//! will spell its next request in the same way, up to the id, the params and what follows them.
//! So what was read before is compared, not read.
//!
//! How far a message has been read depends on its bytes alone. Where those before the id, and those
//! from there to the params, are the same as in a message that was scanned, scanning would have
//! come to the same point with the same members in hand.

use std::borrow::Cow;

use super::{after_structure, between, depth_of, eat, read_meta};
use crate::{
    id::{Id, IdPrefixCache},
    message::{Dialect, Request},
    meta::RequestMeta,
};

/// What is remembered of a message at the most, in bytes. A longer one is read in full.
const ROOM_BYTES: usize = 112;

/// How the latest request of the usual shape was spelled: one with a UUID for its id, then the
/// method, then params.
#[derive(Clone, Debug)]
pub(crate) struct RequestTemplate {
    /// What stood before the id, and behind that what stood between the id and the params.
    bytes: [u8; ROOM_BYTES],
    id_at: u8,
    /// 0 if nothing is remembered.
    len: u8,
    /// Where the method's name begins in what followed the id, and where it ends.
    method: (u8, u8),
    dialect: Dialect,
    id_start: IdPrefixCache,
}

impl Default for RequestTemplate {
    fn default() -> Self {
        Self {
            bytes: [0; ROOM_BYTES],
            id_at: 0,
            len: 0,
            method: (0, 0),
            dialect: Dialect::JsonRpc2,
            id_start: IdPrefixCache::default(),
        }
    }
}

impl RequestTemplate {
    /// A request that is spelled as the one that is remembered; `None` leaves it to others.
    #[inline(always)]
    pub(crate) fn request<'a>(&mut self, text: &'a str, max_depth: usize) -> Option<Request<'a>> {
        if self.len == 0 {
            return None;
        }
        let depth = depth_of(max_depth)?;
        let (head, middle) = self.bytes[..self.len.into()].split_at(self.id_at.into());
        let value = text.as_bytes().strip_prefix(head)?;
        let ([b'"', uuid @ .., b'"'], after_id) = value.split_at_checked(38)? else {
            return None;
        };
        let uuid = self.id_start.read(uuid.first_chunk()?)?;
        let id = Id::scanned_uuid(between(text, value, after_id), uuid);
        let value = after_id.strip_prefix(middle)?;
        let rest = after_structure(value, depth)?;
        let params = between(text, value, rest);
        let (meta, rest) = match eat(rest, r#","redial":"#) {
            Some(value) => read_meta(text, value)?,
            None => (RequestMeta::default(), rest),
        };
        if rest != b"}" {
            return None;
        }
        let method_at = text.len() - after_id.len();
        let [from, to] = [self.method.0, self.method.1].map(|at| method_at + usize::from(at));
        // Made where it is wanted, not made and then put there: it is large.
        Some(Request {
            dialect: self.dialect,
            id: Some(id),
            method: Cow::Borrowed(&text[from..to]),
            params: Some(params),
            meta,
        })
    }

    /// Remembers how a request was spelled that has been scanned, if others may be spelled like it.
    pub(crate) fn learn(&mut self, text: &str, scanned: &Request<'_>, max_depth: usize) {
        self.len = 0;
        let learnt = self.try_learn(text, scanned);
        // What followed the params must be nothing but what is looked for there.
        if learnt.is_none() || self.request(text, max_depth).is_none() {
            self.len = 0;
        }
    }

    fn try_learn(&mut self, text: &str, scanned: &Request<'_>) -> Option<()> {
        let id = scanned.id.filter(|id| id.is_known_uuid())?;
        let (id_at, id_end) = range(text, id.raw());
        let (method_at, method_end) = range(text, &scanned.method);
        let (params_at, _) = range(text, scanned.params?);
        let (head, middle) = (&text[..id_at], text.get(id_end..params_at)?);
        // A second one would have to be refused.
        let is_clear = !middle.contains(r#""redial""#) && !head.contains(r#""redial""#);
        if !is_clear || method_at < id_end || method_end > params_at {
            return None;
        }
        let room = self.bytes.get_mut(..head.len() + middle.len())?;
        room[..id_at].copy_from_slice(head.as_bytes());
        room[id_at..].copy_from_slice(middle.as_bytes());
        let small = |at: usize| u8::try_from(at).ok();
        self.method = (small(method_at - id_end)?, small(method_end - id_end)?);
        self.id_at = small(id_at)?;
        self.dialect = scanned.dialect;
        self.len = small(room.len())?;
        Some(())
    }
}

/// Where a part of a text begins and ends.
fn range(text: &str, part: &str) -> (usize, usize) {
    let from = part.as_ptr().addr() - text.as_ptr().addr();
    (from, from + part.len())
}
