//! What a claim takes: from leases that ran out to its own.

use std::sync::atomic::Ordering::Relaxed;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::error::Error as DriverError;
use outbox_traits::{Claim, Event, Lease, Leased};
use tokio::time::Instant;

use super::{
    LOCK,
    counts::one_more_attempt,
    end,
    look::{BUDGET, Busy, MAX_PARKED, PAGES, Spot},
    passed::{Passed, Start},
    state::{Entry, Leases, values},
    turn::Lock,
    view::View,
};
use crate::{
    MongoOutbox,
    document::{self, Key, PARKED, PENDING},
    indexes::{ID_KEYS, keys},
    store::{BATCH, ONE_ANSWER},
};

/// What came of one look.
pub(super) enum Step {
    Leased(Vec<Leased>),
    /// Something was put in order.
    Again,
    /// Some of what is in the way was put aside.
    Parked,
    /// It is to be looked for from the first event on.
    InFront,
    /// Another was quicker.
    Outrun,
    /// Some events could not be read, and were set aside.
    Undecodable,
}

/// How far a claim has come.
pub(super) struct Effort {
    since: Option<Instant>,
    /// How many events are looked for.
    pub(super) look: usize,
    /// Where the next look begins, if not in front.
    pub(super) start: Option<Start>,
    pub(super) is_in_front: bool,
    /// Whether it has parked its share of what is in the way.
    pub(super) has_parked: bool,
}

impl Effort {
    pub(super) fn new(claim: &Claim) -> Self {
        let look = claim.limit.min(Claim::MAX_LIMIT);
        Self { since: None, look, start: None, is_in_front: false, has_parked: false }
    }

    /// Begins a look. Others may have come past what is in front while this one waited for its turn.
    pub(super) fn begin(&mut self, claim: &Claim, passed: &Passed) {
        self.since.get_or_insert_with(Instant::now);
        self.start = passed.start(&claim.types).filter(|_| !self.is_in_front);
    }

    /// What it has come past, once it has what it found: else the next look would leave that out.
    fn remember(&self, start: Option<Start>, passed: &Passed) {
        if let (Some(start), Some(since)) = (start, self.since) {
            passed.remember(start, since);
        }
    }
}

/// An event that is taken, with its place, its own `_id`, and its counts.
struct Chosen {
    position: u64,
    id: Bson,
    key: Key,
    event: Event,
    attempts: u32,
    failures: u32,
}

/// A document that is no event, and why.
type Unread = (RawDocumentBuf, String);

/// Events whose leases one transaction ends. With some 300,000 its command would be longer than the server takes.
const MOST_ENDED: usize = 20_000;

/// The first of these leases, with not too many events; one at least.
fn at_once(expired: &[Leases]) -> &[Leases] {
    let mut events = 0;
    let is_more = |leases: &Leases| {
        events += leases.entries.len();
        events > MOST_ENDED
    };
    let count = expired.iter().position(is_more).unwrap_or(expired.len());
    &expired[..count.max(1)]
}

impl MongoOutbox {
    pub(super) async fn claim_once(
        &self,
        lock: Lock<'_>,
        claim: &Claim,
        effort: &Effort,
    ) -> Result<Step, DriverError> {
        let limit = claim.limit.min(Claim::MAX_LIMIT);
        let others = self.seen.leased.load(Relaxed);
        let page_size = effort.look.saturating_add(others).clamp(1, PAGES.1);
        // Where nothing is in the way the first ones are those to take.
        let is_whole = others == 0;
        let mut moment = match &lock {
            Lock::Free(_) => self.moment().await?,
            Lock::Held(held) => self.moment_before(held).await?,
        };
        let Some(mut view) =
            self.view(&mut moment, claim, effort.start.as_ref(), page_size, is_whole).await?
        else {
            lock.let_go().await;
            self.make_lock().await?;
            return Ok(Step::Again);
        };
        if view.is_due {
            lock.let_go().await;
            self.promote().await?;
            return Ok(Step::Again);
        }
        let (expired, active): (Vec<_>, Vec<_>) =
            std::mem::take(&mut view.leases).into_iter().partition(|leases| leases.until <= view.now);
        if !expired.is_empty() {
            let some = at_once(&expired);
            return Ok(if self.expire(lock, &view, some).await? { Step::Again } else { Step::Outrun });
        }
        let entries = active.into_iter().flat_map(|leases| leases.entries);
        let (delivered, open): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.is_delivered);
        // What is delivered is pending for a moment at most.
        self.seen.leased.store(open.len(), Relaxed);
        let mut busy = Busy { is_passed: effort.has_parked, ..Busy::default() };
        busy.events.extend(delivered.into_iter().map(|entry| entry.event));
        for entry in open {
            busy.events.insert(entry.event);
            busy.keys.insert(entry.key);
        }
        let Some(found) = self.look(&mut moment, &view, claim, effort, &busy).await? else {
            lock.let_go().await;
            return Ok(Step::InFront);
        };
        // Others are not to wait until all is parked: who has done its share of that goes on with what it has found.
        if found.stepped.len() > BUDGET && !effort.has_parked {
            let Some(mut held) = self.hold_after(lock, &view).await? else { return Ok(Step::Outrun) };
            let parked = self.park(&mut held, &found.stepped[..found.stepped.len().min(MAX_PARKED)]).await;
            held.end(parked).await?;
            return Ok(Step::Parked);
        }
        if !found.empty.is_empty() {
            let Some(held) = self.hold_after(lock, &view).await? else { return Ok(Step::Outrun) };
            let these = doc! { "_id": { "$in": values(&found.empty) } };
            let removed = self.keys.delete_many(these).session(&mut *held.session).await;
            held.end(removed).await?;
            return Ok(Step::Again);
        }
        let (mut chosen, undecodable) = self.read(&view, &found.spots).await?;
        if !undecodable.is_empty() {
            // Nobody has to wait for that.
            lock.let_go().await;
            for (raw, reason) in &undecodable {
                self.set_aside(raw, reason).await?;
            }
            return Ok(Step::Undecodable);
        }
        chosen.truncate(limit);
        if chosen.is_empty() {
            lock.let_go().await;
            // What was found may have been acknowledged meanwhile, and others of its key wait no more.
            if !found.spots.is_empty() {
                return Ok(Step::Outrun);
            }
            effort.remember(found.passed, &self.seen.passed);
            return Ok(Step::Leased(Vec::new()));
        }
        let entry = |one: &Chosen| Entry {
            id: one.id.clone(),
            event: one.event.id().to_string(),
            key: one.key.clone(),
            is_delivered: false,
        };
        let entries = chosen.iter().map(entry).collect();
        let leases = Leases::new(&claim.worker, end(view.now, claim.lease), entries);
        if !self.lease(lock, &view, &leases).await? {
            return Ok(Step::Outrun);
        }
        effort.remember(found.passed, &self.seen.passed);
        let token = leases.token();
        let leased = chosen.into_iter().map(|one| {
            let lease = Lease::new(one.event.id(), token);
            Leased::new(one.event, lease, one.attempts.saturating_add(1), one.failures)
        });
        Ok(Step::Leased(leased.collect()))
    }

    /// Writes leases down, if nobody had the lock since they were decided on.
    async fn lease(&self, lock: Lock<'_>, view: &View, leases: &Leases) -> Result<bool, DriverError> {
        let mut changes = Vec::with_capacity(2);
        let mut held = match lock {
            Lock::Free(turn) => {
                let version = view.version.saturating_add(1);
                changes.push(rawdoc! {
                    "q": { "_id": LOCK, "version": view.version }, "u": { "$set": { "version": version } },
                });
                self.begin(turn, view.now, view.version).await?
            }
            held @ Lock::Held(_) => match self.hold_after(held, view).await? {
                Some(held) => held,
                None => return Ok(false),
            },
        };
        changes.push(
            rawdoc! { "q": { "_id": leases.token.as_str() }, "u": leases.document(view.now)?, "upsert": true },
        );
        match self.update(&mut held, self.leases.name(), &changes).await {
            Ok(count) if usize::try_from(count).is_ok_and(|count| count == changes.len()) => {
                held.end(Ok(true)).await
            }
            Ok(_) => {
                held.give_up().await;
                Ok(false)
            }
            Err(error) => held.end(Err(error)).await,
        }
    }

    /// Ends leases that ran out, if nobody was quicker: each of their events has one more started attempt, but for those that are
    /// delivered.
    async fn expire(&self, lock: Lock<'_>, view: &View, expired: &[Leases]) -> Result<bool, DriverError> {
        for leases in expired {
            let delivered: Vec<Entry> =
                leases.entries.iter().filter(|entry| entry.is_delivered).cloned().collect();
            self.mark_delivered(&delivered).await?;
        }
        let entries = expired.iter().flat_map(|leases| &leases.entries);
        let events: Vec<&str> =
            entries.filter(|entry| !entry.is_delivered).map(|entry| entry.event.as_str()).collect();
        let Some(held) = self.hold_after(lock, view).await? else { return Ok(false) };
        let ended = async {
            let these: Vec<Document> = expired.iter().map(Leases::unchanged).collect();
            let these = doc! { "$or": these };
            let ended = self.leases.delete_many(these).session(&mut *held.session).await?.deleted_count;
            if ended != expired.len() as u64 {
                return Ok(false);
            }
            if !events.is_empty() {
                let these = doc! { "eventId": { "$in": events }, "status": { "$in": [PENDING, PARKED] } };
                let update = self.events.update_many(these, one_more_attempt()).hint(keys(ID_KEYS));
                update.session(&mut *held.session).await?;
            }
            Ok(true)
        };
        match ended.await {
            Ok(false) => {
                held.give_up().await;
                Ok(false)
            }
            ended => held.end(ended).await,
        }
    }

    /// Reads the events themselves, in order, and those that cannot be read, with the reason.
    async fn read(&self, view: &View, spots: &[Spot]) -> Result<(Vec<Chosen>, Vec<Unread>), DriverError> {
        let mut read = Vec::with_capacity(spots.len());
        let mut undecodable = Vec::new();
        let mut take = |raw: &RawDocument| -> Result<(), DriverError> {
            match document::event(raw) {
                Ok(event) => read.push(Chosen {
                    position: document::position(raw),
                    id: document::value(raw, "_id")?,
                    key: document::key(raw),
                    event,
                    attempts: document::count(raw, "attempts"),
                    failures: document::count(raw, "failures"),
                }),
                Err(reason) => undecodable.push((raw.to_owned(), reason)),
            }
            Ok(())
        };
        let mut others = Vec::new();
        for spot in spots {
            match spot.in_page {
                Some(index) => take(&view.page[index])?,
                None => others.push(&spot.id),
            }
        }
        for ids in others.chunks(BATCH) {
            // One that was acknowledged meanwhile is open no more.
            let these = doc! { "_id": { "$in": ids }, "status": { "$in": [PENDING, PARKED] } };
            let find = self.events.find(these).hint(keys("_id")).batch_size(ONE_ANSWER);
            let mut cursor = find.await?;
            while cursor.advance().await? {
                take(cursor.current())?;
            }
        }
        read.sort_by_key(|chosen| chosen.position);
        Ok((read, undecodable))
    }
}

#[cfg(test)]
mod tests {
    use bson::DateTime;

    use super::*;

    #[test]
    fn of_many_leases_that_ran_out_some_end_at_once() {
        let of = |counts: &[usize]| {
            let entry = Entry { id: Bson::Null, event: String::new(), key: Key::new(), is_delivered: false };
            let leases = |count: &usize| Leases {
                id: Bson::Null,
                token: String::new(),
                worker: String::new(),
                until: DateTime::MIN,
                revision: 0,
                entries: vec![entry.clone(); *count],
            };
            at_once(&counts.iter().map(leases).collect::<Vec<_>>()).len()
        };
        assert_eq!(of(&[1, 2, 3]), 3);
        assert_eq!(of(&[MOST_ENDED, 1]), 1);
        assert_eq!(of(&[MOST_ENDED + 1, 1]), 1);
        assert_eq!(of(&[MOST_ENDED - 1, 1, 1]), 2);
    }
}
