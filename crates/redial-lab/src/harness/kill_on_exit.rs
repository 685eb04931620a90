//! Kills a started program if this one is killed itself, when no destructor runs any more.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A process that holds the reading end of a pipe. Whatever ends this program closes the other
/// end, and then it kills the process that it was set on.
pub(crate) struct Leash(Option<Child>);

impl Leash {
    /// Sets it on the process with this id. Elsewhere than on Unix there is none.
    pub(crate) fn on(id: u32) -> Result<Self> {
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

impl Drop for Leash {
    /// Taken off before the id can be another's: the pipe stays open until the holder is gone.
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
        let mut leash = Leash::on(child.id()).unwrap();
        // What the system does to the pipe of a process that is gone.
        drop(leash.0.as_mut().unwrap().stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn taking_the_leash_off_kills_nobody() {
        let mut child = sleeper("0.05");
        drop(Leash::on(child.id()).unwrap());
        assert!(child.wait().unwrap().success());
    }
}
