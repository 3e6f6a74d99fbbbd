//! A store that reaches its events over a network, and what can be wrong with it where that is cut.

use std::{
    collections::HashSet,
    future::Future,
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_conformance::{Harness, OutageHarness, Skip};
use outbox_memory::{ManualClock, MemoryOutbox, MemorySession};
use outbox_traits::{
    Claim, ClaimStore, DeadLetterFilter, DeadLetterPage, DeadLetterStore, Error, ErrorKind, Event, EventId,
    Lease, Leased, OutboxStore, Outcome, Result, Saved, Settlement, Stats, StatsStore, async_trait,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};

use crate::{fault::Fault, harness::Faulty, remote_wake::Hearing};

/// Between two tries to reach the server.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// A handle on the memory store, and the server on the way to it.
pub(crate) struct Remote {
    store: RemoteStore,
    clock: ManualClock,
    rows: Arc<Mutex<Vec<String>>>,
    /// The port of the server itself.
    server: u16,
}

/// What the handles on one store share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The next claim finds nothing.
    stops: AtomicBool,
    /// No claim goes on.
    is_stuck: AtomicBool,
    /// So many settlements were cut off, and not made again since.
    cut_off: AtomicUsize,
    /// Whether one was cut off whose events are not marked yet.
    is_unmarked: AtomicBool,
    /// How often others have to ask until it is over what a call has begun that is under way, or was dropped.
    in_the_way: AtomicUsize,
    /// What has failed since the last claim began.
    failed: Mutex<Vec<EventId>>,
    /// How often somebody acknowledged.
    acknowledged: AtomicUsize,
    /// What a process has told the others.
    pub(crate) told: watch::Sender<()>,
}

#[async_trait]
impl Harness for Remote {
    type Store = RemoteStore;
    type Transaction = RemoteSession;

    async fn open() -> Result<Self, Skip> {
        let clock = ManualClock::new();
        let server = serve().await.unwrap();
        let store =
            RemoteStore::over(MemoryOutbox::with_clock(&clock), Faulty::fault(), server, &Arc::default());
        Ok(Self { store, clock, rows: Arc::default(), server })
    }

    fn store(&self) -> &RemoteStore {
        &self.store
    }

    async fn begin(&self) -> RemoteSession {
        self.store.ask().await.unwrap();
        RemoteSession { inner: self.store.inner.begin(), rows: Vec::new() }
    }

    fn session<'a>(&self, transaction: &'a mut RemoteSession) -> &'a mut RemoteSession {
        transaction
    }

    async fn commit(&self, transaction: RemoteSession) {
        let RemoteSession { mut inner, rows: written } = transaction;
        self.store.ask().await.unwrap();
        if self.store.fault == Fault::RowsAndEventsAreCommittedApart {
            self.rows.lock().unwrap().extend(written);
            self.store.ask().await.unwrap();
        } else {
            let rows = Arc::clone(&self.rows);
            inner.on_commit(move || rows.lock().unwrap().extend(written));
        }
        inner.commit();
        self.store.ask().await.unwrap();
    }

    async fn rollback(&self, transaction: RemoteSession) {
        transaction.inner.rollback();
    }

    async fn write_row(&self, key: &str, session: &mut RemoteSession) {
        match self.store.ask().await {
            Err(_) if self.store.fault == Fault::ASessionForgetsWhatWasCutOff => {}
            answer => {
                answer.unwrap();
                session.rows.push(key.to_owned());
            }
        }
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
impl OutageHarness for Remote {
    async fn server(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.server)
    }

    async fn through(&self, port: u16) -> Self {
        let store = RemoteStore::over(self.store.inner.clone(), self.store.fault, port, &self.store.shared);
        Self { store, clock: self.clock.clone(), rows: Arc::clone(&self.rows), server: self.server }
    }
}

/// Begins to answer each byte by the same, which is all that is asked of the server. Returns its port.
async fn serve() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(port)
}

/// Connects, where there is no connection, and waits for an answer.
pub(crate) async fn round_trip(connection: Option<TcpStream>, port: u16) -> io::Result<TcpStream> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?,
    };
    let mut byte = [1];
    connection.write_all(&byte).await?;
    connection.read_exact(&mut byte).await?;
    Ok(connection)
}

/// A session of the memory store, and the business rows beside it.
pub(crate) struct RemoteSession {
    inner: MemorySession,
    rows: Vec<String>,
}

/// The memory store, which asks the server before and after whatever it does.
#[derive(Debug)]
pub(crate) struct RemoteStore {
    pub(crate) fault: Fault,
    pub(crate) inner: MemoryOutbox,
    pub(crate) port: u16,
    connection: tokio::sync::Mutex<Option<TcpStream>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) hearing: tokio::sync::Mutex<Weak<Hearing>>,
    was_cut: AtomicBool,
    leases: Mutex<Vec<Lease>>,
    /// Acknowledged while the server was away.
    put_off: Mutex<Vec<EventId>>,
    saved: Mutex<HashSet<EventId>>,
}

impl RemoteStore {
    fn over(inner: MemoryOutbox, fault: Fault, port: u16, shared: &Arc<Shared>) -> Self {
        let (connection, hearing, was_cut) = Default::default();
        let (leases, put_off, saved) = Default::default();
        let shared = Arc::clone(shared);
        Self { fault, inner, port, connection, shared, hearing, was_cut, leases, put_off, saved }
    }

    /// Whether a call is about nothing, and nobody is to be asked.
    fn is_idle<T>(&self, about: &[T]) -> bool {
        about.is_empty() && self.fault != Fault::CallsAboutNothingAskTheServer
    }

    /// Tells the others of a commit, soon, and once.
    fn tell(&self) {
        let (port, shared) = (self.port, Arc::clone(&self.shared));
        tokio::spawn(async move {
            if round_trip(None, port).await.is_ok() {
                shared.told.send_replace(());
            }
        });
    }

    /// What failed is not used again: the next call connects anew.
    async fn reach(&self) -> io::Result<()> {
        if self.fault == Fault::AHandleNeverConnectsAgain && self.was_cut.load(Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut connection = self.connection.lock().await;
        *connection = Some(round_trip(connection.take(), self.port).await?);
        Ok(())
    }

    /// Asks the server, and waits for its answer.
    pub(crate) async fn ask(&self) -> Result<()> {
        let mut reached = self.reach().await;
        while reached.is_err() && self.fault == Fault::AnOutageIsWaitedForWithoutEnd {
            sleep(PAUSE).await;
            reached = self.reach().await;
        }
        let Err(cause) = reached else { return Ok(()) };
        self.was_cut.store(true, Relaxed);
        let kind = match self.fault {
            Fault::WhatWasCutOffIsNotTriedAgain => ErrorKind::Backend,
            Fault::AnOutageIsAConflict => ErrorKind::Conflict,
            Fault::LeasesEndWithTheConnection => {
                self.let_go().await?;
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, "the server cannot be reached");
        Err(if self.fault == Fault::TheErrorOfTheNetworkGetsLost { error } else { error.with_source(cause) })
    }

    /// Asks the server more often than it has to.
    async fn ask_again(&self, times: usize) -> Result<()> {
        for _ in 0..times {
            self.ask().await?;
        }
        Ok(())
    }

    /// Does something at the server: its answer may be cut off, and then it is done all the same.
    async fn call<T: Send>(&self, done: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.ask().await?;
        let answer = done.await?;
        self.ask().await?;
        Ok(answer)
    }

    /// The oldest first.
    async fn purge_in_parts(&self, older_than: Duration) -> Result<u64> {
        let parts = if self.fault == Fault::APurgeIsDoneAtOnce { 1 } else { 4 };
        let mut purged = 0;
        for minutes in (0..parts).rev() {
            let older_than = older_than.saturating_add(Duration::from_secs(60 * minutes));
            purged += self.call(self.inner.purge(older_than)).await?;
        }
        Ok(purged)
    }

    fn leases(&self) -> MutexGuard<'_, Vec<Lease>> {
        self.leases.lock().unwrap()
    }

    async fn give_back(&self, leased: &[Leased]) -> Result<()> {
        let released: Vec<Settlement> = leased.iter().map(|one| Settlement::released(one.lease)).collect();
        self.inner.settle(&released).await.map(drop)
    }

    /// Gives back what this handle has claimed last.
    async fn let_go(&self) -> Result<()> {
        let released: Vec<Settlement> = self.leases().drain(..).map(Settlement::released).collect();
        self.inner.settle(&released).await.map(drop)
    }
}

#[async_trait]
impl OutboxStore for RemoteStore {
    type Session = RemoteSession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        let is_new = self.saved.lock().unwrap().insert(event.id());
        if !is_new && self.fault == Fault::ASaveThatWasCutOffIsRememberedByTheHandle {
            return Ok(Saved::Duplicate);
        }
        match self.call(self.inner.save(event)).await {
            Err(_) if self.fault == Fault::ASaveThatWasCutOffIsReported => Ok(Saved::Stored),
            Ok(saved) => {
                if self.fault == Fault::ACommitIsToldOnce {
                    self.tell();
                }
                Ok(saved)
            }
            Err(error) => Err(error),
        }
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        if self.is_idle(events) {
            return Ok(Vec::new());
        }
        if self.fault == Fault::ABatchOfOneIsATransaction && events.len() == 1 {
            self.ask().await?;
            self.ask().await?;
        }
        if self.fault != Fault::ABatchIsSavedOneByOne {
            return self.call(self.inner.save_all(events)).await;
        }
        let mut saved = Vec::new();
        for event in events {
            saved.push(self.save(event).await?);
        }
        Ok(saved)
    }

    async fn save_in_session(&self, event: &Event, session: &mut RemoteSession) -> Result<Saved> {
        self.call(self.inner.save_in_session(event, &mut session.inner)).await
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        if limit == 0 && self.is_idle::<Event>(&[]) {
            return Ok(Vec::new());
        }
        let fetch = async {
            let put_off = std::mem::take(&mut *self.put_off.lock().unwrap());
            self.inner.acknowledge_all(&put_off).await?;
            self.inner.get_pending(limit).await
        };
        match self.call(fetch).await {
            Err(_) if self.fault == Fault::AFetchThatWasCutOffIsEmpty => Ok(Vec::new()),
            fetched => fetched,
        }
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.acknowledge_all(&[id]).await
    }

    async fn acknowledge_all(&self, ids: &[EventId]) -> Result<()> {
        if self.is_idle(ids) {
            return Ok(());
        }
        self.shared.acknowledged.fetch_add(1, Relaxed);
        if self.fault == Fault::AnAcknowledgementIsATransaction {
            self.ask_again(3).await?;
        }
        if self.fault == Fault::AnAcknowledgementGoesByWhatItHasSeen {
            let seen = self.inner.get_pending(usize::MAX).await?;
            self.ask().await?;
            let pending = self.inner.get_pending(usize::MAX).await?;
            if seen.iter().any(|event| ids.contains(&event.id()) && !pending.contains(event)) {
                return Ok(());
            }
        }
        match (self.call(self.inner.acknowledge_all(ids)).await, self.fault) {
            (Err(error), Fault::AClaimStopsAtWhatWasAcknowledged) => {
                self.shared.stops.store(true, Relaxed);
                Err(error)
            }
            (Err(_), Fault::AnAcknowledgementThatWasCutOffIsReported) => Ok(()),
            (Err(error), Fault::WhatFailedInAnOutageIsDoneAfterIt) => {
                self.put_off.lock().unwrap().extend(ids);
                Err(error)
            }
            (acknowledged, _) => acknowledged,
        }
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        if self.shared.is_unmarked.swap(false, Relaxed) {
            return Ok(0);
        }
        let counted = self.inner.stats().await?.delivered;
        match (self.purge_in_parts(older_than).await, self.fault) {
            (Err(_), Fault::APurgeThatWasCutOffIsReported) => Ok(counted),
            (Err(_), Fault::APurgeIsMadeAgainBehindTheScenes) => {
                self.call(self.inner.purge(older_than)).await
            }
            (purged, _) => purged,
        }
    }
}

#[async_trait]
impl ClaimStore for RemoteStore {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        if claim.limit == 0 && self.is_idle::<Lease>(&[]) || self.shared.stops.swap(false, Relaxed) {
            return Ok(Vec::new());
        }
        if self.shared.is_stuck.load(Relaxed) {
            return Err(Error::new(ErrorKind::Conflict, "another transaction is in the way"));
        }
        self.shared.failed.lock().unwrap().clear();
        let is_paged = self.fault == Fault::AClaimSeesNotAllThatHasComeSince;
        let first_page = if is_paged { self.inner.get_pending(usize::MAX).await? } else { Vec::new() };
        loop {
            let seen = self.shared.acknowledged.load(Relaxed);
            self.ask().await?;
            let is_outdated = self.shared.acknowledged.load(Relaxed) != seen;
            if !is_outdated || self.fault != Fault::AClaimLooksAgainWithoutEnd {
                break;
            }
        }
        if self.fault == Fault::AClaimLosesWhatFailsMeanwhile {
            let failed = std::mem::take(&mut *self.shared.failed.lock().unwrap());
            self.inner.acknowledge_all(&failed).await?;
        }
        let mut leased = self.inner.claim(claim).await?;
        if is_paged && leased.len() > 1 {
            // Of what is new the first is in a place that it has passed.
            let passed = leased.iter().position(|one| !first_page.contains(&one.event));
            if let Some(passed) = passed {
                self.give_back(&[leased.remove(passed)]).await?;
            }
        }
        if self.fault == Fault::AClaimHandsOutWhatItHasSeen {
            self.give_back(&leased).await?;
            self.ask().await?;
            let taken = self.inner.claim(claim).await?;
            leased.retain(|seen| taken.iter().all(|one| one.event.id() != seen.event.id()));
            leased.extend(taken);
        }
        *self.leases() = leased.iter().map(|one| one.lease).collect();
        if leased.is_empty() && self.fault == Fault::AClaimInVainAsksAgainAndAgain {
            self.ask_again(4).await?;
        }
        self.ask_again(self.shared.in_the_way.swap(0, Relaxed)).await?;
        if self.fault == Fault::AClaimAsksAgainWhereNothingIsLeased {
            let is_alone = self.inner.stats().await?.leased == leased.len() as u64;
            self.ask_again(usize::from(is_alone)).await?;
        }
        match (self.ask().await, self.fault) {
            (Err(error), Fault::AClaimThatWasCutOffLosesItsEvents) => {
                let ids: Vec<EventId> = leased.iter().map(|one| one.event.id()).collect();
                self.inner.acknowledge_all(&ids).await?;
                Err(error)
            }
            (Err(_), Fault::AClaimThatIsRolledBackIsHandedOut) => {
                self.let_go().await?;
                Ok(leased)
            }
            (answer, _) => answer.map(|()| leased),
        }
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        if self.is_idle(leases) {
            return Ok(Vec::new());
        }
        if self.fault == Fault::ARenewalGoesByWhatItHasSeen {
            let seen = self.inner.renew(leases, Duration::from_millis(1)).await?;
            self.ask().await?;
            return self.call(self.inner.renew(leases, length)).await.map(|_| seen);
        }
        if self.fault == Fault::WhatADroppedCallHasBegunIsLeftOpen {
            self.shared.in_the_way.store(200, Relaxed);
        }
        let renewed = self.call(self.inner.renew(leases, length)).await;
        self.shared.in_the_way.store(0, Relaxed);
        match (renewed, self.fault) {
            (Err(error), Fault::ARenewalThatWasCutOffHoldsUpAll) => {
                self.shared.is_stuck.store(true, Relaxed);
                Err(error)
            }
            (Err(error), Fault::ARenewalThatWasCutOffEndsTheLease) => {
                let ended: Vec<Settlement> = leases.iter().copied().map(Settlement::released).collect();
                self.inner.settle(&ended).await?;
                Err(error)
            }
            (Err(_), Fault::ARenewalThatWasCutOffIsReported) => Ok(leases.iter().map(|_| Ok(())).collect()),
            (renewed, _) => renewed,
        }
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        if self.is_idle(settlements) {
            return Ok(Vec::new());
        }
        if self.fault == Fault::SettlementsAreMadeOneByOne {
            let mut answers = Vec::new();
            for one in settlements.chunks(1) {
                answers.extend(self.call(self.inner.settle(one)).await?);
            }
            return Ok(answers);
        }
        if self.fault == Fault::ASettlementGoesByWhatItHasSeen {
            let leases: Vec<Lease> = settlements.iter().map(|one| one.lease).collect();
            let seen = self.inner.renew(&leases, Duration::from_secs(30)).await?;
            self.ask().await?;
            return self.call(self.inner.settle(settlements)).await.map(|_| seen);
        }
        if self.fault == Fault::ASettlementIsMadeTwice {
            // Nothing took the first time, as it were.
            self.ask_again(7).await?;
        }
        let failed = settlements.iter().filter(|one| matches!(one.outcome, Outcome::Retry { .. }));
        self.shared.failed.lock().unwrap().extend(failed.map(|one| one.lease.event()));
        match (self.call(self.inner.settle(settlements)).await, self.fault) {
            (Err(_), Fault::ASettlementThatWasCutOffIsReported) => {
                Ok(settlements.iter().map(|_| Ok(())).collect())
            }
            (Err(_), Fault::ASettlementIsMadeAgainBehindTheScenes) => {
                self.call(self.inner.settle(settlements)).await
            }
            (settled, Fault::WhatWasCutOffIsPendingUntilItIsMadeAgain) => {
                self.shared.cut_off.store(if settled.is_err() { settlements.len() } else { 0 }, Relaxed);
                settled
            }
            (Err(error), Fault::WhatWasCutOffIsMarkedLater) => {
                self.shared.is_unmarked.store(true, Relaxed);
                Err(error)
            }
            (Ok(answers), Fault::ALostLeaseHoldsUpItsKey) => {
                if let ([Err(_)], [Settlement { outcome: Outcome::Retry { .. }, .. }]) =
                    (&*answers, settlements)
                {
                    self.shared.stops.store(true, Relaxed);
                }
                Ok(answers)
            }
            (settled, _) => settled,
        }
    }
}

#[async_trait]
impl StatsStore for RemoteStore {
    async fn stats(&self) -> Result<Stats> {
        let mut stats = self.call(self.inner.stats()).await?;
        if self.fault == Fault::WhatWasCutOffIsCountedTwice {
            // As delivered, and as what it was before.
            stats.leased += self.leases().len() as u64;
        }
        stats.pending += self.shared.cut_off.load(Relaxed) as u64;
        Ok(stats)
    }
}

#[async_trait]
impl DeadLetterStore for RemoteStore {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        self.call(self.inner.dead_letters(filter)).await
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        if self.fault == Fault::ARequeueGoesByWhatItHasSeen {
            let letters = self.inner.dead_letters(&DeadLetterFilter::new()).await?.letters;
            self.ask().await?;
            self.call(self.inner.requeue(id)).await?;
            return Ok(letters.iter().any(|letter| letter.id == id));
        }
        self.call(self.inner.requeue(id)).await
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let counted = self.inner.stats().await?.dead;
        match (self.call(self.inner.requeue_all(filter)).await, self.fault) {
            (Err(_), Fault::ARequeueThatWasCutOffIsReported) => Ok(counted),
            (Err(error), Fault::AttemptsAreForgottenAfterTheRequeue) => {
                // Where it was cut off in between they are as they would be after one that failed.
                let tried = self.inner.claim(&Claim::new("before")).await?;
                let failed = tried.iter().map(|one| Settlement::retry(one.lease, Duration::ZERO, "before"));
                self.inner.settle(&failed.collect::<Vec<_>>()).await?;
                Err(error)
            }
            (requeued, _) => requeued,
        }
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        self.call(self.inner.discard(id)).await
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        self.call(self.inner.discard_all(filter)).await
    }
}
