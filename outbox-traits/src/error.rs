//! One opaque error for every store.

use std::{error::Error as StdError, fmt};

use crate::EventId;

/// The result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, as far as a program can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The event breaks a rule of the contract and was not stored, or the name of a consumer does and nothing was marked.
    /// Trying it again will not help.
    InvalidEvent,
    /// The lease ran out or was superseded: somebody else may hold the event now.
    LeaseLost,
    /// The engine refused because of a concurrent transaction (serialization failure, deadlock, write
    /// conflict, busy). Run the whole transaction again.
    Conflict,
    /// The engine could not be reached or did not answer in time.
    Unavailable,
    /// Stored data cannot be read back as an event.
    Corrupt,
    /// The schema is missing or out of date, or a name chosen for it cannot be used: run `migrate`.
    Schema,
    /// Any other error of the engine; see [`source`](StdError::source).
    Backend,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidEvent => "invalid event",
            Self::LeaseLost => "lease lost",
            Self::Conflict => "conflict",
            Self::Unavailable => "store unavailable",
            Self::Corrupt => "corrupt data",
            Self::Schema => "schema",
            Self::Backend => "backend error",
        })
    }
}

/// An error of a store.
///
/// The driver's own error stays reachable as [`source`](StdError::source), so that a caller can tell a
/// MongoDB label or an SQLSTATE by downcasting. The text names what was tried and with which event or
/// table, and ends with the text of the source.
///
/// ```
/// use outbox_traits::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "could not fetch pending events from table `outbox`")
///     .with_source(std::io::Error::other("connection reset"));
/// assert!(error.is_retryable());
/// assert_eq!(
///     error.to_string(),
///     "could not fetch pending events from table `outbox`: connection reset",
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    event: Option<EventId>,
    source: Option<Source>,
}

impl Error {
    /// An error of this kind; the message says what was tried and what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), event: None, source: None }))
    }

    /// The same error with the event that it is about.
    #[must_use]
    pub fn with_event(mut self, id: EventId) -> Self {
        self.0.event = Some(id);
        self
    }

    /// The same error with its cause, kept as it is.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What a program can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The event that this is about, where it is about one.
    #[must_use]
    pub fn event(&self) -> Option<EventId> {
        self.0.event
    }

    /// Whether the same call, in a new transaction, may well succeed: true for
    /// [`Conflict`](ErrorKind::Conflict) and [`Unavailable`](ErrorKind::Unavailable).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Unavailable)
    }

    pub(crate) fn invalid_event(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidEvent, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(id) = self.0.event {
            write!(f, " (event {id})")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("event", &self.0.event)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
