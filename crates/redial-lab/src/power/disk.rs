//! A model of a disk: what of a file is surely there at a moment, and what may be.
//!
//! Each sector of 512 bytes is as the file was at some moment after its last sync, and so is the
//! file's length, and so is each name in the folder: each at a moment of its own.

use std::collections::HashMap;

use super::trace::{FileChange, SystemCall};

/// What a disk writes whole or not at all, in bytes.
pub(crate) const SECTOR: usize = 512;

/// All that was done to the files of one folder.
pub(crate) struct Disk {
    pub(crate) files: Vec<DiskFile>,
    /// Which file has which name: a name that was removed and made again is another file.
    names: Vec<DirectoryEntry>,
    folder_syncs: Vec<(usize, usize)>,
}

/// A file, whatever its name.
#[derive(Default)]
pub(crate) struct DiskFile {
    changes: Vec<Change>,
    /// When each sync began, and when it was complete.
    syncs: Vec<(usize, usize)>,
}

struct Change {
    at: usize,
    done: usize,
    kind: WriteKind,
}

enum WriteKind {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

struct DirectoryEntry {
    at: usize,
    done: usize,
    name: String,
    file: Option<usize>,
}

/// A file of which a part is surely on the disk.
#[derive(Default)]
pub(crate) struct Base {
    /// How many changes are.
    durable: usize,
    bytes: Vec<u8>,
}

impl Disk {
    /// Takes what was done to the files in this folder whose names `takes` picks.
    pub(crate) fn new(events: Vec<SystemCall>, folder: &str, takes: impl Fn(&str) -> bool) -> Self {
        let mut disk = Self {
            files: Vec::new(),
            names: Vec::new(),
            folder_syncs: Vec::new(),
        };
        let mut open: HashMap<String, usize> = HashMap::new();
        let name_of = |path: &str| {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            takes(name).then(|| name.to_owned())
        };
        for (at, SystemCall { done, what }) in events.into_iter().enumerate() {
            let (path, kind) = match what {
                FileChange::Create(path) => {
                    if let Some(name) = name_of(&path).filter(|name| !open.contains_key(name)) {
                        open.insert(name.clone(), disk.files.len());
                        let file = Some(disk.files.len());
                        disk.names.push(DirectoryEntry {
                            at,
                            done,
                            name,
                            file,
                        });
                        disk.files.push(DiskFile::default());
                    }
                    continue;
                }
                FileChange::Unlink(path) => {
                    if let Some(name) = name_of(&path) {
                        open.remove(&name);
                        let file = None;
                        disk.names.push(DirectoryEntry {
                            at,
                            done,
                            name,
                            file,
                        });
                    }
                    continue;
                }
                FileChange::Sync(path) if path == folder => {
                    disk.folder_syncs.push((at, done));
                    continue;
                }
                FileChange::Sync(path) => (path, None),
                FileChange::Write { path, offset, data } => {
                    let offset = usize::try_from(offset).expect("files here are small");
                    (path, Some(WriteKind::Write(offset, data)))
                }
                FileChange::Truncate { path, len } => {
                    let len = usize::try_from(len).expect("files here are small");
                    (path, Some(WriteKind::Truncate(len)))
                }
                FileChange::Append { .. } | FileChange::Send { .. } | FileChange::Nothing => {
                    continue;
                }
            };
            let Some(file) = name_of(&path).and_then(|name| open.get(&name)) else {
                continue;
            };
            let file = &mut disk.files[*file];
            match kind {
                Some(kind) => file.changes.push(Change { at, done, kind }),
                None => file.syncs.push((at, done)),
            }
        }
        disk
    }

    /// Which file has which name if the power is cut at this event, where `moment` chooses of the changes
    /// to a name that may not be on the disk how many are.
    pub(crate) fn names_at(
        &self,
        cut: usize,
        mut moment: impl FnMut(usize) -> usize,
    ) -> HashMap<&str, usize> {
        let synced = last_sync(&self.folder_syncs, cut);
        let mut found: HashMap<&str, (Option<usize>, Vec<Option<usize>>)> = HashMap::new();
        for name in self.names.iter().take_while(|name| name.at < cut) {
            let entry = found.entry(&*name.name).or_default();
            if name.done <= synced {
                entry.0 = name.file;
            } else {
                entry.1.push(name.file);
            }
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable_by_key(|(name, _)| *name);
        let chosen = found.into_iter().filter_map(|(name, (durable, open))| {
            let file = match moment(open.len()) {
                0 => durable,
                count => open[count - 1],
            };
            Some((name, file?))
        });
        chosen.collect()
    }

    /// How many syncs there were, of files and of the folder.
    pub(crate) fn syncs(&self) -> u64 {
        let files = self.files.iter().map(|file| file.syncs.len());
        (files.sum::<usize>() + self.folder_syncs.len()) as u64
    }
}

impl DiskFile {
    /// Brings the base to what is surely on the disk if the power is cut at this event. Cuts come in order.
    pub(crate) fn advance(&self, base: &mut Base, cut: usize) {
        let synced = last_sync(&self.syncs, cut);
        while let Some(change) = self.changes.get(base.durable) {
            if change.done > synced {
                break;
            }
            match &change.kind {
                WriteKind::Write(offset, data) => {
                    let end = offset + data.len();
                    if base.bytes.len() < end {
                        base.bytes.resize(end, 0);
                    }
                    base.bytes[*offset..end].copy_from_slice(data);
                }
                WriteKind::Truncate(len) => base.bytes.resize(*len, 0),
            }
            base.durable += 1;
        }
    }

    /// The file after a cut at this event. `moment` chooses, for a sector or for the length (`None`), how
    /// many of the changes that may not be on the disk are, given how many there are. `fill` is what a
    /// disk has where nothing was written.
    pub(crate) fn after_cut(
        &self,
        base: &Base,
        cut: usize,
        mut moment: impl FnMut(Option<usize>, usize) -> usize,
        mut fill: impl FnMut(usize) -> u8,
    ) -> Vec<u8> {
        let open = &self.changes[base.durable..];
        let open = &open[..open.partition_point(|change| change.at < cut)];
        let len_moment = moment(None, open.len());
        let mut bytes = base.bytes.clone();
        let mut len = bytes.len();
        let mut end_of_len = len;
        // Per sector, how many of the open changes it has; and whether it has any of its bytes.
        let mut moments: HashMap<usize, usize> = HashMap::new();
        let mut of = |sector| {
            let chosen = moments.entry(sector);
            *chosen.or_insert_with(|| moment(Some(sector), open.len()))
        };
        let mut is_written = vec![true; len.div_ceil(SECTOR)];
        for (index, change) in open.iter().enumerate() {
            match &change.kind {
                WriteKind::Write(offset, data) => {
                    let end = offset + data.len();
                    len = len.max(end);
                    if bytes.len() < end {
                        bytes.resize(end, 0);
                        is_written.resize(end.div_ceil(SECTOR), false);
                    }
                    for (from, to) in sectors(*offset, end) {
                        if index < of(from / SECTOR) {
                            bytes[from..to].copy_from_slice(&data[from - offset..to - offset]);
                            is_written[from / SECTOR] = true;
                        }
                    }
                }
                WriteKind::Truncate(to) => {
                    len = *to;
                    for (from, to) in sectors(*to, bytes.len()) {
                        if index < of(from / SECTOR) {
                            bytes[from..to].fill(0);
                        }
                    }
                }
            }
            if index < len_moment {
                end_of_len = len;
            }
        }
        bytes.resize(end_of_len, 0);
        for (sector, _) in is_written.iter().enumerate().filter(|(_, has)| !**has) {
            let end = bytes.len().min((sector + 1) * SECTOR);
            let from = end.min(sector * SECTOR);
            bytes[from..end].fill(fill(sector));
        }
        bytes
    }
}

/// When the last sync began that is complete at this event; a change that was done by then is durable.
fn last_sync(syncs: &[(usize, usize)], cut: usize) -> usize {
    let complete = syncs.iter().filter(|(_, done)| *done <= cut);
    complete.map(|(began, _)| *began).max().unwrap_or_default()
}

/// A range of bytes, cut where sectors begin.
fn sectors(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = from;
    std::iter::from_fn(move || {
        let start = next;
        next = ((start / SECTOR + 1) * SECTOR).min(to);
        (start < to).then_some((start, next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8, len: usize) -> FileChange {
        FileChange::Write {
            path: "/d/f".to_owned(),
            offset,
            data: vec![byte; len],
        }
    }

    /// Each call is complete before the next one begins.
    fn disk(whats: impl IntoIterator<Item = FileChange>) -> Disk {
        let events = whats.into_iter().enumerate();
        let events = events.map(|(at, what)| SystemCall { done: at + 1, what });
        Disk::new(events.collect(), "/d", |_| true)
    }

    fn sync(path: &str) -> FileChange {
        FileChange::Sync(path.to_owned())
    }

    #[test]
    fn what_was_synced_is_there_and_each_later_sector_may_be() {
        let disk = disk([
            FileChange::Create("/d/f".to_owned()),
            write(0, 1, 1024),
            sync("/d/f"),
            write(256, 2, 1024),
            FileChange::Truncate {
                path: "/d/f".to_owned(),
                len: 600,
            },
        ]);
        let file = &disk.files[0];
        let mut base = Base::default();
        file.advance(&mut base, 2);
        assert_eq!(base.durable, 0, "a sync not begun makes nothing durable");
        file.advance(&mut base, 5);
        assert_eq!((base.durable, base.bytes.len()), (1, 1024));
        let none = file.after_cut(&base, 5, |_, _| 0, |_| 9);
        assert_eq!(none, vec![1; 1024]);
        let all = file.after_cut(&base, 5, |_, open| open, |_| 9);
        assert_eq!(all, [vec![1; 256], vec![2; 344]].concat());
        let torn = |sector: Option<usize>| {
            if sector == Some(1) || sector.is_none() {
                1
            } else {
                0
            }
        };
        let torn = file.after_cut(&base, 5, |sector, _| torn(sector), |_| 9);
        assert_eq!(torn, [vec![1; 512], vec![2; 512], vec![9; 256]].concat());
    }

    #[test]
    fn a_name_is_there_once_its_folder_was_synced() {
        let disk = disk([
            FileChange::Create("/d/f".to_owned()),
            sync("/d"),
            FileChange::Unlink("/d/f".to_owned()),
            FileChange::Create("/d/f".to_owned()),
        ]);
        assert!(disk.names_at(1, |_| 0).is_empty());
        assert_eq!(disk.names_at(1, |open| open)["f"], 0);
        assert_eq!(disk.names_at(4, |_| 0)["f"], 0);
        assert!(disk.names_at(4, |_| 1).is_empty());
        assert_eq!(disk.names_at(4, |open| open)["f"], 1);
    }
}
