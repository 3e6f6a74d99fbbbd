//! Several outboxes of one database, by name.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use outbox_memory::MemoryOutbox;
use outbox_traits::{
    ClaimStore, DeadLetterFilter, DeadLetterStore, Error, ErrorKind, OutboxStore, Result, SchemaReport,
    SchemaStore, Settlement, async_trait,
};

use crate::{fault::Fault, store::Broken};

/// The outboxes that a database has beside the first one.
#[derive(Debug, Default)]
pub(crate) struct Database {
    outboxes: Mutex<HashMap<String, (MemoryOutbox, bool)>>,
}

/// Which of them a store is. The first one has no name, and was migrated before the clause began.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    pub(crate) database: Arc<Database>,
    name: Option<String>,
}

impl Schema {
    pub(crate) fn is_migrated(&self) -> bool {
        let outboxes = self.database.outboxes.lock().unwrap();
        self.name.as_ref().is_none_or(|name| outboxes[name].1)
    }
}

impl Broken {
    /// A store of the same database, which is not migrated.
    pub(crate) fn unmigrated(&self, name: &str) -> Self {
        let name: String = match self.fault {
            Fault::LongNamesAreCutOff => name.chars().take(40).collect(),
            _ => name.to_owned(),
        };
        let database = Arc::clone(&self.schema.database);
        let inner = match self.fault {
            Fault::AllNamesAreOneOutbox => self.inner.clone(),
            _ => MemoryOutbox::with_clock(&self.clock),
        };
        let inner = {
            let mut outboxes = database.outboxes.lock().unwrap();
            outboxes.entry(name.clone()).or_insert((inner, false)).0.clone()
        };
        let mut store = Self::over(inner, self.fault, &self.clock);
        store.schema = Schema { database, name: Some(name) };
        store
    }

    /// Tries what no lease here is for on the other outboxes of the database.
    pub(crate) async fn settle_elsewhere(
        &self,
        settlements: &[Settlement],
        answers: &mut [Result<()>],
    ) -> Result<()> {
        let others: Vec<MemoryOutbox> = self
            .schema
            .database
            .outboxes
            .lock()
            .unwrap()
            .values()
            .map(|(outbox, _)| outbox.clone())
            .collect();
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

    /// What a driver says where there is no table.
    pub(crate) fn must_be_migrated(&self) -> Result<()> {
        if self.schema.is_migrated() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Schema, "there is no outbox of this name: run migrate");
        Err(match self.fault {
            Fault::TheErrorOfTheDriverGetsLost => error,
            _ => error.with_source(io::Error::from(io::ErrorKind::NotFound)),
        })
    }
}

#[async_trait]
impl SchemaStore for Broken {
    async fn migrate(&self) -> Result<()> {
        if self.fault == Fault::MigratingAgainEmptiesTheOutbox && self.schema.is_migrated() {
            let all = self.inner.get_pending(usize::MAX).await?;
            for event in all {
                self.inner.acknowledge(event.id()).await?;
            }
            self.inner.discard_all(&DeadLetterFilter::new()).await?;
        }
        let Some(name) = &self.schema.name else { return Ok(()) };
        let mut outboxes = self.schema.database.outboxes.lock().unwrap();
        let is_migrated = &mut outboxes.get_mut(name).expect("it was asked for").1;
        if *is_migrated && self.fault == Fault::OnlyOneMayMigrate {
            return Err(Error::new(ErrorKind::Schema, "it exists already"));
        }
        *is_migrated = true;
        Ok(())
    }

    async fn verify(&self) -> Result<SchemaReport> {
        match self.fault {
            Fault::VerifySaysThatAllIsWell => return Ok(SchemaReport::default()),
            Fault::VerifyMigrates => self.migrate().await?,
            _ => {}
        }
        let problem = || "there is no outbox of this name: run migrate".to_owned();
        Ok(SchemaReport::new((!self.schema.is_migrated()).then(problem).into_iter().collect()))
    }
}
