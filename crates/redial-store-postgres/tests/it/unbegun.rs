//! Kind of fault: what was to be in a transaction is outside of it.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
};

use redial_server::store::{Claimed, Executed, Store, TransactionMethod};
use redial_store_tests::{
    Effect, End,
    client::{call, key, session, wait},
};

use crate::rig::{Database, Isolation, batched, method, options, prepare};

/// Stands between a store and a database, and has one `BEGIN` come to what a cancelled one does: that of a
/// `statement_timeout` on a machine that stood still, say.
#[derive(Clone, Default)]
struct Cancelling {
    is_armed: Arc<AtomicBool>,
}

impl Cancelling {
    /// Returns a connection string.
    fn start(&self, database: &Database) -> Option<String> {
        let (listener, socket, url) = database.port_before()?;
        let between = self.clone();
        drop(thread::spawn(move || between.serve(&listener, &socket)));
        Some(url)
    }

    fn serve(&self, listener: &TcpListener, socket: &Path) {
        loop {
            let (near, _) = listener.accept().unwrap();
            let far = UnixStream::connect(socket).unwrap();
            let (mut to_far, mut to_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            let there = self.clone();
            drop(thread::spawn(move || {
                there.forward(near, &mut to_far);
                drop(to_far.shutdown(Shutdown::Both));
            }));
            drop(thread::spawn(move || {
                let mut far = far;
                drop(std::io::copy(&mut far, &mut to_near));
                drop(to_near.shutdown(Shutdown::Both));
            }));
        }
    }

    /// Message by message.
    fn forward(&self, mut from: TcpStream, to: &mut UnixStream) -> Option<()> {
        let mut tag_bytes = 0;
        loop {
            let mut head = vec![0; tag_bytes + 4];
            from.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes(head[tag_bytes..].try_into().ok()?);
            let mut body = vec![0; length as usize - 4];
            from.read_exact(&mut body).ok()?;
            if head[0] == b'Q' && body.starts_with(b"BEGIN") && self.is_armed.swap(false, SeqCst) {
                body = b"DO $$ BEGIN RAISE query_canceled; END $$\0".to_vec();
                let length = body.len() as u32 + 4;
                head[1..].copy_from_slice(&length.to_be_bytes());
            }
            to.write_all(&head).ok()?;
            to.write_all(&body).ok()?;
            // The first has none.
            tag_bytes = 1;
        }
    }
}

/// A call runs once, though the first `BEGIN` for it is cancelled.
fn check(method: &Arc<dyn TransactionMethod>, end: End) {
    let Some(database) = Database::new(Isolation::ReadCommitted) else {
        return;
    };
    let between = Cancelling::default();
    let Some(url) = between.start(&database) else {
        return;
    };
    let store = options().open(&url).unwrap();
    let (sender, opened) = mpsc::channel();
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.open_session(session(1), None, done);
    wait(&opened).unwrap();
    between.is_armed.store(true, SeqCst);
    let (sender, answer) = mpsc::channel();
    let prepared = prepare(method, Effect::add("k", 1).then(end));
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.execute(call(key(1, 0), 7), prepared, done);
    let answer = wait(&answer);
    assert!(!between.is_armed.load(SeqCst), "nothing was cancelled");
    let effects = i64::from(end == End::Return);
    assert_eq!(database.counter("k"), effects, "{answer:?}");
    let Ok(Executed::New(outcome)) = &answer else {
        panic!("{answer:?}");
    };
    // That is on record.
    let (sender, again) = mpsc::channel();
    let prepared = prepare(method, Effect::add("k", 1));
    let done = Box::new(move |it| sender.send(it).unwrap());
    store.execute(call(key(1, 0), 7), prepared, done);
    match wait(&again) {
        Ok(Executed::Claimed(Claimed::Recorded(bytes))) => assert_eq!(bytes, outcome.bytes()),
        other => panic!("{other:?}"),
    }
}

/// Its handler has written what nothing undoes, and runs again.
#[test]
fn a_batch_whose_begin_was_cancelled_has_no_effect() {
    for end in [End::Return, End::Fail] {
        check(&batched(), end);
    }
}

/// Its claim is on record, and nothing runs it: it waited for itself.
#[test]
fn a_call_whose_begin_was_cancelled_runs() {
    for end in [End::Return, End::Fail] {
        check(&method(), end);
    }
}
