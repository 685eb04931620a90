//! The files that flags name.

use std::path::{Path, PathBuf};

/// Checks that no two flags name the same file, by whatever path.
///
/// # Errors
///
/// Names two that do.
pub fn one_for_each(files: &[(&str, Option<&Path>)]) -> anyhow::Result<()> {
    let wholes: Vec<(&str, PathBuf)> = files
        .iter()
        .filter_map(|(flag, path)| Some((*flag, whole((*path)?)?)))
        .collect();
    for (at, (flag, path)) in wholes.iter().enumerate() {
        if let Some((other, _)) = wholes[..at].iter().find(|(_, other)| other == path) {
            anyhow::bail!("{other} and {flag} are one file; expected one for each");
        }
    }
    Ok(())
}

/// A file's path without links and detours, be the file there or not.
fn whole(path: &Path) -> Option<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Some(path);
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
    Some(folder.join(path.file_name()?))
}
