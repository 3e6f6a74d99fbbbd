//! Several outboxes and inboxes of one database, by name.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use outbox_memory::{MemoryInbox, MemoryOutbox};
use outbox_traits::{
    ClaimStore, DeadLetterFilter, DeadLetterStore, Error, ErrorKind, InboxStore, OutboxStore, Result,
    Retention, SchemaReport, SchemaStore, Settlement, async_trait,
};

use crate::{
    expiry::Told,
    fault::Fault,
    inbox::BrokenInbox,
    names::{self, INBOX, Names, OUTBOX, Parts},
    refusal::Rules,
    store::Broken,
};

/// The outboxes and inboxes that a database has beside the first ones, and whatever else.
#[derive(Debug, Default)]
pub(crate) struct Database {
    outboxes: Mutex<HashMap<String, MemoryOutbox>>,
    /// The marks of each are in an outbox of their own.
    inboxes: Mutex<HashMap<String, MemoryOutbox>>,
    pub(crate) names: Mutex<Names>,
    pub(crate) told: Mutex<Told>,
    /// What it was told of those that have names.
    told_of_others: Mutex<HashMap<String, Told>>,
    pub(crate) rules: Mutex<Rules>,
    /// Of the application.
    pub(crate) rows: Arc<Mutex<Vec<String>>>,
}

/// Which of them a store is. The first one has no name, and was migrated before the clause began.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) database: Arc<Database>,
    pub(crate) name: Option<String>,
    pub(crate) parts: &'static Parts,
    /// After how long the engine is to delete what is done with.
    pub(crate) time_to_live: Option<Duration>,
}

impl Default for Schema {
    fn default() -> Self {
        Self { database: Arc::default(), name: None, parts: OUTBOX, time_to_live: None }
    }
}

impl Schema {
    fn problems(&self) -> Vec<String> {
        let names = self.database.names.lock().unwrap();
        self.name.as_ref().map(|name| names.problems(self.parts, name)).unwrap_or_default()
    }

    pub(crate) fn has_name(&self) -> bool {
        self.name.is_some()
    }

    /// What it says its name is.
    pub(crate) fn said(&self, fault: Fault) -> Option<String> {
        if fault == Fault::AnotherNameIsNotSaid { Some("outbox".to_owned()) } else { self.name.clone() }
    }

    /// What the engine was told of it, and of the other of its name.
    pub(crate) fn with_told<T>(&self, with: impl FnOnce(&mut Told) -> T) -> T {
        match &self.name {
            None => with(&mut self.database.told.lock().unwrap()),
            Some(name) => with(self.database.told_of_others.lock().unwrap().entry(name.clone()).or_default()),
        }
    }

    pub(crate) fn is_migrated(&self) -> bool {
        self.problems().is_empty()
    }

    /// What a driver says where there is no table, or another one.
    pub(crate) fn must_be_migrated(&self, fault: Fault) -> Result<()> {
        let Some(name) = &self.name else { return self.must_be_told(fault) };
        let is_taken = || self.database.names.lock().unwrap().taken.contains_key(name);
        if self.is_migrated() || fault == Fault::SomethingElseIsWrittenTo && is_taken() {
            return Ok(());
        }
        let error =
            Error::new(ErrorKind::Schema, format!("there is nothing of the name `{name}`: run migrate"));
        Err(match fault {
            Fault::TheErrorOfTheDriverGetsLost => error,
            _ => error.with_source(io::Error::from(io::ErrorKind::NotFound)),
        })
    }

    pub(crate) fn migrate(&self, fault: Fault) -> Result<()> {
        let Some(name) = &self.name else {
            self.tell(fault);
            return Ok(());
        };
        if self.is_migrated() && fault == Fault::OnlyOneMayMigrate {
            return Err(Error::new(ErrorKind::Schema, "it exists already"));
        }
        let made = self.database.names.lock().unwrap().make(fault, self.parts, name);
        if made.is_err() && fault == Fault::ARefusedMigrationEmptiesWhatIsThere {
            self.database.rows.lock().unwrap().clear();
        }
        made.inspect(|()| self.tell(fault))
    }

    pub(crate) fn verify(&self, fault: Fault) -> Result<SchemaReport> {
        if fault == Fault::VerifyMigrates {
            self.migrate(fault)?;
        }
        let Some(name) = &self.name else { return Ok(SchemaReport::new(self.report_of_told(fault))) };
        let mut names = self.database.names.lock().unwrap();
        let mut problems = names.report(fault, self.parts, name);
        problems.extend(self.report_of_told(fault));
        let report = SchemaReport::new(problems);
        if fault == Fault::VerifyPutsBackWhatIsMissing {
            names.make(fault, self.parts, name).ok();
        }
        Ok(report)
    }
}

impl Broken {
    /// A store of the same database, which is not migrated.
    pub(crate) fn unmigrated(&self, name: &str) -> Self {
        let name = names::altered(self.fault, name);
        let database = Arc::clone(&self.schema.database);
        let inner = match self.fault {
            Fault::AllNamesAreOneOutbox => self.inner.clone(),
            Fault::AnotherNameLosesTheRetention => {
                MemoryOutbox::with_clock(&self.clock).with_retention(Retention::DeleteOnDelivery)
            }
            _ => MemoryOutbox::with_clock(&self.clock),
        };
        let inner = database.outboxes.lock().unwrap().entry(name.clone()).or_insert(inner).clone();
        let mut store = Self::over(inner, self.fault, &self.clock);
        store.schema = Schema { database, name: Some(name), ..Schema::default() };
        store
    }

    /// An inbox of the same database, likewise.
    pub(crate) fn unmigrated_inbox(&self, name: &str) -> BrokenInbox {
        let name = names::altered(self.fault, name);
        let database = Arc::clone(&self.schema.database);
        let marks = match self.fault {
            Fault::AllNamesAreOneInbox => self.inner.clone(),
            _ => MemoryOutbox::with_clock(&self.clock),
        };
        let marks = database.inboxes.lock().unwrap().entry(name.clone()).or_insert(marks).clone();
        let mut inbox = BrokenInbox::new(self.fault, &marks);
        inbox.schema = Schema { database, name: Some(name), parts: INBOX, time_to_live: None };
        inbox
    }

    /// Those of the database that have names.
    pub(crate) fn outboxes(&self) -> Vec<MemoryOutbox> {
        self.schema.database.outboxes.lock().unwrap().values().cloned().collect()
    }

    /// Tries what no lease here is for on the other outboxes of the database.
    pub(crate) async fn settle_elsewhere(
        &self,
        settlements: &[Settlement],
        answers: &mut [Result<()>],
    ) -> Result<()> {
        let others = self.outboxes();
        for (answer, settlement) in answers.iter_mut().zip(settlements).filter(|(answer, _)| answer.is_err())
        {
            for other in &others {
                let mut there = other.settle(std::slice::from_ref(settlement)).await?;
                if there.remove(0).is_ok() {
                    *answer = Ok(());
                }
            }
        }
        Ok(())
    }

    /// Forgets what the outbox and the inbox of this name have.
    pub(crate) async fn empty(&self, name: &str) {
        let outbox = self.schema.database.outboxes.lock().unwrap().get(name).cloned();
        if let Some(outbox) = outbox {
            for event in outbox.get_pending(usize::MAX).await.unwrap() {
                outbox.acknowledge(event.id()).await.unwrap();
            }
        }
        let marks = self.schema.database.inboxes.lock().unwrap().get(name).cloned();
        if let Some(marks) = marks {
            MemoryInbox::new(&marks).purge(Duration::ZERO).await.unwrap();
        }
    }

    pub(crate) fn must_be_migrated(&self) -> Result<()> {
        self.schema.must_be_migrated(self.fault)
    }
}

#[async_trait]
impl SchemaStore for Broken {
    async fn migrate(&self) -> Result<()> {
        let is_emptied = match self.fault {
            Fault::MigratingAgainEmptiesTheOutbox => self.schema.is_migrated(),
            Fault::PuttingBackLosesTheRest => !self.schema.is_migrated(),
            Fault::AnotherTimeToLiveEmptiesTheOutbox => !self.schema.is_told(self.fault),
            _ => false,
        };
        if is_emptied {
            let all = self.inner.get_pending(usize::MAX).await?;
            for event in all {
                self.inner.acknowledge(event.id()).await?;
            }
            self.inner.discard_all(&DeadLetterFilter::new()).await?;
        }
        self.put_back().await?;
        self.schema.migrate(self.fault)
    }

    async fn verify(&self) -> Result<SchemaReport> {
        Ok(self.with_losses(self.schema.verify(self.fault)?))
    }
}
