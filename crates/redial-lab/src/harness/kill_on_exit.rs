//! Kills a started program if this one is killed itself, when no destructor runs any more.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A process that holds the reading end of a pipe. Whatever ends this program closes the other
/// end, and then the holder kills the process that it watches.
pub(crate) struct KillOnExit(Option<Child>);

impl KillOnExit {
    /// Watches the process with this id. Does nothing on systems other than Unix.
    pub(crate) fn of(id: u32) -> Result<Self> {
        if !cfg!(unix) {
            return Ok(Self(None));
        }
        let holder = Command::new("sh")
            .args([
                "-c",
                "read -r _; kill -KILL \"$0\" 2>/dev/null",
                &id.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start `sh`")?;
        Ok(Self(Some(holder)))
    }
}

impl Drop for KillOnExit {
    /// Ends the holder before the id can be another process's: the pipe stays open until then.
    fn drop(&mut self) {
        if let Some(mut holder) = self.0.take() {
            // `wait` would close the pipe before it waits, so the holder is killed first.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn sleeper(seconds: &str) -> Child {
        Command::new("sleep").arg(seconds).spawn().unwrap()
    }

    #[test]
    fn the_program_dies_with_the_one_that_started_it() {
        let mut child = sleeper("60");
        let mut watch = KillOnExit::of(child.id()).unwrap();
        // What the system does to the pipe of a process that is gone.
        drop(watch.0.as_mut().unwrap().stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_dropped_watch_kills_nothing() {
        let mut child = sleeper("0.05");
        drop(KillOnExit::of(child.id()).unwrap());
        assert!(child.wait().unwrap().success());
    }
}
