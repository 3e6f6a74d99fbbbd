//! What was set aside.

use async_trait::async_trait;
use outbox_traits::{DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Result};
use sled::IVec;

use crate::{
    SledOutbox, clock,
    lost::{Lost, id_made_of},
    row::{self, Row, Status},
    store::BATCH,
    trees::{Done, Trees, count},
    view::{self, View},
};

#[async_trait]
impl DeadLetterStore for SledOutbox {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        if filter.limit == 0 {
            return Ok(DeadLetterPage::new(Vec::new(), filter.after));
        }
        let filter = filter.clone();
        self.read(move |trees| trees.read(|| page(trees, &filter))).await
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        self.one(id, |view, place, now| view.requeue(place, now)).await
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.all(filter, |view, place, now| view.requeue(place, now)).await
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        self.one(id, |view, place, _| view.discard(place)).await
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.all(filter, |view, place, _| view.discard(place)).await
    }
}

impl SledOutbox {
    async fn one(
        &self,
        id: EventId,
        change: impl Fn(&View<'_>, &IVec, i64) -> Done<bool> + Send + 'static,
    ) -> Result<bool> {
        self.write(move |trees, now| {
            trees.change(|view| match view.place(id)? {
                Some(place) => change(view, &place, now),
                None => Ok(false),
            })
        })
        .await
    }

    /// In batches, onwards from place to place: what is set aside again meanwhile is not met again.
    async fn all(
        &self,
        filter: &DeadLetterFilter,
        change: impl Fn(&View<'_>, &IVec, i64) -> Done<bool> + Clone + Send + 'static,
    ) -> Result<u64> {
        let (mut changed, mut after) = (0, 0);
        loop {
            let (filter, change) = (filter.clone(), change.clone());
            let (last, count) = self
                .write(move |trees, now| {
                    let places: Vec<IVec> = trees.read(|| {
                        matching(trees, after, &filter)
                            .map(|found| found.map(|(place, ..)| place))
                            .take(BATCH)
                            .collect()
                    })?;
                    let count = trees.change(|view| count(&places, |place| change(view, place, now)))?;
                    Ok((
                        places.last().filter(|_| places.len() == BATCH).map(|last| view::seq_of(last)),
                        count,
                    ))
                })
                .await?;
            changed += count;
            match last {
                Some(last) => after = last,
                None => return Ok(changed),
            }
        }
    }
}

fn page(trees: &Trees, filter: &DeadLetterFilter) -> sled::Result<DeadLetterPage> {
    let mut found = matching(trees, filter.after.unwrap_or(0), filter);
    let (mut letters, mut last) = (Vec::new(), None);
    for letter in found.by_ref().take(filter.limit) {
        let (place, row, dead) = letter?;
        let Some(record) = record(trees, &place)? else { continue };
        let content = row::decode(&record).map_err(|_| String::from_utf8_lossy(&record).into_owned());
        let mut letter = DeadLetter::new(row.id, row.r#type, content, dead.reason, clock::time(dead.at));
        letter.holds_key = dead.holds_key && row.key.is_some();
        (letter.attempts, letter.failures) = (row.attempts, row.failures);
        letter.first_failed_at = row.first_failed_at.map(clock::time);
        letter.last_failed_at = row.last_failed_at.map(clock::time);
        letters.push(letter);
        last = Some(view::seq_of(&place));
    }
    let next = match last {
        Some(last) if found.next().transpose()?.is_some() => Some(last),
        _ => None,
    };
    Ok(DeadLetterPage::new(letters, next))
}

/// What is kept of a dead event; none if it was discarded since.
fn record(trees: &Trees, place: &IVec) -> sled::Result<Option<IVec>> {
    let record = trees.events.get(place)?;
    Ok(if record.is_none() && trees.dead.contains_key(place)? { Some(IVec::default()) } else { record })
}

/// A row that cannot be read, as far as its record tells; none if it was discarded since.
fn rebuilt(trees: &Trees, place: &IVec) -> sled::Result<Option<Row>> {
    let Some(record) = record(trees, place)? else { return Ok(None) };
    let status = Status::Dead { at: 0, reason: "the stored row cannot be read".to_owned(), holds_key: false };
    let mut row = Row::rebuild(&record, status);
    if row.is_nobodys() {
        let mut lost = Lost::default();
        lost.names(place);
        lost.find(trees)?;
        row.id = lost.names(place).id.unwrap_or_else(|| id_made_of(place));
    }
    Ok(Some(row))
}

/// What is known of a death.
struct Dead {
    at: i64,
    reason: String,
    holds_key: bool,
}

/// Dead rows after a place, oldest first.
fn matching(
    trees: &Trees,
    after: u64,
    filter: &DeadLetterFilter,
) -> impl Iterator<Item = sled::Result<(IVec, Row, Dead)>> {
    let start = after.saturating_add(1).to_be_bytes();
    trees.dead.range(start..).keys().filter_map(move |place| {
        let found = place.and_then(|place| {
            let row = Row::decode(&trees.rows.get(&place)?.unwrap_or_default());
            Ok((if row.is_none() { rebuilt(trees, &place)? } else { row }, place))
        });
        match found {
            Err(error) => Some(Err(error)),
            Ok((row, place)) => {
                let row = row?;
                // It may have been requeued since the scan passed it.
                let Status::Dead { at, reason, holds_key } = row.status.clone() else { return None };
                let dead = Dead { at, reason, holds_key };
                filter.matches(&row.r#type, clock::time(at)).then_some(Ok((place, row, dead)))
            }
        }
    })
}
