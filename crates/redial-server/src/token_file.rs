//! A file of hashed tokens, read again when it changes.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use redial_protocol::Principal;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::{
    auth::{Verified, Verifier, VerifyError},
    clock,
};

/// How seldom it is looked whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest file that is read: every token is compared with all of it.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A file of tokens, each hashed: a line is `NAME SHA256`, 64 hex digits, and lets the token in whose hash
/// that is, as the principal `token:NAME`. Lines that are empty or begin with `#` say nothing. A name may
/// have several tokens, so that one can take the place of another.
///
/// The file, of 16 MiB at most, is read again when it has changed, a second later at most. One that can't
/// be read then, or makes no sense, is refused as a whole: what was read before stays.
/// [`reload`](Self::reload) and [`problem`](Self::problem) say what is wrong with it. Write a new file
/// beside the old one and rename it, or half of it may be read. A token that is taken out lets no new
/// connection in; those that are open stay.
///
/// A hash without a salt is enough for what can't be guessed, and for nothing else: a token should be 16
/// random bytes or more, written in hex.
///
/// Cheap to clone; all clones are the same file.
///
/// ```
/// use redial_server::{Server, TokenFile};
///
/// # let path = std::env::temp_dir().join(format!("redial-doc-tokens-{}", std::process::id()));
/// // $ printf %s "$TOKEN" | sha256sum
/// let line = TokenFile::line("billing", "5f0c9e7d6b1a4c3f8e2d7a9b0c1e4f60");
/// assert!(line.starts_with("billing "));
/// std::fs::write(&path, format!("# The billing service\n{line}\n"))?;
/// let builder = Server::builder().authenticate(TokenFile::open(&path)?);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TokenFile(Arc<WatchedFile>);

/// Why a file of tokens is not used. It names lines, and nothing that stands in them.
#[derive(Error)]
pub enum TokenFileError {
    /// It can't be read.
    #[error("{}: can't be read: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// A line makes no sense.
    #[error("{}: line {line}: {why}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it, and what was expected.
        why: String,
    },
}

/// As its sentence, which is what a `main` that returns it prints.
impl fmt::Debug for TokenFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct WatchedFile {
    path: PathBuf,
    state: Mutex<FileState>,
    /// Held by the one who looks whether the file has changed, which may take as long as its disk.
    looking: Mutex<()>,
}

struct FileState {
    entries: Arc<[TokenEntry]>,
    stamp: Option<Stamp>,
    looked: Instant,
    problem: Option<String>,
}

/// What a file looks like from outside.
type Stamp = (Option<SystemTime>, u64, u64);

struct TokenEntry {
    hash: [u8; 32],
    principal: Principal,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`TokenFileError`] if it can't be read or makes no sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TokenFileError> {
        let path = path.as_ref().to_owned();
        let stamp = stamp(&path);
        let entries = read(&path)?;
        let state = FileState {
            entries,
            stamp,
            looked: clock::now(),
            problem: None,
        };
        Ok(Self(Arc::new(WatchedFile {
            path,
            state: Mutex::new(state),
            looking: Mutex::default(),
        })))
    }

    /// The line for a token, without a line break.
    #[must_use]
    pub fn line(name: &str, token: &str) -> String {
        let digits = hash(token).map(|byte| format!("{byte:02x}"));
        format!("{name} {}", digits.concat())
    }

    /// Reads the file now, whether it has changed or not.
    ///
    /// # Errors
    ///
    /// [`TokenFileError`], after which the tokens from before count.
    pub fn reload(&self) -> Result<(), TokenFileError> {
        let stamp = stamp(&self.0.path);
        let read = read(&self.0.path);
        let mut state = self.0.lock();
        state.stamp = stamp;
        state.problem = read.as_ref().err().map(ToString::to_string);
        state.entries = read?;
        Ok(())
    }

    /// What is wrong with the file as it is now; `None` if it is what counts.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.0.lock().problem.clone()
    }

    /// Reads the file again if it has changed.
    fn look(&self) {
        let Ok(_looking) = self.0.looking.try_lock() else {
            return;
        };
        let stamp = stamp(&self.0.path);
        if self.0.lock().stamp != stamp {
            // What is wrong is kept as its problem.
            let _: Result<(), TokenFileError> = self.reload();
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let is_due = now.saturating_duration_since(state.looked) >= LOOK_EVERY;
        if is_due {
            state.looked = now;
        }
        is_due
    }

    /// Looks at every entry, whichever it is.
    fn find(&self, token: &str) -> Option<Principal> {
        let hash = hash(token);
        let entries = Arc::clone(&self.0.lock().entries);
        let (mut found, mut at) = (Choice::from(0), 0_u64);
        for (number, entry) in entries.iter().enumerate() {
            let is_it = entry.hash.ct_eq(&hash);
            at.conditional_assign(&(number as u64), is_it);
            found |= is_it;
        }
        let entry = entries.get(at as usize)?;
        bool::from(found).then(|| entry.principal.clone())
    }
}

impl Verifier for TokenFile {
    async fn verify(&self, token: &str, _: Option<SocketAddr>) -> Result<Verified, VerifyError> {
        if self.is_due(clock::now()) {
            let file = self.clone();
            // A look that fails leaves what was read before.
            let _ = tokio::task::spawn_blocking(move || file.look()).await;
        }
        let principal = self.find(token).ok_or(VerifyError::Rejected)?;
        Ok(Verified {
            principal,
            expires: None,
        })
    }
}

/// Neither tokens nor their hashes.
impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.0.lock().entries.len();
        f.debug_struct("TokenFile")
            .field("path", &self.0.path)
            .field("tokens", &tokens)
            .finish_non_exhaustive()
    }
}

impl WatchedFile {
    fn lock(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok(), metadata.len(), inode))
}

fn read(path: &Path) -> Result<Arc<[TokenEntry]>, TokenFileError> {
    let text = read_text(path).map_err(|reason| TokenFileError::Unreadable {
        path: path.to_owned(),
        reason,
    })?;
    // Some editors begin a file with a mark, which is no part of a name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().enumerate();
    let lines = lines.map(|(number, line)| (number + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut entries: Vec<TokenEntry> = Vec::new();
    let mut known = HashMap::new();
    for (line, text) in lines {
        let wrong = |why: String| TokenFileError::Line {
            path: path.to_owned(),
            line,
            why,
        };
        let entry = entry(text).map_err(wrong)?;
        let same = known.insert(entry.hash, entry.principal.clone());
        if same.is_some_and(|other| other != entry.principal) {
            let why = "the token is another name's, too; expected one name for each token";
            return Err(wrong(why.to_owned()));
        }
        entries.push(entry);
    }
    Ok(entries.into())
}

fn read_text(path: &Path) -> io::Result<String> {
    // To open anything else may take for ever: a pipe waits for its other end.
    if !fs::metadata(path)?.is_file() {
        let text = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        let text = format!("it has more than {} MiB", MAX_BYTES / 1024 / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(text)
}

/// An error repeats nothing of the line: who has the file's form wrong may have written a token anywhere.
fn entry(line: &str) -> Result<TokenEntry, String> {
    let mut words = line.split_whitespace();
    let (name, digits) = (words.next(), words.next());
    let (Some(name), Some(digits), None) = (name, digits, words.next()) else {
        return Err("expected a name and a hash, separated by a space".to_owned());
    };
    let no_hash = "what stands behind the name is no SHA-256 of a token; expected 64 hex digits";
    let hash = parse(digits).ok_or_else(|| no_hash.to_owned())?;
    let principal = Principal::new(&format!("token:{name}"));
    Ok(TokenEntry {
        hash,
        principal: principal.map_err(|error| error.to_string())?,
    })
}

fn parse(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let bytes = digits.as_bytes();
    if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}
