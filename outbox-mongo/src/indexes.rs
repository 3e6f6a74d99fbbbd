//! The indexes that the store goes by.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{
    IndexModel,
    options::{Hint, IndexOptions},
};

use crate::document::{DELIVERED, PARKED, PENDING, SCHEDULED};

pub(crate) const ID_KEYS: &str = "eventId";
const KEY_KEYS: &str = "idempotencyKey";
pub(crate) const FIFO_KEYS: &str = "status,seq";
pub(crate) const SCHEDULED_KEYS: &str = "status,notBefore";
pub(crate) const DELIVERED_KEYS: &str = "status,deliveredAt";
/// Of what is pending or parked.
pub(crate) const PARTITION_KEYS: &str = "status,partitionHash,seq";
pub(crate) const RETRY_KEYS: &str = "partitionHash,retryAt";
/// Of the keys, beside the events.
pub(crate) const READY_KEYS: &str = "readyAt";
pub(crate) const TIME_TO_LIVE_KEYS: &str = "deliveredAt";
/// Of the marks of an inbox.
pub(crate) const PROCESSED_KEYS: &str = "processedAt";

/// The keys of an index, ascending. They, and not a name, tell the indexes: one that is there already under another
/// name, made for the TypeScript shape, serves as well.
pub(crate) fn key_document(fields: &str) -> Document {
    fields.split(',').map(|field| (field.to_owned(), Bson::Int32(1))).collect()
}

/// An index by name, so to speak: what a statement costs must not hang on what the server tries out.
pub(crate) fn keys(fields: &str) -> Hint {
    Hint::Keys(key_document(fields))
}

/// An index as it is to be.
pub(crate) struct Index {
    pub(crate) keys: &'static str,
    is_unique: bool,
    filter: Option<Document>,
    pub(crate) seconds: Option<i64>,
}

impl Index {
    pub(crate) fn of(keys: &'static str) -> Self {
        Self { keys, is_unique: false, filter: None, seconds: None }
    }

    fn unique(self) -> Self {
        Self { is_unique: true, ..self }
    }

    /// Only of documents that match: the others do not pay for it, and a TTL index does not touch them.
    fn only(self, filter: Document) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// The server deletes by it, so long after the time in it.
    pub(crate) fn with_seconds(self, after: Duration) -> Self {
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
        // The server's longest is 68 years.
        Self { seconds: Some(i64::from(i32::try_from(seconds).unwrap_or(i32::MAX))), ..self }
    }

    pub(crate) fn name(&self) -> String {
        let name = self.keys.split(',').map(|field| format!("{field}_1")).collect::<Vec<_>>().join("_");
        // The driver's own kind of name; but somebody may have a plain index of the same keys.
        if self.seconds.is_some() { format!("{name}_ttl") } else { name }
    }

    pub(crate) fn model(&self) -> IndexModel {
        let mut options = IndexOptions::default();
        options.name = Some(self.name());
        options.unique = self.is_unique.then_some(true);
        options.partial_filter_expression.clone_from(&self.filter);
        options.expire_after = self.seconds.map(|seconds| Duration::from_secs(seconds.unsigned_abs()));
        IndexModel::builder().keys(key_document(self.keys)).options(options).build()
    }

    pub(crate) fn has_keys_of(&self, found: &Document) -> bool {
        found.get_document("key").is_ok_and(|keys| {
            let fields: Vec<&str> = keys.keys().map(String::as_str).collect();
            fields.join(",") == self.keys && keys.values().all(|order| as_integer(order) == Some(1))
        })
    }

    /// Whether it is what the server describes so, but for the seconds.
    pub(crate) fn is_of(&self, found: &Document) -> bool {
        self.has_keys_of(found)
            && found.get_bool("unique").unwrap_or(false) == self.is_unique
            && self.has_filter_of(found)
            && !found.get_bool("sparse").unwrap_or(false)
            && !found.get_bool("hidden").unwrap_or(false)
            && !found.contains_key("collation")
    }

    fn has_filter_of(&self, found: &Document) -> bool {
        found.get_document("partialFilterExpression").ok() == self.filter.as_ref() || self.is_formerly(found)
    }

    /// Whether that is how it was made at first: that of keys of whatever is there, null too. It is as good where nobody else
    /// writes that.
    pub(crate) fn is_formerly(&self, found: &Document) -> bool {
        let former = doc! { KEY_KEYS: { "$exists": true } };
        self.keys == KEY_KEYS && found.get_document("partialFilterExpression").ok() == Some(&former)
    }

    pub(crate) fn is_among(&self, found: &[Document]) -> bool {
        found.iter().any(|found| self.is_of(found))
    }
}

/// What the store goes by, always.
pub(crate) fn indexes() -> Vec<Index> {
    vec![
        Index::of(ID_KEYS).unique(),
        // Of texts: the driver of JavaScript writes null where there is none, which is no key that two could share.
        Index::of(KEY_KEYS).unique().only(doc! { KEY_KEYS: { "$gte": "" } }),
        Index::of(FIFO_KEYS),
        Index::of(SCHEDULED_KEYS).only(doc! { "status": SCHEDULED }),
        Index::of(DELIVERED_KEYS).only(doc! { "status": DELIVERED }),
        // As a range, for servers before 6.0: of all that a status may be, nothing else comes between these two.
        Index::of(PARTITION_KEYS).only(doc! { "status": { "$gte": PARKED, "$lte": PENDING } }),
        Index::of(RETRY_KEYS).only(doc! { "status": PARKED, "retryAt": { "$exists": true } }),
    ]
}

/// The index by which the server itself deletes delivered events so long after their delivery.
pub(crate) fn time_to_live(after: Duration) -> Index {
    Index::of(TIME_TO_LIVE_KEYS).only(doc! { "status": DELIVERED }).with_seconds(after)
}

/// After how many seconds an index deletes documents, if it does.
pub(crate) fn seconds(found: &Document) -> Option<i64> {
    found.get("expireAfterSeconds").and_then(as_integer)
}

/// A number as the server or a shell may have written it.
pub(crate) fn as_integer(number: &Bson) -> Option<i64> {
    match number {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        #[allow(clippy::cast_possible_truncation, reason = "a count or a sign")]
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(one: impl Into<Bson>, seconds: Option<Bson>) -> Document {
        let mut found = doc! { "v": 2, "key": { "deliveredAt": one.into() }, "name": "x" };
        found.insert("partialFilterExpression", doc! { "status": DELIVERED });
        found.extend(seconds.map(|seconds| ("expireAfterSeconds".to_owned(), seconds)));
        found
    }

    /// A shell makes them of floats, and other drivers of long integers.
    #[test]
    fn an_index_is_known_whatever_kind_of_number_it_was_made_with() {
        let wanted = time_to_live(Duration::from_secs(60));
        for one in [Bson::Int32(1), Bson::Int64(1), Bson::Double(1.0)] {
            assert!(wanted.is_of(&found(one, None)));
        }
        for other in [Bson::Int32(-1), Bson::Int64(-1), Bson::Double(-1.0), Bson::String("hashed".to_owned())]
        {
            assert!(!wanted.is_of(&found(other, None)));
        }
        for after in [Bson::Int32(60), Bson::Int64(60), Bson::Double(60.0)] {
            assert_eq!(seconds(&found(1, Some(after))), wanted.seconds);
        }
        assert_eq!(seconds(&found(1, None)), None);
    }
}
