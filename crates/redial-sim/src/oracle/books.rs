//! The record, sorted by call and by connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    journal::{Ack, Change, End, Event, Frame, Invocation, Method, numbered},
    world::Run,
};

/// A place in the record: earlier means before, also within one moment.
pub(super) type Place = usize;

/// All that is known of one call.
#[derive(Default)]
pub(super) struct Account {
    pub(super) method: Option<Method>,
    pub(super) waits: Vec<Wait>,
    /// When its handler began.
    pub(super) begun: Vec<Happening>,
    pub(super) finished: Vec<Happening>,
    pub(super) effects: Vec<(Happening, Change)>,
    /// The ids that it was sent under.
    pub(super) ids: BTreeSet<String>,
    /// Some id of it is of no session.
    pub(super) is_plain: bool,
    /// Where the first copy was let through that its client did not send.
    pub(super) copied: Option<Place>,
    /// Where it was seen first.
    pub(super) seen: Option<Place>,
}

/// A caller's wait.
pub(super) struct Wait {
    pub(super) what: Invocation,
    pub(super) from: Happening,
    pub(super) end: Option<(Happening, End)>,
}

impl Wait {
    /// Its end was before that place.
    pub(super) fn is_over_at(&self, place: Place) -> bool {
        self.end.as_ref().is_some_and(|(end, _)| end.place < place)
    }
}

/// Where in the record, when, and in which life of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happening {
    pub(super) place: Place,
    pub(super) at: Duration,
    pub(super) life: u32,
}

/// The whole record.
#[derive(Default)]
pub(super) struct Books {
    pub(super) calls: BTreeMap<u32, Account>,
    /// Which calls an id was used for.
    pub(super) tags: BTreeMap<String, BTreeSet<u32>>,
    /// Which calls were asked for under an id on a connection.
    pub(super) asked: BTreeMap<(u32, String), BTreeSet<u32>>,
    /// Which call a question on a connection was about.
    pub(super) about: BTreeMap<(u32, String), String>,
    /// Every request, in order.
    pub(super) requests: Vec<(Place, Duration, Arc<Frame>)>,
    /// When a connection was over.
    pub(super) over: BTreeMap<u32, Duration>,
    /// Ids of which the server says that it has lost a request or a reply on purpose.
    pub(super) lost: BTreeSet<String>,
    /// How long the world lasted.
    pub(super) lasted: Duration,
    /// What clients acknowledged, and where.
    pub(super) acks: Vec<(Place, Ack)>,
    pub(super) replies: Vec<(Place, Arc<Frame>)>,
    pub(super) ttl: Duration,
}

impl Account {
    pub(super) fn is_query(&self) -> bool {
        self.method == Some(Method::Get)
    }
}

impl Books {
    pub(super) fn new(run: &Run) -> Self {
        let mut books = Self {
            ttl: run.ttl,
            lasted: run.lasted,
            ..Self::default()
        };
        for (place, entry) in run.entries.iter().enumerate() {
            let when = |life| Happening {
                place,
                at: entry.at,
                life,
            };
            books.enter(when, &entry.event);
            match &entry.event {
                Event::Sent(frame) => books.requests.push((place, entry.at, frame.clone())),
                Event::Over { wire } => drop(books.over.insert(*wire, entry.at)),
                _ => {}
            }
        }
        books
    }

    fn call(&mut self, tag: u32, place: Place) -> &mut Account {
        let account = self.calls.entry(tag).or_default();
        account.seen.get_or_insert(place);
        account
    }

    fn enter(&mut self, when: impl Fn(u32) -> Happening, event: &Event) {
        let place = when(0).place;
        match event {
            Event::Remark(_) | Event::Over { .. } => {}
            Event::Invoked(what) => {
                let account = self.call(what.tag, place);
                account.method = Some(what.method);
                account.waits.push(Wait {
                    what: *what,
                    from: when(0),
                    end: None,
                });
            }
            Event::Ended { op, tag, end } => {
                let mut waits = self.call(*tag, place).waits.iter_mut();
                if let Some(wait) = waits.find(|wait| wait.what.op == *op) {
                    wait.end = Some((when(0), end.clone()));
                }
            }
            Event::Sent(frame) => self.sent(place, frame),
            Event::Answered(frame) => self.replies.push((place, frame.clone())),
            Event::Server { what, id, .. } => {
                let id = id.as_deref().unwrap_or_default();
                match what.as_str() {
                    "Duplicated" => self.duplicated(place, id),
                    "RequestDropped" | "ReplyDropped" => drop(self.lost.insert(id.to_owned())),
                    _ => {}
                }
            }
            Event::Began { tag, life } => self.call(*tag, place).begun.push(when(*life)),
            Event::Finished { tag, life } => self.call(*tag, place).finished.push(when(*life)),
            Event::Effect { tag, life, change } => {
                let effects = &mut self.call(*tag, place).effects;
                effects.push((when(*life), *change));
            }
        }
    }

    fn sent(&mut self, place: Place, frame: &Frame) {
        if let Some(ack) = frame.ack.as_ref().filter(|_| !frame.is_copy) {
            self.acks.push((place, ack.clone()));
        }
        if let (Some(about), Some(id)) = (&frame.about, &frame.id) {
            let question = (frame.wire, id.clone());
            self.about.insert(question, about.clone());
        }
        let (Some(tag), Some(id)) = (frame.tag, &frame.id) else {
            return;
        };
        let method = frame.method.as_deref().and_then(Method::named);
        let account = self.call(tag, place);
        account.method = account.method.or(method);
        account.ids.insert(id.clone());
        account.is_plain |= numbered(id).is_none();
        if frame.is_copy {
            account.copied.get_or_insert(place);
        }
        self.tags.entry(id.clone()).or_default().insert(tag);
        let asked = self.asked.entry((frame.wire, id.clone())).or_default();
        asked.insert(tag);
    }

    fn duplicated(&mut self, place: Place, id: &str) {
        for tag in self.tags.get(id).cloned().unwrap_or_default() {
            self.call(tag, place).copied.get_or_insert(place);
        }
    }
}
