//! From the driver's error to one that a program can act on.

use outbox_traits::{Error, ErrorKind};

use crate::{Dialect, names::Names, schema::MIGRATE};

/// Says what was tried and with which table; the driver's error stays the source.
pub(crate) fn of<DB: Dialect>(names: &Names, tried: &str, error: sqlx::Error) -> Error {
    let kind = kind::<DB>(&error);
    let hint = match (kind, tried) {
        (ErrorKind::Schema, MIGRATE) => {
            ", as its schema is missing or something else has the name of a part of it: \
             make the schema, or choose another name with `with_table`"
        }
        (ErrorKind::Schema, _) => ", which is missing or out of date: run `migrate`",
        _ => "",
    };
    Error::new(kind, format!("could not {tried} table `{}`{hint}", names.display())).with_source(error)
}

pub(crate) fn kind<DB: Dialect>(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(error) => DB::error_kind(&**error),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}
