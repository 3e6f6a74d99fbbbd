//! How often an event was tried, which a change counts on from.
//!
//! Another program may have written anything into these fields: the driver of JavaScript writes null for what is undefined. The
//! server refuses to count on from what is no number, and so the whole change, of other events too.

use bson::{Document, RawDocument, doc, spec::ElementType};

/// Takes away what is no number, and what is no time of a first failure.
pub(super) fn tidy() -> Vec<Document> {
    let only = |field: &str, is_good: Document| {
        doc! { "$cond": [is_good, format!("${field}"), "$$REMOVE"] }
    };
    let number = |field: &str| only(field, doc! { "$isNumber": format!("${field}") });
    let is_time = doc! { "$eq": [{ "$type": "$firstFailedAt" }, "date"] };
    vec![doc! { "$set": {
        "attempts": number("attempts"), "failures": number("failures"),
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
    use ElementType::{DateTime, Decimal128, Double, Int32, Int64};

    let is_one_of = |field: &str, kinds: &[ElementType]| match raw.get(field) {
        Ok(value) => value.is_none_or(|value| kinds.contains(&value.element_type())),
        Err(_) => false,
    };
    let numbers = [Int32, Int64, Double, Decimal128];
    is_one_of("attempts", &numbers)
        && is_one_of("failures", &numbers)
        && is_one_of("firstFailedAt", &[DateTime])
}
