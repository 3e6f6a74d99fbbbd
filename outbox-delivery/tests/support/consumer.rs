//! The other side of a transport, which watches what a relay promises it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use outbox_traits::{Event, EventId, PublishError, Transport, async_trait};
use tokio::time::sleep;

use super::remote::Remote;

/// What happens to a publish.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Accepted,
    /// It is accepted, and the answer is lost.
    AnswerIsLost,
    Failed,
    Rejected,
    Unavailable,
    NotAttempted,
    Panics,
    Takes(Duration),
    Hangs,
}

type Endings = dyn FnMut(&Event) -> Ending + Send;

/// Takes one event at a time and panics on a publish that begins before the one in front of it, of its key, was
/// accepted, or while another of its key goes on.
#[derive(Clone)]
pub(crate) struct Consumer {
    state: Arc<Mutex<State>>,
    endings: Arc<Mutex<Box<Endings>>>,
    turns: usize,
    /// Whose it is, and the store that knows what that one holds.
    worker: Option<(String, Remote)>,
}

#[derive(Default)]
struct State {
    /// What is to come before each event.
    before: HashMap<EventId, EventId>,
    publishing: HashSet<String>,
    accepted: HashSet<EventId>,
    /// What the relay was told to be accepted.
    answered: HashSet<EventId>,
    began: Vec<EventId>,
    faults: Vec<String>,
}

impl Consumer {
    /// For these events, in their order.
    pub(crate) fn of(events: &[Event]) -> Self {
        let mut state = State::default();
        let mut last = HashMap::new();
        for event in events {
            if let Some(key) = event.partition_key()
                && let Some(before) = last.insert(key.to_owned(), event.id())
            {
                state.before.insert(event.id(), before);
            }
        }
        let endings: Box<Endings> = Box::new(|_| Ending::Accepted);
        Self {
            state: Arc::new(Mutex::new(state)),
            endings: Arc::new(Mutex::new(endings)),
            turns: 0,
            worker: None,
        }
    }

    /// For these events, of which each is to come after all that are before it, whatever their keys.
    pub(crate) fn of_all_in_order(events: &[Event]) -> Self {
        let consumer = Self::of(events);
        let pairs = events.windows(2).map(|pair| (pair[1].id(), pair[0].id()));
        consumer.lock().before.extend(pairs);
        consumer
    }

    pub(crate) fn with_turns(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
    }

    /// For a worker of this name, which is to publish only what it holds.
    pub(crate) fn for_worker(&self, name: &str, store: &Remote) -> Self {
        Self { worker: Some((name.to_owned(), store.clone())), ..self.clone() }
    }

    /// Watches that the store settles nothing as delivered before it was said to be accepted.
    pub(crate) fn watch(&self, store: &Remote) {
        let consumer = self.clone();
        store.tell_of_deliveries(move |id| {
            let mut state = consumer.lock();
            if !state.answered.contains(&id) {
                state
                    .faults
                    .push(format!("{id} was settled as delivered, and nobody had said that it was accepted"));
            }
        });
    }

    /// Adds what another saw to the faults.
    pub(crate) fn blame(&self, fault: String) {
        self.lock().faults.push(fault);
    }

    pub(crate) fn decide(&self, endings: impl FnMut(&Event) -> Ending + Send + 'static) {
        *self.endings.lock().unwrap() = Box::new(endings);
    }

    /// How often a publish of it began.
    pub(crate) fn began(&self, id: EventId) -> usize {
        self.lock().began.iter().filter(|began| **began == id).count()
    }

    pub(crate) fn accepted(&self) -> HashSet<EventId> {
        self.lock().accepted.clone()
    }

    /// Whether a publish goes on, of an event with a key.
    pub(crate) fn is_publishing(&self) -> bool {
        !self.lock().publishing.is_empty()
    }

    /// What broke a promise.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// No promise was broken, and all of these are accepted and delivered by nobody else.
    pub(crate) fn check(&self, store: &Remote, events: &[Event]) {
        assert_eq!(self.faults(), Vec::<String>::new());
        let accepted = self.accepted();
        assert!(store.delivered().is_subset(&accepted));
        assert!(events.iter().all(|event| accepted.contains(&event.id())));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(&self, event: &Event) -> Going {
        let id = event.id();
        let is_held = self.worker.as_ref().is_none_or(|(name, store)| store.is_held_by(id, name));
        let mut state = self.lock();
        if !is_held {
            state.faults.push(format!("{id} was published without a lease on it"));
        }
        state.began.push(id);
        if let Some(before) = state.before.get(&id).copied()
            && !state.accepted.contains(&before)
        {
            state.faults.push(format!("{id} was published before {before} was accepted"));
        }
        let key = event.partition_key().map(str::to_owned);
        if let Some(key) = &key
            && !state.publishing.insert(key.clone())
        {
            state.faults.push(format!("{id} was published beside another of {key}"));
        }
        Going { consumer: self.clone(), key }
    }

    async fn take_turns(&self) {
        for _ in 0..fastrand::usize(..=self.turns) {
            tokio::task::yield_now().await;
        }
    }
}

/// Ends also where the publish is dropped.
struct Going {
    consumer: Consumer,
    key: Option<String>,
}

impl Drop for Going {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.consumer.lock().publishing.remove(key);
        }
    }
}

#[async_trait]
impl Transport for Consumer {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let _going = self.begin(event);
        self.take_turns().await;
        let ending = self.endings.lock().unwrap()(event);
        match ending {
            Ending::Failed => return Err(PublishError::failed("no")),
            Ending::Rejected => return Err(PublishError::rejected("never")),
            Ending::Unavailable => return Err(PublishError::unavailable("down")),
            Ending::NotAttempted => return Err(PublishError::not_attempted()),
            Ending::Panics => panic!("told to panic"),
            Ending::Hangs => std::future::pending().await,
            Ending::Takes(time) => sleep(time).await,
            Ending::Accepted | Ending::AnswerIsLost => {}
        }
        self.lock().accepted.insert(event.id());
        self.take_turns().await;
        if matches!(ending, Ending::AnswerIsLost) {
            return Err(PublishError::failed("the answer is lost"));
        }
        self.lock().answered.insert(event.id());
        Ok(())
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumer")
    }
}
