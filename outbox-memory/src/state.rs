//! The rows and their indexes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use outbox_traits::{
    DeadLetter, Error, ErrorKind, Event, EventId, Lease, MAX_REASON_CHARS, Result, Retention, Saved, Stats,
};
use uuid::Uuid;

use crate::{inbox::Marks, keys::Keys};

/// Names one open session among all.
pub(crate) type SessionId = u64;

/// What a row holds: an event, or the content of a row that cannot be decoded.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Event(Box<Event>),
    Undecodable { id: EventId, event_type: String, raw: String },
}

impl Content {
    pub(crate) fn id(&self) -> EventId {
        match self {
            Self::Event(event) => event.id(),
            Self::Undecodable { id, .. } => *id,
        }
    }

    pub(crate) fn event_type(&self) -> &str {
        match self {
            Self::Event(event) => event.event_type(),
            Self::Undecodable { event_type, .. } => event_type,
        }
    }

    fn idempotency_key(&self) -> Option<&str> {
        match self {
            Self::Event(event) => event.meta().idempotency_key.as_deref(),
            Self::Undecodable { .. } => None,
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Event(event) => event.partition_key(),
            Self::Undecodable { .. } => None,
        }
    }

    fn not_before(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Event(event) => event.not_before(),
            Self::Undecodable { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Status {
    Pending,
    /// Pending, and hidden until then.
    Scheduled(DateTime<Utc>),
    /// Under a token, until then.
    Leased(Uuid, DateTime<Utc>),
    /// It failed, and is tried again from then on.
    Waiting(DateTime<Utc>),
    Delivered(DateTime<Utc>),
    Dead {
        at: DateTime<Utc>,
        holds_key: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) content: Content,
    status: Status,
    saved_at: DateTime<Utc>,
    /// The last time that it is to be delivered from.
    due_at: DateTime<Utc>,
    pub(crate) attempts: u32,
    pub(crate) failures: u32,
    first_failed_at: Option<DateTime<Utc>>,
    last_failed_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
}

impl Row {
    fn new(content: Content, status: Status, saved_at: DateTime<Utc>) -> Self {
        Self {
            status,
            saved_at,
            due_at: due_at(&content, saved_at),
            content,
            attempts: 0,
            failures: 0,
            first_failed_at: None,
            last_failed_at: None,
            last_error: None,
        }
    }
}

/// Where an id or a key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Row,
    Session(SessionId),
}

/// All rows by sequence number, and an index for each question that is asked of them.
#[derive(Debug, Default)]
pub(crate) struct State {
    last_seq: u64,
    last_session: SessionId,
    pub(crate) rows: BTreeMap<u64, Row>,
    seq_of: HashMap<EventId, u64>,
    ids: HashMap<EventId, Holder>,
    keys: HashMap<String, Holder>,
    /// Due, and neither leased nor waiting.
    pub(crate) pending: BTreeSet<u64>,
    /// What can be claimed of it, by partition key.
    pub(crate) claimable: Keys,
    scheduled: BTreeSet<(DateTime<Utc>, u64)>,
    leased: BTreeSet<(DateTime<Utc>, u64)>,
    waiting: BTreeSet<(DateTime<Utc>, u64)>,
    delivered: BTreeSet<(DateTime<Utc>, u64)>,
    dead: BTreeSet<u64>,
    /// What consumers have processed.
    pub(crate) marks: Marks,
}

impl State {
    pub(crate) fn open_session(&mut self) -> SessionId {
        self.last_session += 1;
        self.last_session
    }

    /// Takes the event's id and key for a session, so that no other can save them before it ends.
    pub(crate) fn reserve(&mut self, event: &Event, session: SessionId) -> Result<Saved> {
        let key = event.meta().idempotency_key.as_ref();
        let holders = [self.ids.get(&event.id()), key.and_then(|key| self.keys.get(key))];
        let own = Holder::Session(session);
        if holders.iter().flatten().any(|holder| **holder == Holder::Row || **holder == own) {
            return Ok(Saved::Duplicate);
        }
        if holders.iter().any(Option::is_some) {
            // A data base would wait here for the other session to end, which might be waiting for this one.
            let message =
                "another open session has saved this id or idempotency key: try again when it ended";
            return Err(Error::new(ErrorKind::Conflict, message).with_event(event.id()));
        }
        self.ids.insert(event.id(), own);
        if let Some(key) = key {
            self.keys.insert(key.clone(), own);
        }
        Ok(Saved::Stored)
    }

    /// Gives back what a session that was not committed had taken.
    pub(crate) fn release(&mut self, event: &Event) {
        self.ids.remove(&event.id());
        if let Some(key) = &event.meta().idempotency_key {
            self.keys.remove(key);
        }
    }

    /// Whether there is an event of this id, or will be if a session commits.
    pub(crate) fn has_id(&self, id: EventId) -> bool {
        self.ids.contains_key(&id)
    }

    /// Adds a row at the end; its id and key are free or reserved for it.
    pub(crate) fn insert(&mut self, content: Content, now: DateTime<Utc>) {
        self.last_seq += 1;
        let seq = self.last_seq;
        self.ids.insert(content.id(), Holder::Row);
        self.seq_of.insert(content.id(), seq);
        if let Some(key) = content.idempotency_key() {
            self.keys.insert(key.to_owned(), Holder::Row);
        }
        let status = open_status(&content);
        self.rows.insert(seq, Row::new(content, status, now));
        self.index(seq, status);
    }

    /// The first events that are due. Rows that cannot be decoded are set aside on the way.
    pub(crate) fn pending(&mut self, limit: usize, now: DateTime<Utc>) -> Vec<Event> {
        self.catch_up(now);
        let mut events = Vec::new();
        let mut undecodable = Vec::new();
        for seq in &self.pending {
            if events.len() == limit {
                break;
            }
            match self.rows.get(seq).map(|row| &row.content) {
                Some(Content::Event(event)) => events.push(Event::clone(event)),
                Some(Content::Undecodable { .. }) => undecodable.push(*seq),
                None => {}
            }
        }
        for seq in undecodable {
            self.set_aside(seq, now);
        }
        events
    }

    /// Does what time alone has brought about: leases run out, and hidden and failed events become due.
    pub(crate) fn catch_up(&mut self, now: DateTime<Utc>) {
        while let Some(&(_, seq)) = self.leased.first().filter(|(until, _)| *until <= now) {
            if let Some(row) = self.rows.get_mut(&seq) {
                row.attempts += 1;
            }
            self.set_status(seq, Status::Pending);
        }
        while let Some(&(_, seq)) = self.scheduled.first().filter(|(due, _)| *due <= now) {
            self.set_status(seq, Status::Pending);
        }
        while let Some(&(due, seq)) = self.waiting.first().filter(|(due, _)| *due <= now) {
            if let Some(row) = self.rows.get_mut(&seq) {
                row.due_at = due;
            }
            self.set_status(seq, Status::Pending);
        }
    }

    /// Makes a row that cannot be decoded a dead letter.
    pub(crate) fn set_aside(&mut self, seq: u64, now: DateTime<Utc>) {
        self.set_status(seq, Status::Dead { at: now, holds_key: false });
        if let Some(row) = self.rows.get_mut(&seq) {
            row.last_error = Some("the stored content cannot be read as an event".to_owned());
        }
    }

    pub(crate) fn lease(&mut self, seq: u64, token: Uuid, until: DateTime<Utc>) {
        self.set_status(seq, Status::Leased(token, until));
    }

    /// The row of a lease that is held.
    pub(crate) fn held(&self, lease: &Lease, now: DateTime<Utc>) -> Option<u64> {
        let seq = *self.seq_of.get(&lease.event())?;
        match self.rows.get(&seq)?.status {
            Status::Leased(token, until) if token == lease.token() && until > now => Some(seq),
            _ => None,
        }
    }

    /// An attempt that failed ends its lease.
    pub(crate) fn end_failed(&mut self, seq: u64, status: Status, error: &str, now: DateTime<Utc>) {
        if let Some(row) = self.rows.get_mut(&seq) {
            row.attempts += 1;
            row.failures += 1;
            row.first_failed_at.get_or_insert(now);
            row.last_failed_at = Some(now);
            row.last_error = Some(error.chars().take(MAX_REASON_CHARS).collect());
        }
        self.set_status(seq, status);
    }

    pub(crate) fn stats(&mut self, now: DateTime<Utc>) -> Stats {
        self.catch_up(now);
        let waiting = self.scheduled.iter().chain(&self.waiting).map(|(_, seq)| seq);
        let open = || self.pending.iter().chain(waiting.clone());
        let oldest = open().chain(self.leased.iter().map(|(_, seq)| seq)).min();
        let mut stats = Stats::default();
        stats.pending = open().count() as u64;
        stats.leased = self.leased.len() as u64;
        stats.delivered = self.delivered.len() as u64;
        stats.dead = self.dead.len() as u64;
        stats.oldest_pending = oldest
            .and_then(|seq| self.rows.get(seq))
            .map(|row| (now - row.saved_at).to_std().unwrap_or_default());
        let due = self.claimable.first().into_iter().chain(self.leased.iter().map(|(_, seq)| *seq));
        stats.oldest_due = due
            .filter_map(|seq| self.rows.get(&seq))
            .map(|row| (now - row.due_at).to_std().unwrap_or_default())
            .max();
        stats
    }

    /// Ends a lease as if it had not been.
    pub(crate) fn release_lease(&mut self, seq: u64) {
        self.set_status(seq, Status::Pending);
    }

    pub(crate) fn acknowledge(&mut self, id: EventId, now: DateTime<Utc>, retention: Retention) {
        let Some(&seq) = self.seq_of.get(&id) else { return };
        let status = self.rows.get(&seq).map(|row| row.status);
        if !matches!(status, None | Some(Status::Delivered(_) | Status::Dead { .. })) {
            self.deliver(seq, now, retention);
        }
    }

    pub(crate) fn deliver(&mut self, seq: u64, now: DateTime<Utc>, retention: Retention) {
        match retention {
            Retention::UntilPurged => self.set_status(seq, Status::Delivered(now)),
            Retention::DeleteOnDelivery => self.remove(seq),
        }
    }

    /// Removes what was delivered at this time or before.
    pub(crate) fn purge(&mut self, until: DateTime<Utc>) -> u64 {
        let mut purged = 0;
        while let Some(&(_, seq)) = self.delivered.first().filter(|(at, _)| *at <= until) {
            self.remove(seq);
            purged += 1;
        }
        purged
    }

    /// Dead rows after a position, oldest first.
    pub(crate) fn dead_after(&self, position: u64) -> impl Iterator<Item = (u64, DeadLetter)> {
        self.dead.range(position.saturating_add(1)..).filter_map(|seq| Some((*seq, self.dead_letter(*seq)?)))
    }

    pub(crate) fn dead_seq(&self, id: EventId) -> Option<u64> {
        self.seq_of.get(&id).copied().filter(|seq| self.dead.contains(seq))
    }

    fn dead_letter(&self, seq: u64) -> Option<DeadLetter> {
        let row = self.rows.get(&seq)?;
        let Status::Dead { at, holds_key } = row.status else { return None };
        let content = match &row.content {
            Content::Event(event) => Ok(Event::clone(event)),
            Content::Undecodable { raw, .. } => Err(raw.clone()),
        };
        let reason = row.last_error.clone().unwrap_or_default();
        let mut letter =
            DeadLetter::new(row.content.id(), row.content.event_type().to_owned(), content, reason, at);
        letter.holds_key = holds_key && row.content.key().is_some();
        letter.attempts = row.attempts;
        letter.failures = row.failures;
        letter.first_failed_at = row.first_failed_at;
        letter.last_failed_at = row.last_failed_at;
        Some(letter)
    }

    pub(crate) fn requeue(&mut self, seq: u64) {
        let Some(row) = self.rows.get_mut(&seq) else { return };
        (row.attempts, row.failures) = (0, 0);
        (row.first_failed_at, row.last_failed_at, row.last_error) = (None, None, None);
        row.due_at = due_at(&row.content, row.saved_at);
        let status = open_status(&row.content);
        self.set_status(seq, status);
    }

    pub(crate) fn remove(&mut self, seq: u64) {
        let Some(status) = self.rows.get(&seq).map(|row| row.status) else { return };
        self.unindex(seq, status);
        let Some(row) = self.rows.remove(&seq) else { return };
        self.seq_of.remove(&row.content.id());
        self.ids.remove(&row.content.id());
        if let Some(key) = row.content.idempotency_key() {
            self.keys.remove(key);
        }
    }

    fn set_status(&mut self, seq: u64, status: Status) {
        let Some(row) = self.rows.get_mut(&seq) else { return };
        let before = std::mem::replace(&mut row.status, status);
        self.unindex(seq, before);
        self.index(seq, status);
    }

    fn index(&mut self, seq: u64, status: Status) {
        let key = self.rows.get(&seq).and_then(|row| row.content.key());
        match status {
            Status::Pending => {
                self.claimable.add(key, seq);
                self.pending.insert(seq)
            }
            Status::Scheduled(due) => self.scheduled.insert((due, seq)),
            Status::Leased(_, until) => {
                self.claimable.block(key);
                self.leased.insert((until, seq))
            }
            Status::Waiting(until) => {
                self.claimable.block(key);
                self.waiting.insert((until, seq))
            }
            Status::Delivered(at) => self.delivered.insert((at, seq)),
            Status::Dead { holds_key, .. } => {
                if holds_key {
                    self.claimable.block(key);
                }
                self.dead.insert(seq)
            }
        };
    }

    fn unindex(&mut self, seq: u64, status: Status) {
        let key = self.rows.get(&seq).and_then(|row| row.content.key());
        match status {
            Status::Pending => {
                self.claimable.remove(key, seq);
                self.pending.remove(&seq)
            }
            Status::Scheduled(due) => self.scheduled.remove(&(due, seq)),
            Status::Leased(_, until) => {
                self.claimable.unblock(key);
                self.leased.remove(&(until, seq))
            }
            Status::Waiting(until) => {
                self.claimable.unblock(key);
                self.waiting.remove(&(until, seq))
            }
            Status::Delivered(at) => self.delivered.remove(&(at, seq)),
            Status::Dead { holds_key, .. } => {
                if holds_key {
                    self.claimable.unblock(key);
                }
                self.dead.remove(&seq)
            }
        };
    }
}

/// When what nobody has tried is to be delivered.
fn due_at(content: &Content, saved_at: DateTime<Utc>) -> DateTime<Utc> {
    content.not_before().map_or(saved_at, |due| due.max(saved_at))
}

/// The status of a row that is yet to be delivered. What is due by now is found to be at the next look.
fn open_status(content: &Content) -> Status {
    content.not_before().map_or(Status::Pending, Status::Scheduled)
}
