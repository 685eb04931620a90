//! Waits that end on time: tokio's own have steps of a millisecond, in which an open loop would send
//! fifty calls at once and have none between.

use std::{
    task::{Context, Poll},
    time::Instant,
};

/// A timer for one wait after another.
#[derive(Debug)]
pub(crate) enum Timer {
    /// The system's, to a few microseconds.
    #[cfg(target_os = "linux")]
    Precise(precise::TimerFd),
    /// The runtime's, to a millisecond or two; in tests with a clock that they own.
    Coarse(std::pin::Pin<Box<tokio::time::Sleep>>),
}

impl Timer {
    /// The most precise timer of this system.
    pub(crate) fn new() -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(timer) = precise::TimerFd::new() {
            return Self::Precise(timer);
        }
        Self::coarse()
    }

    /// The runtime's timer.
    pub(crate) fn coarse() -> Self {
        Self::Coarse(Box::pin(tokio::time::sleep(std::time::Duration::ZERO)))
    }

    /// Ready when it is `due`; until then the task is woken at that time.
    pub(crate) fn poll(
        &mut self,
        due: Instant,
        now: Instant,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if due <= now {
            return Poll::Ready(());
        }
        match self {
            #[cfg(target_os = "linux")]
            Self::Precise(timer) => timer.poll(due, now, context),
            Self::Coarse(sleep) => {
                if sleep.deadline() != due.into() {
                    sleep.as_mut().reset(due.into());
                }
                std::future::Future::poll(sleep.as_mut(), context)
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod precise {
    //! A timer of Linux as a descriptor among the runtime's others: timerfd_create(2).

    use std::{
        io,
        os::fd::OwnedFd,
        pin::Pin,
        task::{Context, Poll, ready},
        time::Instant,
    };

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::{
        io::{AsyncRead, ReadBuf},
        net::unix::pipe::Receiver,
    };

    #[derive(Debug)]
    pub(crate) struct TimerFd {
        /// To set it.
        descriptor: OwnedFd,
        /// To read how often it has fired: for the runtime a pipe like any other.
        fired: Receiver,
        /// When it fires next, if it has not fired since.
        due: Option<Instant>,
    }

    impl TimerFd {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self {
                fired: Receiver::from_owned_fd_unchecked(descriptor.try_clone()?)?,
                descriptor,
                due: None,
            })
        }

        pub(super) fn poll(
            &mut self,
            due: Instant,
            now: Instant,
            context: &mut Context<'_>,
        ) -> Poll<()> {
            if self.due != Some(due) && self.set(due, now).is_err() {
                // The task goes on by itself: it spins, which is on time too.
                return Poll::Ready(());
            }
            // Larger than the eight bytes that there are, which tells the runtime that these were all.
            let mut count = [0; 16];
            let mut count = ReadBuf::new(&mut count);
            let _ = ready!(Pin::new(&mut self.fired).poll_read(context, &mut count));
            self.due = None;
            Poll::Ready(())
        }

        fn set(&mut self, due: Instant, now: Instant) -> io::Result<()> {
            let wait = due.saturating_duration_since(now);
            let never = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let value = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            };
            let timer = Itimerspec {
                it_interval: never,
                it_value: value,
            };
            timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &timer)?;
            self.due = Some(due);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;
    use crate::clock;

    /// Both, and with waits that are changed before they end.
    #[tokio::test]
    async fn a_wait_ends_when_it_is_due_and_not_before() {
        for mut timer in [Timer::new(), Timer::coarse()] {
            for wait in [300u64, 0, 5_000, 20, 1_500] {
                let start = clock::now();
                let later = start + Duration::from_secs(1000);
                poll_fn(|context| Poll::Ready(timer.poll(later, start, context).is_ready())).await;
                let due = start + Duration::from_micros(wait);
                poll_fn(|context| timer.poll(due, clock::now(), context)).await;
                assert!(clock::now() >= due, "{timer:?} after {wait} us");
            }
        }
    }
}
