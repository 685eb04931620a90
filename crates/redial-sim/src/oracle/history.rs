//! The journal, indexed by call and by connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    journal::{Ack, Change, End, Event, Frame, Frozen, Invocation, Method, SHUT_DOWN, numbered},
    world::Run,
};

/// A position in the journal: it orders events of the same instant, too.
pub(super) type Position = usize;

/// Everything that happened to one call.
#[derive(Default)]
pub(super) struct CallHistory {
    pub(super) method: Option<Method>,
    pub(super) waits: Vec<Wait>,
    pub(super) begun: Vec<Occurrence>,
    pub(super) finished: Vec<Occurrence>,
    pub(super) effects: Vec<(Occurrence, Change)>,
    /// The ids that it was sent under.
    pub(super) ids: BTreeSet<String>,
    /// The ids that it was sent under on connections that swallowed it.
    pub(super) swallowed_ids: BTreeSet<String>,
    /// Whether it was ever sent under an id outside sessions.
    pub(super) is_plain: bool,
    /// Where, and on which connections, its client has sent it.
    pub(super) sent: Vec<(Position, u32)>,
    /// Where the first copy was sent that its client did not send.
    pub(super) copied: Option<Position>,
    /// Where it first appears.
    pub(super) seen: Option<Position>,
}

/// A caller's wait.
pub(super) struct Wait {
    pub(super) what: Invocation,
    pub(super) from: Occurrence,
    pub(super) end: Option<(Occurrence, End)>,
}

impl Wait {
    pub(super) fn has_ended_before(&self, position: Position) -> bool {
        self.end
            .as_ref()
            .is_some_and(|(end, _)| end.position < position)
    }
}

/// Where in the journal, when, and in which life of the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occurrence {
    pub(super) position: Position,
    pub(super) at: Duration,
    pub(super) life: u32,
}

/// The whole journal, indexed.
#[derive(Default)]
pub(super) struct History {
    pub(super) calls: BTreeMap<u32, CallHistory>,
    /// The calls that used an id.
    pub(super) tags: BTreeMap<String, BTreeSet<u32>>,
    /// The calls requested under an id on a connection.
    pub(super) asked: BTreeMap<(u32, String), BTreeSet<u32>>,
    /// The id that an `rpc.resolve` or `rpc.cancel` on a connection was about, by its own id.
    pub(super) about: BTreeMap<(u32, String), String>,
    /// Every request, in order.
    pub(super) requests: Vec<(Position, Duration, Arc<Frame>)>,
    /// When a connection closed.
    pub(super) closed: BTreeMap<u32, Duration>,
    /// Ids of which a fault dropped a request or a reply.
    pub(super) lost: BTreeSet<String>,
    /// How long the world lasted.
    pub(super) lasted: Duration,
    /// What clients acknowledged, and where.
    pub(super) acks: Vec<(Position, Ack)>,
    pub(super) replies: Vec<(Position, Arc<Frame>)>,
    /// When each of them left.
    pub(super) replied_at: Vec<Duration>,
    /// What servers said without being asked.
    pub(super) notifications: Vec<(Position, Arc<Frame>)>,
    pub(super) ttl: Duration,
    /// How long a session outlives its last connection; `None` if it may have to make room before.
    pub(super) lease: Option<Duration>,
    /// Whether the server has a store, which knows in each life what it knew in the one before.
    pub(super) is_stored: bool,
    /// Whether the effects of its calls lie in that store.
    pub(super) is_transactional: bool,
    /// Whether several servers share the store.
    pub(super) is_shared: bool,
    /// Whether calls of servers that are gone may be run again, and come to the same.
    pub(super) is_resumable: bool,
    /// Whether no client gives up a call before its deadline.
    pub(super) is_patient: bool,
    /// Whether clients have a list of addresses.
    pub(super) has_endpoints: bool,
    /// Whether nothing goes wrong but with servers and their addresses.
    pub(super) is_smooth: bool,
    /// The server of each life, where there are several.
    pub(super) started: BTreeMap<u32, u32>,
    /// Where each life that has ended began to end.
    pub(super) ended: BTreeMap<u32, Position>,
    /// Where a connection was accepted, its address, and by which life, where there are several servers.
    pub(super) accepted: BTreeMap<u32, (Position, Option<u32>, u32)>,
    /// Of which addresses clients hear, from where on.
    pub(super) listed: Vec<(Position, Vec<u32>)>,
    /// Which addresses lead to which tables, from when on.
    pub(super) reachable: Vec<(Duration, Vec<(u32, u32)>)>,
    /// Where a server was being shut down, from and to.
    pub(super) shutdowns: Vec<(Position, Position)>,
    /// Where each life of the server first shows.
    lives: Vec<(Position, u32)>,
    /// What stood still, from when, and until when.
    pub(super) freezes: Vec<(Frozen, Duration, Duration)>,
}

impl CallHistory {
    pub(super) fn is_query(&self) -> bool {
        self.method == Some(Method::Get)
    }
}

impl History {
    pub(super) fn new(run: &Run) -> Self {
        let mut history = Self {
            ttl: run.ttl,
            lease: run.has_room_for_sessions.then_some(run.lease),
            is_stored: run.is_stored,
            is_transactional: run.is_transactional,
            is_shared: run.is_shared,
            is_resumable: run.is_resumable,
            is_patient: run.is_patient,
            has_endpoints: run.has_endpoints,
            is_smooth: run.is_smooth,
            lasted: run.lasted,
            ..Self::default()
        };
        for (position, entry) in run.entries.iter().enumerate() {
            let when = |life| Occurrence {
                position,
                at: entry.at,
                life,
            };
            history.add(when, &entry.event);
            match &entry.event {
                Event::Sent(frame) => history.requests.push((position, entry.at, frame.clone())),
                Event::Froze(what, time) => {
                    (history.freezes).push((*what, entry.at, entry.at + *time));
                }
                Event::Answered(_) => history.replied_at.push(entry.at),
                Event::Reachable { listed, tables } => {
                    history.listed.push((position, listed.clone()));
                    history.reachable.push((entry.at, tables.clone()));
                }
                Event::Closed { wire } => drop(history.closed.insert(*wire, entry.at)),
                _ => {}
            }
        }
        history
    }

    /// How much of this time something stood still, and how often.
    pub(super) fn frozen(&self, what: Frozen, from: Duration, to: Duration) -> (Duration, u32) {
        let is_it = |frozen: Frozen| frozen == what || frozen == Frozen::All;
        let freezes = self.freezes.iter().filter(|(frozen, ..)| is_it(*frozen));
        let overlaps =
            freezes.map(|(_, begin, end)| (*end).min(to).saturating_sub((*begin).max(from)));
        let overlaps = overlaps.filter(|overlap| !overlap.is_zero());
        overlaps.fold((Duration::ZERO, 0), |(sum, count), overlap| {
            (sum + overlap, count + 1)
        })
    }

    /// Whether a server is being shut down: it cuts calls off then.
    pub(super) fn is_shutting_down(&self, position: Position) -> bool {
        let mut shutdowns = self.shutdowns.iter();
        shutdowns.any(|(from, to)| (*from..=*to).contains(&position))
    }

    fn remarked(&mut self, position: Position, text: &str) {
        if text.ends_with(SHUT_DOWN) {
            self.shutdowns.push((position, Position::MAX));
        } else if text.contains(" is down, ")
            && let Some((_, to)) = self
                .shutdowns
                .iter_mut()
                .find(|(_, to)| *to == Position::MAX)
        {
            *to = position;
        }
    }

    /// The latest life of the server that shows before a position.
    pub(super) fn life_at(&self, position: Position) -> u32 {
        let before = self.lives.partition_point(|(at, _)| *at <= position);
        before.checked_sub(1).map_or(0, |last| self.lives[last].1)
    }

    fn lives_on(&mut self, life: u32, position: Position) {
        if self.lives.last().is_none_or(|(_, last)| *last < life) {
            self.lives.push((position, life));
        }
    }

    fn call(&mut self, tag: u32, position: Position) -> &mut CallHistory {
        let call = self.calls.entry(tag).or_default();
        call.seen.get_or_insert(position);
        call
    }

    fn add(&mut self, when: impl Fn(u32) -> Occurrence, event: &Event) {
        let position = when(0).position;
        match event {
            Event::Remark(text) => self.remarked(position, text),
            Event::Froze(..) | Event::Closed { .. } | Event::Reachable { .. } => {}
            Event::Started { server, life } => drop(self.started.insert(*life, *server)),
            Event::LifeEnds { life } => drop(self.ended.insert(*life, position)),
            Event::Accepted {
                wire,
                address,
                life,
            } => drop(self.accepted.insert(*wire, (position, *address, *life))),
            Event::Invoked(what) => {
                let call = self.call(what.tag, position);
                call.method = Some(what.method);
                call.waits.push(Wait {
                    what: *what,
                    from: when(0),
                    end: None,
                });
            }
            Event::Ended { op, tag, end } => {
                let mut waits = self.call(*tag, position).waits.iter_mut();
                if let Some(wait) = waits.find(|wait| wait.what.op == *op) {
                    wait.end = Some((when(0), end.clone()));
                }
            }
            Event::Sent(frame) => self.sent(position, frame),
            Event::Swallowed(frame) => {
                if let Some(tag) = frame.tag {
                    let call = self.call(tag, position);
                    call.sent.push((position, frame.wire));
                    call.swallowed_ids.extend(frame.id.clone());
                }
            }
            Event::Answered(frame) => self.replies.push((position, frame.clone())),
            Event::Notified(frame) => self.notifications.push((position, frame.clone())),
            Event::Server { what, id, life, .. } => {
                self.lives_on(*life, position);
                let id = id.as_deref().unwrap_or_default();
                match what.as_str() {
                    "Duplicated" => self.duplicated(position, id),
                    "RequestDropped" | "ReplyDropped" => drop(self.lost.insert(id.to_owned())),
                    _ => {}
                }
            }
            Event::Began { tag, life } => self.call(*tag, position).begun.push(when(*life)),
            Event::Finished { tag, life } => self.call(*tag, position).finished.push(when(*life)),
            Event::Effect { tag, life, change } => {
                let effects = &mut self.call(*tag, position).effects;
                effects.push((when(*life), *change));
            }
        }
    }

    fn sent(&mut self, position: Position, frame: &Frame) {
        if let Some(ack) = frame.ack.as_ref().filter(|_| !frame.is_copy) {
            self.acks.push((position, ack.clone()));
        }
        if let (Some(about), Some(id)) = (&frame.about, &frame.id) {
            let asked_by = (frame.wire, id.clone());
            self.about.insert(asked_by, about.clone());
        }
        let (Some(tag), Some(id)) = (frame.tag, &frame.id) else {
            return;
        };
        let method = frame.method.as_deref().and_then(Method::named);
        let call = self.call(tag, position);
        call.method = call.method.or(method);
        call.ids.insert(id.clone());
        call.is_plain |= numbered(id).is_none();
        if frame.is_copy {
            call.copied.get_or_insert(position);
        } else {
            call.sent.push((position, frame.wire));
        }
        self.tags.entry(id.clone()).or_default().insert(tag);
        let asked = self.asked.entry((frame.wire, id.clone())).or_default();
        asked.insert(tag);
    }

    fn duplicated(&mut self, position: Position, id: &str) {
        for tag in self.tags.get(id).cloned().unwrap_or_default() {
            self.call(tag, position).copied.get_or_insert(position);
        }
    }
}
