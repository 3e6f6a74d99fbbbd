//! From the driver's error to one that a program can act on, and back.

use std::error::Error as _;

use mongodb::error::{
    Error as DriverError, ErrorKind as DriverErrorKind, TRANSIENT_TRANSACTION_ERROR,
    UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};
use outbox_traits::{Error, ErrorKind};

use crate::schema::MIGRATE;

const DUPLICATE_KEY: i32 = 11000;
const TOO_LARGE_FOR_CACHE: i32 = 388;

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
    let hint = match (kind, code(&error)) {
        // One of the indexes that `migrate` makes is there with other options.
        (_, Some(85 | 86)) => ": it has another index of those keys or that name, drop it",
        (ErrorKind::Schema, _) if tried == MIGRATE => {
            ", which holds something else: choose another name with `with_collection`"
        }
        (ErrorKind::Schema, _) => ", which is missing or out of date: run `migrate`",
        (_, Some(TOO_LARGE_FOR_CACHE)) => {
            ", because it is more than one transaction of the server can hold: save fewer at once"
        }
        _ => "",
    };
    Error::new(kind, format!("could not {tried} collection `{namespace}`{hint}")).with_source(error)
}

/// Whether the server refused a document because its event id or idempotency key is there already.
///
/// Another unique index, which somebody gave the collection, is not meant.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    code(error) == Some(DUPLICATE_KEY) && is_of_our_index(&error.to_string())
}

/// By the first field of the index that refused a document. The driver keeps the server's answer to a single insert only,
/// but its words always.
fn is_of_our_index(text: &str) -> bool {
    let field = text.split_once("dup key: { ").and_then(|(_, key)| key.split_once(':'));
    // That of keys has no event without one, where that of somebody else may have many.
    matches!(field, Some(("eventId", _)))
        || matches!(field, Some(("idempotencyKey", key)) if !key.starts_with(" null"))
}

/// Whether a document would have grown beyond what one can be.
pub(crate) fn is_too_large(error: &DriverError) -> bool {
    // Of an update with operators and of any other, and of what is stored.
    matches!(code(error), Some(17419 | 17420 | 10334))
}

/// The server's code.
pub(crate) fn code(error: &DriverError) -> Option<i32> {
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

#[cfg(test)]
mod tests {
    use bson::{Document, deserialize_from_document, doc};

    use super::*;

    fn of_command(code: i32, message: &str) -> DriverError {
        let error = deserialize_from_document(doc! { "code": code, "errmsg": message }).unwrap();
        DriverErrorKind::Command(error).into()
    }

    fn of_write(code: i32, message: &str) -> DriverError {
        let error = deserialize_from_document(doc! { "code": code, "errmsg": message }).unwrap();
        DriverErrorKind::Write(WriteFailure::WriteError(error)).into()
    }

    fn of_write_concern(code: i32, labels: &[&str]) -> DriverError {
        let error = deserialize_from_document(doc! { "code": code, "errmsg": "", "errorLabels": labels });
        DriverErrorKind::Write(WriteFailure::WriteConcernError(error.unwrap())).into()
    }

    fn of_many(errors: Document) -> DriverError {
        DriverErrorKind::InsertMany(deserialize_from_document(errors).unwrap()).into()
    }

    /// By the names that the server has for them.
    #[test]
    fn the_server_s_code_says_what_helps() {
        for (code, expected) in [
            (6, ErrorKind::Unavailable),     // HostUnreachable
            (50, ErrorKind::Unavailable),    // MaxTimeMSExpired
            (64, ErrorKind::Unavailable),    // WriteConcernFailed
            (91, ErrorKind::Unavailable),    // ShutdownInProgress
            (189, ErrorKind::Unavailable),   // PrimarySteppedDown
            (10107, ErrorKind::Unavailable), // NotWritablePrimary
            (13436, ErrorKind::Unavailable), // NotPrimaryOrSecondary
            (24, ErrorKind::Conflict),       // LockTimeout
            (112, ErrorKind::Conflict),      // WriteConflict
            (246, ErrorKind::Conflict),      // SnapshotUnavailable
            (251, ErrorKind::Conflict),      // NoSuchTransaction
            (26, ErrorKind::Schema),         // NamespaceNotFound
            (27, ErrorKind::Schema),         // IndexNotFound
            (85, ErrorKind::Schema),         // IndexOptionsConflict
            (13, ErrorKind::Backend),        // Unauthorized
            (2, ErrorKind::Backend),         // BadValue
        ] {
            for error in [
                of_command(code, ""),
                of_write(code, ""),
                of_write_concern(code, &[]),
                of_many(doc! { "writeErrors": [{ "index": 0, "code": code, "errmsg": "" }] }),
                of_many(doc! { "writeConcernError": { "code": code, "errmsg": "" } }),
            ] {
                assert_eq!(kind(&error), expected, "{error}");
            }
        }
    }

    #[test]
    fn an_index_that_is_gone_is_told_by_the_words_about_it() {
        let words = "error processing query: planner returned error: hint provided does not correspond to an existing index";
        assert_eq!(kind(&of_command(2, words)), ErrorKind::Schema);
        assert_eq!(kind(&of_command(13, words)), ErrorKind::Backend);
    }

    #[test]
    fn where_the_code_says_nothing_the_labels_do() {
        let unknown = 8000;
        for (label, expected) in [
            (TRANSIENT_TRANSACTION_ERROR, ErrorKind::Conflict),
            (UNKNOWN_TRANSACTION_COMMIT_RESULT, ErrorKind::Unavailable),
            ("RetryableWriteError", ErrorKind::Backend),
        ] {
            assert_eq!(kind(&of_write_concern(unknown, &[label])), expected, "{label}");
        }
        // Which side it is on counts more than that it may be tried again.
        assert_eq!(kind(&of_write_concern(91, &[TRANSIENT_TRANSACTION_ERROR])), ErrorKind::Unavailable);
    }

    #[test]
    fn a_duplicate_is_one_of_the_outbox_s_own_indexes_only() {
        let of = |field: &str, value: &str| {
            format!(
                "E11000 duplicate key error collection: s.outbox index: x dup key: {{ {field}: \"{value}\" }}"
            )
        };
        for (text, is_ours) in [
            (of("eventId", "0190"), true),
            (of("idempotencyKey", "type: dup key: { type: 1"), true),
            (of("type", "t"), false),
            (of("type", "dup key: { eventId: 1"), false),
            (of("meta.eventId", "0190"), false),
            // Of an event without a key, which the outbox's own has no entry of.
            (
                "E11000 duplicate key error index: x dup key: { idempotencyKey: null, type: \"t\" }"
                    .to_owned(),
                false,
            ),
            ("E11000 duplicate key error".to_owned(), false),
        ] {
            let many =
                of_many(doc! { "writeErrors": [{ "index": 0, "code": DUPLICATE_KEY, "errmsg": &text }] });
            for error in [of_write(DUPLICATE_KEY, &text), of_command(DUPLICATE_KEY, &text), many] {
                assert_eq!(is_duplicate(&error), is_ours, "{text}");
                let expected = if is_ours { ErrorKind::Conflict } else { ErrorKind::Backend };
                assert_eq!(kind(&error), expected, "{text}");
            }
        }
        assert!(!is_duplicate(&of_write(112, &of("eventId", "0190"))));
    }

    #[test]
    fn a_batch_beyond_what_a_transaction_holds_says_what_to_do() {
        let text = |code| of("db.outbox", "save events in", of_command(code, "")).to_string();
        assert!(text(388).contains("save fewer at once"), "{}", text(388));
        assert!(!text(8000).contains("fewer"), "{}", text(8000));
    }

    #[test]
    fn a_document_beyond_its_size_is_told_from_all_else() {
        for code in [17419, 17420, 10334] {
            assert!(is_too_large(&of_write(code, "")));
        }
        for code in [50, 13] {
            assert!(!is_too_large(&of_command(code, "")));
        }
    }
}
