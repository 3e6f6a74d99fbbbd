//! Claims: leases in lists, and busy keys parked.
//!
//! A claim writes one document, whatever it leases: its token and the list of its events and their keys. It reads
//! those of others first, walks the pending events in order and steps over those whose keys are busy. Where it steps
//! over many they are parked: taken out of the order, so that no claim meets them again, and found by their key,
//! of which a document says when to look at it. What waits for a retry is parked likewise.
//!
//! One document is the lock, and has a version. A claim reads all that it goes by, the version too, and then writes
//! its leases in a small transaction that takes the version on, if nobody else has: else it looks again, and after some
//! looks in vain it takes the lock first. What parks, ends
//! leases that ran out, renews, writes down failures or acknowledges what is leased or parked is a transaction that
//! writes the lock first. So all is decided here, on what no other changes meanwhile. Only a settlement that says
//! delivered or released goes without the lock: it is one change of the document of its lease, which holds as long as
//! the lease does.
//!
//! What keeps the order of a key: a claim merges its parked events with the pending ones that the walk has met, and
//! takes only what is older than all of the key that it has not looked at.

mod choose;
mod counts;
mod dead;
mod deliver;
mod look;
mod lost;
mod passed;
mod settle;
mod stalled;
mod state;
mod turn;
mod view;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bson::{DateTime, doc};
use mongodb::error::Error as DriverError;
use outbox_traits::{Claim, ClaimStore, ErrorKind, Lease, Leased, Result, Settlement, async_trait};
use tokio::time::{Instant, Interval, sleep};

use self::{
    choose::{Effort, Step},
    turn::Lock,
};
pub(crate) use self::{
    passed::Passed,
    turn::{Held, Turn},
};
use crate::{
    MongoOutbox,
    document::{PARKED, PENDING, SCHEDULED},
    error,
    indexes::{FIFO_KEYS, keys},
    pending::look_further,
};

const CLAIM: &str = "claim events from";
const RENEW: &str = "renew leases in";
const SETTLE: &str = "settle leases in";

/// The document that every transaction of claims writes first.
const LOCK: &str = "lock";
/// For how long a transaction that meets others is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of it: at first, and at most. So that those that met do not meet again, each is longer by up to as
/// much.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));
/// How many transactions one claim may take to get past events of busy keys, each of which parks some.
const MAX_STEPS: usize = 10_000;
/// After so many looks of one claim in vain, the next ones are with the lock, for which others wait: else those that are quicker
/// again and again, such as acknowledgements, would keep it from any answer.
const FREE_LOOKS: usize = 3;
/// A hundred years: no lease and no wait is longer, and a date can hold it.
const LONGEST: Duration = Duration::from_hours(876_000);

/// The year 9000: a key that is ready later is never ready, but held by dead letters. No lease and no wait ends then.
const FAR: DateTime = DateTime::from_millis(221_845_392_000_000);
/// When a held key is ready: 250 years later.
const NEVER: DateTime = DateTime::from_millis(229_729_392_000_000);

/// A time so long after another, rounded up.
fn later(time: DateTime, by: Duration) -> DateTime {
    let millis = i64::try_from(by.min(LONGEST).as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_add(millis))
}

/// Whether a key has waited long enough: from the very millisecond on.
fn is_ready(ready_at: DateTime, now: DateTime) -> bool {
    ready_at <= now
}

/// Whether it is dead letters that a key waits for.
fn is_held(ready_at: DateTime) -> bool {
    ready_at > FAR
}

/// The end of a lease of this length.
fn end(now: DateTime, length: Duration) -> DateTime {
    later(now, length.max(Duration::from_millis(1)))
}

#[async_trait]
impl ClaimStore for MongoOutbox {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        if claim.limit == 0 {
            return Ok(Vec::new());
        }
        self.ready(CLAIM).await?;
        // A worker that waits for work asks again and again: one look is enough, and no lock.
        if self.seen.is_idle.load(Relaxed) && !self.has_open().await.map_err(self.error(CLAIM))? {
            return Ok(Vec::new());
        }
        let leased = self.claim_some(claim).await.map_err(self.error(CLAIM))?;
        self.seen.is_idle.store(leased.is_empty(), Relaxed);
        Ok(leased)
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.ready(RENEW).await?;
        let mut conflicts = Conflicts::new();
        loop {
            let renewed = async {
                let mut turn = self.turn.lock().await;
                let mut held = self.hold(&mut turn).await?;
                let renewed = self.renew_once(&mut held, leases, length).await;
                held.end(renewed).await
            };
            match renewed.await {
                Ok(answers) => return Ok(answers),
                Err(error) => conflicts.wait(self, error).await.map_err(self.error(RENEW))?,
            }
        }
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        self.ready(SETTLE).await?;
        if deliver::is_simple(settlements) {
            return self.settle_simply(settlements).await.map_err(self.error(SETTLE));
        }
        let mut conflicts = Conflicts::new();
        let settled = loop {
            let settled = async {
                let mut turn = self.turn.lock().await;
                let mut held = self.hold(&mut turn).await?;
                let settled = self.settle_once(&mut held, settlements).await;
                held.end(settled).await
            };
            match settled.await {
                Ok(settled) => break settled,
                Err(error) => conflicts.wait(self, error).await.map_err(self.error(SETTLE))?,
            }
        };
        let (answers, decided) = settled;
        for decided in decided {
            self.follow_up(&decided).await.map_err(self.error(SETTLE))?;
        }
        Ok(answers)
    }
}

impl MongoOutbox {
    /// Whether anything is to be delivered, now or later.
    async fn has_open(&self) -> Result<bool, DriverError> {
        let open = doc! { "status": { "$in": [PENDING, SCHEDULED, PARKED] } };
        let find = self.events.find_one(open);
        Ok(find.projection(doc! { "_id": 1 }).hint(keys(FIFO_KEYS)).await?.is_some())
    }

    async fn claim_some(&self, claim: &Claim) -> Result<Vec<Leased>, DriverError> {
        let mut conflicts = Conflicts::new();
        let mut effort = Effort::new(claim);
        let mut in_vain = 0;
        for _ in 0..MAX_STEPS {
            let mut has_lock = false;
            let step = async {
                // Those of this process wait here, rather than to look in vain.
                let mut turn = self.turn.lock().await;
                effort.begin(claim, &self.seen.passed);
                let lock = if in_vain < FREE_LOOKS {
                    Lock::Free(&mut turn)
                } else {
                    let held = self.hold(&mut turn).await?;
                    has_lock = true;
                    Lock::Held(held)
                };
                self.claim_once(lock, claim, &effort).await
            };
            match step.await {
                Ok(Step::Leased(leased)) => return Ok(leased),
                // What puts much in order lets others in between.
                Ok(Step::Again) => in_vain = 0,
                Ok(Step::Parked) => (in_vain, effort.has_parked) = (0, true),
                Ok(Step::InFront) => effort.is_in_front = true,
                Ok(Step::Outrun) => in_vain += 1,
                Ok(Step::Undecodable) => effort.look = look_further(effort.look),
                Err(error) => {
                    conflicts.wait(self, error).await?;
                    // Whose look takes so long that others end it looks as before again: else two would end each other's.
                    in_vain = if has_lock { 0 } else { in_vain + 1 };
                }
            }
        }
        Ok(Vec::new())
    }

    /// Makes delivered what is leased or parked of these, which then is leased no more, and no key waits for it.
    pub(crate) async fn deliver_waited_for(
        &self,
        ids: &[String],
        leased: &[&String],
    ) -> Result<(), DriverError> {
        let mut conflicts = Conflicts::new();
        loop {
            let delivered = async {
                let mut turn = self.turn.lock().await;
                let mut held = self.hold(&mut turn).await?;
                let delivered = self.deliver_once(&mut held, ids, leased).await;
                held.end(delivered).await
            };
            match delivered.await {
                Ok(()) => return Ok(()),
                Err(error) => conflicts.wait(self, error).await?,
            }
        }
    }
}

/// Conflicts of one call with other transactions, which the call may just try again; nothing until there is one.
pub(crate) struct Conflicts(Option<Waits>);

struct Waits {
    /// Since the first conflict: before it, the call may have waited for its turn.
    since: Instant,
    pauses: ExponentialBackoff,
    /// When one that stalls is looked for.
    looks: Interval,
}

impl Waits {
    fn new() -> Self {
        let pauses = ExponentialBuilder::new().with_min_delay(PAUSE.0).with_max_delay(PAUSE.1);
        let pauses = pauses.with_jitter().without_max_times().build();
        Self { since: Instant::now(), pauses, looks: stalled::looks() }
    }
}

impl Conflicts {
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// Waits a little after a conflict; any other error is returned, and so is the one that exhausts the patience.
    pub(crate) async fn wait(&mut self, outbox: &MongoOutbox, error: DriverError) -> Result<(), DriverError> {
        let waits = self.0.get_or_insert_with(Waits::new);
        if error::kind(&error) != ErrorKind::Conflict || waits.since.elapsed() >= PATIENCE {
            return Err(error);
        }
        let pause = waits.pauses.next().unwrap_or(PAUSE.1);
        tokio::select! {
            // Who may not do it waits until the server does it by itself.
            _ = waits.looks.tick() => drop(outbox.end_stalled().await),
            () = sleep(pause) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime = DateTime::from_millis(1_700_000_000_000);

    fn millis_after(millis: i64) -> DateTime {
        DateTime::from_millis(NOW.timestamp_millis() + millis)
    }

    #[test]
    fn a_time_between_two_milliseconds_is_the_later_one_and_the_longest_can_be_written() {
        for (by, millis) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(2), 2),
            (Duration::from_micros(2001), 3),
        ] {
            assert_eq!(later(NOW, by), millis_after(millis), "{by:?}");
        }
        assert_eq!(later(NOW, Duration::MAX), later(NOW, LONGEST));
        assert_eq!(
            end(NOW, Duration::ZERO),
            millis_after(1),
            "a lease of nothing is over at once, and was there"
        );
    }

    #[test]
    fn a_key_is_ready_from_the_millisecond_on_for_which_it_waits() {
        assert!(is_ready(NOW, NOW));
        assert!(is_ready(millis_after(-1), NOW));
        assert!(!is_ready(millis_after(1), NOW));
    }

    #[test]
    fn no_wait_is_so_long_that_the_key_is_taken_for_held() {
        assert!(is_held(NEVER));
        assert!(!is_held(later(NOW, Duration::MAX)));
        // Nor is one of a clock that is at the end of its time.
        assert!(!is_held(FAR) && is_held(later(FAR, Duration::from_millis(1))));
    }

    #[tokio::test]
    async fn pauses_after_conflicts_grow_to_a_bound() {
        let pauses: Vec<Duration> = Waits::new().pauses.take(500).collect();
        assert!(pauses[0] <= 2 * PAUSE.0, "{:?}", pauses[0]);
        let late = &pauses[20..];
        assert!(
            late.len() == 480 && late.iter().all(|pause| (PAUSE.1..=2 * PAUSE.1).contains(pause)),
            "{late:?}"
        );
    }
}
