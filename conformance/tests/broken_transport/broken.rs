//! A transport with a fault, to a broker in memory, and its harness.

use std::{
    cell::Cell,
    collections::HashSet,
    mem,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use outbox_conformance::{
    Skip,
    transport::{OutageHarness, PartHarness, Received, RefusingHarness, TransportHarness, part::PART},
};
use outbox_traits::{Event, PublishError, PublishErrorKind, Published, Transport, async_trait};
use serde_json::{Value, json};

use crate::fault::Fault;

thread_local! {
    /// The fault of what is opened on this thread, which is where a clause opens its transport.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

const MAX_BYTES: usize = 100_000;

#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is what one fault remembers")]
struct Broker {
    messages: Vec<Received>,
    is_down: bool,
    was_down: bool,
    is_part_away: bool,
    was_part_away: bool,
    // What only a fault uses.
    buffer: Vec<Received>,
    headers: Vec<(String, String)>,
    report: Vec<Published>,
    is_publishing: bool,
    is_stuck: bool,
}

#[derive(Debug)]
pub(crate) struct Broken {
    fault: Fault,
    broker: Mutex<Broker>,
}

impl Broken {
    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap()
    }

    fn is_first_after_an_outage(&self) -> bool {
        let mut broker = self.broker();
        !broker.is_down && mem::take(&mut broker.was_down)
    }

    /// What the consumer will see of an event.
    fn message(&self, event: &Event) -> Received {
        let mut message = Received::from(event);
        match self.fault {
            Fault::TheTypeIsCutOff => {
                message.event_type = message.event_type.split('.').next().unwrap_or_default().to_owned();
            }
            Fault::TheTypeIsInLowerCase => message.event_type = message.event_type.to_lowercase(),
            Fault::LargeIntegersBecomeFloats => with_floats(&mut message.payload),
            Fault::NulCharactersAreDropped => {
                let text = message.payload.to_string().replace("\\u0000", "");
                message.payload = serde_json::from_str(&text).unwrap();
            }
            Fault::ThePartitionKeyIsDropped => message.partition_key = None,
            Fault::TheResourceIdIsNoKey => message.partition_key.clone_from(&event.meta().partition_key),
            Fault::HeadersAreDropped => message.headers.clear(),
            Fault::TheTraceIsDropped => drop(message.headers.remove("traceparent")),
            Fault::HeadersStayForTheNextEvent => {
                let mut broker = self.broker();
                broker.headers.extend(message.headers.clone());
                message.headers.extend(broker.headers.clone());
            }
            Fault::HeadersOverwriteAttributes => {
                if let Some(event_type) = message.headers.get("ce-type") {
                    message.event_type.clone_from(event_type);
                }
            }
            Fault::HeadersAreInjected if message.headers.values().any(|value| value.contains('\n')) => {
                message.headers.insert("x-injected".into(), "1".into());
            }
            _ => {}
        }
        message
    }

    async fn send(&self, event: &Event) -> Result<(), PublishError> {
        tokio::task::yield_now().await;
        let fault = self.fault;
        let is_down = self.broker().is_down;
        if is_down && fault == Fault::ADownBrokerHangs {
            std::future::pending::<()>().await;
        }
        if is_down || (self.broker().was_down && fault == Fault::ABrokerThatIsBackIsNotUsed) {
            return Err(match fault {
                Fault::ADownBrokerIsAFailedEvent => PublishError::failed("down"),
                Fault::ADownBrokerIsARejectedEvent => PublishError::rejected("down"),
                _ => PublishError::unavailable("down"),
            });
        }
        let is_usual = event.event_type().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
        let has_form =
            event.meta().headers.iter().all(|(name, value)| !name.is_empty() && !value.contains('\n'));
        match fault {
            Fault::ARefusedEventStopsTheTransport if self.broker().is_stuck => {
                return Err(PublishError::failed("stuck"));
            }
            Fault::UnusualTypesFailForEver if !is_usual => return Err(PublishError::failed("a type")),
            Fault::UnusualTypesAreAcceptedAndLost if !is_usual => return Ok(()),
            Fault::HeadersThatTheProtocolHasNoFormForFailForEver if !has_form => {
                return Err(PublishError::failed("a header"));
            }
            _ => {}
        }
        let is_away = {
            let broker = self.broker();
            broker.is_part_away || broker.was_part_away && fault == Fault::APartThatIsBackIsNotUsed
        };
        if is_away && event.event_type() == PART {
            return match fault {
                Fault::APartThatIsAwayIsUnavailable => Err(PublishError::unavailable("no such place")),
                Fault::APartThatIsAwayIsRejected => Err(PublishError::rejected("no such place")),
                Fault::APartThatIsAwayIsAcceptedAndLost => Ok(()),
                _ => Err(PublishError::failed("no such place")),
            };
        }
        if event.payload().to_string().len() > MAX_BYTES {
            self.broker().is_stuck = true;
            return match fault {
                Fault::TooLargeIsFailed => Err(PublishError::failed("too large")),
                Fault::TooLargeIsUnavailable => Err(PublishError::unavailable("too large")),
                Fault::TooLargeIsAcceptedAndLost => Ok(()),
                _ => Err(PublishError::rejected("too large")),
            };
        }
        let message = self.message(event);
        let mut broker = self.broker();
        let is_again = broker.messages.iter().any(|other| other.id == message.id);
        if is_again && fault == Fault::AnEventPublishedAgainIsAnError {
            return Err(PublishError::failed("a duplicate"));
        }
        let buffered = mem::take(&mut broker.buffer);
        broker.messages.extend(buffered);
        match fault {
            Fault::AnEventIsAcceptedAndLost if broker.messages.len() == 7 => {}
            Fault::AcceptedBeforeTheBrokerHasIt => broker.buffer.push(message),
            Fault::AnEventArrivesTwice if broker.messages.len() == 7 => {
                broker.messages.extend([message.clone(), message]);
            }
            _ => broker.messages.push(message),
        }
        Ok(())
    }

    async fn send_all(&self, events: &[Event]) -> Vec<Published> {
        let (mut report, mut failed, mut is_stopped) = (Vec::new(), HashSet::new(), false);
        for event in events {
            let key =
                event.partition_key().filter(|_| self.fault != Fault::WhatFollowsAFailedEventIsPublished);
            let result = if is_stopped || key.is_some_and(|key| failed.contains(key)) {
                Err(PublishError::not_attempted())
            } else {
                self.send(event).await
            };
            if let Err(error) = &result {
                is_stopped |= error.kind() == PublishErrorKind::Unavailable
                    || self.fault == Fault::ARefusedEventStopsTheBatch
                    || self.fault == Fault::APartThatIsAwayHoldsUpTheRest && event.event_type() == PART;
                failed.extend(key);
            }
            report.push(Published { id: event.id(), result });
        }
        report
    }
}

fn with_floats(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_u64() => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(with_floats),
        Value::Object(fields) => fields.values_mut().for_each(with_floats),
        _ => {}
    }
}

#[async_trait]
impl Transport for Broken {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        self.send(event).await
    }

    async fn publish_all(&self, events: &[Event]) -> Vec<Published> {
        let mut events = events.to_vec();
        let mut overtaken = None;
        match self.fault {
            Fault::ABatchIsReversed => events.reverse(),
            Fault::ABatchOvertakesItself => events.sort_by_key(|event| event.payload().to_string()),
            Fault::AfterAnOutageAnEventIsOvertaken if self.is_first_after_an_outage() && events.len() > 1 => {
                overtaken = Some(events.remove(0).id());
            }
            Fault::ACallThatIsGivenUpSpoilsTheNext
                if mem::replace(&mut self.broker().is_publishing, true) =>
            {
                let failed = |event: &Event| Published {
                    id: event.id(),
                    result: Err(PublishError::failed("the answer of another call")),
                };
                return events.iter().map(failed).collect();
            }
            _ => {}
        }
        let mut report = self.send_all(&events).await;
        self.broker().is_publishing = false;
        if let Some(id) = overtaken {
            report.push(Published { id, result: Err(PublishError::failed("overtaken")) });
        }
        match self.fault {
            Fault::AnIdIsForgotten => drop(report.pop()),
            Fault::AnIdIsReportedTwice => {
                let twice = report.first().map(|first| Published { id: first.id, result: Ok(()) });
                report.extend(twice);
            }
            Fault::AnEmptyBatchIsReportedOn if report.is_empty() => {
                report.push(Published { id: outbox_traits::EventId::new(), result: Ok(()) });
            }
            Fault::TheWrongEventIsBlamed => {
                if let Some(first) = report.iter().position(|published| published.result.is_err()) {
                    let other = (first + 1) % report.len();
                    let (first_id, other_id) = (report[first].id, report[other].id);
                    report[first].id = other_id;
                    report[other].id = first_id;
                }
            }
            Fault::APartThatIsAwayFailsTheBatch if self.broker().is_part_away => {
                for published in &mut report {
                    published.result = Err(PublishError::failed("no such place"));
                }
            }
            Fault::ReportsOfConcurrentBatchesAreMixed => {
                self.broker().report.extend(report);
                tokio::task::yield_now().await;
                return mem::take(&mut self.broker().report);
            }
            _ => {}
        }
        report
    }
}

pub(crate) struct Faulty(Broken);

impl Faulty {
    /// Opens transports with this fault from now on.
    pub(crate) fn with(fault: Fault) {
        FAULT.set(fault);
    }

    fn patience(&self) -> Duration {
        // Only these wait it out.
        let is_endless = matches!(
            self.0.fault,
            Fault::ADownBrokerHangs
                | Fault::ABrokerThatIsBackIsNotUsed
                | Fault::UnusualTypesFailForEver
                | Fault::APartThatIsAwayHoldsUpTheRest
                | Fault::APartThatIsBackIsNotUsed
        );
        if is_endless { Duration::from_millis(300) } else { Duration::from_secs(30) }
    }
}

#[async_trait]
impl TransportHarness for Faulty {
    type Transport = Broken;

    async fn open() -> Result<Self, Skip> {
        Ok(Self(Broken { fault: FAULT.get(), broker: Mutex::default() }))
    }

    fn transport(&self) -> &Broken {
        &self.0
    }

    async fn received(&self) -> Vec<Received> {
        self.0.broker().messages.clone()
    }
}

#[async_trait]
impl RefusingHarness for Faulty {
    fn too_large(&self) -> Event {
        Event::new("suite.too_large", json!("x".repeat(MAX_BYTES))).unwrap()
    }
}

#[async_trait]
impl OutageHarness for Faulty {
    async fn stop(&self) {
        let mut broker = self.0.broker();
        broker.is_down = true;
        broker.buffer.clear();
        match self.0.fault {
            Fault::TheBrokerForgets => broker.messages.clear(),
            Fault::TheBrokerForgetsTheLast => drop(broker.messages.pop()),
            _ => {}
        }
    }

    async fn start(&self) {
        let mut broker = self.0.broker();
        broker.is_down = false;
        broker.was_down = true;
    }

    fn patience(&self) -> Duration {
        self.patience()
    }
}

#[async_trait]
impl PartHarness for Faulty {
    async fn take_away(&self) {
        let mut broker = self.0.broker();
        broker.is_part_away = true;
        broker.was_part_away = true;
    }

    async fn bring_back(&self) {
        self.0.broker().is_part_away = false;
    }

    fn patience(&self) -> Duration {
        self.patience()
    }
}
