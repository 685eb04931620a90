//! What the connections go over, and the certificates that are replaced meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use redial_test_ca::{TestCa, replace};

use super::event_log::{ChaosEvent, EventLog};
use crate::harness::clock::Deadline;

/// How often the certificates are replaced.
const EVERY: Duration = Duration::from_secs(1);
/// How often the thread that does it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// What the connections go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP alone.
    Tcp,
    /// TLS: the server shows a certificate.
    Tls,
    /// TLS in which the clients show one, too.
    Mtls,
}

/// The authority and its certificates, in a folder.
pub(crate) struct Doors {
    transport: Transport,
    folder: PathBuf,
    ca: Arc<TestCa>,
}

/// A thread that replaces the certificates until it is stopped.
pub(crate) struct Replacing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Doors {
    pub(crate) fn new(transport: Transport, folder: &Path) -> Result<Self> {
        let folder = folder.join("certificates");
        fs::create_dir_all(&folder).context("can't make the folder of the certificates")?;
        let ca = Arc::new(TestCa::new("chaos"));
        fs::write(folder.join("ca.pem"), ca.pem()).context("can't write a certificate")?;
        let doors = Self {
            transport,
            folder,
            ca,
        };
        for name in ["server", "client"] {
            issue(&doors.ca, &doors.folder, name)?;
        }
        Ok(doors)
    }

    pub(crate) fn server_flags(&self) -> Vec<String> {
        self.flags(match self.transport {
            Transport::Tcp => "",
            Transport::Tls => "--tls-cert @server.pem --tls-key @server-key.pem",
            Transport::Mtls => {
                "--tls-cert @server.pem --tls-key @server-key.pem --tls-client-ca @ca.pem"
            }
        })
    }

    /// Those of both kinds of clients.
    pub(crate) fn client_flags(&self) -> Vec<String> {
        self.flags(match self.transport {
            Transport::Tcp => "",
            Transport::Tls => "--tls-ca @ca.pem",
            Transport::Mtls => "--tls-ca @ca.pem --tls-cert @client.pem --tls-key @client-key.pem",
        })
    }

    /// Replaces the certificates of both ends every second; each third time they are broken for a while.
    pub(crate) fn replace(&self, log: EventLog) -> Replacing {
        let stop = Arc::new(AtomicBool::new(false));
        if self.transport == Transport::Tcp {
            return Replacing { stop, thread: None };
        }
        let (ca, folder, stopped) = (Arc::clone(&self.ca), self.folder.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for round in 1_u64.. {
                let deadline = Deadline::after(EVERY);
                while !deadline.has_passed() {
                    if stopped.load(Ordering::Acquire) {
                        return;
                    }
                    thread::sleep(LOOK);
                }
                for name in ["server", "client"] {
                    // A program that starts now waits for no other: only the key is broken, and the
                    // pair whole again at once.
                    if round.is_multiple_of(3) {
                        let _ = replace(&folder.join(format!("{name}-key.pem")), "broken");
                    }
                    let _ = issue(&ca, &folder, name);
                }
                log.record(ChaosEvent::CertificatesReplaced);
            }
        });
        Replacing {
            stop,
            thread: Some(thread),
        }
    }

    fn flags(&self, flags: &str) -> Vec<String> {
        let folder = format!("{}/", self.folder.display());
        let flags = flags.split_whitespace();
        flags.map(|flag| flag.replace('@', &folder)).collect()
    }
}

impl Replacing {
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

fn issue(ca: &TestCa, folder: &Path, name: &str) -> Result<()> {
    let pair = ca.sign(&["127.0.0.1", "chaos.example"]);
    pair.write(folder, name)
        .context("can't write a certificate")?;
    Ok(())
}
