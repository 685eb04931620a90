//! A started program that is never left behind: whatever happens here, it is killed and reaped.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{clock::Deadline, kill_on_exit::KillOnExit};

/// How much of a program's stderr is kept to be shown if it fails.
const STDERR_LINES: usize = 40;
/// How long the pipes of a program that has ended may take to run dry.
const PIPES: Duration = Duration::from_secs(2);

/// A running program. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Reaped,
    /// Only to be dropped, after the child.
    _kill_on_exit: KillOnExit,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected once stderr has been read to its end.
    stderr_open: Receiver<()>,
}

impl Process {
    /// Starts `program` with its output piped.
    pub(crate) fn start(
        name: &str,
        program: impl AsRef<OsStr>,
        args: &[impl AsRef<OsStr>],
    ) -> Result<Self> {
        let program = program.as_ref();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {name} ({})", program.display()))?;
        let mut child = Reaped(child);
        let kill_on_exit = KillOnExit::of(child.0.id())?;
        let (lines, stdout) = mpsc::channel();
        let out = child.0.stdout.take().context("stdout was piped")?;
        let err = child.0.stderr.take().context("stderr was piped")?;
        each_line(out, move |line| lines.send(line).is_ok());
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&stderr);
        let (open, stderr_open) = mpsc::channel::<()>();
        each_line(err, move |line| {
            let _until_the_end = &open;
            keep_last(&kept, line)
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            _kill_on_exit: kill_on_exit,
            stdout,
            stderr,
            stderr_open,
        })
    }

    /// The next line of stdout, waited for at most `limit`.
    pub(crate) fn line(&self, limit: Duration) -> Result<String> {
        match self.stdout.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "{} printed nothing for {limit:?}{}",
                    self.name,
                    self.stderr_so_far()
                )
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{} ended at once{}", self.name, self.stderr())
            }
        }
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Whether it has ended by now.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.0.try_wait()?.is_some())
    }

    /// Ends it as `kill -9` does, and waits until it is gone. Returns the lines of stdout that have not
    /// been read yet.
    pub(crate) fn kill(mut self) -> Result<Vec<String>> {
        self.end()?;
        Ok(self.rest())
    }

    /// The same, for those who want to know more of it.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.child.0.kill()?;
        self.child.0.wait()?;
        Ok(())
    }

    /// Waits for the end, at most `limit`. Returns the exit status and the lines of stdout that have
    /// not been read yet.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<(ExitStatus, Vec<String>)> {
        let deadline = Deadline::after(limit);
        let status = loop {
            if let Some(status) = self.child.0.try_wait()? {
                break status;
            }
            if deadline.has_passed() {
                bail!(
                    "{} did not end within {limit:?}{}",
                    self.name,
                    self.stderr_so_far()
                );
            }
            thread::sleep(Duration::from_millis(2));
        };
        Ok((status, self.rest()))
    }

    /// The lines of a program that has ended.
    fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.stdout.recv_timeout(PIPES) {
            lines.push(line);
        }
        lines
    }

    /// Sends it the signal of this name.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        // The standard library can only kill. The shell's own `kill` is there wherever a shell is.
        let asked = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$1\" \"$0\"",
                &self.id().to_string(),
                signal,
            ])
            .status()
            .context("can't send a signal: there is no `sh`")?;
        if !asked.success() {
            bail!(
                "{} had ended before it was sent SIG{signal}{}",
                self.name,
                self.stderr()
            );
        }
        Ok(())
    }

    /// Asks the program to stop (SIGTERM) and waits for it to do so with exit code 0.
    pub(crate) fn stop(mut self, limit: Duration) -> Result<()> {
        self.signal("TERM")?;
        let (status, _) = self.finish(limit)?;
        if !status.success() {
            bail!("{} stopped with {status}{}", self.name, self.stderr());
        }
        Ok(())
    }

    /// The end of the stderr of a program that has ended, as a suffix for an error message.
    pub(crate) fn stderr(&self) -> String {
        // The reader may be a moment behind. An error here is what is waited for.
        let _ = self.stderr_open.recv_timeout(PIPES);
        self.stderr_so_far()
    }

    /// The same of what it has printed so far.
    fn stderr_so_far(&self) -> String {
        let kept = self.stderr.lock().expect("no holder panics");
        if kept.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = kept.iter().map(String::as_str).collect();
        format!("; its stderr:\n  {}", lines.join("\n  "))
    }
}

/// A child that is killed and reaped when it is dropped.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only if it has been reaped already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes on each line until the pipe ends or `take` returns false. The pipe is read to its end all the
/// same, lest its writer block.
fn each_line(
    pipe: impl Read + Send + 'static,
    mut take: impl FnMut(String) -> bool + Send + 'static,
) {
    thread::spawn(move || {
        let mut listening = true;
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            listening = listening && take(line);
        }
    });
}

fn keep_last(kept: &Mutex<VecDeque<String>>, line: String) -> bool {
    let mut kept = kept.lock().expect("no holder panics");
    if kept.len() == STDERR_LINES {
        kept.pop_front();
    }
    kept.push_back(line);
    true
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        Process::start("the script", "sh", &["-c", script]).unwrap()
    }

    #[test]
    fn lines_status_and_stderr_are_reported() {
        let mut process = shell("echo one; echo two; echo oops >&2; exit 3");
        assert_eq!(process.line(LIMIT).unwrap(), "one");
        let (status, rest) = process.finish(LIMIT).unwrap();
        assert_eq!((status.code(), rest), (Some(3), vec!["two".to_owned()]));
        assert_eq!(process.stderr(), "; its stderr:\n  oops");
    }

    #[test]
    fn a_program_that_is_silent_or_gone_is_an_error_and_never_a_hang() {
        let silent = shell("exec sleep 60");
        let error = silent.line(Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("printed nothing"), "{error}");
        let gone = shell("exit 0");
        let error = gone.line(LIMIT).unwrap_err();
        assert!(error.to_string().contains("ended at once"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_when_it_is_dropped() {
        let mut process = shell("echo $$; exec sleep 60");
        let id = process.line(LIMIT).unwrap();
        let error = process.finish(Duration::from_millis(5)).unwrap_err();
        assert!(
            error.to_string().contains("did not end within 5ms"),
            "{error}"
        );
        drop(process);
        let alive = Command::new("sh")
            .args(["-c", "kill -0 \"$0\" 2>/dev/null", &id])
            .status();
        assert!(!alive.unwrap().success(), "{id} is still alive");
    }

    #[test]
    fn killing_works_on_a_program_that_ignores_signals() {
        let mut stubborn = shell("trap '' TERM; echo $$; while :; do sleep 0.01; done");
        let id = stubborn.line(LIMIT).unwrap();
        assert!(!stubborn.has_ended().unwrap());
        stubborn.kill().unwrap();
        let alive = Command::new("sh")
            .args(["-c", "kill -0 \"$0\" 2>/dev/null", &id])
            .status();
        assert!(!alive.unwrap().success(), "{id} is still alive");
        let mut gone = shell("exit 0");
        gone.finish(LIMIT).unwrap();
        assert!(gone.has_ended().unwrap());
    }

    #[test]
    fn stopping_asks_first_and_reports_a_bad_exit() {
        let polite = shell("trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done");
        polite.line(LIMIT).unwrap();
        polite.stop(LIMIT).unwrap();
        let failing = shell("trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done");
        failing.line(LIMIT).unwrap();
        let error = failing.stop(LIMIT).unwrap_err().to_string();
        assert!(error.contains("exit status: 4"), "{error}");
    }
}
