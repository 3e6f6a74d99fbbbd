//! What the suite must be told about a store.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use outbox_traits::{ErrorKind, Event, EventId, InboxStore, OutboxStore, Result, Retention, async_trait};
use serde_json::Value;

/// The session of a harness's store.
pub type SessionOf<H> = <<H as Harness>::Store as OutboxStore>::Session;

/// Why a store cannot be tested here, and how it could be.
#[derive(Clone, Debug)]
pub struct Skip(String);

impl Skip {
    /// For this reason; say also what to set or to start.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fresh, isolated store for one test, and what the suite does beside it.
///
/// All but [`open`](Self::open) are free to panic: that fails the test.
#[async_trait]
pub trait Harness: Sized + Send + Sync + 'static {
    /// The store under test.
    type Store: OutboxStore;
    /// An open transaction; dropped, it is rolled back.
    type Transaction: Send;

    /// A fresh store that shares no data with any other: a database, schema, table or file of its own.
    async fn open() -> std::result::Result<Self, Skip>;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// What the store does with delivered events. A store that can do both has a harness for each, or one that is
    /// generic.
    fn retention(&self) -> Retention {
        Retention::UntilPurged
    }

    /// Opens a transaction that is about to write.
    async fn begin(&self) -> Self::Transaction;

    /// The session of a transaction.
    fn session<'a>(&self, transaction: &'a mut Self::Transaction) -> &'a mut SessionOf<Self>;

    /// Commits.
    async fn commit(&self, transaction: Self::Transaction);

    /// Commits, on an engine that finds only then whether a concurrent transaction was in the way: where it was, nothing is
    /// committed, and the error is of the kind [`Conflict`](ErrorKind::Conflict). Where many write at once the suite then begins
    /// anew, as an application does. Unless told otherwise, it is [`commit`](Self::commit), which panics.
    async fn try_commit(&self, transaction: Self::Transaction) -> Result<()> {
        self.commit(transaction).await;
        Ok(())
    }

    /// Rolls back.
    async fn rollback(&self, transaction: Self::Transaction);

    /// Writes a business row in the session.
    async fn write_row(&self, key: &str, session: &mut SessionOf<Self>);

    /// The keys of all committed business rows, in any order.
    async fn rows(&self) -> Vec<String>;

    /// Writes a row into the outbox, at its end, that cannot be decoded as an event.
    async fn insert_undecodable(&self, id: EventId);

    /// A piece of what [`insert_undecodable`](Self::insert_undecodable) writes, which the dead letter must show. Unless told
    /// otherwise, nothing in particular.
    fn undecodable_content(&self) -> &'static str {
        ""
    }

    /// Writes a row that nobody who keeps to the schema would write, at the end of the outbox: one without an id, one that is as
    /// large as there is room for, one that is no text. Each such way has a number, from zero on; it says whether there is one of
    /// this number. Unless told otherwise, there is none.
    async fn insert_unreadable(&self, _way: usize) -> bool {
        false
    }

    /// The time by the store's clock. That of this machine, unless told otherwise.
    async fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// Lets time pass for the store, up to days at once: with a clock that the test moves or, where the clock is
    /// the server's, by moving all times that the store has written back by so much, which comes to the same.
    async fn advance(&self, by: Duration);

    /// Removes what [`open`](Self::open) made on a server. Called when the test passed.
    async fn close(&self) {}
}

/// A harness whose store outlives the process.
#[async_trait]
pub trait DurableHarness: Harness {
    /// Where the store is, for [`reopen`](Self::reopen).
    fn location(&self) -> String;

    /// Opens an existing store, perhaps in another process. The suite drops what it opened here before it opens
    /// the next; what [`open`](Harness::open) gave lives on, and is not used meanwhile: a harness of an engine
    /// that lets one in at a time opens its store at the first use.
    async fn reopen(location: &str) -> Self;
}

/// A harness whose store has a schema.
#[async_trait]
pub trait SchemaHarness: Harness {
    /// A store of the same database, of another name, which was never migrated. Each call takes another name
    /// if `name` differs.
    fn unmigrated(&self, name: &str) -> Self::Store;

    /// A store over a server, a database or connections that cannot keep what the store promises, and a word for why not; none
    /// after the last of the ways in which that can be.
    async fn unfit(&self, _way: usize) -> Option<(Self::Store, &'static str)> {
        None
    }
}

/// A harness whose store wakes those who listen.
#[async_trait]
pub trait WakeHarness: Harness {
    /// Another handle on the same outbox, as another process would open it, where the engine lets several in.
    async fn peer(&self) -> Self::Store;

    /// Cuts the connections over which somebody listens, as a network or a server would. An embedded engine has
    /// none.
    async fn cut_connections(&self);
}

/// A harness with an inbox beside the outbox.
#[async_trait]
pub trait InboxHarness: Harness {
    /// The inbox under test. Its clock is that of the store, so that [`advance`](Harness::advance) moves it too.
    type Inbox: InboxStore<Session = SessionOf<Self>>;

    /// The inbox, which is empty at first.
    fn inbox(&self) -> &Self::Inbox;
}

/// A harness whose engine counts what it reads.
#[async_trait]
pub trait CostHarness: Harness {
    /// How many rows, documents or entries of indexes the engine has read for this store so far, or how many steps its
    /// machine has taken: through every connection, but not for other tests, nor to answer this.
    async fn reads(&self) -> u64;

    /// Lets the engine do what it does in its own time, such as to clean up behind what was deleted.
    async fn rest(&self) {}
}

/// A harness whose store reaches its engine over a network.
#[async_trait]
pub trait OutageHarness: Harness {
    /// Where the server listens, as `host:port`.
    async fn server(&self) -> String;

    /// Opens the same outbox once more, as another process would, by connections that all go to this port of 127.0.0.1, where
    /// the suite has put a [`Proxy`](crate::Proxy) to the server. What cannot be reached should be given up within some
    /// seconds. Of what this gives, the suite uses the store and its transactions, which may panic where the way is
    /// cut.
    async fn through(&self, port: u16) -> Self;
}

/// A harness whose outboxes have names that the user chooses.
#[async_trait]
pub trait NamesHarness: SchemaHarness {
    /// The outbox of this name in the same database, with the settings of [`store`](Harness::store), as a user asks for it.
    fn named(&self, name: &str) -> Result<Self::Store>;

    /// Whether the engine has room for an outbox of this name. A name that it has no room for must be refused.
    fn has_room_for(&self, name: &str) -> bool;

    /// How the names of further tables or collections end that an outbox has beside the one of its name.
    fn endings(&self) -> &'static [&'static str];

    /// Makes what is neither an outbox nor an inbox, one of each kind that could be in the way, and says their names.
    async fn make_others(&self) -> Vec<String>;

    /// Takes parts away from the outbox of this name, such as an index and a column, and says their names.
    async fn take_parts_away(&self, name: &str) -> Vec<String>;

    /// What an outbox says its name is. Where it does not say it, nothing is asked.
    fn name_of(&self, _store: &Self::Store) -> Option<String> {
        None
    }

    /// Spoils the outbox of this name so that a migration may have no way to put it right, as by another index of the name of
    /// one of its own, and gives a word that whoever reads the error must find, of what is to be done. Each such way has a
    /// number, from zero on. Unless told otherwise, there is none.
    async fn spoil(&self, _name: &str, _way: usize) -> Option<&'static str> {
        None
    }

    /// Writes down that the outbox of this name is of a newer version of the library. Where the engine keeps no versions, it
    /// says no, and nothing is asked.
    async fn make_newer(&self, name: &str) -> bool;
}

/// A harness whose inboxes have names too.
#[async_trait]
pub trait InboxNamesHarness: NamesHarness + InboxHarness {
    /// The inbox of this name in the same database, as a user asks for it. There is room for the same names.
    fn inbox_named(&self, name: &str) -> Result<Self::Inbox>;

    /// What an inbox says its name is, where it does.
    fn name_of_inbox(&self, _inbox: &Self::Inbox) -> Option<String> {
        None
    }

    /// Takes parts away from the inbox of this name, such as an index, and says their names.
    async fn take_inbox_parts_away(&self, name: &str) -> Vec<String>;
}

/// A harness whose outboxes can be made without `migrate` too.
#[async_trait]
pub trait MigrationHarness: NamesHarness {
    /// Makes the outbox of this name, in the same database, by the plain SQL that is published for that, as a migration tool
    /// would, or as a program in another language would. Made again, it stays as it is.
    async fn make_by_hand(&self, name: &str);
}

/// A harness whose inboxes can be made so too.
#[async_trait]
pub trait InboxMigrationHarness: MigrationHarness + InboxNamesHarness {
    /// Makes the inbox of this name.
    async fn make_inbox_by_hand(&self, name: &str);
}

/// A harness whose engine can delete by itself what is old enough: delivered events, and marks of the inbox.
#[async_trait]
pub trait ExpiryHarness: SchemaHarness + InboxHarness {
    /// The outbox of this harness, and the inbox, of which the engine is to delete what was delivered or marked so long ago, or
    /// nothing. It is told so by the next `migrate` of either.
    fn expiring(&self, after: Option<Duration>) -> (Self::Store, Self::Inbox);

    /// The same of an outbox and an inbox of the same database and of another name, which they are given after the time.
    fn expiring_elsewhere(&self, after: Option<Duration>, name: &str) -> (Self::Store, Self::Inbox);

    /// What the engine was told of the outbox, and of the inbox.
    async fn told(&self) -> (Option<Duration>, Option<Duration>);

    /// Has the engine delete what is old enough now, and waits until it has.
    async fn expire(&self);
}

/// A harness whose outbox is shared with programs that do without this library, as those in another language do, and know no
/// more than the shape of its rows, which is published.
#[async_trait]
pub trait ElsewhereHarness: Harness {
    /// Writes this event, of which no more than type, payload, id and timestamp are set, as such a program does: pending, made
    /// at its timestamp, and numbers as its language has them.
    async fn write_elsewhere(&self, event: &Event);

    /// Writes this event as such a program does whose language has kinds of values that JSON has no words for: with a payload of
    /// them, in the place of its own. Returns what that is in the JSON which the language makes of it; none if there are no
    /// such kinds.
    async fn write_kinds_elsewhere(&self, event: &Event) -> Option<Value>;

    /// Writes this event as such a program does that fills in what is no part of the published shape, in its own way: nulls, texts in
    /// the place of numbers and times, other kinds of numbers. Each way has a number, from zero on; there is none where a field
    /// takes only what the store itself would write.
    async fn write_filled_elsewhere(&self, event: &Event, way: usize) -> Option<Filled>;

    /// Says of an event, as such a program does, that it is delivered now.
    async fn deliver_elsewhere(&self, id: EventId);

    /// What such a program reads of an event that is pending: an object with `type`, `payload` and `meta`. There is room for a text of
    /// 8 MB in the payload.
    async fn read_elsewhere(&self, id: EventId) -> Option<Value>;

    /// Writes an event that such a program has given up on: a dead letter from the first. Each way to write one, by what it says
    /// of itself and has room for, has a number, from zero on; there is none after the last of them.
    async fn write_dead_elsewhere(&self, event: &Event, way: usize) -> Option<WrittenDead>;
}

/// What an event says of its attempts that another program has written. What could be no such number or time says of none.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "a harness makes it")]
pub struct Filled {
    /// How many were started.
    pub attempts: u32,
    /// How many failed.
    pub failures: u32,
    /// When the first did, where it says so.
    pub first_failed_at: Option<DateTime<Utc>>,
}

/// What a dead letter says that another program has written.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "a harness makes it")]
pub struct WrittenDead {
    /// When it died, where it says so, or the time that the store shows in the place of none. Where there is neither, it is the time
    /// when it was first asked for, if it can be read.
    pub dead_at: Option<DateTime<Utc>>,
    /// Whether it is the event that was meant. Otherwise it is shown by its raw content, as where it is too large, or has no
    /// id that could be its own.
    pub is_readable: bool,
}

/// A harness whose store keeps more than its events, of which a part can be lost, as where somebody has dropped a table.
#[async_trait]
pub trait LossHarness: WakeHarness {
    /// Loses a part of what the store keeps beside its events, and `migrate` can put back. Each such way has a number, from zero on,
    /// and there is one at least. What `verify` and a claim say of it names `migrate`.
    async fn lose(&self, way: usize) -> Option<Loss>;
}

/// What a loss means.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs, reason = "a harness makes it")]
pub struct Loss {
    /// The name of what is lost, which `verify` says.
    pub name: &'static str,
    /// A claim by a handle that is new refuses to go on; otherwise it may.
    pub is_seen_by_claims: bool,
    /// What waits for a retry, and what a dead letter holds, is known without what is lost. Otherwise it may wait no more.
    pub keeps_what_waits: bool,
}

/// A harness whose engine can be made to refuse events, as by what somebody has added to its schema.
#[async_trait]
pub trait RefusalHarness: Harness {
    /// Has the engine refuse each event of this type, by a constraint, a validation or a trigger.
    async fn refuse(&self, event_type: &str);

    /// Has the engine refuse the second event of this type as a duplicate which is not one of the outbox, as by another unique
    /// index or by one of another table that a trigger writes to. Each way in which that could be taken for a duplicate
    /// of the outbox has a number, from zero on, and takes the place of the one before; it says whether there is
    /// such a way.
    async fn collide(&self, event_type: &str, way: usize) -> bool;
}

/// What an engine can be made to answer instead of doing something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    name: String,
    kind: ErrorKind,
    is_of_sessions: bool,
    is_everywhere: bool,
    is_asked_again: bool,
}

impl Fault {
    /// By the name or the code that the engine has for it, and as an error of this kind to those who call the store.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: ErrorKind) -> Self {
        Self { name: name.into(), kind, is_of_sessions: true, is_everywhere: true, is_asked_again: false }
    }

    /// It is never met in an open session, as where that keeps out whoever could be in its way.
    #[must_use]
    pub fn outside_sessions(mut self) -> Self {
        self.is_of_sessions = false;
        self
    }

    /// It is not met by all that writes, as where the engine tries again by itself.
    #[must_use]
    pub fn at_some_places(mut self) -> Self {
        self.is_everywhere = false;
        self
    }

    /// It leaves unknown whether something was done, and the store under test asks again by itself: twice in any case, where it
    /// claims, renews, settles, and sees to dead letters.
    #[must_use]
    pub fn asked_again(mut self) -> Self {
        self.is_asked_again = true;
        self
    }

    /// By what the harness knows it again.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind of error that it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether all that writes can meet it.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.is_everywhere
    }

    /// Whether the store asks again by itself where it is met.
    #[must_use]
    pub fn is_asked_again(&self) -> bool {
        self.is_asked_again
    }

    /// Whether it can be met in an open session.
    #[must_use]
    pub fn is_of_sessions(&self) -> bool {
        self.is_of_sessions
    }
}

/// A harness whose engine can be made to answer with errors that it has at times, such as a deadlock or a full disk.
#[async_trait]
pub trait FaultHarness: Harness {
    /// The faults that it can be made to have: all that the store tells apart by their codes, and some that it does not. The
    /// first one of each kind that is met everywhere is tried with every call, and the others with some.
    fn faults(&self) -> Vec<Fault>;

    /// From now on has the engine answer with this fault what writes into the outbox, or into the inbox where there is one, so
    /// many times, through whatever connection and in whatever session; then, or if that is 0, no more. Each time nothing
    /// of that statement is done. What only reads passes, and so do business rows; a statement that finds nothing to
    /// change may do either. [`u32::MAX`] times are without an end. Before the suite opens a session in which it wants a
    /// fault, it has called this with 0, so that what that takes can be made then, such as triggers. A fault that cannot be
    /// counted, such as a lock that somebody holds, passes after a time in which a store that tries again has met it about
    /// so often.
    async fn fail(&self, fault: &Fault, times: u32);
}
