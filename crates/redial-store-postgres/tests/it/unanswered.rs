//! Kind of fault: the database goes away in the middle of a commit and stays away, and what may have been
//! executed is said not to be.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use redial_server::store::Store;
use redial_store_tests::{
    Effect,
    client::{call, key, session, wait},
};

use crate::rig::{Database, Isolation, batched, method, options, prepare};

/// Stands between a store and a database, and is gone for good once an outcome goes to be committed: the
/// `COMMIT` gets through, and nothing comes back.
#[derive(Clone, Default)]
struct Between {
    is_gone: Arc<AtomicBool>,
}

impl Between {
    /// Returns a connection string.
    fn start(&self, database: &Database) -> Option<String> {
        let (listener, socket, url) = database.port_before()?;
        let between = self.clone();
        drop(thread::spawn(move || between.serve(&listener, &socket)));
        Some(url)
    }

    fn serve(&self, listener: &TcpListener, socket: &PathBuf) {
        loop {
            let (near, _) = listener.accept().unwrap();
            if self.is_gone.load(SeqCst) {
                return;
            }
            let far = UnixStream::connect(socket).unwrap();
            let (to_far, to_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            let (there, back) = (self.clone(), self.clone());
            drop(thread::spawn(move || there.forward(near, to_far)));
            drop(thread::spawn(move || back.answer(far, &to_near)));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: UnixStream) {
        let (mut buffer, mut has_outcome) = ([0; 1 << 16], false);
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if self.is_gone.load(SeqCst) {
                break;
            }
            let bytes = &buffer[..count];
            let has = |words: &[u8]| bytes.windows(words.len()).any(|part| part == words);
            has_outcome |= has(b"WITH recorded") || has(b"SET reply");
            if has_outcome && has(b"COMMIT") {
                self.is_gone.store(true, SeqCst);
            }
            if to.write_all(bytes).is_err() {
                break;
            }
            if self.is_gone.load(SeqCst) {
                // The database reads the `COMMIT`, and then the end.
                drop(to.shutdown(Shutdown::Write));
                break;
            }
        }
        drop(from.shutdown(Shutdown::Both));
    }

    fn answer(&self, mut from: UnixStream, mut to: &TcpStream) {
        let mut buffer = [0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // What comes back is taken all the same: the database would undo the transaction otherwise.
            if !self.is_gone.load(SeqCst) && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    }
}

#[test]
fn a_call_whose_commit_has_no_answer_is_not_said_to_be_unexecuted() {
    for method in [method(), batched()] {
        let Some(database) = Database::new(Isolation::ReadCommitted) else {
            return;
        };
        let Some(url) = Between::default().start(&database) else {
            return;
        };
        let soon = Duration::from_millis(300);
        let store = options().retry_for(soon).join_for(soon).open(&url).unwrap();
        let (sender, opened) = mpsc::channel();
        store.open_session(
            session(1),
            None,
            Box::new(move |it| sender.send(it).unwrap()),
        );
        wait(&opened).unwrap();
        let (sender, answer) = mpsc::channel();
        let prepared = prepare(&method, Effect::add("k", 1));
        store.execute(
            call(key(1, 0), 7),
            prepared,
            Box::new(move |it| sender.send(it).unwrap()),
        );
        let error = wait(&answer).unwrap_err();
        assert_eq!(database.counter("k"), 1, "{error}");
        assert!(error.is_uncertain, "{error}");
    }
}
