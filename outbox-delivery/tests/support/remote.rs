//! The store in memory as if it were far away: its time is tokio's, and its calls take turns and fail as they are
//! told.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use outbox_memory::{ManualClock, MemoryOutbox, MemorySession};
use outbox_traits::{
    Claim, ClaimStore, DeadLetter, DeadLetterFilter, DeadLetterStore, Error, ErrorKind, Event, EventId,
    Lease, Leased, OutboxStore, Outcome, Result, Saved, Settlement, Stats, StatsStore, WakeStore, Wakeups,
    async_trait,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Claim,
    Renew,
    Settle,
    Purge,
    Stats,
    /// Only counted.
    Fetch,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Works,
    /// It does not arrive.
    Fails(ErrorKind),
    /// It does not arrive, and the text of the error panics.
    FailsWithoutText,
    /// It does not arrive, and the error panics where it is dropped.
    FailsTreacherously,
    /// It is done, and the answer is lost.
    AnswerIsLost,
    /// It is done so much later.
    Takes(Duration),
    /// It is done, and the answer comes so much later.
    AnswersAfter(Duration),
    Hangs,
    Panics,
}

/// An error whose text cannot be had.
#[derive(Debug)]
pub(crate) struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("told to panic")
    }
}

impl std::error::Error for Unspeakable {}

/// Whoever drops it meets a panic.
#[derive(Debug)]
pub(crate) struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("told to panic when it is dropped");
    }
}

/// An error that panics where it is dropped, and where its text is asked for the second time.
#[derive(Debug, Default)]
pub(crate) struct Treacherous(AtomicBool);

impl fmt::Display for Treacherous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.0.swap(true, Relaxed), "told to panic");
        f.write_str("treacherous")
    }
}

impl std::error::Error for Treacherous {}

impl Drop for Treacherous {
    fn drop(&mut self) {
        std::panic::panic_any(Explosive);
    }
}

impl Treacherous {
    /// An error of the store that has it as its cause.
    pub(crate) fn of_kind(kind: ErrorKind) -> Error {
        Error::new(kind, "told to fail").with_source(Self::default())
    }
}

type Fates = dyn FnMut(Call) -> Fate + Send;

type Refusals = dyn FnMut(Call, &Lease) -> Result<()> + Send;

type Wakes = dyn FnMut() -> Result<Box<dyn Wakeups>> + Send;

type Witness = dyn FnMut(EventId) + Send;

/// A lease, as its holder knows it.
#[derive(Clone, Debug)]
struct Hold {
    token: Uuid,
    worker: String,
    until: Instant,
}

#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) inner: MemoryOutbox,
    clock: ManualClock,
    started: Instant,
    elapsed: Arc<Mutex<Duration>>,
    fates: Arc<Mutex<Box<Fates>>>,
    is_unreliable: Arc<AtomicBool>,
    wakes: Arc<Mutex<Option<Box<Wakes>>>>,
    /// Whether each lease of a renewal or a settlement is refused.
    refusals: Arc<Mutex<Box<Refusals>>>,
    /// The call that answers for one lease less than it was asked for.
    forgetful: Arc<Mutex<Option<Call>>>,
    /// Up to so many turns go to others before and after each call.
    turns: usize,
    calls: Arc<Mutex<Vec<(Call, Instant)>>>,
    /// Who holds what, and until when, as far as the holder was told.
    held: Arc<Mutex<HashMap<EventId, Hold>>>,
    /// Asked at each settlement as delivered that takes.
    witness: Arc<Mutex<Option<Box<Witness>>>>,
    /// What was settled as delivered.
    delivered: Arc<Mutex<HashSet<EventId>>>,
    settlements: Arc<Mutex<Vec<Vec<Settlement>>>>,
    /// Whether somebody requeues what was set aside.
    is_requeued: Arc<AtomicBool>,
}

impl Remote {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::new();
        Self {
            inner: MemoryOutbox::with_clock(&clock),
            clock,
            started: Instant::now(),
            elapsed: Arc::default(),
            fates: Arc::new(Mutex::new(Box::new(|_| Fate::Works))),
            is_unreliable: Arc::default(),
            wakes: Arc::default(),
            refusals: Arc::new(Mutex::new(Box::new(|_, _| Ok(())))),
            forgetful: Arc::default(),
            turns: 0,
            calls: Arc::default(),
            held: Arc::default(),
            witness: Arc::default(),
            delivered: Arc::default(),
            settlements: Arc::default(),
            is_requeued: Arc::default(),
        }
    }

    pub(crate) async fn with(events: &[Event]) -> Self {
        let store = Self::new();
        store.save_all(events).await.unwrap();
        store
    }

    pub(crate) fn with_turns(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
    }

    /// What happens to each call from now on.
    pub(crate) fn decide(&self, fates: impl FnMut(Call) -> Fate + Send + 'static) {
        self.is_unreliable.store(true, Relaxed);
        *self.fates.lock().unwrap() = Box::new(fates);
    }

    /// What it answers, instead of the store itself, to one who wants to listen.
    pub(crate) fn wake_by(&self, wakes: impl FnMut() -> Result<Box<dyn Wakeups>> + Send + 'static) {
        *self.wakes.lock().unwrap() = Some(Box::new(wakes));
    }

    /// The renewal of each lease fails so from now on, in a call that works.
    pub(crate) fn fail_each_renewal(&self, kind: ErrorKind) {
        self.refuse(move |call, _| match call {
            Call::Renew => Err(Error::new(kind, "told to fail")),
            _ => Ok(()),
        });
    }

    /// Which leases are refused from now on, in a renewal or a settlement that works.
    pub(crate) fn refuse(&self, refusals: impl FnMut(Call, &Lease) -> Result<()> + Send + 'static) {
        *self.refusals.lock().unwrap() = Box::new(refusals);
    }

    fn refused<'a>(&self, call: Call, leases: impl Iterator<Item = &'a Lease>) -> Vec<Result<()>> {
        let mut refusals = self.refusals.lock().unwrap();
        leases.map(|lease| refusals(call, lease)).collect()
    }

    /// Against the contract, such a call says nothing of its last lease from now on.
    pub(crate) fn answer_for_one_less(&self, call: Call) {
        *self.forgetful.lock().unwrap() = Some(call);
    }

    /// What a call answers, where so many were refused and the others have come to these.
    fn answer(&self, call: Call, refused: Vec<Result<()>>, others: Vec<Result<()>>) -> Vec<Result<()>> {
        let mut others = others.into_iter();
        let answer = |refused: Result<()>| refused.and_then(|()| others.next().unwrap());
        let mut results: Vec<_> = refused.into_iter().map(answer).collect();
        if *self.forgetful.lock().unwrap() == Some(call) {
            results.pop();
        }
        results
    }

    /// The time by its clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.tell_the_time();
        self.clock.now()
    }

    /// Its clock jumps, as when somebody sets it.
    pub(crate) fn set_clock_ahead(&self, by: Duration) {
        self.tell_the_time();
        self.clock.advance(by);
    }

    pub(crate) fn count(&self, call: Call) -> usize {
        self.calls.lock().unwrap().iter().filter(|(made, _)| *made == call).count()
    }

    pub(crate) fn times(&self, call: Call) -> Vec<Instant> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(made, _)| *made == call).map(|(_, at)| *at).collect()
    }

    /// Whether all of its calls work.
    pub(crate) fn is_reliable(&self) -> bool {
        !self.is_unreliable.load(Relaxed)
    }

    /// Who is told of each settlement as delivered, at the moment at which it takes.
    pub(crate) fn tell_of_deliveries(&self, witness: impl FnMut(EventId) + Send + 'static) {
        *self.witness.lock().unwrap() = Some(Box::new(witness));
    }

    /// Whether a worker whose name begins so has a lease on the event now.
    pub(crate) fn is_held_by(&self, id: EventId, worker: &str) -> bool {
        let held = self.held.lock().unwrap();
        held.get(&id).is_some_and(|hold| hold.worker.starts_with(worker) && hold.until > Instant::now())
    }

    /// What such a worker was told that it holds, and has not given back.
    pub(crate) fn held_by(&self, worker: &str) -> Vec<EventId> {
        let held = self.held.lock().unwrap();
        let of_worker = held.iter().filter(|(_, hold)| hold.worker.starts_with(worker));
        of_worker.filter(|(_, hold)| hold.until > Instant::now()).map(|(id, _)| *id).collect()
    }

    pub(crate) fn delivered(&self) -> HashSet<EventId> {
        self.delivered.lock().unwrap().clone()
    }

    /// What was settled, call by call.
    pub(crate) fn settlements(&self) -> Vec<Vec<Settlement>> {
        self.settlements.lock().unwrap().clone()
    }

    pub(crate) async fn counts(&self) -> Stats {
        self.tell_the_time();
        self.inner.stats().await.unwrap()
    }

    pub(crate) async fn dead(&self) -> Vec<DeadLetter> {
        self.tell_the_time();
        self.inner.dead_letters(&DeadLetterFilter::new()).await.unwrap().letters
    }

    /// Somebody looks at the dead letters from now on, and requeues them.
    pub(crate) fn requeue_now_and_then(&self) {
        self.is_requeued.store(true, Relaxed);
    }

    pub(crate) fn is_requeued_now_and_then(&self) -> bool {
        self.is_requeued.load(Relaxed)
    }

    /// A worker dies with the first events of a type: with how many.
    pub(crate) async fn die_with(&self, event_type: &str) -> usize {
        let lease = Duration::from_secs(1);
        let claim = Claim::new("dies").with_types([event_type]).with_lease(lease);
        let claimed = self.claim(&claim).await.unwrap().len();
        sleep(2 * lease).await;
        claimed
    }

    /// Requeues any one dead letter, if somebody looks at them.
    pub(crate) async fn requeue_one(&self) {
        if self.is_requeued_now_and_then()
            && let Some(letter) = fastrand::choice(self.dead().await)
        {
            self.inner.requeue(letter.id).await.unwrap();
        }
    }

    /// The events that could be claimed now.
    pub(crate) async fn pending(&self) -> Vec<String> {
        let pending = self.get_pending(usize::MAX).await.unwrap();
        pending.iter().map(|event| event.event_type().to_owned()).collect()
    }

    /// Attempts and failures of the first events that can be claimed, whose leases end at once.
    pub(crate) async fn histories(&self) -> Vec<(String, u32, u32)> {
        self.tell_the_time();
        let claimed = self.inner.claim(&Claim::new("test")).await.unwrap();
        let releases: Vec<_> = claimed.iter().map(|leased| Settlement::released(leased.lease)).collect();
        self.inner.settle(&releases).await.unwrap();
        let history =
            |leased: &Leased| (leased.event.event_type().to_owned(), leased.attempts - 1, leased.failures);
        claimed.iter().map(history).collect()
    }

    fn tell_the_time(&self) {
        let mut told = self.elapsed.lock().unwrap();
        let elapsed = self.started.elapsed();
        self.clock.advance(elapsed.saturating_sub(*told));
        *told = elapsed;
    }

    async fn take_turns(&self) {
        for _ in 0..fastrand::usize(..=self.turns) {
            tokio::task::yield_now().await;
        }
    }

    async fn call<T>(&self, call: Call, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.calls.lock().unwrap().push((call, Instant::now()));
        let fate = self.fates.lock().unwrap()(call);
        self.take_turns().await;
        match fate {
            Fate::Fails(kind) => return Err(Error::new(kind, "told to fail")),
            Fate::FailsWithoutText => {
                return Err(Error::new(ErrorKind::Unavailable, "told to fail").with_source(Unspeakable));
            }
            Fate::FailsTreacherously => return Err(Treacherous::of_kind(ErrorKind::Unavailable)),
            Fate::Takes(time) => sleep(time).await,
            Fate::Hangs => std::future::pending().await,
            Fate::Panics => panic!("told to panic"),
            Fate::Works | Fate::AnswerIsLost | Fate::AnswersAfter(_) => {}
        }
        self.tell_the_time();
        let answer = work.await;
        self.take_turns().await;
        if let Fate::AnswersAfter(time) = fate {
            sleep(time).await;
        }
        match fate {
            Fate::AnswerIsLost => Err(Error::new(ErrorKind::Unavailable, "the answer is lost")),
            _ => answer,
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

/// Those that are not refused.
fn accepted<T: Clone>(asked: &[T], refused: &[Result<()>]) -> Vec<T> {
    asked.iter().zip(refused).filter(|(_, refused)| refused.is_ok()).map(|(one, _)| one.clone()).collect()
}

#[async_trait]
impl OutboxStore for Remote {
    type Session = MemorySession;

    async fn save(&self, event: &Event) -> Result<Saved> {
        self.tell_the_time();
        self.inner.save(event).await
    }

    async fn save_all(&self, events: &[Event]) -> Result<Vec<Saved>> {
        self.tell_the_time();
        self.inner.save_all(events).await
    }

    async fn save_in_session(&self, event: &Event, session: &mut MemorySession) -> Result<Saved> {
        self.tell_the_time();
        self.inner.save_in_session(event, session).await
    }

    async fn get_pending(&self, limit: usize) -> Result<Vec<Event>> {
        self.calls.lock().unwrap().push((Call::Fetch, Instant::now()));
        self.tell_the_time();
        self.inner.get_pending(limit).await
    }

    async fn acknowledge(&self, id: EventId) -> Result<()> {
        self.tell_the_time();
        self.inner.acknowledge(id).await
    }

    async fn purge(&self, older_than: Duration) -> Result<u64> {
        self.call(Call::Purge, self.inner.purge(older_than)).await
    }
}

#[async_trait]
impl ClaimStore for Remote {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        let until = Arc::new(Mutex::new(Instant::now()));
        let work = async {
            *until.lock().unwrap() = Instant::now() + claim.lease;
            self.inner.claim(claim).await
        };
        let claimed = self.call(Call::Claim, work).await?;
        let until = *until.lock().unwrap();
        let mut held = self.held.lock().unwrap();
        for Leased { lease, .. } in &claimed {
            let hold = Hold { token: lease.token(), worker: claim.worker.clone(), until };
            // An answer that took long may speak of a lease that somebody else has by now.
            let is_newer = held.get(&lease.event()).is_none_or(|other| other.until <= until);
            if is_newer {
                held.insert(lease.event(), hold);
            }
        }
        Ok(claimed)
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        let work = async {
            let refused = self.refused(Call::Renew, leases.iter());
            let leases: Vec<_> = accepted(leases, &refused);
            let results = self.inner.renew(&leases, length).await?;
            let mut held = self.held.lock().unwrap();
            for (lease, _) in leases.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
                if let Some(hold) = held.get_mut(&lease.event()).filter(|hold| hold.token == lease.token()) {
                    hold.until = Instant::now() + length;
                }
            }
            Ok(self.answer(Call::Renew, refused, results))
        };
        self.call(Call::Renew, work).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        let settle = async {
            let refused = self.refused(Call::Settle, settlements.iter().map(|settlement| &settlement.lease));
            let settlements = accepted(settlements, &refused);
            let results = self.inner.settle(&settlements).await?;
            self.settlements.lock().unwrap().push(settlements.clone());
            let mut held = self.held.lock().unwrap();
            for Settlement { lease, .. } in &settlements {
                if held.get(&lease.event()).is_some_and(|hold| hold.token == lease.token()) {
                    held.remove(&lease.event());
                }
            }
            let took = settlements.iter().zip(&results).filter(|(_, result)| result.is_ok());
            let delivered = took.filter(|(settlement, _)| settlement.outcome == Outcome::Delivered);
            for (Settlement { lease, .. }, _) in delivered {
                self.delivered.lock().unwrap().insert(lease.event());
                if let Some(witness) = &mut *self.witness.lock().unwrap() {
                    witness(lease.event());
                }
            }
            Ok(self.answer(Call::Settle, refused, results))
        };
        self.call(Call::Settle, settle).await
    }
}

#[async_trait]
impl WakeStore for Remote {
    async fn wakeups(&self) -> Result<Box<dyn Wakeups>> {
        // Where it was told to panic, it is asked again.
        if let Some(wake) = &mut *self.wakes.lock().unwrap_or_else(PoisonError::into_inner) {
            return wake();
        }
        self.inner.wakeups().await
    }
}

#[async_trait]
impl StatsStore for Remote {
    async fn stats(&self) -> Result<Stats> {
        self.call(Call::Stats, self.inner.stats()).await
    }
}
