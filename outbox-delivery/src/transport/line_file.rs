//! A file of whole lines, which a crash may have torn.

use std::{
    error::Error as StdError,
    fmt,
    fs::{self, File, FileType, OpenOptions},
    io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// How every line of an event begins.
const LINE_START: &[u8] = br#"{"type":"#;

/// How often a file may be moved away while a batch is written.
const MAX_MOVES: usize = 3;

/// A file that is locked for this process and to which whole lines are appended.
pub(crate) struct LineFile {
    file: File,
    path: PathBuf,
    /// A device, such as a terminal, can be neither synced nor mended.
    is_regular: bool,
    /// A write has begun and did not end well: what it left is mended before the next.
    is_torn: bool,
}

impl LineFile {
    /// Its error names the path.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, is_new, is_regular) = open(path).map_err(|error| named(path, error))?;
        if is_regular && matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
            return Err(Error::new(
                ErrorKind::WouldBlock,
                format!("{} is being written by another relay", path.display()),
            ));
        }
        let mut lines = Self { file, path: path.to_owned(), is_regular, is_torn: true };
        lines.mend().map_err(|error| named(path, error))?;
        if is_new && is_regular {
            sync_directory_of(path);
        }
        Ok(lines)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines, and returns when they are on the disk, in the file that has the path then: somebody may move it
    /// away, as where files are rotated.
    pub(crate) fn write(&mut self, lines: &[u8]) -> Result<()> {
        for _ in 0..MAX_MOVES {
            if !self.is_in_place()? {
                *self = Self::open(&self.path)?;
            }
            self.append(lines)?;
            if self.is_in_place()? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::NotFound, "the file is moved away each time that it was written"))
    }

    fn append(&mut self, lines: &[u8]) -> Result<()> {
        if self.is_torn {
            self.mend()?;
        }
        self.is_torn = true;
        self.file.write_all(lines)?;
        if self.is_regular {
            self.file.sync_data()?;
        } else {
            self.file.flush()?;
        }
        self.is_torn = false;
        Ok(())
    }

    /// Whether the path still leads to this file. A device is always the same.
    #[cfg(unix)]
    fn is_in_place(&self) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;

        if !self.is_regular {
            return Ok(true);
        }
        let own = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Other systems do not tell, and keep a file that is open where it is.
    #[cfg(not(unix))]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "it is the same for all")]
    fn is_in_place(&self) -> Result<bool> {
        Ok(true)
    }

    /// Sees to it that the next write begins on a fresh line.
    fn mend(&mut self) -> Result<()> {
        if self.is_regular {
            let (start, tail) = self.unfinished_line()?;
            let is_ours = tail.starts_with(LINE_START) || LINE_START.starts_with(&tail);
            if tail.is_empty() {
            } else if is_ours && serde_json::from_slice::<serde_json::Value>(&tail).is_err() {
                // The first part of an event that was never accepted: it will be published again.
                self.file.set_len(start)?;
            } else {
                // A whole line without its end, or somebody else's text.
                self.file.write_all(b"\n")?;
            }
        }
        self.is_torn = false;
        Ok(())
    }

    /// What follows the last end of a line, and where it begins.
    fn unfinished_line(&mut self) -> Result<(u64, Vec<u8>)> {
        const CHUNK: u64 = 8192;
        let mut start = self.file.seek(SeekFrom::End(0))?;
        let mut chunks = Vec::new();
        while start > 0 {
            let chunk_start = start.saturating_sub(CHUNK);
            self.file.seek(SeekFrom::Start(chunk_start))?;
            let mut chunk = Vec::new();
            Read::by_ref(&mut self.file).take(start - chunk_start).read_to_end(&mut chunk)?;
            let line_start = chunk.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
            let kept = chunk.split_off(line_start.unwrap_or(0));
            start -= kept.len() as u64;
            chunks.push(kept);
            if line_start.is_some() {
                break;
            }
        }
        chunks.reverse();
        Ok((start, chunks.concat()))
    }
}

/// The file, whether it is new, and whether it is a regular one.
fn open(path: &Path) -> Result<(File, bool, bool)> {
    let found = match fs::metadata(path) {
        Ok(found) => Some(found.file_type()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // Looked at before it is opened: a pipe would wait for a reader or, opened to be read as well, be its own.
    if found.is_some_and(|kind| !kind.is_file() && !kind.is_dir() && !is_device(kind)) {
        return Err(Error::new(ErrorKind::InvalidInput, "it is neither a regular file nor a device"));
    }
    let (is_new, is_regular) = (found.is_none(), found.is_none_or(|kind| kind.is_file()));
    let file = OpenOptions::new().read(is_regular).append(true).create(is_regular).open(path)?;
    Ok((file, is_new, is_regular))
}

#[cfg(unix)]
fn is_device(kind: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&kind)
}

/// Other systems do not tell.
#[cfg(not(unix))]
fn is_device(_: FileType) -> bool {
    true
}

/// An error whose kind is that of its cause, and whose text says of what file it is.
fn named(path: &Path, cause: Error) -> Error {
    Error::new(cause.kind(), Named { path: path.to_owned(), cause })
}

#[derive(Debug)]
struct Named {
    path: PathBuf,
    cause: Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

impl StdError for Named {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}

/// The name of a new file is on the disk only when its directory is; not every system can say so.
fn sync_directory_of(path: &Path) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Ok(directory) = File::open(directory.unwrap_or(Path::new("."))) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_reopening(content: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        std::fs::write(&path, content).unwrap();
        LineFile::open(&path).unwrap().write(b"new\n").unwrap();
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn whole_lines_are_left_alone() {
        assert_eq!(after_reopening(""), "new\n");
        assert_eq!(after_reopening("one\ntwo\n"), "one\ntwo\nnew\n");
    }

    #[test]
    fn the_torn_line_of_an_event_is_removed() {
        assert_eq!(after_reopening("one\n{\"type\":\"order.pl"), "one\nnew\n");
        assert_eq!(after_reopening("{\"ty"), "new\n");
    }

    #[test]
    fn the_torn_line_may_be_long() {
        let torn = format!("one\n{{\"type\":\"a\",\"payload\":\"{}", "x".repeat(100_000));
        assert_eq!(after_reopening(&torn), "one\nnew\n");
    }

    #[test]
    fn what_is_no_torn_event_is_kept_on_a_line_of_its_own() {
        assert_eq!(after_reopening("one\nnotes"), "one\nnotes\nnew\n");
        assert_eq!(after_reopening("{\"type\":\"a.b\"}"), "{\"type\":\"a.b\"}\nnew\n");
    }

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let first = LineFile::open(&path).unwrap();
        let error = LineFile::open(&path).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().ends_with("events.jsonl is being written by another relay"), "{error}");
        drop(first);
        assert!(LineFile::open(&path).is_ok());
    }
}
