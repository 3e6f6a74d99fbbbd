//! The harness of a broken store.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_conformance::{
    CostHarness, DurableHarness, ElsewhereHarness, ExpiryHarness, Filled, Harness, InboxHarness,
    InboxMigrationHarness, InboxNamesHarness, Loss, LossHarness, MigrationHarness, NamesHarness,
    RefusalHarness, SchemaHarness, Skip, WakeHarness, WrittenDead,
};
use outbox_memory::{ManualClock, MemoryOutbox};
use outbox_traits::{Event, EventId, Retention, async_trait};
use serde_json::Value;

use crate::{
    elsewhere::{ELSEWHERE, ELSEWHERE_WITHOUT_A_TIME},
    fault::Fault,
    inbox::BrokenInbox,
    names::{self, INBOX, LONGEST, OTHER, OUTBOX},
    session::BrokenSession,
    store::Broken,
};

thread_local! {
    /// The fault of the stores that are opened on this thread, which is where a clause opens its store. A type
    /// for each fault would be compiled with the whole suite as many times.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// Stores that are to be opened again: where each is, is its number here.
static CLOSED: Mutex<Vec<(Fault, MemoryOutbox, ManualClock)>> = Mutex::new(Vec::new());

/// The type of a row without an id, which the store gives one.
pub(crate) const NAMELESS: &str = "suite.nameless";

/// The memory store with a fault, of either retention.
pub(crate) struct Faulty<const DELETES: bool = false> {
    store: Arc<Broken>,
    inbox: BrokenInbox,
    clock: ManualClock,
    rows: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    /// Opens stores with this fault from now on.
    pub(crate) fn with(fault: Fault) {
        FAULT.set(fault);
    }

    /// That fault, for stores of another kind.
    pub(crate) fn fault() -> Fault {
        FAULT.get()
    }
}

#[async_trait]
impl<const DELETES: bool> Harness for Faulty<DELETES> {
    type Store = Broken;
    type Transaction = BrokenSession;

    async fn open() -> Result<Self, Skip> {
        let clock = ManualClock::new();
        let store = Arc::new(Broken::new(FAULT.get(), retention(DELETES), &clock));
        let inbox = BrokenInbox::new(FAULT.get(), &store.inner);
        let rows = Arc::clone(&store.schema.database.rows);
        Ok(Self { store, inbox, clock, rows })
    }

    fn store(&self) -> &Broken {
        &self.store
    }

    fn retention(&self) -> Retention {
        retention(DELETES)
    }

    async fn begin(&self) -> BrokenSession {
        self.store.begin()
    }

    fn session<'a>(&self, transaction: &'a mut BrokenSession) -> &'a mut BrokenSession {
        transaction
    }

    async fn commit(&self, transaction: BrokenSession) {
        transaction.commit().await;
    }

    async fn rollback(&self, transaction: BrokenSession) {
        transaction.rollback();
    }

    async fn write_row(&self, key: &str, session: &mut BrokenSession) {
        let (rows, key) = (Arc::clone(&self.rows), key.to_owned());
        session.inner().on_commit(move || rows.lock().unwrap().push(key));
    }

    async fn rows(&self) -> Vec<String> {
        self.rows.lock().unwrap().clone()
    }

    async fn insert_undecodable(&self, id: EventId) {
        self.store.inner.insert_undecodable(id, "suite.broken", r#"{"payload": tru"#);
    }

    fn undecodable_content(&self) -> &'static str {
        r#"{"payload": tru"#
    }

    async fn insert_unreadable(&self, way: usize) -> bool {
        let large = "x".repeat(2_000_000);
        let (event_type, raw) = match way {
            0 => (NAMELESS, "{"),
            1 => (NAMELESS, "["),
            2 => ("large", large.as_str()),
            _ => return false,
        };
        self.store.inner.insert_undecodable(EventId::new(), event_type, raw);
        true
    }

    async fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait]
impl DurableHarness for Faulty {
    fn location(&self) -> String {
        let mut closed = CLOSED.lock().unwrap();
        closed.push((self.store.fault, self.store.inner.clone(), self.clock.clone()));
        (closed.len() - 1).to_string()
    }

    async fn reopen(location: &str) -> Self {
        let number: usize = location.parse().unwrap();
        let (fault, inner, clock) = CLOSED.lock().unwrap()[number].clone();
        let inbox = BrokenInbox::new(fault, &inner);
        let store = Arc::new(Broken::over(inner, fault, &clock));
        if fault == Fault::HoldsAreKeptByTheHandle {
            store.let_go(|_| true).await.unwrap();
        }
        Self { store, inbox, clock, rows: Arc::default() }
    }
}

#[async_trait]
impl SchemaHarness for Faulty {
    fn unmigrated(&self, name: &str) -> Broken {
        self.store.unmigrated(name)
    }

    async fn unfit(&self, way: usize) -> Option<(Broken, &'static str)> {
        let is_there = self.store.fault == Fault::WhatIsNotFitIsMigrated && way == 0;
        is_there.then(|| (self.store.unmigrated("unfit"), "unfit"))
    }
}

impl Faulty {
    /// Takes all parts but the first away from what has this name, and says their names.
    fn take_away(&self, parts: &names::Parts, name: &str) -> Vec<String> {
        let taken = &mut self.store.schema.database.names.lock().unwrap().taken;
        let away: Vec<String> = parts[1..].iter().map(|(ending, _)| format!("{name}{ending}")).collect();
        taken.retain(|part, _| !away.contains(part));
        away
    }
}

#[async_trait]
impl NamesHarness for Faulty {
    fn named(&self, name: &str) -> outbox_traits::Result<Broken> {
        names::check(self.store.fault, name)?;
        Ok(self.store.unmigrated(name))
    }

    fn has_room_for(&self, name: &str) -> bool {
        !name.is_empty() && !name.contains('\0') && name.chars().count() <= LONGEST
    }

    fn endings(&self) -> &'static [&'static str] {
        &["_lease"]
    }

    async fn make_others(&self) -> Vec<String> {
        let taken = &mut self.store.schema.database.names.lock().unwrap().taken;
        let others = ["business", "halved_lease", "halved_processed"];
        taken.extend(others.map(|name| (name.to_owned(), OTHER)));
        vec!["business".to_owned(), "halved".to_owned()]
    }

    async fn take_parts_away(&self, name: &str) -> Vec<String> {
        self.take_away(OUTBOX, name)
    }

    fn name_of(&self, store: &Broken) -> Option<String> {
        store.schema.said(self.store.fault)
    }

    async fn spoil(&self, name: &str, way: usize) -> Option<&'static str> {
        let taken = &mut self.store.schema.database.names.lock().unwrap().taken;
        taken.insert(format!("{name}_due"), OTHER);
        (way == 0).then_some("another name")
    }

    async fn make_newer(&self, name: &str) -> bool {
        self.store.schema.database.names.lock().unwrap().newer.insert(name.to_owned())
    }
}

#[async_trait]
impl InboxNamesHarness for Faulty {
    fn inbox_named(&self, name: &str) -> outbox_traits::Result<BrokenInbox> {
        names::check(self.store.fault, name)?;
        Ok(self.store.unmigrated_inbox(name))
    }

    fn name_of_inbox(&self, inbox: &BrokenInbox) -> Option<String> {
        inbox.schema.said(self.store.fault)
    }

    async fn take_inbox_parts_away(&self, name: &str) -> Vec<String> {
        self.take_away(INBOX, name)
    }
}

impl Faulty {
    /// Takes the names of all parts that are not taken, by somebody who knows them.
    async fn make(&self, parts: &names::Parts, name: &str) {
        let name = match self.store.fault {
            Fault::ThePlainSqlIsEmpty => return,
            Fault::ThePlainSqlMakesAnotherName => "outbox",
            _ => name,
        };
        let is_cut = self.store.fault == Fault::ThePlainSqlForgetsAPart;
        let parts = &parts[..parts.len() - usize::from(is_cut)];
        self.store.schema.database.names.lock().unwrap().make_by_hand(parts, name);
        if self.store.fault == Fault::ThePlainSqlStartsAnew {
            self.store.empty(name).await;
        }
    }
}

#[async_trait]
impl MigrationHarness for Faulty {
    async fn make_by_hand(&self, name: &str) {
        self.make(OUTBOX, name).await;
    }
}

#[async_trait]
impl InboxMigrationHarness for Faulty {
    async fn make_inbox_by_hand(&self, name: &str) {
        let makes_an_outbox = self.store.fault == Fault::ThePlainSqlOfAnInboxMakesAnOutbox;
        self.make(if makes_an_outbox { OUTBOX } else { INBOX }, name).await;
    }
}

#[async_trait]
impl WakeHarness for Faulty {
    async fn peer(&self) -> Broken {
        self.store.peer()
    }

    async fn cut_connections(&self) {
        self.store.is_cut.send_replace(true);
    }
}

#[async_trait]
impl CostHarness for Faulty {
    async fn reads(&self) -> u64 {
        self.store.reads.load(Relaxed)
    }
}

#[async_trait]
impl InboxHarness for Faulty {
    type Inbox = BrokenInbox;

    fn inbox(&self) -> &BrokenInbox {
        &self.inbox
    }
}

#[async_trait]
impl ExpiryHarness for Faulty {
    fn expiring(&self, after: Option<Duration>) -> (Broken, BrokenInbox) {
        self.store.expiring(after)
    }

    fn expiring_elsewhere(&self, after: Option<Duration>, name: &str) -> (Broken, BrokenInbox) {
        let (mut store, mut inbox) =
            (self.store.unmigrated(name), self.store.unmigrated_inbox(&format!("{name}_inbox")));
        if self.store.fault != Fault::AnotherNameLosesTheTimeToLive {
            store.schema.time_to_live = after;
            inbox.schema.time_to_live = after;
        }
        (store, inbox)
    }

    async fn told(&self) -> (Option<Duration>, Option<Duration>) {
        let told = self.store.told();
        (told.events, told.marks)
    }

    async fn expire(&self) {
        self.store.expire().await.unwrap();
    }
}

#[async_trait]
impl ElsewhereHarness for Faulty {
    async fn write_elsewhere(&self, event: &Event) {
        self.store.write_elsewhere(event).await;
    }

    async fn write_kinds_elsewhere(&self, event: &Event) -> Option<Value> {
        Some(self.store.write_kinds_elsewhere(event).await)
    }

    async fn write_filled_elsewhere(&self, event: &Event, way: usize) -> Option<Filled> {
        self.store.write_filled_elsewhere(event, way).await
    }

    async fn deliver_elsewhere(&self, id: EventId) {
        self.store.deliver_elsewhere(id).await;
    }

    async fn read_elsewhere(&self, id: EventId) -> Option<Value> {
        self.store.read_elsewhere(id).await
    }

    async fn write_dead_elsewhere(&self, event: &Event, way: usize) -> Option<WrittenDead> {
        let reason = [ELSEWHERE, ELSEWHERE_WITHOUT_A_TIME].get(way)?;
        self.store.write_dead_elsewhere(event, reason).await;
        let dead_at = (*reason == ELSEWHERE).then(|| self.clock.now());
        Some(WrittenDead { dead_at, is_readable: true })
    }
}

#[async_trait]
impl LossHarness for Faulty {
    async fn lose(&self, way: usize) -> Option<Loss> {
        self.store.shared.is_lost.store(way == 0, Relaxed);
        (way == 0).then_some(Loss { name: "`outbox_lease`", is_seen_by_claims: true, keeps_what_waits: true })
    }
}

#[async_trait]
impl RefusalHarness for Faulty {
    async fn refuse(&self, event_type: &str) {
        self.store.schema.database.rules.lock().unwrap().refuse(event_type);
    }

    async fn collide(&self, event_type: &str, way: usize) -> bool {
        self.store.schema.database.rules.lock().unwrap().collide(event_type, way)
    }
}

fn retention(deletes: bool) -> Retention {
    if deletes { Retention::DeleteOnDelivery } else { Retention::UntilPurged }
}
