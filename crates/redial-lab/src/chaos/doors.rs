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
use redial_test_ca::{Pair, TestCa, replace};

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
    /// Unix sockets.
    Unix,
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
    pairs: [(&'static str, Pair); 2],
}

/// What the certificates are for.
const NAMES: [&str; 2] = ["127.0.0.1", "chaos.example"];

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
        let pairs = ["server", "client"].map(|name| (name, ca.sign(&NAMES)));
        for (name, pair) in &pairs {
            pair.write(&folder, name)
                .context("can't write a certificate")?;
        }
        Ok(Self {
            transport,
            folder,
            ca,
            pairs,
        })
    }

    pub(crate) fn server_flags(&self) -> Vec<String> {
        self.flags(match self.transport {
            Transport::Tcp | Transport::Unix => "",
            Transport::Tls => "--tls-cert @server.pem --tls-key @server-key.pem",
            Transport::Mtls => {
                "--tls-cert @server.pem --tls-key @server-key.pem --tls-client-ca @ca.pem"
            }
        })
    }

    /// Those of both kinds of clients.
    pub(crate) fn client_flags(&self) -> Vec<String> {
        self.flags(match self.transport {
            Transport::Tcp | Transport::Unix => "",
            Transport::Tls => "--tls-ca @ca.pem",
            Transport::Mtls => "--tls-ca @ca.pem --tls-cert @client.pem --tls-key @client-key.pem",
        })
    }

    /// Replaces the certificates of both ends every second. Their keys stay, so that a program that starts
    /// in between finds a pair.
    pub(crate) fn replace(&self, log: EventLog) -> Replacing {
        let stop = Arc::new(AtomicBool::new(false));
        if matches!(self.transport, Transport::Tcp | Transport::Unix) {
            return Replacing { stop, thread: None };
        }
        let (ca, folder, stopped) = (Arc::clone(&self.ca), self.folder.clone(), Arc::clone(&stop));
        let pairs = self.pairs.clone();
        let thread = thread::spawn(move || {
            loop {
                let deadline = Deadline::after(EVERY);
                while !deadline.has_passed() {
                    if stopped.load(Ordering::Acquire) {
                        return;
                    }
                    thread::sleep(LOOK);
                }
                for (name, pair) in &pairs {
                    let path = folder.join(format!("{name}.pem"));
                    let _ = replace(&path, &ca.renew(&NAMES, pair).certificate);
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
