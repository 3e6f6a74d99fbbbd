//! From the driver's error to one that a program can act on, and back.

use std::error::Error as _;

use mongodb::error::{
    Error as DriverError, ErrorKind as DriverErrorKind, TRANSIENT_TRANSACTION_ERROR,
    UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use outbox_traits::{Error, ErrorKind};

use crate::schema::MIGRATE;

const DUPLICATE_KEY: i32 = 11000;

/// The driver's error in an error of the outbox, with its labels; any other as one of the driver's that carries it.
///
/// The driver's helper for transactions, which runs them again after a conflict, knows only the driver's errors and
/// goes by their labels. Inside it, this turns the store's errors into what it knows:
///
/// ```no_run
/// use outbox_mongo::{MongoOutbox, driver_error, mongodb};
/// use mongodb::bson::{Document, doc};
/// use outbox_traits::{Event, OutboxStoreExt};
///
/// # async fn example(
/// #     client: mongodb::Client, outbox: MongoOutbox, event: Event,
/// # ) -> mongodb::error::Result<()> {
/// let orders = client.database("shop").collection::<Document>("orders");
/// let mut session = client.start_session().await?;
/// session
///     .start_transaction()
///     .and_run2(async move |session| {
///         orders.insert_one(doc! { "_id": 17 }).session(&mut *session).await?;
///         outbox.enqueue(&event, session).await.map_err(driver_error)
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// An error that does not come from the driver, such as [`InvalidEvent`](ErrorKind::InvalidEvent), is there again
/// with [`get_custom::<outbox_traits::Error>()`](DriverError::get_custom).
#[must_use]
pub fn driver_error(error: Error) -> DriverError {
    match error.source().and_then(|source| source.downcast_ref::<DriverError>()) {
        Some(driver) => driver.clone(),
        None => DriverError::custom(error),
    }
}

/// Says what was tried and with which collection; the driver's error stays the source.
pub(crate) fn of(namespace: &str, tried: &str, error: DriverError) -> Error {
    let kind = match code(&error) {
        // A unique index over what is there already: some other collection, or one that lost its index.
        Some(DUPLICATE_KEY) if tried == MIGRATE => ErrorKind::Schema,
        _ => kind(&error),
    };
    let hint = match kind {
        // One of the indexes is there with other options.
        ErrorKind::Schema if tried == MIGRATE && matches!(code(&error), Some(85 | 86)) => {
            ": it has another index of those keys or that name, drop it"
        }
        ErrorKind::Schema if tried == MIGRATE => {
            ", which holds something else: choose another name with `with_collection`"
        }
        ErrorKind::Schema => ", which is missing or out of date: run `migrate`",
        _ => "",
    };
    Error::new(kind, format!("could not {tried} collection `{namespace}`{hint}")).with_source(error)
}

/// Whether the server refused a document because its event id or idempotency key is there already.
///
/// Another unique index, which somebody gave the collection, is not meant.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    if code(error) != Some(DUPLICATE_KEY) {
        return false;
    }
    let Some(field) = duplicate_field(error) else {
        // The driver keeps the server's answer to a single insert only.
        let text = error.to_string();
        return ["eventId", "idempotencyKey"]
            .iter()
            .any(|field| text.contains(&format!("dup key: {{ {field}:")));
    };
    matches!(field.as_str(), "eventId" | "idempotencyKey")
}

/// Whether a document would have grown beyond what one can be.
pub(crate) fn is_too_large(error: &DriverError) -> bool {
    // Of an update with operators and of any other, and of what is stored.
    matches!(code(error), Some(17419 | 17420 | 10334))
}

/// Whether the server gave up because of the time that it was given.
pub(crate) fn is_timeout(error: &DriverError) -> bool {
    code(error) == Some(50)
}

/// The first field of the index that refused a document.
fn duplicate_field(error: &DriverError) -> Option<String> {
    let errors = error.server_response()?.get_array("writeErrors").ok()?;
    let error = errors.into_iter().next()?.ok()?;
    let (field, _) = error.as_document()?.get_document("keyPattern").ok()?.into_iter().next()?.ok()?;
    Some(field.as_str().to_owned())
}

/// The server's code.
fn code(error: &DriverError) -> Option<i32> {
    let code = match &*error.kind {
        DriverErrorKind::Command(error) => Some(error.code),
        DriverErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        DriverErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        DriverErrorKind::InsertMany(error) => {
            let write_error = error.write_errors.as_ref().and_then(|errors| errors.first());
            write_error.map(|error| error.code).or(error.write_concern_error.as_ref().map(|error| error.code))
        }
        _ => None,
    };
    code.or_else(|| error.source()?.downcast_ref::<DriverError>().and_then(self::code))
}

pub(crate) fn kind(error: &DriverError) -> ErrorKind {
    match &*error.kind {
        DriverErrorKind::Io(_)
        | DriverErrorKind::ServerSelection { .. }
        | DriverErrorKind::ConnectionPoolCleared { .. }
        | DriverErrorKind::DnsResolve { .. }
        | DriverErrorKind::Shutdown => return ErrorKind::Unavailable,
        _ => {}
    }
    match code(error) {
        // Not the primary (any more), shutting down, unreachable, too slow, or without the cursor that it had.
        Some(
            6 | 7 | 43 | 50 | 64 | 89 | 91 | 100 | 134 | 189 | 202 | 237 | 262 | 9001 | 10058 | 10107 | 11600
            | 11602 | 13435 | 13436,
        ) => ErrorKind::Unavailable,
        // A lock that was not to be had, a write conflict, a snapshot that is gone, a transaction that is.
        Some(24 | 112 | 239 | 246 | 251) => ErrorKind::Conflict,
        Some(DUPLICATE_KEY) if is_duplicate(error) => ErrorKind::Conflict,
        // No such collection or index, an index or a collection of another shape, a name that cannot be.
        Some(26 | 27 | 48 | 73 | 85 | 86 | 166) => ErrorKind::Schema,
        Some(2) if error.to_string().contains("hint provided does not correspond") => ErrorKind::Schema,
        _ if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => ErrorKind::Conflict,
        _ if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => ErrorKind::Unavailable,
        _ => ErrorKind::Backend,
    }
}
