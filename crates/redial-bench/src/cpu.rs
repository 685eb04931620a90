//! The core that a program runs on, and its CPU time.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

/// Clock ticks per second in `/proc/PID/stat`, where Linux reports nothing finer (proc(5); the
/// figure is the same on all its platforms).
const TICKS_PER_S: u64 = 100;

/// Keeps this thread, and those that it starts from now on, on one core.
///
/// # Errors
///
/// What the system says if there is no such core, or if it can't pin at all.
#[cfg(target_os = "linux")]
pub fn pin(core: usize) -> Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};

    ensure!(
        core < CpuSet::MAX_CPU,
        "--core {core}: expected less than {}",
        CpuSet::MAX_CPU
    );
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("can't run on --core {core} only"))
}

/// Keeps this thread, and those that it starts from now on, on one core.
///
/// # Errors
///
/// Always: it is done on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn pin(core: usize) -> Result<()> {
    anyhow::bail!("--core {core}: only Linux can keep a program on a core")
}

/// How long the threads of a process have run so far, those that have ended left out.
///
/// # Errors
///
/// If the system doesn't say: this is known on Linux only.
pub fn time_of(process: u32) -> Result<Duration> {
    let folder = format!("/proc/{process}/task");
    let tasks = fs::read_dir(&folder)
        .with_context(|| format!("can't read {folder}: has it ended, or is this not Linux?"))?;
    let mut sum = Duration::ZERO;
    let mut threads = 0;
    for task in tasks {
        // A thread that ends meanwhile isn't one of those that work, which stay to the end.
        if let Some(time) = time_of_thread(&task?.path()) {
            sum += time;
            threads += 1;
        }
    }
    ensure!(threads > 0, "no thread in {folder} has a readable CPU time");
    Ok(sum)
}

fn time_of_thread(folder: &Path) -> Option<Duration> {
    match fs::read_to_string(folder.join("schedstat")) {
        Ok(text) => of_schedstat(&text),
        Err(_) => of_stat(&fs::read_to_string(folder.join("stat")).ok()?),
    }
}

/// The first figure, in nanoseconds.
fn of_schedstat(text: &str) -> Option<Duration> {
    let first = text.split_whitespace().next()?;
    first.parse().ok().map(Duration::from_nanos)
}

/// The 14th and the 15th field. The 2nd, in parentheses, is of the program's choosing.
fn of_stat(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_linuxs_files_are_read() {
        let time = of_schedstat("1500000000 77 3\n");
        assert_eq!(time, Some(Duration::from_millis(1500)));
        let stat = "7 (a b) c) R 1 2 3 4 5 6 7 8 9 10 25 50 0 0 20 0 1 0";
        assert_eq!(of_stat(stat), Some(Duration::from_millis(750)));
        assert_eq!(of_stat("nonsense"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_run_and_one_that_does_not_exist_is_named() {
        assert!(time_of(std::process::id()).is_ok());
        let error = time_of(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/task"), "{error}");
        let error = pin(1023).unwrap_err().to_string();
        assert!(error.contains("--core 1023"), "{error}");
    }
}
