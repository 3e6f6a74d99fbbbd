//! A store whose engine has faults where it is told to, and what can be wrong with it then.

use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_conformance::{Fault as EngineFault, FaultHarness, Harness, InboxHarness, Skip};
use outbox_memory::{ManualClock, MemoryInbox, MemoryOutbox, MemorySession};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterPage, DeadLetterStore, Error, ErrorKind, Event, EventId,
    InboxStore, Lease, Leased, OutboxStore, Receipt, Result, Saved, Settlement, async_trait,
};
use tokio::time::sleep;

use crate::{fault::Fault, harness::Faulty};

/// How often a conflict is tried again.
const TRIES: usize = 5;

/// The memory store on an engine with faults.
pub(crate) struct Fitful {
    store: FitfulStore,
    inbox: FitfulInbox,
    clock: ManualClock,
    rows: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Harness for Fitful {
    type Store = FitfulStore;
    type Transaction = MemorySession;

    async fn open() -> Result<Self, Skip> {
        let clock = ManualClock::new();
        let inner = MemoryOutbox::with_clock(&clock);
        let engine = Arc::new(Engine { fault: Faulty::fault(), ..Engine::default() });
        let inbox = FitfulInbox {
            inner: MemoryInbox::new(&inner),
            outbox: inner.clone(),
            engine: Arc::clone(&engine),
        };
        Ok(Self { store: FitfulStore { inner, engine }, inbox, clock, rows: Arc::default() })
    }

    fn store(&self) -> &FitfulStore {
        &self.store
    }

    async fn begin(&self) -> MemorySession {
        self.store.inner.begin()
    }

    fn session<'a>(&self, transaction: &'a mut MemorySession) -> &'a mut MemorySession {
        transaction
    }

    async fn commit(&self, transaction: MemorySession) {
        transaction.commit();
    }

    async fn rollback(&self, transaction: MemorySession) {
        transaction.rollback();
    }

    async fn write_row(&self, key: &str, session: &mut MemorySession) {
        let (rows, key) = (Arc::clone(&self.rows), key.to_owned());
        session.on_commit(move || rows.lock().unwrap().push(key));
    }

    async fn rows(&self) -> Vec<String> {
        self.rows.lock().unwrap().clone()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.store.inner.insert_undecodable(id, "suite.broken", r#"{"payload": tru"#);
    }

    async fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait]
impl FaultHarness for Fitful {
    fn faults(&self) -> Vec<EngineFault> {
        vec![
            EngineFault::new("deadlock", ErrorKind::Conflict),
            EngineFault::new("lock", ErrorKind::Conflict),
            EngineFault::new("shutdown", ErrorKind::Unavailable),
            EngineFault::new("unknown", ErrorKind::Unavailable).outside_sessions().asked_again(),
            EngineFault::new("full", ErrorKind::Backend),
            EngineFault::new("held", ErrorKind::Conflict).outside_sessions(),
        ]
    }

    async fn fail(&self, fault: &EngineFault, times: u32) {
        *self.store.engine.told.lock().unwrap() = Some((fault.clone(), times));
    }
}

impl InboxHarness for Fitful {
    type Inbox = FitfulInbox;

    fn inbox(&self) -> &FitfulInbox {
        &self.inbox
    }
}

/// What the engine was told, and what is wrong with the store.
#[derive(Debug, Default)]
struct Engine {
    fault: Fault,
    told: Mutex<Option<(EngineFault, u32)>>,
    failures: AtomicUsize,
}

impl Engine {
    /// Whether a statement that writes meets a fault.
    fn met(&self) -> Option<EngineFault> {
        let most = match self.fault {
            Fault::AHandleThatHasFailedFailsForEver => 0,
            Fault::AHandleIsWornOutByFaults => 15,
            _ => usize::MAX,
        };
        if self.failures.load(Relaxed) > most {
            return Some(EngineFault::new("worn out", ErrorKind::Unavailable));
        }
        let mut told = self.told.lock().unwrap();
        let (met, times) = told.as_mut().filter(|(_, times)| *times > 0)?;
        *times -= 1;
        self.failures.fetch_add(1, Relaxed);
        Some(met.clone())
    }

    fn error(&self, met: &EngineFault) -> Error {
        let kind = match (self.fault, met.name()) {
            (Fault::ADeadlockIsOfNoKind, "deadlock") | (Fault::OnlyTheFirstOfItsKindIsKnown, "lock") => {
                ErrorKind::Backend
            }
            (Fault::AShutdownIsAConflict, "shutdown") => ErrorKind::Conflict,
            (Fault::AFullDiskIsWaitedFor, "full") => ErrorKind::Unavailable,
            _ => met.kind(),
        };
        let error = Error::new(kind, "the engine has a fault");
        match self.fault {
            Fault::TheErrorOfTheEngineGetsLost => error,
            _ => error.with_source(io::Error::other(met.name().to_owned())),
        }
    }

    /// What the store does in a transaction of its own.
    async fn run<T, F: Future<Output = Result<T>> + Send>(
        &self,
        call: impl Fn() -> F + Send + Sync,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            let Some(met) = self.met() else { return call().await };
            let is_borne = match (met.kind(), self.fault) {
                (ErrorKind::Conflict, Fault::ConflictsAreNotTriedAgain) => false,
                (ErrorKind::Conflict, Fault::ConflictsAreTriedAgainForEver) => true,
                (ErrorKind::Conflict, _) => tries < TRIES,
                (ErrorKind::Backend, Fault::WhateverFailsIsTriedAgain) => tries < 1,
                (_, Fault::WhatNobodyKnowsIsNotAskedForAgain) => false,
                _ => met.is_asked_again() && tries < 2,
            };
            if !is_borne {
                return Err(self.error(&met));
            }
            tries += 1;
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct FitfulStore {
    inner: MemoryOutbox,
    engine: Arc<Engine>,
}

impl FitfulStore {
    /// What becomes of a call that met a fault, where this is wrong with the store.
    async fn spoiled<T, F: Future<Output = Result<()>> + Send>(
        &self,
        answer: Result<T>,
        fault: Fault,
        spoil: impl FnOnce() -> F + Send,
    ) -> Result<T>
    where
        T: Send,
    {
        if answer.is_err() && self.engine.fault == fault {
            spoil().await?;
        }
        answer
    }

    async fn save_some(&self, events: &[Event]) -> Result<Vec<Saved>> {
        let answer = self.engine.run(|| self.inner.save_all(events)).await;
        match (answer, self.engine.fault) {
            (Err(_), Fault::ASaveThatFailedIsReported) => Ok(vec![Saved::Stored; events.len()]),
            (answer, fault) => {
                let stored = if fault == Fault::ASaveThatFailedIsStoredInPart { 1 } else { events.len() };
                let spoil = async || self.inner.save_all(&events[..stored]).await.map(drop);
                let is_half = matches!(fault, Fault::ASaveThatFailedIsStoredInPart) && events.len() > 1;
                let fault = if is_half { fault } else { Fault::ASaveThatFailedIsStored };
                self.spoiled(answer, fault, spoil).await
            }
        }
    }
}

#[async_trait]
impl OutboxStore for FitfulStore {
    type Session = MemorySession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        Ok(self.save_some(std::slice::from_ref(event)).await?[0])
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        self.save_some(events).await
    }

    async fn save_in_session(&self, event: &Event, session: &mut MemorySession) -> Result<Saved> {
        let Some(met) = self.engine.met() else { return self.inner.save_in_session(event, session).await };
        match self.engine.fault {
            Fault::AFaultInASessionIsTriedAgain => return self.inner.save_in_session(event, session).await,
            Fault::AFaultCommitsTheSession => {
                std::mem::replace(session, self.inner.begin()).commit();
            }
            _ => {}
        }
        Err(self.engine.error(&met))
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        self.inner.get_pending(limit).await
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        let answer = self.engine.run(|| self.inner.acknowledge_all(ids)).await;
        if answer.is_err() && self.engine.fault == Fault::AnAcknowledgementThatFailedIsReported {
            return Ok(());
        }
        let spoil = async || self.inner.acknowledge_all(&ids[..1]).await;
        self.spoiled(answer, Fault::AnAcknowledgementThatFailedIsDoneInPart, spoil).await
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let answer = self.engine.run(|| self.inner.purge(older_than)).await;
        if answer.is_err() && self.engine.fault == Fault::APurgeThatFailedIsReported {
            return Ok(0);
        }
        answer
    }
}

#[async_trait]
impl ClaimStore for FitfulStore {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        let answer = self.engine.run(|| self.inner.claim(claim)).await;
        let spoil = async || {
            let first = claim.clone().with_limit(1).with_lease(Duration::from_hours(24));
            self.inner.claim(&first).await.map(drop)
        };
        self.spoiled(answer, Fault::AClaimThatFailedKeepsItsEvents, spoil).await
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        let answer = self.engine.run(|| self.inner.renew(leases, length)).await;
        let spoil = async || {
            let ended: Vec<Settlement> = leases.iter().copied().map(Settlement::released).collect();
            self.inner.settle(&ended).await.map(drop)
        };
        self.spoiled(answer, Fault::ARenewalThatFailedEndsTheLease, spoil).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        let answer = self.engine.run(|| self.inner.settle(settlements)).await;
        let spoil = async || self.inner.settle(&settlements[..1]).await.map(drop);
        self.spoiled(answer, Fault::ASettlementThatFailedTakesInPart, spoil).await
    }
}

#[async_trait]
impl DeadLetterStore for FitfulStore {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        self.inner.dead_letters(filter).await
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        let answer = self.engine.run(|| self.inner.requeue(id)).await;
        let spoil = async || self.inner.requeue(id).await.map(drop);
        self.spoiled(answer, Fault::ARequeueThatFailedIsDone, spoil).await
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.engine.run(|| self.inner.requeue_all(filter)).await
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        self.engine.run(|| self.inner.discard(id)).await
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let answer = self.engine.run(|| self.inner.discard_all(filter)).await;
        if answer.is_err() && self.engine.fault == Fault::ADiscardThatFailedIsReported {
            return Ok(0);
        }
        answer
    }
}

#[derive(Debug)]
pub(crate) struct FitfulInbox {
    inner: MemoryInbox,
    outbox: MemoryOutbox,
    engine: Arc<Engine>,
}

#[async_trait]
impl InboxStore for FitfulInbox {
    type Session = MemorySession;

    async fn process_once(
        &self,
        session: &mut MemorySession,
        consumer: &str,
        event: EventId,
    ) -> Result<Receipt> {
        let Some(met) = self.engine.met() else {
            return self.inner.process_once(session, consumer, event).await;
        };
        match self.engine.fault {
            Fault::AMarkThatFailedIsADuplicate => return Ok(Receipt::Duplicate),
            Fault::AMarkThatFailedIsThere => {
                let mut own = self.outbox.begin();
                self.inner.process_once(&mut own, consumer, event).await?;
                own.commit();
            }
            _ => {}
        }
        Err(self.engine.error(&met))
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        let answer = self.engine.run(|| self.inner.purge(older_than)).await;
        if answer.is_err() && self.engine.fault == Fault::APurgeOfMarksThatFailedIsDone {
            self.inner.purge(older_than).await?;
        }
        answer
    }
}
