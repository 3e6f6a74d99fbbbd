//! The producer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use outbox_traits::PublishError;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{FutureProducer, Producer},
};

use super::settings;

/// Producers, each made when it is wanted and made anew when it has broken. They keep their connections by themselves.
pub(super) struct Producers {
    config: ClientConfig,
    together: Current,
    alone: Current,
}

type Current = Mutex<Option<FutureProducer>>;

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// What is there at the same time in one request, on which a broker decides as a whole.
    Together,
    /// Each message by itself.
    Alone,
}

impl Producers {
    pub(super) fn new(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("partitioner", "murmur2_random");
        // An event waits for the one before it of its key: to wait for company would only slow both down.
        config.set("linger.ms", "0");
        Self { config, together: Mutex::default(), alone: Mutex::default() }
    }

    /// In place of what the setting had, by whatever name.
    pub(super) fn set(&mut self, name: &str, value: String) {
        settings::set(&mut self.config, name, value);
    }

    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.config.config_map().keys().copied().collect();
        names.sort_unstable();
        names
    }

    pub(super) fn get(&self, company: Company) -> Result<FutureProducer, PublishError> {
        let mut current = self.current(company);
        if let Some(producer) = &*current {
            return Ok(producer.clone());
        }
        let mut config = self.config.clone();
        settings::set(&mut config, "enable.idempotence", "true");
        settings::set(&mut config, "acks", "all");
        // An event that was accepted would be waited for without end.
        settings::set(&mut config, "delivery.report.only.error", "false");
        if company == Company::Alone {
            settings::set(&mut config, "batch.num.messages", "1");
        }
        let producer = config.create::<FutureProducer>().map_err(|error| {
            let what = "the producer of Kafka cannot be made";
            match error {
                // The error itself has the value, which may be a password.
                KafkaError::ClientConfig(_, _, name, _) => {
                    PublishError::unavailable(format!("{what}: the setting `{name}` is not taken"))
                }
                error => PublishError::unavailable(format!("{what} by its settings")).with_source(error),
            }
        })?;
        Ok(current.insert(producer).clone())
    }

    /// After some errors an idempotent producer sends nothing more: the next call makes a new one.
    pub(super) fn forget_if_broken(&self, company: Company, producer: &FutureProducer) {
        if producer.client().fatal_error().is_none() {
            return;
        }
        let mut current = self.current(company);
        // Another call may have made a new one already.
        current.take_if(|current| current.client().native_ptr() == producer.client().native_ptr());
    }

    fn current(&self, company: Company) -> MutexGuard<'_, Option<FutureProducer>> {
        let current = match company {
            Company::Together => &self.together,
            Company::Alone => &self.alone,
        };
        current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
