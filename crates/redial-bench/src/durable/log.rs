//! The least that a durable call can cost: its record at the end of a file, and one sync a batch.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result};

use super::{Record, Records, Subject, outcome};

/// A log that is only written.
pub struct Log {
    file: File,
    records: Records,
    bytes: Vec<u8>,
}

impl Log {
    /// Begins a log.
    ///
    /// # Errors
    ///
    /// If the file can't be made.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("raw.log");
        // A new one: to sync a file that is overwritten costs less.
        drop(fs::remove_file(&path));
        let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self {
            file,
            records: Records::new(),
            bytes: Vec::new(),
        })
    }
}

impl Subject for Log {
    fn run(&mut self, batch: usize) -> Result<()> {
        self.bytes.clear();
        for _ in 0..batch {
            let Record {
                number,
                id,
                fingerprint,
            } = self.records.next();
            self.bytes.extend_from_slice(&id);
            self.bytes.extend_from_slice(&fingerprint);
            let outcome = outcome(number as i64);
            self.bytes.extend_from_slice(outcome.as_bytes());
        }
        self.file.write_all(&self.bytes)?;
        Ok(self.file.sync_data()?)
    }
}
