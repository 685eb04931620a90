//! The sessions of a client: the one that new calls are numbered in, and earlier ones with numbers
//! that are still in use.

use std::collections::VecDeque;

use redial_protocol::SessionId;

use super::{link::Link, pending::CallId, session::Session, slab::Key};
use crate::cause::Cause;

/// The sessions of a client, and how it comes by them.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) are_wanted: bool,
    /// The program says that the server has none.
    pub(super) assume_plain: bool,
    pub(super) current: Option<Session<Key>>,
    /// The oldest first.
    pub(super) retired: Vec<Session<Key>>,
    /// Calls that wait for a number, in the order in which they came.
    pub(super) queue: VecDeque<Key>,
    /// The link on which a session is being opened.
    pub(super) opener: Option<usize>,
    /// The link whose driver sends acks when nothing else has been written for a while.
    pub(super) ack_link: Option<usize>,
    /// The serial number of the next hello.
    pub(super) serial: u64,
    /// Counts frames, to see whether anything was sent.
    pub(super) appends: u64,
    pub(super) seen_appends: u64,
    pub(super) opened: u64,
    pub(super) lost: u64,
    /// Why the latest hello has brought no session, for the errors of calls that wait for one.
    pub(super) refusal: Option<Cause>,
}

/// What happens to the number of a call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It is acknowledged, and the server may forget its record.
    Acknowledge,
    /// A token may still ask for its outcome, so the server has to keep its record.
    Retain,
    /// It was only reserved: the call is still to come.
    Reserve,
}

impl Sessions {
    pub(super) fn new(are_wanted: bool, assume_plain: bool) -> Self {
        Self {
            are_wanted,
            assume_plain,
            current: None,
            retired: Vec::new(),
            queue: VecDeque::new(),
            opener: None,
            ack_link: None,
            serial: 0,
            appends: 0,
            seen_appends: 0,
            opened: 0,
            lost: 0,
            refusal: None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<Key>> {
        self.current.iter().chain(&self.retired)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session<Key>> {
        self.current.iter_mut().chain(&mut self.retired)
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session<Key>> {
        match &self.current {
            Some(current) if current.id == id => Some(current),
            _ => self.retired.iter().find(|session| session.id == id),
        }
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<Key>> {
        match &mut self.current {
            Some(current) if current.id == id => Some(current),
            _ => self.retired.iter_mut().find(|session| session.id == id),
        }
    }

    pub(super) fn is_current(&self, id: SessionId) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.id == id)
    }

    /// Removes a session, current or retired.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session<Key>> {
        if self.is_current(id) {
            return self.current.take();
        }
        let mut retired = self.retired.iter();
        let index = retired.position(|session| session.id == id)?;
        Some(self.retired.remove(index))
    }

    /// The watermark that a request under this id should carry, if the connection has not carried
    /// it yet.
    pub(super) fn piggyback_ack(&self, id: CallId, link: &Link) -> Option<u64> {
        let CallId::Session(call) = id else {
            return None;
        };
        let watermark = self.get(call.session)?.watermark();
        let is_news = watermark > 0 && link.acked != Some((call.session, watermark));
        is_news.then_some(watermark)
    }

    /// A request under this id carries the watermark.
    pub(super) fn record_ack(&mut self, id: CallId, link: &mut Link) {
        if let CallId::Session(call) = id
            && let Some(session) = self.get_mut(call.session)
        {
            link.acked = Some((call.session, session.send_watermark()));
        }
    }

    /// A request was withdrawn, and with it the watermark that it may have carried.
    pub(super) fn revoke_ack(&mut self, id: CallId, link: &mut Link) {
        if let CallId::Session(call) = id
            && let Some(session) = self.get_mut(call.session)
        {
            link.acked = None;
            session.unsend_watermark();
        }
    }
}
