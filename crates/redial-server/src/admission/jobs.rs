//! Where queued jobs lie: in one slab for all lanes, as lists.
//!
//! So each step on a job takes constant time, and nothing is allocated once the slab has grown.

use std::time::Instant;

use redial_protocol::Priority;

use super::peers::Lane;

/// No entry.
const NONE: u32 = u32::MAX;

/// How many entries an empty slab keeps.
const KEEP: usize = 64;

/// Where a job lies, for as long as it is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JobId(u32);

/// Jobs in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobList {
    first: u32,
    last: u32,
}

#[derive(Debug)]
pub(super) struct Jobs<J> {
    entries: Vec<Entry<J>>,
    /// The first of the free entries, which are linked by what comes after them.
    free: u32,
    /// Entries that are part of a list.
    used: usize,
}

#[derive(Debug)]
struct Entry<J> {
    /// `None` if the entry is free, or its job was taken out for a while.
    job: Option<J>,
    lane: Lane,
    priority: Priority,
    since: Instant,
    before: u32,
    after: u32,
}

impl Default for JobList {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }
}

impl<J> Jobs<J> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            used: 0,
        }
    }

    /// Appends a job that is queued since then.
    pub(super) fn push(
        &mut self,
        list: &mut JobList,
        lane: Lane,
        priority: Priority,
        since: Instant,
        job: J,
    ) {
        let entry = Entry {
            job: Some(job),
            lane,
            priority,
            since,
            before: list.last,
            after: NONE,
        };
        let at = self.place(entry);
        match list.last {
            NONE => list.first = at,
            last => self.entries[last as usize].after = at,
        }
        list.last = at;
        self.used += 1;
    }

    fn place(&mut self, entry: Entry<J>) -> u32 {
        if self.free == NONE {
            self.entries.push(entry);
            return self.entries.len() as u32 - 1;
        }
        let at = self.free;
        let free = &mut self.entries[at as usize];
        self.free = free.after;
        *free = entry;
        at
    }

    /// The oldest of a list.
    pub(super) fn oldest(&self, list: JobList) -> Option<JobId> {
        self.find_from(list.first, |entry| entry.after)
    }

    /// The newest.
    pub(super) fn newest(&self, list: JobList) -> Option<JobId> {
        self.find_from(list.last, |entry| entry.before)
    }

    /// Passes over jobs that were taken out for a while.
    fn find_from(&self, mut at: u32, next: impl Fn(&Entry<J>) -> u32) -> Option<JobId> {
        loop {
            let entry = self.entries.get(at as usize)?;
            if entry.job.is_some() {
                return Some(JobId(at));
            }
            at = next(entry);
        }
    }

    /// Takes a job out of its list, whether it is there or was taken out before.
    pub(super) fn remove(&mut self, list: &mut JobList, place: JobId) -> Option<J> {
        let at = place.0 as usize;
        let Entry { before, after, .. } = self.entries[at];
        match before {
            NONE => list.first = after,
            before => self.entries[before as usize].after = after,
        }
        match after {
            NONE => list.last = before,
            after => self.entries[after as usize].before = before,
        }
        let entry = &mut self.entries[at];
        entry.after = self.free;
        let job = entry.job.take();
        self.free = place.0;
        self.used -= 1;
        if self.used == 0 && self.entries.capacity() > KEEP {
            (self.entries, self.free) = (Vec::new(), NONE);
        }
        job
    }

    /// Takes a job out and leaves its place as it is.
    pub(super) fn take_out(&mut self, place: JobId) -> Option<J> {
        self.entries[place.0 as usize].job.take()
    }

    /// Puts it back.
    pub(super) fn put_back(&mut self, place: JobId, job: J) {
        self.entries[place.0 as usize].job = Some(job);
    }

    pub(super) fn lane(&self, place: JobId) -> (Lane, Priority) {
        let entry = &self.entries[place.0 as usize];
        (entry.lane, entry.priority)
    }

    pub(super) fn since(&self, place: JobId) -> Instant {
        self.entries[place.0 as usize].since
    }

    /// All jobs that are like this, of all lists. Looks at each.
    pub(super) fn find<'q>(
        &'q self,
        is_it: impl Fn(&J) -> bool + 'q,
    ) -> impl Iterator<Item = JobId> + 'q {
        let all = self.entries.iter().zip(0..);
        all.filter(move |(entry, _)| entry.job.as_ref().is_some_and(&is_it))
            .map(|(_, at)| JobId(at))
    }
}
