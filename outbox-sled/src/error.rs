//! From sled's error to one that a program can act on.

use outbox_traits::{Error, ErrorKind};
use sled::transaction::TransactionError;

/// Says what was tried; sled's error stays the source.
pub(crate) fn of(tried: &str, error: sled::Error) -> Error {
    let kind = match error {
        sled::Error::Io(_) => ErrorKind::Unavailable,
        sled::Error::Corruption { .. } => ErrorKind::Corrupt,
        _ => ErrorKind::Backend,
    };
    Error::new(kind, format!("could not {tried}")).with_source(error)
}

pub(crate) fn of_transaction(tried: &str, error: TransactionError<Error>) -> Error {
    match error {
        TransactionError::Abort(error) => error,
        TransactionError::Storage(error) => of(tried, error),
    }
}
