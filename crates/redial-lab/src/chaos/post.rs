//! Requests that were kept on the way and come to the server later, each on a connection of its
//! own.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use super::diary::{Deed, Diary};
use crate::harness::clock::{self, Deadline};

/// How often the letters are looked through.
const LOOK: Duration = Duration::from_millis(5);
/// A connection is kept so long for its request to be worked off, and then dropped with whatever
/// was answered.
const KEPT: Duration = Duration::from_secs(1);

/// A frame, and when it is to be there.
struct Letter {
    due: Instant,
    frame: Vec<u8>,
}

/// Takes frames to be delivered later.
#[derive(Clone)]
pub(crate) struct Post {
    letters: Sender<Letter>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How many letters have not been delivered, and worked off.
    waiting: AtomicUsize,
    /// All of them are due.
    is_hurried: AtomicBool,
}

struct Postman {
    server: SocketAddr,
    diary: Diary,
    letters: Receiver<Letter>,
    shared: Arc<Shared>,
    bag: Vec<Letter>,
    open: Vec<(Instant, TcpStream)>,
}

impl Post {
    /// Starts to deliver to this server. It ends when the last clone is gone.
    pub(crate) fn start(server: SocketAddr, diary: Diary) -> Self {
        let (letters, inbox) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let postman = Postman {
            server,
            diary,
            letters: inbox,
            shared: Arc::clone(&shared),
            bag: Vec::new(),
            open: Vec::new(),
        };
        thread::spawn(move || postman.work());
        Self { letters, shared }
    }

    /// Delivers the frame after so long, or as soon as there is a server then.
    pub(crate) fn send(&self, frame: Vec<u8>, after: Duration) {
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        let due = clock::now() + after;
        // The postman goes only after all who could post.
        let _ = self.letters.send(Letter { due, frame });
    }

    /// Delivers everything at once, gives the server the time to work it off, and says whether
    /// that was done within `limit`.
    pub(crate) fn empty(&self, limit: Duration) -> bool {
        self.shared.is_hurried.store(true, Ordering::Release);
        let deadline = Deadline::after(limit);
        while self.shared.waiting.load(Ordering::Acquire) > 0 {
            if deadline.has_passed() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }
}

impl Postman {
    fn work(mut self) {
        loop {
            match self.letters.recv_timeout(LOOK) {
                Ok(letter) => self.bag.push(letter),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = clock::now();
            let all = self.shared.is_hurried.load(Ordering::Acquire);
            let is_due = |letter: &Letter| all || letter.due <= now;
            let (due, bag) = self.bag.drain(..).partition(is_due);
            self.bag = bag;
            for letter in due {
                self.deliver(letter, now);
            }
            let before = self.open.len();
            self.open.retain(|(opened, _)| *opened + KEPT > now);
            let over = before - self.open.len();
            self.shared.waiting.fetch_sub(over, Ordering::AcqRel);
        }
    }

    fn deliver(&mut self, letter: Letter, now: Instant) {
        let connected = TcpStream::connect(self.server);
        let written = connected.and_then(|mut to| to.write_all(&letter.frame).map(|()| to));
        match written {
            Ok(connection) => {
                self.diary.note(Deed::LetThrough);
                self.open.push((now, connection));
            }
            // The server is away. It will be back, as another one, which is the best moment.
            Err(_) => self.bag.push(letter),
        }
    }
}
