//! Unix sockets: files that a server before has left behind, who may connect, and who does.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use redial_protocol::{Address, Principal};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::{
    caller::Caller,
    listener::{Accept, BACKLOG},
};

/// How long another program may hold the lock on the folder.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A listener of a Unix socket.
#[derive(Debug)]
pub(crate) struct UnixSource {
    /// Dropped first, while the listener still keeps the number of its file from being used again.
    file: Option<SocketFile>,
    listener: UnixListener,
    /// Whether who connects is a principal, by the user's number.
    pub(crate) has_principals: bool,
}

/// The file of a socket, which goes with its listener, unless it is another's by then.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixSource {
    /// Listens on a path, as the system's calls take it. Only processes with write permission to the
    /// file may connect, from the first moment on: nothing listens before its mode is set.
    pub(crate) async fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let has_file = !path.as_os_str().as_encoded_bytes().starts_with(b"\0");
        let socket = UnixSocket::new_stream()?;
        if !has_file {
            socket.bind(path)?;
            return Ok(socket.listen(BACKLOG)?.into());
        }
        // Of two servers that begin at once, neither takes the file of the other for a stale one.
        let _lock = lock_folder(path).await;
        remove_stale(path).await?;
        socket.bind(path)?;
        let file = SocketFile::of(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(Self {
            file: Some(file),
            listener: socket.listen(BACKLOG)?,
            has_principals: false,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        let address = self.listener.local_addr()?;
        let path = match (address.as_pathname(), abstract_name(&address)) {
            (Some(path), _) => path.to_owned(),
            (None, Some(name)) => format!("\0{name}").into(),
            (None, None) => PathBuf::from("./unnamed"),
        };
        Ok(Address::from_unix_path(&path))
    }

    fn caller(&self, stream: &UnixStream) -> Caller {
        let caller = Caller::default();
        if !self.has_principals {
            return caller;
        }
        let Ok(peer) = stream.peer_cred() else {
            return caller;
        };
        match Principal::new(&format!("uid:{}", peer.uid())) {
            Ok(principal) => caller.with_principal(principal),
            Err(_) => caller,
        }
    }
}

impl From<UnixListener> for UnixSource {
    fn from(listener: UnixListener) -> Self {
        Self {
            file: None,
            listener,
            has_principals: false,
        }
    }
}

impl Accept for UnixSource {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Caller)> {
        let (stream, _) = self.listener.accept().await?;
        let caller = self.caller(&stream);
        Ok((stream, caller))
    }

    fn accept_rest(mut self, max: usize, mut each: impl FnMut(UnixStream, Caller)) {
        drop(self.file.take());
        let Ok(listener) = self.listener.as_std_clone() else {
            return;
        };
        for _ in 0..max {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            let stream = stream.set_nonblocking(true).map(|()| stream);
            if let Ok(stream) = stream.and_then(UnixStream::from_std) {
                let caller = self.caller(&stream);
                each(stream, caller);
            }
        }
    }

    fn dismiss(io: UnixStream, words: &[u8]) {
        let _: io::Result<usize> = io.into_std().and_then(|mut io| io.write(words));
    }
}

/// A second handle on the same socket, for calls that don't wait.
trait AsStdClone {
    fn as_std_clone(&self) -> io::Result<std::os::unix::net::UnixListener>;
}

impl AsStdClone for UnixListener {
    fn as_std_clone(&self) -> io::Result<std::os::unix::net::UnixListener> {
        use std::os::fd::AsFd;
        Ok(self.as_fd().try_clone_to_owned()?.into())
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_same = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode));
        if is_same {
            let _: io::Result<()> = fs::remove_file(&self.path);
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(address: &tokio::net::unix::SocketAddr) -> Option<String> {
    let name = address.as_abstract_name()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &tokio::net::unix::SocketAddr) -> Option<String> {
    None
}

/// Keeps other servers from binding in the same folder meanwhile. A folder that can't be opened, or that
/// another program keeps locked, is not locked.
async fn lock_folder(path: &Path) -> Option<File> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).ok()?;
    for _ in 0..LOCK_TRIES {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(TryLockError::Error(_)) => return None,
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
        }
    }
    // No server that begins takes so long. Anything that can read the folder can lock it.
    None
}

/// Removes the file of a socket on which nothing listens.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let in_use = |text| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    if !metadata.file_type().is_socket() {
        return in_use("a file of that name is there, and is no socket");
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => in_use("another server listens there"),
        // A full backlog says so, too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            in_use("another server listens there")
        }
        Err(error) => Err(error),
    }
}
