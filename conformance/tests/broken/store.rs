//! The memory store with one fault.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use outbox_memory::{ManualClock, MemoryOutbox, MemorySession};
use outbox_traits::{
    ClaimStore, DeadLetterFilter, DeadLetterStore, EncodedEvent, Error, ErrorKind, Event, EventId, Lease,
    Leased, Meta, OutboxStore, Result, Retention, Saved, StatsStore, async_trait,
};

use tokio::{runtime::Handle, sync::watch, time::Instant};

use crate::{alter, fault::Fault, schema::Schema, session::BrokenSession, wake::Bell};

/// Events that a claim puts aside, where that is few.
const FEW_PUT_ASIDE: u64 = 2000;

/// What a fault needs to remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// All events that were saved, in the order of the saves, committed or not.
    pub(crate) saved: Vec<Event>,
    pub(crate) places: HashMap<EventId, usize>,
    acknowledged: HashMap<EventId, DateTime<Utc>>,
    replaced: HashMap<EventId, Event>,
    keys_ever: HashSet<String>,
    pub(crate) taken: HashSet<EventId>,
    /// What was settled as delivered.
    pub(crate) settled: HashSet<EventId>,
    cursor: usize,
    keys: HashMap<EventId, Meta>,
    pub(crate) last_leases: HashMap<EventId, Lease>,
    /// How many of the events that wait claims look at no more.
    put_aside: u64,
    pub(crate) last_claim: Vec<Leased>,
    pub(crate) waiting: usize,
    /// The place behind the last event that was claimed.
    pub(crate) claimed_up_to: usize,
    /// How often leases were settled or renewed.
    pub(crate) lease_calls: usize,
    /// The attempts and failures of events when this handle claimed them first.
    pub(crate) before: HashMap<EventId, (u32, u32)>,
    /// Partition keys.
    pub(crate) held_for_ever: HashSet<String>,
    saves: usize,
    pub(crate) requeued_at: Option<DateTime<Utc>>,
    pub(crate) requeued: HashSet<EventId>,
    /// Whoever fetches waits for a session that has met a duplicate.
    is_held_up: bool,
    /// What was written without the store.
    pub(crate) elsewhere: Vec<EventId>,
    /// What was filled in there, with its attempts and failures.
    pub(crate) filled: HashMap<EventId, (u32, u32)>,
    /// The session of a batch of which an event was refused.
    pub(crate) left_open: Option<MemorySession>,
}

/// What the handles on one outbox share, whose wake-ups have a fault.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The last event that was saved, committed or not.
    pub(crate) last_saved: Mutex<Option<EventId>>,
    /// When events were last asked for.
    pub(crate) last_asked: Mutex<Option<Instant>>,
    /// Where something was saved first.
    pub(crate) first_saver: OnceLock<Handle>,
    /// Whether another process has requeued a dead letter, and nobody was told.
    pub(crate) is_unheard: AtomicBool,
    /// What was saved as a batch in a session.
    pub(crate) in_batches: Mutex<HashSet<EventId>>,
    /// Whether a part of what is kept beside the events is lost.
    pub(crate) is_lost: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) fault: Fault,
    pub(crate) inner: MemoryOutbox,
    pub(crate) is_peer: bool,
    pub(crate) clock: ManualClock,
    pub(crate) bell: Bell,
    pub(crate) shared: Arc<Shared>,
    pub(crate) is_cut: watch::Sender<bool>,
    pub(crate) schema: Schema,
    memory: Mutex<Memory>,
    /// How many events were looked at.
    pub(crate) reads: AtomicU64,
}

impl Broken {
    pub(crate) fn new(fault: Fault, retention: Retention, clock: &ManualClock) -> Self {
        let done = match fault {
            Fault::DeliveredEventsAreNotKept => Retention::DeleteOnDelivery,
            Fault::DeliveredEventsAreNotDeleted => Retention::UntilPurged,
            _ => retention,
        };
        Self::over(MemoryOutbox::with_clock(clock).with_retention(done), fault, clock)
    }

    /// Another handle on the same events.
    pub(crate) fn peer(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, is_peer: true, ..Self::over(self.inner.clone(), self.fault, &self.clock) }
    }

    pub(crate) fn over(inner: MemoryOutbox, fault: Fault, clock: &ManualClock) -> Self {
        let (bell, is_cut) = (Bell::default(), watch::Sender::new(false));
        let (schema, memory) = (Schema::default(), Mutex::default());
        let (reads, shared) = (AtomicU64::new(0), Arc::default());
        Self {
            fault,
            inner,
            is_peer: false,
            clock: clock.clone(),
            bell,
            shared,
            is_cut,
            schema,
            memory,
            reads,
        }
    }

    pub(crate) fn begin(self: &Arc<Self>) -> BrokenSession {
        let inner = Some(self.inner.begin());
        BrokenSession { inner, store: Arc::clone(self), is_poisoned: false, kept_back: Vec::new() }
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// Counts what a call looks at: its own events, and with this fault all others too.
    pub(crate) async fn look_at(&self, own: usize, fault: Fault) -> Result<()> {
        let stats = self.inner.stats().await?;
        let (done, open) = (stats.delivered + stats.dead, stats.pending + stats.leased);
        let others = match fault {
            _ if self.fault != fault => 0,
            Fault::AClaimReadsWhatIsDone => done,
            Fault::AClaimStepsOverWhatWaits => open,
            Fault::AClaimPutsFewAsideAtOnce => {
                let mut memory = self.memory();
                let left = open.saturating_sub(memory.put_aside);
                memory.put_aside += FEW_PUT_ASIDE;
                left
            }
            _ => done + open,
        };
        self.reads.fetch_add(own as u64 + others, Relaxed);
        Ok(())
    }

    /// Counts what a claim looks at before it takes anything.
    pub(crate) async fn look_around(&self, limit: usize) -> Result<()> {
        self.look_at(limit, Fault::AClaimReadsWhatIsDone).await?;
        self.look_at(0, Fault::AClaimStepsOverWhatWaits).await?;
        self.look_at(0, Fault::AClaimPutsFewAsideAtOnce).await
    }

    /// One save, in a session or in one of its own.
    pub(crate) async fn save_inner(
        &self,
        event: &Event,
        session: &mut Option<MemorySession>,
    ) -> Result<Saved> {
        let mut event = event.clone();
        let key = event.meta().idempotency_key.clone();
        let is_acknowledged = |id: EventId| self.memory().acknowledged.contains_key(&id);
        self.must_have_room_for(&event)?;
        event = self.with_key_of_claims(event);
        match self.fault {
            Fault::ChildInheritsTheIdempotencyKey => {
                let parent = event.meta().causation_id.as_deref().and_then(|cause| cause.parse().ok());
                let memory = self.memory();
                let parent = parent.and_then(|id| memory.places.get(&id)).map(|place| &memory.saved[*place]);
                if let Some(key) = parent.and_then(|parent| parent.meta().idempotency_key.clone()) {
                    event.meta_mut().idempotency_key = Some(key);
                }
            }
            Fault::IdempotencyKeysAreIgnored => event.meta_mut().idempotency_key = None,
            Fault::IdempotencyKeysFoldCase => {
                event.meta_mut().idempotency_key = key.map(|key| key.to_lowercase());
            }
            Fault::IdempotencyKeysAreCutOff => {
                event.meta_mut().idempotency_key = key.map(|key| key.chars().take(255).collect());
            }
            Fault::PurgedKeysStayTaken
                if key.clone().is_some_and(|key| !self.memory().keys_ever.insert(key)) =>
            {
                return Ok(Saved::Duplicate);
            }
            Fault::ASettlementFreesNoIdOrKey if self.was_settled(&event) => return Ok(Saved::Duplicate),
            Fault::NotBeforeIsIgnored => event = alter::without_not_before(&event),
            Fault::AHiddenEventIsHiddenForEver
                if event.not_before().is_some_and(|time| time > self.clock.now()) =>
            {
                event = event.with_not_before(DateTime::<Utc>::MAX_UTC - TimeDelta::days(366 * 260_000));
            }
            Fault::NowAndThenASaveIsLost => {
                let mut memory = self.memory();
                memory.saves += 1;
                if memory.saves.is_multiple_of(40) {
                    return Ok(Saved::Stored);
                }
            }
            Fault::DeliveredIdsAreForgotten if is_acknowledged(event.id()) => return Ok(Saved::Stored),
            Fault::DeliveredIdempotencyKeysAreForgotten if key.is_some() => {
                let memory = self.memory();
                let first = memory.saved.iter().find(|saved| saved.meta().idempotency_key == key);
                if first.is_some_and(|first| memory.acknowledged.contains_key(&first.id())) {
                    return Ok(Saved::Stored);
                }
            }
            _ => {}
        }
        let saved = match (self.refusal(&event), session) {
            (Some(refused), _) => refused,
            (None, Some(session)) => self.inner.save_in_session(&event, session).await,
            (None, None) => self.inner.save(&event).await,
        };
        match (saved, self.fault) {
            (Err(error), Fault::InvalidTypesAreTaken) if error.kind() == ErrorKind::InvalidEvent => {
                Ok(Saved::Stored)
            }
            (Err(error), Fault::TheKeyOfAnOpenSessionIsADuplicate)
                if error.kind() == ErrorKind::Conflict && self.is_free_without_key(&event).await =>
            {
                Ok(Saved::Duplicate)
            }
            (Ok(Saved::Duplicate), Fault::DuplicatesAreKnownByTheHandle)
                if !self.memory().places.contains_key(&event.id()) =>
            {
                Ok(Saved::Stored)
            }
            (Ok(Saved::Duplicate), Fault::TheIdOfADeadEventIsFree) if self.is_dead(event.id()).await? => {
                Ok(Saved::Stored)
            }
            (Ok(Saved::Duplicate), Fault::ARequeueFreesTheIdempotencyKey) if self.has_requeued(&event) => {
                Ok(Saved::Stored)
            }
            (Ok(Saved::Duplicate), Fault::ADuplicateIsAnError) => {
                Err(Error::new(ErrorKind::Backend, "unique constraint violated"))
            }
            (Ok(Saved::Duplicate), Fault::ADuplicateReplacesTheFirst) => {
                self.memory().replaced.insert(event.id(), event);
                Ok(Saved::Duplicate)
            }
            (Ok(Saved::Stored), _) => {
                *self.shared.last_saved.lock().unwrap() = Some(event.id());
                self.bell.ring();
                let mut memory = self.memory();
                let place = memory.saved.len();
                memory.places.insert(event.id(), place);
                memory.saved.push(event);
                Ok(Saved::Stored)
            }
            (saved, _) => saved,
        }
    }

    /// Whether an event of its id or idempotency key was settled as delivered.
    fn was_settled(&self, event: &Event) -> bool {
        let (memory, key) = (self.memory(), &event.meta().idempotency_key);
        let is_same =
            |saved: &Event| saved.id() == event.id() || key.is_some() && saved.meta().idempotency_key == *key;
        memory.saved.iter().any(|saved| memory.settled.contains(&saved.id()) && is_same(saved))
    }

    async fn is_dead(&self, id: EventId) -> Result<bool> {
        let all = DeadLetterFilter::new().with_limit(usize::MAX);
        Ok(self.inner.dead_letters(&all).await?.letters.iter().any(|letter| letter.id == id))
    }

    /// Whether another with its idempotency key was requeued.
    fn has_requeued(&self, event: &Event) -> bool {
        let (memory, key) = (self.memory(), &event.meta().idempotency_key);
        let is_other = |saved: &&Event| saved.meta().idempotency_key == *key && saved.id() != event.id();
        key.is_some()
            && memory.saved.iter().filter(is_other).any(|saved| memory.requeued.contains(&saved.id()))
    }

    /// Whether it could be saved, but for its idempotency key.
    async fn is_free_without_key(&self, event: &Event) -> bool {
        let mut event = event.clone();
        event.meta_mut().idempotency_key = None;
        let mut trial = self.inner.begin();
        matches!(self.inner.save_in_session(&event, &mut trial).await, Ok(Saved::Stored))
    }

    /// Not for what a store without this fault takes.
    fn must_have_room_for(&self, event: &Event) -> Result<()> {
        let key = event.meta().idempotency_key.as_ref();
        let has_room = match self.fault {
            Fault::NulCharactersOfHeadersAreDropped => key.is_none_or(|key| !key.contains('\0')),
            Fault::TypesAreCountedInUtf16 => event.event_type().encode_utf16().count() <= 256,
            _ => true,
        };
        if has_room {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidEvent, "there is no room").with_event(event.id()))
    }

    /// The event with the partition key by which claims go.
    fn with_key_of_claims(&self, event: Event) -> Event {
        match self.fault {
            Fault::KeysAreIgnored => self.without_key(event),
            Fault::HiddenEventsHaveNoKey if event.not_before().is_some() => self.without_key(event),
            Fault::AnEmptyKeyIsNone => self.with_key(event, |key| Some(key).filter(|key| !key.is_empty())),
            Fault::PartitionKeysFoldCase => self.with_key(event, |key| Some(key.to_lowercase())),
            Fault::PartitionKeysAreCutOff => {
                self.with_key(event, |key| Some(key.chars().take(255).collect()))
            }
            Fault::AResourceIdIsAnotherKey => {
                let resource = event.meta().resource_id.clone();
                self.with_key(event, |key| match resource {
                    Some(id) if id == key => Some(format!("the resource {id}")),
                    _ => Some(key),
                })
            }
            _ => event,
        }
    }

    /// The event with another key, as claims then see it; who reads it gets its own.
    fn with_key(&self, mut event: Event, key: impl FnOnce(String) -> Option<String>) -> Event {
        self.memory().keys.insert(event.id(), event.meta().clone());
        let own = event.partition_key().map(str::to_owned);
        event.meta_mut().partition_key = own.and_then(key);
        event
    }

    /// The event as claims then see it; who reads it gets the key.
    fn without_key(&self, mut event: Event) -> Event {
        self.memory().keys.insert(event.id(), event.meta().clone());
        event.meta_mut().partition_key = None;
        event.meta_mut().resource_id = None;
        event
    }

    /// The place of an event in the order of the saves, as a sequence number of an engine is.
    pub(crate) fn place(&self, id: EventId) -> usize {
        self.memory().places.get(&id).copied().unwrap_or_default()
    }
}

#[async_trait]
impl OutboxStore for Broken {
    type Session = BrokenSession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        self.must_be_migrated()?;
        self.shared.first_saver.get_or_init(Handle::current);
        self.save_inner(event, &mut None).await
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        self.must_be_migrated()?;
        self.look_at(events.len(), Fault::ASaveReadsAll).await?;
        let left_open = self.memory().left_open.take();
        let mut session = left_open.or_else(|| Some(self.inner.begin()));
        if self.fault == Fault::ABadBatchIsHalfStored {
            session = None;
        } else if self.fault != Fault::InvalidTypesAreTaken {
            events.iter().try_for_each(Event::validate)?;
        }
        let mut saved = Vec::new();
        let mut all: Vec<&Event> = events.iter().collect();
        if self.fault == Fault::BatchesAreReversed {
            all.reverse();
        }
        for event in all {
            let outcome = self.save_inner(event, &mut session).await;
            saved.push(self.in_a_batch(outcome, &saved, &mut session)?);
        }
        if let Some(session) = session {
            session.commit();
        }
        if self.fault == Fault::ABatchSaysStoredForDuplicates {
            saved.fill(Saved::Stored);
        }
        Ok(saved)
    }

    async fn save_in_session(&self, event: &Event, session: &mut BrokenSession) -> Result<Saved> {
        if session.is_poisoned {
            return Err(Error::new(ErrorKind::Backend, "current transaction is aborted"));
        }
        match self.fault {
            Fault::SaveIgnoresItsSession => return self.save(event).await,
            Fault::SavesInASessionAreReversed => {
                event.validate()?;
                session.kept_back.push(event.clone());
                return Ok(Saved::Stored);
            }
            _ => {}
        }
        session.inner();
        if let Err(error) = self.must_be_migrated() {
            if self.fault == Fault::AMissingTableCommits {
                session.inner.take().into_iter().for_each(MemorySession::commit);
            }
            return Err(error);
        }
        let altered = match self.fault {
            Fault::EventsOfSessionsHaveNoKey => Some(self.without_key(event.clone())),
            Fault::SessionsForgetUnknownMetaFields => {
                Some(alter::read(Fault::UnknownMetaFieldsGetLost, event.clone()))
            }
            _ => None,
        };
        let saved = self.save_inner(altered.as_ref().unwrap_or(event), &mut session.inner).await;
        match (&saved, self.fault) {
            (Err(error), Fault::WhatAnOpenSessionHasSavedIsADuplicate)
                if error.kind() == ErrorKind::Conflict =>
            {
                return Ok(Saved::Duplicate);
            }
            (Ok(Saved::Duplicate), Fault::ADuplicatePoisonsTheSession) => session.is_poisoned = true,
            (Ok(Saved::Duplicate), Fault::ADuplicateInASessionHoldsUpAll) => self.memory().is_held_up = true,
            (Err(_), Fault::AnErrorRollsBack) => drop(session.inner.take()),
            (Err(_), Fault::AnErrorCommits) => {
                session.inner.take().into_iter().for_each(MemorySession::commit);
            }
            _ => {}
        }
        saved
    }

    async fn save_all_in_session(&self, events: &[Event], session: &mut BrokenSession) -> Result<Vec<Saved>> {
        events.iter().try_for_each(|event| EncodedEvent::new(event).map(drop))?;
        let mut saved = Vec::new();
        let is_whole = !matches!(
            self.fault,
            Fault::ARefusedBatchStaysInItsSession | Fault::ARefusedEventOfABatchInASessionIsADuplicate
        );
        if is_whole && let Some(error) = events.iter().find_map(|event| self.refusal(event)?.err()) {
            return Err(error);
        }
        self.shared.in_batches.lock().unwrap().extend(events.iter().map(Event::id));
        for event in events {
            let floats = match self.fault {
                Fault::BatchesOfSessionsMakeFloatsOfLargeIntegers => {
                    Some(alter::read(Fault::LargeIntegersBecomeFloats, event.clone()))
                }
                _ => None,
            };
            let event = floats.as_ref().unwrap_or(event);
            saved.push(match (self.save_in_session(event, session).await, self.fault) {
                (Err(_), Fault::ARefusedEventOfABatchInASessionIsADuplicate) => Saved::Duplicate,
                (outcome, _) => outcome?,
            });
        }
        Ok(saved)
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        self.must_be_migrated()?;
        *self.shared.last_asked.lock().unwrap() = Some(Instant::now());
        if self.memory().is_held_up {
            return Err(Error::new(ErrorKind::Conflict, "another session is in the way"));
        }
        self.look_at(limit, Fault::AFetchReadsAll).await?;
        let mut pending = match self.fault {
            Fault::TheLimitIsOneTooMany => self.inner.get_pending(limit.saturating_add(1)).await?,
            Fault::UndecodableRowsAreAnError => {
                let pending = self.inner.get_pending(limit).await?;
                if !self.inner.dead_letters(&DeadLetterFilter::new()).await?.letters.is_empty() {
                    return Err(Error::new(ErrorKind::Corrupt, "a row cannot be read"));
                }
                pending
            }
            Fault::ALargeRowIsAnError => {
                let pending = self.inner.get_pending(limit).await?;
                let dead = self.inner.dead_letters(&DeadLetterFilter::new()).await?.letters;
                if dead.iter().any(|letter| letter.content.as_ref().is_err_and(|raw| raw.len() > 1_000_000)) {
                    return Err(Error::new(ErrorKind::Backend, "there is no room for the reason"));
                }
                pending
            }
            Fault::UndecodableRowsAreDropped => {
                let pending = self.inner.get_pending(limit).await?;
                self.inner.discard_all(&DeadLetterFilter::new()).await?;
                pending
            }
            Fault::LeasedEventsArePending => {
                let mut pending = self.inner.get_pending(usize::MAX).await?;
                let leased: Vec<Event> =
                    self.memory().last_claim.iter().map(|leased| leased.event.clone()).collect();
                pending.extend(leased);
                pending.sort_by_key(|event| self.place(event.id()));
                pending.dedup();
                pending
            }
            Fault::OnlySomeHiddenEventsBecomeDue => {
                let mut room = 1000;
                let mut pending = self.inner.get_pending(usize::MAX).await?;
                pending.retain(|event| {
                    room -= usize::from(room > 0 && event.not_before().is_some());
                    room > 0 || event.not_before().is_none()
                });
                pending
            }
            Fault::TheLimitIsIgnored
            | Fault::LastInFirstOut
            | Fault::OrderByTheApplicationClock
            | Fault::OrderById
            | Fault::ACursorSkipsLateCommits
            | Fault::GapsAreWaitedFor
            | Fault::AFetchTakesWhatItReturns => self.inner.get_pending(usize::MAX).await?,
            _ => return Ok(self.altered(self.inner.get_pending(limit).await?)),
        };
        match self.fault {
            Fault::LastInFirstOut => pending.reverse(),
            Fault::OrderByTheApplicationClock => pending.sort_by_key(|event| event.meta().timestamp()),
            Fault::OrderById => pending.sort_by_key(Event::id),
            Fault::ACursorSkipsLateCommits => {
                pending.sort_by_key(|event| self.place(event.id()));
                let cursor = self.memory().cursor;
                pending.retain(|event| self.place(event.id()) >= cursor);
            }
            Fault::GapsAreWaitedFor => {
                pending.sort_by_key(|event| self.place(event.id()));
                let delivered: HashSet<EventId> = self.memory().acknowledged.keys().copied().collect();
                let found: HashSet<EventId> = pending.iter().map(Event::id).collect();
                let is_there = |event: &Event| found.contains(&event.id()) || delivered.contains(&event.id());
                let first_gap = self.memory().saved.iter().position(|event| !is_there(event));
                pending.retain(|event| first_gap.is_none_or(|gap| self.place(event.id()) < gap));
            }
            Fault::AFetchTakesWhatItReturns => {
                pending.retain(|event| !self.memory().taken.contains(&event.id()));
                pending.truncate(limit);
                self.memory().taken.extend(pending.iter().map(Event::id));
            }
            Fault::LeasedEventsArePending | Fault::OnlySomeHiddenEventsBecomeDue => {}
            _ => return Ok(pending),
        }
        pending.truncate(limit);
        Ok(pending)
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        let place = self.place(id);
        let is_first = !self.memory().acknowledged.contains_key(&id);
        if is_first || self.fault == Fault::AcknowledgeMovesTheDeliveryTime {
            self.memory().acknowledged.insert(id, self.clock.now());
        }
        match self.fault {
            Fault::AcknowledgeDoesNothing => return Ok(()),
            Fault::AcknowledgeLeavesTheLease if self.memory().last_leases.contains_key(&id) => return Ok(()),
            Fault::AcknowledgeRefusesUnknownIds if !self.memory().places.contains_key(&id) => {
                return Err(Error::new(ErrorKind::Backend, "no such event").with_event(id));
            }
            Fault::AcknowledgeTakesAllBefore => {
                while let Some(first) = self.inner.get_pending(1).await?.first()
                    && self.place(first.id()) < place
                {
                    self.inner.acknowledge(first.id()).await?;
                }
            }
            Fault::ACursorSkipsLateCommits => {
                let mut memory = self.memory();
                memory.cursor = memory.cursor.max(place + 1);
            }
            Fault::AcknowledgeTouchesTheDead => drop(self.inner.requeue(id).await?),
            Fault::AnAcknowledgeEndsTheHold => self.let_go(|letter| letter.id == id).await?,
            Fault::AcknowledgementsReachOtherOutboxes => {
                for other in self.outboxes() {
                    other.acknowledge(id).await?;
                }
            }
            _ => {}
        }
        self.inner.acknowledge(id).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        self.look_at(ids.len(), Fault::AnAcknowledgementReadsAll).await?;
        let forgets = self.fault == Fault::ABatchAcknowledgeForgetsOne && ids.len() > 1;
        for id in &ids[usize::from(forgets)..] {
            if !self.is_passed_over(*id).await? {
                self.acknowledge(*id).await?;
            }
        }
        Ok(())
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        self.look_at(0, Fault::APurgeReadsAll).await?;
        let until = TimeDelta::from_std(older_than)
            .ok()
            .and_then(|older_than| self.clock.now().checked_sub_signed(older_than))
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        match self.fault {
            Fault::PurgeTakesPending => {
                let pending = self.inner.get_pending(usize::MAX).await?;
                for event in pending.iter().filter(|event| event.meta().timestamp() <= until) {
                    self.inner.acknowledge(event.id()).await?;
                }
            }
            Fault::PurgeTakesTheDead => {
                let dead = DeadLetterFilter::new().with_before(until + TimeDelta::milliseconds(1));
                return Ok(self.inner.discard_all(&dead).await? + self.inner.purge(older_than).await?);
            }
            Fault::PurgeIgnoresTheAge => return self.inner.purge(Duration::ZERO).await,
            Fault::PurgeGoesByTheEventsOwnTime => {
                let is_old = self.memory().saved.iter().any(|event| event.meta().timestamp() <= until);
                return if is_old { self.inner.purge(Duration::ZERO).await } else { Ok(0) };
            }
            Fault::AcknowledgeMovesTheDeliveryTime
                if self.memory().acknowledged.values().any(|time| *time > until) =>
            {
                return Ok(0);
            }
            Fault::AgesAreCutToSeconds => {
                return self.inner.purge(Duration::from_secs(older_than.as_secs())).await;
            }
            Fault::PurgesReachOtherOutboxes => {
                let purged = self.inner.purge(older_than).await?;
                for other in self.outboxes() {
                    other.purge(older_than).await?;
                }
                return Ok(purged);
            }
            Fault::PurgeMiscounts => return Ok(self.inner.purge(older_than).await?.min(1000)),
            _ => {}
        }
        self.inner.purge(older_than).await
    }
}

impl Broken {
    /// Whether a batch of acknowledgements leaves it as it is.
    async fn is_passed_over(&self, id: EventId) -> Result<bool> {
        let is_asked = matches!(
            self.fault,
            Fault::ABatchAcknowledgeLeavesTheLeases | Fault::ABatchAcknowledgeLeavesTheRetries
        );
        let lease = self.memory().last_leases.get(&id).copied();
        let Some(lease) = lease.filter(|_| is_asked) else { return Ok(false) };
        let is_leased = self.inner.renew(&[lease], Duration::from_secs(30)).await?[0].is_ok();
        if self.fault == Fault::ABatchAcknowledgeLeavesTheLeases {
            return Ok(is_leased);
        }
        let pending = self.inner.get_pending(usize::MAX).await?;
        Ok(!is_leased && pending.iter().all(|event| event.id() != id))
    }

    /// The event as it was saved, where a fault has kept a part of it back.
    pub(crate) fn restored(&self, mut event: Event) -> Event {
        if let Some(meta) = self.memory().keys.get(&event.id()) {
            event.meta_mut().clone_from(meta);
        }
        event
    }

    fn altered(&self, events: Vec<Event>) -> Vec<Event> {
        let replaced = self.memory().replaced.clone();
        events
            .into_iter()
            .map(|event| replaced.get(&event.id()).cloned().unwrap_or(event))
            .map(|event| match self.fault {
                Fault::ARequeueForgetsUnknownMetaFields if self.memory().requeued.contains(&event.id()) => {
                    alter::read(Fault::UnknownMetaFieldsGetLost, event)
                }
                _ => self.restored(alter::read(self.fault, event)),
            })
            .collect()
    }
}
