//! Events as lines of JSON.

use std::{fmt, io, path::Path, slice, sync::Arc, time::Duration};

use async_trait::async_trait;
use outbox_traits::{Event, PublishError, Published, Transport};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Mutex,
    task::spawn_blocking,
    time::timeout,
};

use super::line_file::LineFile;

/// Publishes events as lines of JSON: `{"type", "payload", "meta"}`, one line each.
///
/// An event is accepted when it was flushed, or, for a [file](Self::append), when it is on the disk; once for
/// each batch. An error while writing, or one that [takes too long](Self::with_timeout), is
/// [`Unavailable`](outbox_traits::PublishErrorKind::Unavailable), and the next write begins on a fresh line, so that
/// a line torn by the error spoils no other; readers skip blank lines and lines that are no JSON.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use outbox_delivery::transport::JsonLines;
/// use outbox_traits::{Event, Transport};
/// use serde_json::json;
///
/// let stdout = JsonLines::new(tokio::io::sink());
/// stdout.publish(&Event::new("order.placed", json!({ "total": 4200 }))?).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct JsonLines {
    sink: Sink,
    timeout: Duration,
}

/// Who reads may have paused, and a disk may be away: then nothing of a batch is to blame.
const TIMEOUT: Duration = Duration::from_secs(10);

enum Sink {
    Writer(Mutex<Writer>),
    // Written by a thread that may block, and which ends what it began even where nobody waits for it any more.
    // Who came first writes first.
    File { path: String, file: Arc<Mutex<LineFile>> },
}

struct Writer {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// A write has begun and did not end well.
    is_torn: bool,
}

impl JsonLines {
    /// Writes to any writer, such as `tokio::io::stdout()`. What it has flushed counts as accepted.
    pub fn new(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            sink: Sink::Writer(Mutex::new(Writer { writer: Box::new(writer), is_torn: false })),
            timeout: TIMEOUT,
        }
    }

    /// Appends to a file, which is created if there is none, and locked, so that no two relays write to it.
    ///
    /// An event counts as accepted when its line is synced to the disk. Where a crash left the first part of an
    /// event's line at the end of the file, that part is removed: the event was not accepted and is published
    /// again. Any other unfinished last line is kept and ended.
    ///
    /// The file may be moved away, to rotate it, or removed: what comes then is written to a new one at the path. A batch
    /// that is being written meanwhile may stand in both. Not on Windows, where it stays in place while it is open.
    ///
    /// # Errors
    /// Those of opening, reading and locking the file; [`WouldBlock`](io::ErrorKind::WouldBlock) if another relay
    /// writes to it, and [`InvalidInput`](io::ErrorKind::InvalidInput) if it is a pipe or a socket: give the program's
    /// own end of one to [`new`](Self::new). A device, such as a terminal, is written to. The error names the path, and
    /// that of the system is its source.
    pub async fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_owned();
        let file = spawn_blocking(move || LineFile::open(&path)).await??;
        let path = file.path().display().to_string();
        Ok(Self { sink: Sink::File { path, file: Arc::new(Mutex::new(file)) }, timeout: TIMEOUT })
    }

    /// Waits so long for a batch to be written, for less than a relay waits for a whole call. Then the transport counts as
    /// unavailable. By default 10 seconds, by the clock of tokio's runtime, which has to be enabled as for a relay.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn write(&self, lines: Vec<u8>) -> io::Result<()> {
        match &self.sink {
            Sink::Writer(writer) => writer.lock().await.write(&lines).await,
            Sink::File { file, .. } => {
                let mut file = Arc::clone(file).lock_owned().await;
                spawn_blocking(move || file.write(&lines)).await?
            }
        }
    }

    fn not_written(&self, event: &Event, error: &io::Error) -> Published {
        let what = format!("could not write to {}", self.target());
        let error = PublishError::unavailable(what).with_source(same_error(error));
        Published { id: event.id(), result: Err(error) }
    }

    fn target(&self) -> &str {
        match &self.sink {
            Sink::Writer(_) => "the writer",
            Sink::File { path, .. } => path,
        }
    }
}

impl Writer {
    async fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.writer.write_all(b"\n").await?;
        }
        // Set before and not after: the future may be dropped in between.
        self.is_torn = true;
        self.writer.write_all(lines).await?;
        self.writer.flush().await?;
        self.is_torn = false;
        Ok(())
    }
}

#[async_trait]
impl Transport for JsonLines {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let mut published = self.publish_all(slice::from_ref(event)).await;
        published.pop().map_or_else(|| Err(PublishError::not_attempted()), |published| published.result)
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let write = async { self.write(lines(events)?).await };
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {:?}", self.timeout)));
        match timeout(self.timeout, write).await.unwrap_or_else(late) {
            Ok(()) => events.iter().map(|event| Published { id: event.id(), result: Ok(()) }).collect(),
            Err(error) => events.iter().map(|event| self.not_written(event, &error)).collect(),
        }
    }
}

/// An event consists of texts and of JSON, which have all a form in JSON: no event alone could be to blame.
fn lines(events: &[Event]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// One for each event, because an I/O error cannot be cloned.
fn same_error(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JsonLines").field(&self.target()).finish()
    }
}
