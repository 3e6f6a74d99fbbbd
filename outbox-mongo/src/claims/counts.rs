//! How often an event was tried, which a change counts on from.
//!
//! Another program may have written anything into these fields: the driver of JavaScript writes null for what is undefined. The
//! server refuses to count on from what is no number or too large, and so the whole change, of other events too.

use bson::{Bson, Document, RawDocument, doc};

use crate::document::{MAX_COUNT, as_count};

/// What the server says where it is to count on from what is no number, or from the largest.
pub(super) const NO_COUNT: [i32; 2] = [14, 2];

/// Takes away what is no count, and what is no time of a first failure.
pub(super) fn tidy() -> Vec<Document> {
    let only = |field: &str, is_good: Document| {
        doc! { "$cond": [is_good, format!("${field}"), "$$REMOVE"] }
    };
    let count = |field: &str| {
        let value = format!("${field}");
        let is_good = doc! { "$and": [
            { "$in": [{ "$type": &value }, ["int", "long", "double"]] },
            { "$gte": [&value, 0] }, { "$lte": [&value, i64::from(MAX_COUNT)] },
        ] };
        only(field, is_good)
    };
    let is_time = doc! { "$eq": [{ "$type": "$firstFailedAt" }, "date"] };
    vec![doc! { "$set": {
        "attempts": count("attempts"), "failures": count("failures"),
        "firstFailedAt": only("firstFailedAt", is_time),
    } }]
}

/// Counts one more started attempt, whatever is there.
pub(super) fn one_more_attempt() -> Vec<Document> {
    let mut changes = tidy();
    changes.push(doc! { "$set": { "attempts": { "$add": [{ "$ifNull": ["$attempts", 0] }, 1] } } });
    changes
}

/// Whether [`tidy`] has nothing to take away.
pub(super) fn is_tidy(raw: &RawDocument) -> bool {
    let is_good = |field: &str, is_good: fn(&Bson) -> bool| {
        let value = raw.get(field);
        value.is_ok_and(|value| {
            value.is_none_or(|value| Bson::try_from(value).is_ok_and(|value| is_good(&value)))
        })
    };
    let is_count = |value: &Bson| as_count(value).is_some();
    is_good("attempts", is_count)
        && is_good("failures", is_count)
        && is_good("firstFailedAt", |value| value.as_datetime().is_some())
}
