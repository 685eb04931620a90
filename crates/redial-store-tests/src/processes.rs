//! The processes of a server, as Linux's `/proc` shows them.

use std::{fs, path::Path, time::Duration};

/// Clock ticks a second in `/proc/PID/stat` (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// What stands behind the name of a process, which may have anything in it: first its state, and its parent.
fn stat(process: u32) -> Vec<String> {
    let path = Path::new("/proc").join(process.to_string()).join("stat");
    let text = fs::read_to_string(path).unwrap_or_default();
    let behind = text.rsplit(')').next().unwrap_or_default();
    behind.split_whitespace().map(str::to_owned).collect()
}

/// The processes that have this one as their parent.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        let parent_of = stat(*process).get(1).and_then(|it| it.parse().ok());
        parent_of == Some(parent)
    };
    processes.filter(is_child).collect()
}

/// The processor time of a server: its own, that of its children, and of those that have ended.
pub(crate) fn cpu(server: u32) -> Duration {
    // User and system time, and both of children that have ended.
    let sum = |process: u32, fields: std::ops::Range<usize>| {
        let stat = stat(process);
        let fields = stat.get(fields).unwrap_or_default();
        fields
            .iter()
            .filter_map(|it| it.parse::<f64>().ok())
            .sum::<f64>()
    };
    let children: f64 = children(server).into_iter().map(|it| sum(it, 11..13)).sum();
    Duration::from_secs_f64((sum(server, 11..15) + children) / TICKS_PER_S)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_is_found_and_its_time_counts_also_when_it_has_ended() {
        let own = std::process::id();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; cat";
        let mut child = Command::new("sh")
            .args(["-c", busy])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(children(own).contains(&child.id()));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert!(!children(own).contains(&child.id()));
        assert!(cpu(own) > Duration::from_millis(20), "{:?}", cpu(own));
    }
}
