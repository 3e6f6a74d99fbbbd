//! The other side of a transport, which watches what a relay promises it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use outbox_traits::{Event, EventId, PublishError, Transport, async_trait};
use tokio::time::sleep;

/// What happens to a publish.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Accepted,
    /// It is accepted, and the answer is lost.
    AnswerIsLost,
    Failed,
    Rejected,
    Unavailable,
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
}

#[derive(Default)]
struct State {
    /// What is to come before each event.
    before: HashMap<EventId, EventId>,
    publishing: HashSet<String>,
    accepted: HashSet<EventId>,
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
        Self { state: Arc::new(Mutex::new(state)), endings: Arc::new(Mutex::new(endings)), turns: 0 }
    }

    pub(crate) fn with_turns(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(&self, event: &Event) -> Going {
        let mut state = self.lock();
        let id = event.id();
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
            Ending::Panics => panic!("told to panic"),
            Ending::Hangs => std::future::pending().await,
            Ending::Takes(time) => sleep(time).await,
            Ending::Accepted | Ending::AnswerIsLost => {}
        }
        self.lock().accepted.insert(event.id());
        self.take_turns().await;
        match ending {
            Ending::AnswerIsLost => Err(PublishError::failed("the answer is lost")),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumer")
    }
}
