//! The sessions of a client: the one that new calls are numbered in, and earlier ones with numbers
//! that are still in use.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
};

use redial_protocol::SessionId;

use super::{link::Link, pending_call::CallId, session::Session, slab::Key};
use crate::cause::Cause;

/// The sessions of a client, and how it comes by them.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) are_wanted: bool,
    /// The program says that the server has none.
    pub(super) assume_plain: bool,
    /// The tables in which new calls may be numbered. A *home* is an index here; with one address it
    /// is 0.
    pub(super) tables: Tables,
    /// Sessions of any table in which no call is numbered any more, the oldest first.
    pub(super) retired: Vec<Session<Key>>,
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

/// One table of calls, of one server or of several that share it.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// What its servers call it, once one has said so.
    pub(super) name: Option<Box<str>>,
    /// The session in which new calls are numbered.
    pub(super) current: Option<Session<Key>>,
    /// Calls that wait for a number, in the order in which they came.
    pub(super) queue: VecDeque<Key>,
    /// The link on which a session is being opened.
    pub(super) opener: Option<usize>,
}

/// The tables that a client knows of, by index. There is always the first.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) first: Table,
    others: Vec<Table>,
}

impl Tables {
    pub(super) fn len(&self) -> usize {
        1 + self.others.len()
    }

    pub(super) fn push(&mut self, table: Table) {
        self.others.push(table);
    }

    /// The table that servers call so.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.iter()
            .position(|table| table.name.as_deref() == Some(name))
    }

    /// The table in whose session new calls are numbered, if that is this one.
    pub(super) fn find_current(&mut self, id: SessionId) -> Option<&mut Table> {
        self.iter_mut().find(|table| table.is_current(id))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }
}

impl Index<usize> for Tables {
    type Output = Table;

    #[inline]
    fn index(&self, home: usize) -> &Table {
        if home == 0 {
            &self.first
        } else {
            &self.others[home - 1]
        }
    }
}

impl IndexMut<usize> for Tables {
    #[inline]
    fn index_mut(&mut self, home: usize) -> &mut Table {
        if home == 0 {
            &mut self.first
        } else {
            &mut self.others[home - 1]
        }
    }
}

impl Table {
    #[inline]
    pub(super) fn is_current(&self, id: SessionId) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.id == id)
    }
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
            tables: Tables::default(),
            retired: Vec::new(),
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
        let current = self
            .tables
            .iter()
            .filter_map(|table| table.current.as_ref());
        current.chain(&self.retired)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session<Key>> {
        let current = self.tables.iter_mut();
        let current = current.filter_map(|table| table.current.as_mut());
        current.chain(&mut self.retired)
    }

    #[inline]
    pub(super) fn get(&self, id: SessionId) -> Option<&Session<Key>> {
        match &self.tables.first.current {
            Some(current) if current.id == id => Some(current),
            _ => self.find(id),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<Key>> {
        // Of one table, which is what almost every client has.
        if self.tables.first.is_current(id) {
            return self.tables.first.current.as_mut();
        }
        self.find_mut(id)
    }

    // Without a call, for which the way of every other would have to save its registers.
    #[inline]
    fn find(&self, id: SessionId) -> Option<&Session<Key>> {
        let others = self.tables.others.iter();
        let others = others.filter_map(|table| table.current.as_ref());
        let mut others = others.chain(&self.retired);
        others.find(|session| session.id == id)
    }

    #[inline]
    fn find_mut(&mut self, id: SessionId) -> Option<&mut Session<Key>> {
        let others = self.tables.others.iter_mut();
        let others = others.filter_map(|table| table.current.as_mut());
        let mut others = others.chain(&mut self.retired);
        others.find(|session| session.id == id)
    }

    /// The session in which new calls of a table are numbered.
    #[inline]
    pub(super) fn current(&self, home: usize) -> Option<&Session<Key>> {
        self.tables[home].current.as_ref()
    }

    pub(super) fn is_current(&self, id: SessionId) -> bool {
        self.tables.iter().any(|table| table.is_current(id))
    }

    /// Removes a session, current or retired.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<Session<Key>> {
        if let Some(table) = self.tables.find_current(id) {
            return table.current.take();
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
