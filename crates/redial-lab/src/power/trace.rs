//! Reads what `strace -f -y -xx` wrote: what was done to a folder's files, and what left on sockets.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};

/// The system calls that change files or sockets, or sync.
pub(crate) const CALLS: &str = "openat,creat,write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,\
    fsync,fdatasync,sync_file_range,ftruncate,truncate,fallocate,unlink,unlinkat,rename,renameat,\
    renameat2";

/// A system call, at the moment when it began.
pub(crate) struct SystemCall {
    /// The number of the event before which it was complete.
    pub(crate) done: usize,
    pub(crate) what: FileChange,
}

/// What it did.
pub(crate) enum FileChange {
    /// A file was opened, and made if it was missing.
    Create(String),
    Unlink(String),
    Write {
        path: String,
        offset: u64,
        data: Vec<u8>,
    },
    Truncate {
        path: String,
        len: u64,
    },
    /// Of a file or a folder.
    Sync(String),
    /// What was written to the end of a file.
    Append {
        path: String,
        data: Vec<u8>,
    },
    /// What was handed to a socket.
    Send {
        socket: String,
        data: Vec<u8>,
    },
    /// It failed, or does not matter.
    Nothing,
}

/// The system calls of all lives of a server, in order.
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) events: Vec<SystemCall>,
    /// The calls that have begun, by thread.
    begun: HashMap<String, usize>,
    lives: usize,
}

impl Trace {
    /// Adds what one life did.
    pub(crate) fn add(&mut self, file: &Path) -> Result<()> {
        let reader = File::open(file).with_context(|| format!("can't read {}", file.display()))?;
        self.lives += 1;
        self.begun.clear();
        for (number, line) in BufReader::new(reader).lines().enumerate() {
            let line = line?;
            self.line(&line).with_context(|| {
                let start: String = line.chars().take(200).collect();
                format!("{}, line {}: {start}", file.display(), number + 1)
            })?;
        }
        self.die();
        Ok(())
    }

    /// What a killed process was doing has ended with it, done; but a sync may not be complete.
    fn die(&mut self) {
        let now = self.events.len();
        for event in self
            .events
            .iter_mut()
            .filter(|event| event.done == usize::MAX)
        {
            event.done = now;
            if matches!(event.what, FileChange::Sync(_)) {
                event.what = FileChange::Nothing;
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (thread, rest) = line.split_once(' ').context("expected a thread")?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let index = self.begun.remove(thread).context("nothing had begun")?;
            let result = result_of(resumed);
            ensure_named(resumed, result)?;
            self.end(index, result);
            return Ok(());
        }
        let (name, args) = rest.split_once('(').context("expected a system call")?;
        let index = self.events.len();
        let result = result_of(rest);
        ensure_named(name, result)?;
        let what = self.what(name, args)?;
        let done = usize::MAX;
        self.events.push(SystemCall { done, what });
        if rest.ends_with("<unfinished ...>") {
            self.begun.insert(thread.to_owned(), index);
        } else {
            self.end(index, result);
        }
        Ok(())
    }

    /// A call has ended with this result, if it has one.
    fn end(&mut self, index: usize, result: Option<i64>) {
        let now = self.events.len();
        let event = &mut self.events[index];
        let Some(result) = result else { return };
        event.done = now;
        match &mut event.what {
            _ if result < 0 => event.what = FileChange::Nothing,
            FileChange::Write { data, .. }
            | FileChange::Append { data, .. }
            | FileChange::Send { data, .. } => {
                data.truncate(usize::try_from(result).unwrap_or_default());
            }
            _ => {}
        }
    }

    fn what(&self, name: &str, args: &str) -> Result<FileChange> {
        let path = descriptor(args);
        let path_of = || path.clone().context("expected a descriptor");
        Ok(match name {
            "openat" if args.contains("O_TRUNC") => bail!("a file is emptied as it is opened"),
            "openat" if args.contains("O_CREAT") => FileChange::Create(text(&strings(args)?)?),
            "unlink" => FileChange::Unlink(text(&strings(args)?)?),
            "fsync" | "fdatasync" => FileChange::Sync(path_of()?),
            "ftruncate" => FileChange::Truncate {
                path: path_of()?,
                len: last_number(args)?,
            },
            "pwrite64" => FileChange::Write {
                path: path_of()?,
                offset: last_number(args)?,
                data: strings(args)?,
            },
            "write" | "writev" | "sendto" | "sendmsg" => {
                let path = path_of()?;
                if path.starts_with("socket:") || path.starts_with("TCP:") {
                    let socket = format!("{} {path}", self.lives);
                    let data = strings(args)?;
                    FileChange::Send { socket, data }
                } else {
                    let data = strings(args)?;
                    FileChange::Append { path, data }
                }
            }
            "openat" => FileChange::Nothing,
            // The registers of a thread that is killed at this moment, or nothing that could be read.
            _ if name.starts_with("syscall_") || is_unnamed(name) => FileChange::Nothing,
            _ => bail!("a system call that is not understood here"),
        })
    }
}

/// Whether strace could not read what was called: its thread is killed at this moment, before the call.
fn is_unnamed(name: &str) -> bool {
    name.starts_with("??")
}

/// A call that has a result was made: unnamed, it may be one that matters.
fn ensure_named(name: &str, result: Option<i64>) -> Result<()> {
    let is_known = !is_unnamed(name) || result.is_none();
    ensure!(
        is_known,
        "a system call that strace could not name has ended"
    );
    Ok(())
}

/// The path of the descriptor that the arguments begin with, as `3<\x2f...>`.
fn descriptor(args: &str) -> Option<String> {
    let (number, rest) = args.split_once('<')?;
    number.parse::<u32>().ok()?;
    let (path, _) = rest.split_once('>')?;
    String::from_utf8(unescape(path)?).ok()
}

/// What stands between quotation marks, all together.
fn strings(args: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (index, part) in args.split('"').enumerate() {
        if index % 2 == 1 {
            bytes.extend(unescape(part).context("expected \\x escapes")?);
        } else if part.starts_with("...") {
            bail!("the data was cut off");
        }
    }
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(String::from_utf8(bytes.to_vec())?)
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = text.as_bytes().chunks(4).map(|escape| match *escape {
        [b'\\', b'x', high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    });
    bytes.collect()
}

/// The number that is the last argument.
fn last_number(args: &str) -> Result<u64> {
    let args = args.strip_suffix(" <unfinished ...>").unwrap_or(args);
    let args = args
        .rsplit_once(" = ")
        .map_or(args, |(args, _)| args.trim_end());
    let last = args.rsplit(", ").next().unwrap_or_default();
    last.trim_end_matches(')')
        .parse()
        .with_context(|| format!("expected a number: {last}"))
}

/// What follows the last `= `; `None` for `?`.
fn result_of(line: &str) -> Option<i64> {
    // Short lines are padded before the equals sign.
    let (_, result) = line.rsplit_once(" = ")?;
    let number = result.split([' ', '<']).next()?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_interrupted_ends_where_it_is_resumed() {
        let mut trace = Trace::default();
        for line in [
            r#"7 pwrite64(12<\x2f\x61>, "\x01\x02\x03", 3, 40 <unfinished ...>"#,
            r#"8 sendto(4<\x73\x6f\x63\x6b\x65\x74\x3a\x5b\x31\x5d>, "\x41\x42", 2, MSG_NOSIGNAL, NULL, 0) = 1"#,
            r"7 <... pwrite64 resumed>)             = 3",
            r"7 fsync(12<\x2f\x61>) = ?",
            r"7 ftruncate(12<\x2f\x61>, 5) = -1 EIO (Input/output error)",
            r"7 +++ killed by SIGKILL +++",
        ] {
            trace.line(line).unwrap();
        }
        let events = &trace.events;
        assert_eq!(events.len(), 4);
        assert!(
            matches!(&events[0].what, FileChange::Write { path, offset: 40, data }
            if path == "/a" && data == &[1, 2, 3])
        );
        assert_eq!(events[0].done, 2);
        assert!(matches!(&events[1].what, FileChange::Send { data, .. } if data == b"A"));
        assert_eq!((events[1].done, events[2].done), (2, usize::MAX));
        assert!(matches!(events[3].what, FileChange::Nothing));
        trace.die();
        assert_eq!(trace.events[2].done, 4);
        assert!(
            matches!(trace.events[2].what, FileChange::Nothing),
            "not complete"
        );
    }

    /// The kind of fault: a line that strace writes of a thread that is being killed stops the check.
    #[test]
    fn a_thread_that_is_killed_before_its_call_was_read_has_done_nothing() {
        for end in [
            "",
            "7 <... ??? resumed>) = ?",
            "7 +++ killed by SIGKILL +++",
        ] {
            for line in [
                "7  ???( <unfinished ...>",
                "7 ????( <unfinished ...>",
                "7 ???() = ?",
                "7 ???( = ? <unavailable>",
                "7 syscall_0xffffffffffffffff(0x1, 0x2 <unfinished ...>",
            ] {
                let mut trace = Trace::default();
                trace.line(line).unwrap();
                if !end.is_empty() && (line.contains("unfinished") || end.contains("+++")) {
                    trace.line(end).unwrap();
                }
                trace.die();
                let [event] = &trace.events[..] else {
                    panic!("{line}")
                };
                assert!(matches!(event.what, FileChange::Nothing), "{line}");
                assert_eq!(event.done, 1, "{line}");
            }
        }
    }

    #[test]
    fn a_write_that_is_killed_as_it_is_resumed_may_be_complete() {
        let mut trace = Trace::default();
        for line in [
            r#"7 pwrite64(12<\x2f\x61>, "\x01\x02\x03", 3, 40 <unfinished ...>"#,
            "7 <... pwrite64 resumed> <unfinished ...>) = ?",
            "7 +++ killed by SIGKILL +++",
        ] {
            trace.line(line).unwrap();
        }
        trace.die();
        assert!(matches!(&trace.events[0].what, FileChange::Write { data, .. } if data.len() == 3));
    }

    #[test]
    fn an_unnamed_call_with_a_result_is_an_error() {
        assert!(Trace::default().line("7 ???() = 3").is_err());
        let mut trace = Trace::default();
        trace.line("7 ???( <unfinished ...>").unwrap();
        assert!(trace.line("7 <... ??? resumed>) = 0").is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in [
            r#"7 pwrite64(12<\x2f\x61>, "\x01"..., 3, 40) = 3"#,
            r#"7 rename("\x61", "\x62") = 0"#,
            r#"7 openat(AT_FDCWD<\x2f>, "\x61", O_RDWR|O_CREAT|O_TRUNC, 0644) = 3<\x61>"#,
            "7 <... fsync resumed>) = 0",
        ] {
            assert!(Trace::default().line(line).is_err(), "{line}");
        }
    }
}
