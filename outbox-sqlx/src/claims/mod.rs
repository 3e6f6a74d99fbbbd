//! Claims: leases in lists, and busy keys parked.
//!
//! A claim writes one row, whatever it leases: its token and the list of its events and their keys. It reads that
//! of others first, walks the pending events in order and steps over those whose keys are busy. Where it steps
//! over many they are parked: taken out of the order, so that no claim meets them again, and put into that of
//! their key, which a row of its own says when to look at. What waits for a retry is parked likewise.
//!
//! Claims, renewals and settlements of one outbox wait for one another, by a lock that saves never touch, and so
//! all is decided here and in one place, on what no other changes meanwhile. The events themselves are read and decoded
//! after the lock, under the lease.
//!
//! What keeps the order of a key: as long as it has a row, its events are handed out from the parked ones. What of it comes
//! back among the pending ones is handed out in its place with them, if the key is ready, and parked by the claim that meets
//! it otherwise.

mod choose;
mod dead;
mod pending;
mod settle;
pub(crate) mod sql;
mod state;
mod stretch;
mod take;

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use outbox_traits::{Claim, ClaimStore, ErrorKind, Lease, Leased, Result, Settlement, async_trait};
use sqlx::Transaction;
use tokio::sync::MutexGuard;

pub(crate) use self::stretch::Stretches;
use self::take::Step;
use crate::{SqlxOutbox, dialect::Dialect, error};

const CLAIM: &str = "claim events from";
const RENEW: &str = "renew leases in";
const SETTLE: &str = "settle leases in";

/// Ids or keys in one statement: fewer than make MariaDB turn the list into a table, and search the other one for
/// each of its rows.
pub(crate) const CHUNK: usize = 500;
/// How often a transaction that was in conflict with another is tried again, and after which delays: those that met are
/// not to meet again.
const TRIES: usize = 5;
const DELAYS: ExponentialBuilder =
    ExponentialBuilder::new().with_min_delay(Duration::from_millis(5)).with_max_times(TRIES).with_jitter();
/// For how long at most. A conflict may be one that the engine has waited for, for most of a minute.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many transactions one claim may take to get past events of busy keys, each of which parks some.
const MAX_STEPS: usize = 10_000;
/// No lease and no wait is longer, of a hundred years: the engines can count it.
const LONGEST: Duration = Duration::from_hours(876_000);

/// When the retry of a dead letter that holds its key is due: never, some 250 years after [`FAR`]. It is parked, and so its key
/// waits for it.
const NEVER: i64 = 229_729_392_000_000_000;
/// The year 9000: what is due later is never due, and no retry is.
const FAR: i64 = 221_845_392_000_000_000;

/// In microseconds, rounded up to a whole millisecond, which all engines keep exactly, and what they can count.
fn micros(length: Duration) -> i64 {
    i64::try_from(length.min(LONGEST).as_nanos().div_ceil(1_000_000) * 1000).unwrap_or(i64::MAX)
}

#[async_trait]
impl<DB: Dialect> ClaimStore for SqlxOutbox<DB> {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Leased>> {
        if claim.limit == 0 {
            return Ok(Vec::new());
        }
        let mut conflicts = Conflicts::new();
        for _ in 0..MAX_STEPS {
            match self.claim_once(claim).await {
                Ok(Step::Done(leased)) => return Ok(leased),
                Ok(Step::Again) => {}
                Ok(Step::Promote) => self.promote().await.map_err(self.error(CLAIM))?,
                Err(error) => conflicts.wait::<DB>(error).await.map_err(self.error(CLAIM))?,
            }
        }
        Ok(Vec::new())
    }

    async fn renew(&self, leases: &[Lease], length: Duration) -> Result<Vec<Result<()>>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut conflicts = Conflicts::new();
        loop {
            match self.renew_once(leases, length).await {
                Ok(answers) => return Ok(answers),
                Err(error) => conflicts.wait::<DB>(error).await.map_err(self.error(RENEW))?,
            }
        }
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Result<()>>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        let (mut conflicts, mut each) = (Conflicts::new(), false);
        loop {
            match self.settle_once(settlements, each).await {
                Ok(Some(answers)) => return Ok(answers),
                Ok(None) => each = true,
                Err(error) => conflicts.wait::<DB>(error).await.map_err(self.error(SETTLE))?,
            }
        }
    }
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// Waits for the others of this handle, where the engine has those who wait for its lock sleep for longer and longer.
    async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if DB::WAITS_ASLEEP { Some(self.turn.lock().await) } else { None }
    }

    async fn begin_claim(&self) -> sqlx::Result<Transaction<'static, DB>> {
        self.begin(DB::BEGIN_CLAIM).await
    }

    /// Runs statements in as few messages as may be.
    async fn run(&self, connection: &mut DB::Connection, statements: Vec<String>) -> sqlx::Result<()> {
        for message in messages(statements) {
            DB::execute(connection, message).await?;
        }
        Ok(())
    }
}

/// A server closes the connection on a message that is too long: MariaDB on one of 16 MiB, if not told otherwise. This is four.
const MAX_MESSAGE_BYTES: usize = 4_194_304;

/// Joins statements, in their order.
fn messages(statements: Vec<String>) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for statement in statements {
        match messages.last_mut() {
            Some(last) if last.len() + statement.len() <= MAX_MESSAGE_BYTES => {
                last.push_str("; ");
                last.push_str(&statement);
            }
            _ => messages.push(statement),
        }
    }
    messages
}

/// Conflicts of one call with other transactions, such as a deadlock, which the call may just try again.
pub(crate) struct Conflicts {
    first: Option<Instant>,
    delays: ExponentialBackoff,
}

impl Conflicts {
    pub(crate) fn new() -> Self {
        Self { first: None, delays: DELAYS.build() }
    }

    /// Waits a little after a conflict; any other error is returned, and so is one conflict too many.
    pub(crate) async fn wait<DB: Dialect>(&mut self, error: sqlx::Error) -> sqlx::Result<()> {
        if error::kind::<DB>(&error) != ErrorKind::Conflict {
            return Err(error);
        }
        let Some(delay) = self.delay(Instant::now()) else { return Err(error) };
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// How long to wait after a conflict at this time; none if it was one too many, or the first was too long ago.
    fn delay(&mut self, now: Instant) -> Option<Duration> {
        PATIENCE.checked_sub(now - *self.first.get_or_insert(now))?;
        self.delays.next()
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use outbox_traits::SchemaStore;
    use sqlx::{
        ConnectOptions, Sqlite,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    };

    use super::*;

    #[test]
    fn conflicts_are_borne_a_few_times_or_for_a_while_whichever_is_over_first() {
        let start = Instant::now();
        let mut many = Conflicts::new();
        let delays: Vec<Duration> = std::iter::from_fn(|| many.delay(start)).take(2 * TRIES).collect();
        assert_eq!(delays.len(), TRIES);
        let mut long = Conflicts::new();
        for (after, is_borne) in [(0, true), (1, true), (5000, true), (5001, false), (60_000, false)] {
            let delay = long.delay(start + Duration::from_millis(after));
            assert_eq!(delay.is_some(), is_borne, "after {after} ms");
        }
    }

    /// Or else each would sleep for longer and longer while others go on.
    #[tokio::test]
    async fn claims_through_one_handle_and_its_clones_take_turns_on_sqlite() {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let store = SqlxOutbox::<Sqlite>::new(pool);
        let other = store.clone().with_table("other").unwrap();
        store.migrate().await.unwrap();
        other.migrate().await.unwrap();
        let turn = store.turn.lock().await;
        let (clone, claim) = (store.clone(), Claim::new("worker"));
        let mut waiting = std::pin::pin!(clone.claim(&claim));
        let a_while = tokio::time::timeout(Duration::from_millis(200), waiting.as_mut()).await;
        assert!(a_while.is_err(), "it is another's turn");
        let others = tokio::time::timeout(Duration::from_secs(60), other.claim(&claim)).await;
        assert!(others.expect("another outbox has turns of its own").unwrap().is_empty());
        drop(turn);
        assert!(waiting.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_conflict_is_waited_for_a_few_times_and_another_error_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(directory.path().join("file.db"));
        let options = options.create_if_missing(true).busy_timeout(Duration::ZERO);
        let mut holder = options.connect().await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
        let mut other = options.connect().await.unwrap();
        let mut busy = async || sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap_err();

        let mut conflicts = Conflicts::new();
        for _ in 0..TRIES {
            conflicts.wait::<Sqlite>(busy().await).await.unwrap();
        }
        assert_eq!(error::kind::<Sqlite>(&busy().await), ErrorKind::Conflict);
        conflicts.wait::<Sqlite>(busy().await).await.unwrap_err();
        Conflicts::new().wait::<Sqlite>(sqlx::Error::RowNotFound).await.unwrap_err();
    }
}
