//! Deleting what is old, in bounded batches.

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Collection, error::Error as DriverError};

use crate::{
    indexes::keys,
    store::{BATCH, ONE_ANSWER, as_limit},
};

/// An age, of two hundred million years, that as milliseconds the server can still subtract, and that nothing has.
const OLDEST: Duration = Duration::from_hours(1_753_000_000_000);

/// The `_id`s of the first documents that match.
pub(crate) async fn find_ids(
    of: &Collection<RawDocumentBuf>,
    filter: Document,
    index: &str,
) -> Result<Vec<Bson>, DriverError> {
    let find = of.find(filter).hint(keys(index)).projection(doc! { "_id": 1 });
    let mut cursor = find.limit(as_limit(BATCH)).batch_size(ONE_ANSWER).await?;
    let mut ids = Vec::new();
    while cursor.advance().await? {
        ids.extend(cursor.current().get("_id")?.map(Bson::try_from).transpose()?);
    }
    Ok(ids)
}

/// Deletes what matches and whose time is at least so long ago by the server's clock; zero means all that matches.
pub(crate) async fn purge(
    of: &Collection<RawDocumentBuf>,
    mut expired: Document,
    time: &str,
    index: &str,
    older_than: Duration,
) -> Result<u64, DriverError> {
    if !older_than.is_zero() {
        // Rounded up: never early.
        let millis = older_than.min(OLDEST).as_nanos().div_ceil(1_000_000);
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        expired.insert(time, doc! { "$type": "date" });
        let before = doc! { "$subtract": ["$$NOW", millis] };
        expired.insert("$expr", doc! { "$lte": [format!("${time}"), before] });
    }
    let mut purged = 0;
    loop {
        let ids = find_ids(of, expired.clone(), index).await?;
        let is_last = ids.len() < BATCH;
        if !ids.is_empty() {
            // Still of that age: one may be gone, and be there anew.
            let mut these = expired.clone();
            these.insert("_id", doc! { "$in": ids });
            purged += of.delete_many(these).hint(keys("_id")).await?.deleted_count;
        }
        if is_last {
            return Ok(purged);
        }
    }
}
