//! The loop of a relay on claims.
//!
//! One task owns all that there is to know: what is leased, what is being published and what is to be settled. Calls
//! of the store and the transport are futures beside it, which it polls itself, so that to drop the loop is to drop
//! everything at once.

mod claim;
mod flight;
mod leases;
mod pause;
mod publish;
mod queue;
mod settle;
mod stop;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use outbox_traits::{Error, ErrorKind, EventId, Lease, Leased, Result, Settlement};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    flight::{Flights, Landed},
    leases::Leases,
    pause::Pause,
    queue::Queue,
    stop::Stop,
};
use crate::{
    Claims, Relay,
    blame::Blame,
    record::{Record, ended_early},
    relay::MAX_INTERVAL,
    retry::Retry,
    wake::Idle,
};

/// How soon a store that fails is asked again.
const STORE_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(crate) struct Worker<'a> {
    relay: &'a Relay<Claims>,
    record: &'a Record,
    /// Who claims, for people to read.
    name: String,
    calls: FuturesUnordered<BoxFuture<'a, Done>>,
    /// Claimed, and not being published yet.
    queue: Queue,
    /// Claimed, and to be published when nothing else is held, because it may kill its worker.
    suspect: Option<Leased>,
    /// The publish of such a one.
    suspect_flight: Option<u64>,
    /// Claimed again where everything is tried once: held to the end, so that claims go past it.
    kept: Vec<Leased>,
    flights: Flights,
    leases: Leases,
    unsettled: Vec<Settlement>,
    /// How many settlements are on their way.
    settling: usize,
    calling: Calling,
    /// When to claim next; `None`: when nothing is held any more.
    claim_at: Option<Instant>,
    /// Whether something came while a claim was on its way, which may have gone past it.
    is_to_claim_again: bool,
    idle: Idle,
    /// Whether the last claim came back with less than it asked for, so that nothing else waits.
    has_claimed_all: bool,
    /// Whether the last claim beside held events came back empty: it may be that their keys are all that there are.
    is_futile_beside: bool,
    /// When what failed here becomes due.
    due: BinaryHeap<Reverse<Instant>>,
    store: Pause,
    transport: Pause,
    blame: Blame,
    stop: Option<Stop>,
    /// Tells the publishes in flight of it.
    stopping: CancellationToken,
    /// What has been tried, where everything is tried once.
    once: Option<HashSet<EventId>>,
}

/// Which calls of the store go on, beside a settlement.
#[derive(Debug, Default)]
struct Calling {
    claim: bool,
    renew: bool,
}

/// A call that has ended.
enum Done {
    Claimed { sent_at: Instant, was_empty_handed: bool, result: Result<Vec<Leased>> },
    Published(Landed),
    Settled { settlements: Vec<Settlement>, result: Result<Vec<Result<()>>> },
    Renewed { sent_at: Instant, leases: Vec<Lease>, result: Result<Vec<Result<()>>> },
}

impl<'a> Worker<'a> {
    /// A worker that goes on until it is stopped.
    pub(crate) fn new(relay: &'a Relay<Claims>, record: &'a Record) -> Self {
        Self {
            relay,
            record,
            name: format!("{} {} {:08x}", relay.common.name, std::process::id(), fastrand::u32(..)),
            calls: FuturesUnordered::new(),
            queue: Queue::default(),
            suspect: None,
            suspect_flight: None,
            kept: Vec::new(),
            flights: Flights::default(),
            leases: Leases::new(relay.way.lease),
            unsettled: Vec::new(),
            settling: 0,
            calling: Calling::default(),
            claim_at: Some(Instant::now()),
            is_to_claim_again: false,
            idle: Idle::of(&relay.common, relay.way.longest_poll),
            has_claimed_all: false,
            is_futile_beside: false,
            due: BinaryHeap::new(),
            store: Pause::new(store_retry(relay.way.lease)),
            transport: Pause::new(Retry::default()),
            blame: Blame::default(),
            stop: None,
            stopping: CancellationToken::new(),
            once: None,
        }
    }

    /// A worker that tries everything once, and ends when nothing is left to try.
    pub(crate) fn once(relay: &'a Relay<Claims>, record: &'a Record) -> Self {
        Self { once: Some(HashSet::new()), ..Self::new(relay, record) }
    }

    pub(crate) async fn run(&mut self, shutdown: &CancellationToken, woken: &Notify) -> Result<()> {
        loop {
            let now = Instant::now();
            if shutdown.is_cancelled() && self.stop.is_none() {
                self.stop_within(now, self.relay.common.grace_period);
            }
            self.give_back_what_expires(now);
            self.start_settling(now);
            self.start_renewing(now);
            self.start_publishing(now);
            self.start_claiming(now);
            let has_stopped = self.has_stopped();
            if has_stopped || self.is_out_of_time(now) {
                if !has_stopped {
                    ended_early();
                }
                return self.stop.take().and_then(|stop| stop.error).map_or(Ok(()), Err);
            }
            self.record.asks_store_at(self.next_question(now));
            let next = self.next_moment(now);
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if self.stop.is_none() => {}
                // Before the calls, so that no publish goes on when its lease has ended meanwhile.
                () = sleep_until(next) => {}
                () = woken.notified(), if self.stop.is_none() => self.claim_soon(Instant::now()),
                Some(done) = self.calls.next(), if !self.calls.is_empty() => self.finish(done),
            }
            // With a store and a transport that never wait, others would never have a turn.
            tokio::task::yield_now().await;
        }
    }

    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Claimed { sent_at, was_empty_handed, result } => {
                self.calling.claim = false;
                self.claimed(now, sent_at, was_empty_handed, result);
            }
            Done::Published(landed) => self.published(now, landed),
            Done::Settled { settlements, result } => {
                self.settling = 0;
                self.settled(now, settlements, result);
            }
            Done::Renewed { sent_at, leases, result } => {
                self.calling.renew = false;
                self.renewed(now, sent_at, &leases, result);
            }
        }
    }

    /// When something is to be done that no call brings about.
    fn next_moment(&self, now: Instant) -> Instant {
        let moments = [
            self.claim_at,
            self.due.peek().map(|Reverse(due)| *due),
            self.store.until(),
            self.transport.until(),
            self.leases.renew_at(),
            self.leases.expire_at(),
            self.stop.as_ref().map(|stop| stop.cut_at),
            self.stop.as_ref().map(|stop| stop.end_at),
        ];
        // What is past was done just now, or waits for a call.
        moments.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(now + MAX_INTERVAL)
    }

    /// Whether nothing is held, on the way, or to be written down.
    fn is_empty_handed(&self) -> bool {
        self.queue.is_empty()
            && self.suspect.is_none()
            && self.flights.is_empty()
            && self.unsettled.is_empty()
            && self.settling == 0
    }

    fn store_failed(&mut self, now: Instant, error: Error) {
        if error.is_retryable() && self.once.is_none() && !self.is_giving_up() {
            self.record.store_failed(error);
            self.store.begin(now, Duration::ZERO);
        } else {
            self.give_up(now, error);
        }
    }
}

/// Leases do not wait for long: whatever failed, they are to be renewed in time.
fn store_retry(lease: Duration) -> Retry {
    let (first, longest) = STORE_RETRY;
    Retry::new(first, longest.min(lease / 10))
}

/// How long a claim or a settlement may take. Where its connection is half open, there is time for another try before the
/// leases end; but one that is only slow is not to be cut off again and again where leases are short, and what it answers
/// after a lease is of no use.
fn patience(lease: Duration) -> Duration {
    (lease / 5).clamp(Duration::from_secs(5), Duration::from_secs(30)).min(lease)
}

/// The results of a call, one for each that was asked for: a store that says too little breaks the contract.
fn one_each(results: Vec<Result<()>>, asked: usize) -> impl Iterator<Item = Result<()>> {
    let given = results.len();
    let missing = move |_| {
        let message =
            format!("the outbox store answered for {given} of {asked} leases, and owes an answer for each");
        Err(Error::new(ErrorKind::Backend, message))
    };
    results.into_iter().chain((given..asked).map(missing))
}
