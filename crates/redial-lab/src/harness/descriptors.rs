//! How many descriptors a process may have: as many as the system lets it, if it asks.

use anyhow::Result;

/// Raises the soft limit to the hard one, which the programs started later inherit; returns how many
/// there are then.
#[cfg(unix)]
pub(crate) fn raise() -> Result<u64> {
    use anyhow::Context;
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit of descriptors can't be raised")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Elsewhere sockets are not counted as files.
#[cfg(not(unix))]
pub(crate) fn raise() -> Result<u64> {
    Ok(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn asking_twice_changes_nothing() {
        let limit = super::raise().unwrap();
        assert!(limit >= 64);
        assert_eq!(super::raise().unwrap(), limit);
    }
}
