//! The tasks of a client: one driver per connection, and one timer task per runtime on which calls
//! are awaited.

use tokio::{runtime, task::AbortHandle};

/// The tasks of a client, to be aborted when it is dropped.
pub(crate) struct Tasks {
    /// The driver of each link.
    pub(crate) drivers: Vec<Option<AbortHandle>>,
    /// The task that looks after the endpoints.
    pub(crate) discovery: Option<AbortHandle>,
    /// The timer tasks, each known by its index.
    timers: Vec<Option<TimerTask>>,
}

struct TimerTask {
    runtime: runtime::Id,
    /// `None` until it is started.
    handle: Option<AbortHandle>,
}

impl Tasks {
    pub(crate) fn new(links: usize) -> Self {
        Self {
            drivers: vec![None; links],
            discovery: None,
            timers: Vec::new(),
        }
    }

    /// Takes the driver of a link, if it is kept here already.
    pub(crate) fn take_driver(&mut self, link: usize) -> Option<AbortHandle> {
        self.drivers.get_mut(link)?.take()
    }

    /// Keeps the driver of a link.
    pub(crate) fn set_driver(&mut self, link: usize, task: AbortHandle) {
        if self.drivers.len() <= link {
            self.drivers.resize(link + 1, None);
        }
        self.drivers[link] = Some(task);
    }

    /// The timer task of a runtime, if calls were awaited there before.
    #[inline]
    pub(crate) fn find_timer(&self, runtime: runtime::Id) -> Option<usize> {
        self.timers.iter().position(|slot| {
            let task = slot.as_ref();
            task.is_some_and(|task| task.runtime == runtime)
        })
    }

    /// Makes room for the timer task of a runtime that has none. It has to be started.
    pub(crate) fn add_timer(&mut self, runtime: runtime::Id) -> usize {
        let task = Some(TimerTask {
            runtime,
            handle: None,
        });
        let Some(free) = self.timers.iter().position(Option::is_none) else {
            self.timers.push(task);
            return self.timers.len() - 1;
        };
        self.timers[free] = task;
        free
    }

    /// Takes the handle of a timer task, unless the task has been removed.
    pub(crate) fn set_timer_handle(&mut self, timer: usize, handle: &mut Option<AbortHandle>) {
        if let Some(Some(task)) = self.timers.get_mut(timer) {
            task.handle = handle.take();
        }
    }

    /// A timer task is gone, with its runtime.
    pub(crate) fn remove_timer(&mut self, timer: usize) {
        if let Some(slot) = self.timers.get_mut(timer) {
            *slot = None;
        }
    }

    /// Takes all tasks, to be aborted.
    pub(crate) fn take_all(&mut self) -> Vec<Option<AbortHandle>> {
        let mut all = std::mem::take(&mut self.drivers);
        let timers = std::mem::take(&mut self.timers);
        all.push(self.discovery.take());
        all.extend(timers.into_iter().flatten().map(|task| task.handle));
        all
    }
}
