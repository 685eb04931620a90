//! How many files and sockets the system lets a program have open at once.

use anyhow::Context;

/// How many descriptors a program has open at least that has a runtime and one connection.
const LEAST: usize = 12;

/// What a server has open beside its connections, and a little more.
const OTHERS: usize = 64;

/// Raises the soft limit of this process to the hard one, as a server does whose limits are its own. What is
/// wrong if so many connections don't fit all the same.
///
/// ```
/// use redial_examples::descriptors::raise_limit;
///
/// assert!(raise_limit(1).is_ok());
/// ```
///
/// # Errors
///
/// One line, for people.
#[cfg(unix)]
pub fn raise_limit(max_connections: usize) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let had = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: had.maximum,
        maximum: had.maximum,
    };
    // What the system refuses is left as it was.
    let has = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => had.maximum,
        Err(_) => had.current,
    };
    match has.and_then(|has| usize::try_from(has).ok()) {
        Some(has) if has < max_connections.saturating_add(OTHERS) => Err(format!(
            "{max_connections} connections don't fit into {has} file descriptors (ulimit -n): before \
             those run out, the peer with the most connections gives up its longest idle one"
        )),
        _ => Ok(()),
    }
}

/// Where there is no such limit.
#[cfg(not(unix))]
pub fn raise_limit(_max_connections: usize) -> Result<(), String> {
    Ok(())
}

/// A runtime of tokio's: what `#[tokio::main]` makes, which panics where the system gives no descriptors
/// for it.
///
/// # Errors
///
/// The system's, with what to do.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let least = format!("it takes about {LEAST} file descriptors (ulimit -n)");
    // The runtime's driver of signals, which is made when it is first used, panics without any.
    let spare: Result<Vec<_>, _> = (0..LEAST)
        .map(|_| std::net::UdpSocket::bind("127.0.0.1:0"))
        .collect();
    drop(spare.with_context(|| least.clone())?);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context(least)
}
