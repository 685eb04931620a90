//! What one read brought, between the frames that it was and the calls that it is for.

use redial_protocol::{ErrorObject, ReplyMeta};
use uuid::Uuid;

use super::standing::Welcome;
use crate::json::Json;

/// The replies of one read, in their order.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    pub(super) list: Vec<Decoded>,
    /// The short results, one behind another: from here each is written to where its call finds it.
    /// A value as large as that is dear to move just after it was written.
    pub(super) texts: Vec<u8>,
}

/// What a frame from the server turned out to be.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// A result without anything beside it. So many bytes, the next of the short ones.
    Short { id: Uuid, len_bytes: usize },
    /// A reply to a call.
    Reply {
        id: Uuid,
        outcome: Result<Json, ErrorObject>,
        meta: ReplyMeta,
    },
    /// A reply to a call that is no outcome.
    Malformed { id: Uuid, detail: String },
    /// The reply to a hello, by its serial number.
    Hello(u64, Welcome),
    /// The reply to a ping.
    Pong,
    /// An error about no call in particular.
    Complaint(ErrorObject),
    /// A reply with an id that this client doesn't make.
    Foreign,
}

impl Replies {
    pub(crate) fn push(&mut self, reply: Decoded) {
        self.list.push(reply);
    }

    /// A result that is short and has nothing beside it, as most have.
    pub(crate) fn push_short(&mut self, id: Uuid, result: &[u8]) {
        let len_bytes = result.len();
        self.texts.extend_from_slice(result);
        self.list.push(Decoded::Short { id, len_bytes });
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.texts.clear();
    }
}

#[cfg(test)]
impl Replies {
    /// The results, and what they answer.
    pub(crate) fn results(&mut self) -> Vec<(Uuid, Vec<u8>)> {
        let mut texts = std::mem::take(&mut self.texts).into_iter();
        let result = |reply| match reply {
            Decoded::Short { id, len_bytes } => (id, texts.by_ref().take(len_bytes).collect()),
            Decoded::Reply {
                id,
                outcome: Ok(result),
                ..
            } => (id, result.get().to_vec()),
            other => panic!("{other:?} is no result"),
        };
        self.list.drain(..).map(result).collect()
    }
}

#[cfg(test)]
impl<const N: usize> From<[Decoded; N]> for Replies {
    fn from(list: [Decoded; N]) -> Self {
        Self {
            list: list.into(),
            texts: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mux::{
        Outgoing,
        tests::{mux, send, write_all},
    };

    proptest! {
        /// What calls were answered, and everything else there is to know, to calls that wait and to
        /// some that don't, answered once or twice.
        #[test]
        fn a_short_result_is_delivered_as_any_other(
            replies in prop::collection::vec((1..9u128, "[0-9]{1,46}", any::<bool>()), 0..12),
        ) {
            let all = [false, true].map(|may_be_short| {
                let (mut mux, now) = mux(crate::Config::default());
                (1..6).for_each(|n| drop(send(&mut mux, n, now)));
                write_all(&mut mux, 0, &mut Outgoing::default());
                send(&mut mux, 6, now);
                let mut list = Replies::default();
                for (n, text, is_short) in &replies {
                    let (id, text) = (Uuid::from_u128(*n), text.as_bytes());
                    match *is_short && may_be_short {
                        true => list.push_short(id, text),
                        false => list.push(Decoded::Reply {
                            id,
                            outcome: Ok(text.into()),
                            meta: ReplyMeta::default(),
                        }),
                    }
                }
                mux.deliver(0, &mut list, now).unwrap();
                assert!(list.list.is_empty() && list.texts.is_empty());
                (mux, now)
            });
            let [plain, short] = all.map(|(mux, now)| {
                format!("{mux:?}").replace(&format!("{now:?}"), "now")
            });
            prop_assert_eq!(plain, short);
        }
    }
}
