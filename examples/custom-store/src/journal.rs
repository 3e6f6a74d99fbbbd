//! The file.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use outbox_traits::{Error, ErrorKind, Result};

use crate::state::Entry;

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    end: u64,
}

impl Journal {
    /// Opens the file and reads its lines. A last line that a crash cut short was never reported as committed:
    /// it is written over.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Entry>)> {
        let failed = |error| failed("open", path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(failed)?;
        let end = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut entries = Vec::new();
        for (number, line) in content[..end].split(|byte| *byte == b'\n').enumerate() {
            if !line.is_empty() {
                entries.push(serde_json::from_slice(line).map_err(|error| {
                    let message = format!("line {} of {} is no entry", number + 1, path.display());
                    Error::new(ErrorKind::Corrupt, message).with_source(error)
                })?);
            }
        }
        Ok((Self { path: path.to_owned(), file, end: end as u64 }, entries))
    }

    /// Writes one entry and waits until it is on the disk.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|error| {
            Error::new(ErrorKind::Backend, "an entry has no form in JSON").with_source(error)
        })?;
        line.push(b'\n');
        let mut write = || {
            self.file.set_len(self.end)?;
            self.file.seek(SeekFrom::Start(self.end))?;
            self.file.write_all(&line)?;
            self.file.sync_data()
        };
        write().map_err(|error| failed("write", &self.path, error))?;
        self.end += line.len() as u64;
        Ok(())
    }
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("could not {what} the journal {}", path.display()))
        .with_source(error)
}
