//! Tokens of calls, in files that outlive the program.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use redial_client::CallToken;

use crate::failure::Failure;

/// Whether a token can be written there: what is there may be the token of a call whose outcome is not
/// known yet.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    match path.try_exists() {
        Ok(true) => Err(there_is_one(path)),
        _ => Ok(()),
    }
}

fn there_is_one(path: &Path) -> Failure {
    Failure::usage(format!(
        "--save-token {}: the file is there, and may hold the token of a call; nothing was sent; \
         expected a new file",
        path.display()
    ))
}

/// Writes a token, so that it is there whatever happens to this machine once the call has been sent.
pub(super) fn write(path: &Path, token: &CallToken) -> Result<(), Failure> {
    let refuse = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => there_is_one(path),
        _ => Failure::usage(format!(
            "--save-token {}: {error}; nothing was sent",
            path.display()
        )),
    };
    let text = serde_json::to_string(token).map_err(|error| refuse(error.into()))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // It holds the params, which are no other user's business.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(refuse)?;
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    written.map_err(refuse)?;
    // The name is durable once its folder is.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Says of a call without a session that its id is not remembered for ever, and by some servers not at all.
pub(super) fn warn(token: &CallToken) {
    let is_of_session = serde_json::to_value(token).is_ok_and(|token| token.get("table").is_some());
    if !is_of_session {
        let text = "note: the call has no session: once the server has forgotten its id (Redial's: after 10 s; \
                    others may never know it), --resume executes it again";
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

pub(super) fn read(path: &Path, flag: &str) -> Result<CallToken, Failure> {
    let refuse = |why: String| Failure::usage(format!("{flag} {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| {
        refuse(format!(
            "{error}; nothing was sent; expected the file that --save-token wrote"
        ))
    })?;
    let token = serde_json::from_str(&text);
    token.map_err(|error| {
        refuse(format!(
            "no token: {error}; nothing was sent; expected what --save-token wrote"
        ))
    })
}
