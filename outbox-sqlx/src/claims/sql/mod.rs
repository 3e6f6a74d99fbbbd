//! The statements of claims. All engines take them in the same words, but for what [`Engine`] puts in.
//!
//! What stands in them beside literal text is quoted names, numbers, times, and bytes in hexadecimal digits.
//!
//! [`Engine`]: crate::dialect::Engine

mod dead;
mod parked;
mod places;
mod stats;

use std::fmt::Display;

use outbox_traits::EventId;
use uuid::Uuid;

pub(in crate::claims) use self::dead::bury;
pub(in crate::claims) use self::parked::*;
use self::places::{but_for, pending_in};
pub(in crate::claims) use self::stats::leased_since;
pub(crate) use self::{
    dead::{dead_letters, set_aside},
    parked::has_parked,
    stats::{counts, due},
};
use super::{
    CHUNK,
    state::{Key, LeaseRow, Spot},
};
use crate::{
    dialect::{Dialect, Engine},
    names::{KEY, LEASE, Names, PARKED, VERSION},
    row,
};

/// Events that somebody may still deliver, and that a lease may be on.
const OPEN: &str = "('pending', 'parked', 'waiting')";
/// All events that somebody may still deliver.
const UNDELIVERED: &str = "('pending', 'scheduled', 'parked', 'waiting')";

/// What a count has room for on each engine.
const MAX_COUNT: i32 = i32::MAX;

fn list<T>(items: &[T], literal: impl Fn(&T) -> String) -> String {
    items.iter().map(literal).collect::<Vec<_>>().join(", ")
}

/// Numbers as a list.
pub(crate) fn numbers(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

fn ids<DB: Engine>(ids: &[EventId]) -> String {
    list(ids, |id| DB::uuid((*id).into()))
}

/// Waits for whoever claims or settles in this outbox. What follows in the transaction sees what they did.
pub(in crate::claims) fn lock<DB: Dialect>(names: &Names) -> String {
    format!("SELECT version FROM {} WHERE version = 2 {}", names.quoted_part(VERSION), DB::FOR_UPDATE)
}

/// Keeps leases as they are until the transaction ends: all, or those of some tokens.
pub(in crate::claims) fn hold<DB: Dialect>(names: &Names, tokens: Option<&[Uuid]>) -> String {
    format!(
        "SELECT token, {} FROM {} WHERE {} ORDER BY token, leased_until {}",
        DB::micros("leased_until"),
        names.quoted_part(LEASE),
        of_tokens::<DB>("token", tokens),
        DB::FOR_UPDATE
    )
}

/// Keeps leases that ran out as they are, but for those that are just being settled.
pub(in crate::claims) fn hold_expired<DB: Dialect>(names: &Names, now: i64) -> String {
    format!(
        "SELECT token, {} FROM {} WHERE leased_until <= {} {}",
        DB::micros("leased_until"),
        names.quoted_part(LEASE),
        DB::time(now),
        DB::FOR_UPDATE_IF_FREE
    )
}

fn of_tokens<DB: Dialect>(column: &str, tokens: Option<&[Uuid]>) -> String {
    match tokens {
        None => "1 = 1".to_owned(),
        Some([]) => "1 = 0".to_owned(),
        Some(tokens) => format!("{column} IN ({})", list(tokens, |token| DB::uuid(*token))),
    }
}

/// The time, when the first key that has parked events is ready, and the leases: all, or those of some tokens.
pub(in crate::claims) fn state<DB: Dialect>(names: &Names, tokens: Option<&[Uuid]>) -> String {
    let tokens = of_tokens::<DB>("l.token", tokens);
    format!(
        "SELECT {}, ({}), l.token, {}, {}, l.worker, l.entries
        FROM (SELECT 1 AS one) AS x LEFT JOIN {} l ON {tokens}",
        DB::micros(DB::CLOCK),
        first_ready::<DB>(names),
        DB::micros("l.leased_until"),
        DB::micros("l.claimed_at"),
        names.quoted_part(LEASE),
    )
}

/// A row that begins with -1 if there are leases.
pub(crate) fn has_leases<DB: Dialect>(names: &Names) -> String {
    format!("SELECT CAST(-1 AS {}), token FROM {} LIMIT 1", DB::BIGINT, names.quoted_part(LEASE))
}

/// Counts the attempts of leases that ran out.
pub(in crate::claims) fn expire<DB: Dialect>(names: &Names, events: &[Spot]) -> Vec<String> {
    update::<DB>(names, &one_more("attempts"), events)
}

/// Counts one more, as far as the column has room: somebody else may have written the largest number there is, and what failed to
/// count on from that would hold up all others. On SQLite, where it may be no number, nothing is none.
fn one_more(count: &str) -> String {
    format!("{count} = CASE WHEN {count} + 0 >= {MAX_COUNT} THEN {MAX_COUNT} ELSE {count} + 1 END")
}

/// Where leased events are that somebody may still deliver, in parts that one statement each takes: which index it is to
/// go by, and the condition. A pending one is found by its place, which is shorter than an id, and in an index of few.
fn leased<DB: Dialect>(names: &Names, events: &[Spot]) -> Vec<(String, String)> {
    let (parked, pending): (Vec<Spot>, Vec<Spot>) = events.iter().partition(|spot| spot.parked);
    let pending = pending_in::<DB>(&places(&pending)).into_iter();
    let pending = pending.map(|condition| (DB::BY_PLACE.to_owned(), condition));
    let parked = parked.chunks(CHUNK).map(|spots| {
        let ids = list(spots, |spot| DB::uuid(spot.id.into()));
        // Not one of another place, that was saved anew under the same id.
        let places = DB::one_of("seq", &places(spots));
        let condition = format!("id IN ({ids}) AND {places} AND {} IN ('parked', 'waiting')", DB::STATUS);
        (DB::hint(names, "id"), condition)
    });
    pending.chain(parked).collect()
}

fn places(spots: &[Spot]) -> Vec<i64> {
    spots.iter().map(|spot| spot.seq).collect()
}

/// That an event is pending and in one of these places.
fn pending_at<DB: Dialect>(places: &[i64]) -> String {
    format!("{} AND status = 'pending'", DB::one_of("seq", places))
}

fn update<DB: Dialect>(names: &Names, set: &str, events: &[Spot]) -> Vec<String> {
    let table = names.quoted_table();
    let parts = leased::<DB>(names, events).into_iter();
    parts.map(|(index, wanted)| format!("UPDATE {table} {index} SET {set} WHERE {wanted}")).collect()
}

/// Whole events from the front of the order, if nothing is leased and no key has parked events.
pub(in crate::claims) fn front<DB: Dialect>(names: &Names, types: &[String], limit: i64) -> String {
    let exists = |part| format!("EXISTS (SELECT 1 FROM {})", names.quoted_part(part));
    let (leases, keys) = (exists(LEASE), exists(KEY));
    if DB::LIMITS_BY_QUERY {
        let limit = format!("(CASE WHEN {leases} OR {keys} THEN 0 ELSE {limit} END)");
        return first::<DB>(names, types, false, "", limit);
    }
    first::<DB>(names, types, false, &format!("AND NOT {leases} AND NOT {keys}"), limit)
}

/// Whole events from the front of the order, but for leased ones, and whether their keys have parked events, if any has.
pub(in crate::claims) fn beside<DB: Dialect>(
    names: &Names,
    types: &[String],
    has_keys: bool,
    leased: &[i64],
    limit: i64,
) -> String {
    first::<DB>(names, types, has_keys, &but_for::<DB>(leased), limit)
}

fn first<DB: Dialect>(
    names: &Names,
    types: &[String],
    has_keys: bool,
    condition: &str,
    limit: impl Display,
) -> String {
    let key = if has_keys { format!(", {}", key_of(names)) } else { String::new() };
    format!(
        "SELECT {}, attempts, failures, partition_hash {key} FROM {} AS e {}
        WHERE status = 'pending' {} {condition} ORDER BY seq LIMIT {limit}",
        DB::EVENT,
        names.quoted_table(),
        DB::hint(names, "fifo"),
        wanted::<DB>(types),
    )
}

/// Whether the key of an event `e` has parked events.
fn key_of(names: &Names) -> String {
    let keys = names.quoted_part(KEY);
    format!("(SELECT k.partition_hash FROM {keys} AS k WHERE k.partition_hash = e.partition_hash)")
}

/// The condition that an event is of one of these types, where there are any.
pub(in crate::claims) fn wanted<DB: Dialect>(types: &[String]) -> String {
    if types.is_empty() {
        return String::new();
    }
    format!("AND {} IN ({})", DB::TYPE, list(types, |wanted| DB::bytes(wanted.as_bytes())))
}

/// Places of pending events in order, after the first place and up to the second one, without the leased ones and those of
/// some keys, whether their keys have parked events, and whether they are wanted. Where their keys have, also those that are
/// not: they are to be parked in order with the others.
pub(in crate::claims) fn walk<DB: Dialect>(
    names: &Names,
    types: &[String],
    has_keys: bool,
    (after, to): (i64, i64),
    leased: &[i64],
    passed: &[Key],
    limit: i64,
) -> String {
    let passed = if passed.is_empty() {
        String::new()
    } else {
        let keys = list(passed, |key| DB::bytes(key));
        format!("AND partition_hash NOT IN ({keys})")
    };
    let condition = format!("seq > {after} AND seq <= {to} {} {passed}", but_for::<DB>(leased));
    let places = places_of::<DB>(names, types, has_keys, &DB::hint(names, "fifo"), &condition);
    format!("{places} ORDER BY seq LIMIT {limit}")
}

/// The same of what is pending in some places, in no order.
pub(in crate::claims) fn walk_open<DB: Dialect>(
    names: &Names,
    types: &[String],
    has_keys: bool,
    open: &[i64],
    leased: &[i64],
) -> String {
    let condition = format!("{} {}", DB::one_of("seq", open), but_for::<DB>(leased));
    places_of::<DB>(names, types, has_keys, DB::BY_PLACE, &condition)
}

fn places_of<DB: Dialect>(
    names: &Names,
    types: &[String],
    has_keys: bool,
    index: &str,
    condition: &str,
) -> String {
    let key = if has_keys { key_of(names) } else { "NULL".to_owned() };
    let wanted = wanted::<DB>(types);
    let (types, is_wanted) = match wanted.strip_prefix("AND ").filter(|_| has_keys) {
        Some(of_type) => {
            (format!("AND ({of_type} OR {key} IS NOT NULL)"), format!("CASE WHEN {of_type} THEN seq END"))
        }
        None => (wanted, "seq".to_owned()),
    };
    format!(
        "SELECT seq, id, partition_hash, {key} AS keyed, {is_wanted} AS wanted FROM {} AS e {index}
        WHERE status = 'pending' AND {condition} {types}",
        names.quoted_table(),
    )
}

/// The places of pending events of these keys, after the first place and up to the second one.
pub(in crate::claims) fn places_of_keys<DB: Dialect>(
    names: &Names,
    places: (i64, i64),
    of: &[Key],
) -> String {
    format!("SELECT seq, id FROM {} ORDER BY seq", of_keys::<DB>(names, places, of))
}

/// How many there are.
pub(in crate::claims) fn count_of_keys<DB: Dialect>(names: &Names, places: (i64, i64), of: &[Key]) -> String {
    format!("SELECT COUNT(*) FROM {}", of_keys::<DB>(names, places, of))
}

fn of_keys<DB: Dialect>(names: &Names, (after, to): (i64, i64), of: &[Key]) -> String {
    format!(
        "{} {} WHERE status = 'pending' AND seq > {after} AND seq <= {to} AND partition_hash IN ({})",
        names.quoted_table(),
        DB::hint(names, "fifo"),
        list(of, |key| DB::bytes(key)),
    )
}

/// The last pending events, the newest first.
pub(in crate::claims) fn last<DB: Engine>(names: &Names, limit: i64) -> String {
    format!(
        "SELECT seq, id FROM {} {} WHERE status = 'pending' ORDER BY seq DESC LIMIT {limit}",
        names.quoted_table(),
        DB::hint(names, "fifo"),
    )
}

/// The same outside of a transaction.
pub(crate) fn newest<DB: Engine>(names: &Names, limit: i64) -> String {
    DB::ALONE.to_owned() + &last::<DB>(names, limit)
}

/// Which of these events are there.
pub(crate) fn committed<DB: Engine>(names: &Names, events: &[EventId]) -> String {
    format!(
        "{}SELECT seq, id FROM {} {} WHERE id IN ({})",
        DB::ALONE,
        names.quoted_table(),
        DB::hint(names, "id"),
        ids::<DB>(events)
    )
}

/// Whole events by their ids, in no order.
pub(in crate::claims) fn events<DB: Dialect>(names: &Names, events: &[EventId]) -> String {
    let wanted = format!("id IN ({}) AND {} IN {OPEN}", ids::<DB>(events), DB::STATUS);
    whole::<DB>(names, &DB::hint(names, "id"), &wanted)
}

/// Whole leased events, in no order.
pub(in crate::claims) fn leased_events<DB: Dialect>(names: &Names, events: &[Spot]) -> Vec<String> {
    let parts = leased::<DB>(names, events).into_iter();
    parts.map(|(index, wanted)| whole::<DB>(names, &index, &wanted)).collect()
}

fn whole<DB: Dialect>(names: &Names, index: &str, wanted: &str) -> String {
    let table = names.quoted_table();
    format!("SELECT {}, attempts, failures, partition_hash FROM {table} {index} WHERE {wanted}", DB::EVENT)
}

pub(in crate::claims) fn add_lease<DB: Dialect>(names: &Names, lease: &LeaseRow) -> String {
    format!(
        "INSERT INTO {} (token, leased_until, claimed_at, worker, entries) VALUES ({}, {}, {}, {}, {})",
        names.quoted_part(LEASE),
        DB::uuid(lease.token),
        DB::time(lease.until),
        DB::time(lease.claimed_at),
        DB::text(&row::reason(&lease.worker)),
        DB::bytes(&lease.packed()),
    )
}

pub(in crate::claims) fn remove_lease<DB: Dialect>(names: &Names, lease: &LeaseRow) -> String {
    format!(
        "DELETE FROM {} WHERE token = {} AND leased_until = {}",
        names.quoted_part(LEASE),
        DB::uuid(lease.token),
        DB::time(lease.until)
    )
}

pub(in crate::claims) fn remove_leases<DB: Dialect>(names: &Names, tokens: &[Uuid]) -> String {
    let tokens = list(tokens, |token| DB::uuid(*token));
    format!("DELETE FROM {} WHERE token IN ({tokens})", names.quoted_part(LEASE))
}

/// The ids of those leased events that are still open; locked, they stay so until the transaction ends.
pub(in crate::claims) fn open<DB: Dialect>(names: &Names, events: &[Spot], locked: bool) -> Vec<String> {
    let (table, lock) = (names.quoted_table(), if locked { DB::FOR_UPDATE } else { "" });
    let parts = leased::<DB>(names, events).into_iter();
    parts.map(|(index, wanted)| format!("SELECT id FROM {table} {index} WHERE {wanted} {lock}")).collect()
}

fn failed<DB: Dialect>(error: &str, clock: &str) -> String {
    format!(
        "{}, {}, first_failed_at = COALESCE(first_failed_at, {clock}), last_failed_at = {clock}, last_error = {}",
        one_more("attempts"),
        one_more("failures"),
        DB::text(&row::reason(error))
    )
}

fn delete<DB: Dialect>(names: &Names, index: &str, wanted: &str) -> String {
    let table = names.quoted_table();
    let target = if DB::NAMES_DELETE_TARGET { table.as_str() } else { "" };
    format!("DELETE {target} FROM {table} {index} WHERE {wanted}")
}

fn delete_by_id<DB: Dialect>(names: &Names, events: &[EventId], condition: &str) -> String {
    let wanted = format!("id IN ({}) AND {} {condition}", ids::<DB>(events), DB::STATUS);
    DB::ALONE.to_owned() + &delete::<DB>(names, &DB::hint(names, "id"), &wanted)
}

/// Deletes delivered events.
pub(crate) fn purge<DB: Dialect>(names: &Names, events: &[EventId]) -> String {
    delete_by_id::<DB>(names, events, "= 'delivered'")
}

/// Deletes dead events.
pub(crate) fn discard<DB: Dialect>(names: &Names, events: &[EventId]) -> String {
    delete_by_id::<DB>(names, events, "= 'dead_letter'")
}

/// Deletes events as they are delivered.
pub(crate) fn acknowledge_and_delete<DB: Dialect>(
    names: &Names,
    events: &[EventId],
    condition: &str,
) -> String {
    delete_by_id::<DB>(names, events, &format!("IN {UNDELIVERED} {condition}"))
}

/// The condition that nothing is leased or parked.
pub(crate) fn if_free(names: &Names) -> String {
    let none = |part| format!("AND NOT EXISTS (SELECT 1 FROM {})", names.quoted_part(part));
    format!("{} {}", none(LEASE), none(PARKED))
}

/// A row that begins with -1 if somebody may still deliver one of these events.
pub(crate) fn one_open<DB: Dialect>(names: &Names, events: &[EventId]) -> String {
    format!(
        "{}SELECT CAST(-1 AS {}), id FROM {} {} WHERE id IN ({}) AND {} IN {UNDELIVERED} LIMIT 1",
        DB::ALONE,
        DB::BIGINT,
        names.quoted_table(),
        DB::hint(names, "id"),
        ids::<DB>(events),
        DB::STATUS,
    )
}

/// How a delivery ended, of events to which the same happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::claims) enum End<'a> {
    Delivered,
    /// Delivered, and not to be kept.
    Deleted,
    Waiting(&'a str),
    Dead(&'a str),
}

/// Writes it, and returns the ids if wanted, where the engine can.
pub(in crate::claims) fn end<DB: Dialect>(
    names: &Names,
    end: End<'_>,
    events: &[Spot],
    now: i64,
    returning: bool,
) -> Vec<String> {
    let clock = DB::time(now);
    let set = |set: String| update::<DB>(names, &set, events);
    let sql = match end {
        End::Delivered => {
            set(format!("status = 'delivered', delivered_at = {clock}, {}", one_more("attempts")))
        }
        End::Deleted => {
            let parts = leased::<DB>(names, events).into_iter();
            parts.map(|(index, wanted)| delete::<DB>(names, &index, &wanted)).collect()
        }
        End::Waiting(error) => set(format!("status = 'waiting', {}", failed::<DB>(error, &clock))),
        End::Dead(error) => {
            set(format!("status = 'dead_letter', dead_at = {clock}, {}", failed::<DB>(error, &clock)))
        }
    };
    let returning = if returning { " RETURNING id" } else { "" };
    sql.into_iter().map(|sql| sql + returning).collect()
}

/// Stands for whatever an engine finds pending events by if it has their places.
#[cfg(all(test, feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub(crate) const PLACE: &str = "place";

/// What must not search a table, and the index that it is to use.
#[cfg(all(test, feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub(crate) fn statements<DB: Dialect>(names: &Names, events: &[EventId]) -> Vec<(String, &'static str)> {
    let keys: Vec<[u8; 16]> = (0..40).map(|number| [number; 16]).collect();
    let types = ["t".to_owned()];
    let between: Vec<i64> = (1..=500).map(|number| 2 * number).collect();
    let near: Vec<i64> = (5001..=5500).filter(|place| place % 7 != 0).collect();
    let spots = |parked, step| {
        let spot = move |(seq, id): (i64, &EventId)| Spot { seq: step * seq, id: *id, key: [0; 16], parked };
        (1..).zip(events).map(spot).collect::<Vec<Spot>>()
    };
    let (pending_ones, far_ones, parked_ones) = (spots(false, 1), spots(false, 40), spots(true, 1));
    let by_place = |statements: Vec<String>| statements.into_iter().map(|sql| (sql, PLACE));
    let by_id = |statements: Vec<String>| statements.into_iter().map(|sql| (sql, "id"));
    let mut statements = vec![
        (front::<DB>(names, &[], 500), "fifo"),
        (beside::<DB>(names, &[], false, &[5001, 5002], 500), "fifo"),
        (beside::<DB>(names, &[], false, &near, 500), "fifo"),
        (beside::<DB>(names, &types, true, &[5001, 5002], 500), "fifo"),
        (walk::<DB>(names, &[], true, (5000, i64::MAX), &[], &[], 2000), "fifo"),
        (walk::<DB>(names, &types, true, (5000, 9000), &[5001, 5002], &keys[..1], 2000), "fifo"),
        (walk::<DB>(names, &[], false, (0, 9000), &near, &[], 2000), "fifo"),
        (last::<DB>(names, 1), "fifo"),
        (walk_open::<DB>(names, &[], true, &[5001, 5002, 7000], &[5003]), PLACE),
        (walk_open::<DB>(names, &types, true, &between, &[]), PLACE),
        (places_of_keys::<DB>(names, (5000, 9000), &keys[..2]), "fifo"),
        (count_of_keys::<DB>(names, (5000, 9000), &keys[..2]), "fifo"),
        (self::events::<DB>(names, events), "id"),
        (bury::<DB>(names, events[0], "why"), "id"),
        (ready::<DB>(names, 0, None, 500), "key_ready"),
        (ready::<DB>(names, 0, Some((0, keys[0])), 500), "key_ready"),
        (heads::<DB>(names, &[], &keys, 10), "parked_key"),
        (heads::<DB>(names, &types, &keys, 10), "parked_key"),
        (parked::<DB>(names, 500), "parked_retry"),
        (retries::<DB>(names, 0, 500), "parked_retry"),
        (strays::<DB>(names, events), "parked_id"),
        (last_retries::<DB>(names, &keys), "parked_last"),
    ];
    statements.extend(by_place(park::<DB>(names, &places(&pending_ones))));
    for spots in [&pending_ones, &far_ones, &parked_ones] {
        let all = [
            leased_events::<DB>(names, spots),
            open::<DB>(names, spots, true),
            end::<DB>(names, End::Dead("why"), spots, 0, DB::RETURNING),
            end::<DB>(names, End::Deleted, spots, 0, false),
        ];
        let all = all.into_iter().flatten().collect();
        if spots[0].parked { statements.extend(by_id(all)) } else { statements.extend(by_place(all)) }
    }
    statements.into_iter().map(|(sql, index)| (format!("{}{sql}", DB::BY_INDEX), index)).collect()
}
