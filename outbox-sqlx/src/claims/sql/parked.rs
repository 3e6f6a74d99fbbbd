//! The statements about parked events and their keys.

use outbox_traits::EventId;

use super::{ids, list, numbers, pending_at};
use crate::{
    claims::{
        FAR,
        state::{Key, Spot},
    },
    dialect::Dialect,
    names::{KEY, Names, PARKED},
};

/// When the first of the keys that have parked events is ready; null if none has.
pub(in crate::claims) fn first_ready<DB: Dialect>(names: &Names) -> String {
    format!("SELECT {} FROM {} AS k", DB::micros("MIN(k.ready_at)"), names.quoted_part(KEY))
}

/// A row that begins with -1 if there are parked events.
pub(crate) fn has_parked<DB: Dialect>(names: &Names) -> String {
    format!("SELECT CAST(-1 AS {}), id FROM {} LIMIT 1", DB::BIGINT, names.quoted_part(PARKED))
}

/// Whether a row `p` is that of an event `e` that is parked, waits for a retry, or is dead and holds its key.
fn is_parked<DB: Dialect>() -> String {
    let (status, far) = (DB::STATUS, DB::time(FAR));
    format!("(e.{status} IN ('parked', 'waiting') OR e.{status} = 'dead_letter' AND p.retry_at >= {far})")
}

/// The place of an event `e` that is dead, if it holds its key.
pub(crate) fn holds_key<DB: Dialect>(names: &Names) -> String {
    let (parked, far) = (names.quoted_part(PARKED), DB::time(FAR));
    format!("(SELECT p.seq FROM {parked} AS p WHERE p.seq = e.seq AND p.retry_at >= {far}) AS holds_key")
}

/// Keys whose parked events can be handed out, longest ready first.
pub(in crate::claims) fn ready<DB: Dialect>(
    names: &Names,
    now: i64,
    after: Option<(i64, Key)>,
    limit: i64,
) -> String {
    let after = after.map_or(String::new(), |(time, key)| {
        let time = DB::time(time);
        format!("AND ready_at >= {time} AND (ready_at > {time} OR partition_hash > {})", DB::bytes(&key))
    });
    format!(
        "SELECT partition_hash, {} FROM {} {} WHERE ready_at <= {} {after}
        ORDER BY ready_at, partition_hash LIMIT {limit}",
        DB::micros("ready_at"),
        names.quoted_part(KEY),
        DB::hint(names, "key_ready"),
        DB::time(now),
    )
}

/// The first parked events of each of these keys, which are ready: those of the wanted types.
pub(in crate::claims) fn heads<DB: Dialect>(
    names: &Names,
    types: &[String],
    keys: &[Key],
    limit: i64,
) -> String {
    let (table, by_id) = (names.quoted_table(), DB::hint(names, "id"));
    let of_type = if types.is_empty() {
        String::new()
    } else {
        format!(
            "AND (SELECT {} FROM {table} {by_id} WHERE id = p.id) IN ({})",
            DB::TYPE,
            list(types, |wanted| DB::bytes(wanted.as_bytes()))
        )
    };
    // Null where the event was acknowledged since.
    let one = |key: &str| {
        format!(
            "SELECT p.partition_hash, p.seq, p.id,
                (SELECT e.id FROM {table} AS e {by_id}
                WHERE e.id = p.id AND e.seq = p.seq AND {}) AS live
            FROM {} AS p {} WHERE p.partition_hash = {key} {of_type} ORDER BY p.seq LIMIT {limit}",
            is_parked::<DB>(),
            names.quoted_part(PARKED),
            DB::hint(names, "parked_key"),
        )
    };
    if DB::LATERAL {
        return format!(
            "SELECT h.* FROM (VALUES {}) AS k (hash) CROSS JOIN LATERAL ({}) AS h",
            list(keys, |key| format!("({})", DB::bytes(key))),
            one("k.hash")
        );
    }
    let parts = keys.iter().map(|key| format!("SELECT * FROM ({}) AS h", one(&DB::bytes(key))));
    parts.collect::<Vec<_>>().join(" UNION ALL ")
}

/// The first parked events that wait for nothing, of all keys, in order.
pub(in crate::claims) fn parked<DB: Dialect>(names: &Names, limit: i64) -> String {
    format!(
        "SELECT p.seq, p.id, (SELECT e.id FROM {} AS e {}
                WHERE e.id = p.id AND e.seq = p.seq AND e.{} IN ('parked', 'waiting')) AS live
        FROM {} AS p {} WHERE p.retry_at IS NULL ORDER BY {}p.seq LIMIT {limit}",
        names.quoted_table(),
        DB::hint(names, "id"),
        DB::STATUS,
        names.quoted_part(PARKED),
        DB::hint(names, "parked_retry"),
        if DB::SORTS_NULLS { "p.retry_at, " } else { "" },
    )
}

/// Parked events whose retry is due.
pub(in crate::claims) fn retries<DB: Dialect>(names: &Names, now: i64, limit: i64) -> String {
    format!(
        "SELECT seq, id FROM {} {} WHERE retry_at <= {} ORDER BY retry_at LIMIT {limit}",
        names.quoted_part(PARKED),
        DB::hint(names, "parked_retry"),
        DB::time(now),
    )
}

/// Makes them wait no more.
pub(in crate::claims) fn retry_now(names: &Names, places: &[i64]) -> String {
    let parked = names.quoted_part(PARKED);
    format!("UPDATE {parked} SET retry_at = NULL WHERE seq IN ({})", numbers(places))
}

/// Parked rows of these events, and whether they are so still.
pub(in crate::claims) fn strays<DB: Dialect>(names: &Names, events: &[EventId]) -> String {
    format!(
        "SELECT p.seq, p.partition_hash, (SELECT e.id FROM {} AS e {}
                WHERE e.id = p.id AND e.seq = p.seq AND {}) AS live
        FROM {} AS p {} WHERE p.id IN ({})",
        names.quoted_table(),
        DB::hint(names, "id"),
        is_parked::<DB>(),
        names.quoted_part(PARKED),
        DB::hint(names, "parked_id"),
        ids::<DB>(events),
    )
}

/// Of those of the keys that have a row: whether anything of them is parked, and the last time of a retry.
///
/// The orders name the whole index: MySQL sorts all that a key has parked where they begin with its second column.
pub(in crate::claims) fn last_retries<DB: Dialect>(names: &Names, of: &[Key]) -> String {
    let parked = names.quoted_part(PARKED);
    format!(
        "SELECT k.partition_hash,
            (SELECT p.seq FROM {parked} AS p {} WHERE p.partition_hash = k.partition_hash
                ORDER BY p.partition_hash, p.seq LIMIT 1),
            (SELECT {} FROM {parked} AS p {} WHERE p.partition_hash = k.partition_hash
                AND p.retry_at IS NOT NULL ORDER BY p.partition_hash DESC, p.retry_at DESC LIMIT 1)
        FROM {} AS k WHERE {}",
        DB::hint(names, "parked_key"),
        DB::micros("p.retry_at"),
        DB::hint(names, "parked_last"),
        names.quoted_part(KEY),
        DB::one_of_bytes("k.partition_hash", of),
    )
}

pub(in crate::claims) fn add_parked<DB: Dialect>(names: &Names, spots: &[(Spot, i64)]) -> String {
    let rows = list(spots, |(spot, retry_at)| {
        let id = DB::uuid(spot.id.into());
        format!("({}, {id}, {}, {})", spot.seq, DB::bytes(&spot.key), DB::time(*retry_at))
    });
    let parked = names.quoted_part(PARKED);
    format!("INSERT INTO {parked} (seq, id, partition_hash, retry_at) VALUES {rows}")
}

pub(in crate::claims) fn remove_parked(names: &Names, places: &[i64]) -> String {
    let parked = names.quoted_part(PARKED);
    format!("DELETE FROM {parked} WHERE seq IN ({})", numbers(places))
}

pub(in crate::claims) fn add_keys<DB: Dialect>(names: &Names, keys: &[(Key, i64)]) -> String {
    let rows = list(keys, |(key, ready_at)| format!("({}, {})", DB::bytes(key), DB::time(*ready_at)));
    format!("INSERT INTO {} (partition_hash, ready_at) VALUES {rows}", names.quoted_part(KEY))
}

/// Keeps keys that are leased until then from being looked at until then. That saves looks alone: none of them is claimed as
/// long as its lease lasts, whatever its row says.
pub(in crate::claims) fn keep_away<DB: Dialect>(names: &Names, of: &[Key], until: i64) -> String {
    let until = DB::time(until);
    format!(
        "UPDATE {} SET ready_at = {until} WHERE {} AND ready_at < {until}",
        names.quoted_part(KEY),
        DB::one_of_bytes("partition_hash", of)
    )
}

pub(in crate::claims) fn remove_keys<DB: Dialect>(names: &Names, of: &[Key]) -> String {
    format!("DELETE FROM {} WHERE {}", names.quoted_part(KEY), DB::one_of_bytes("partition_hash", of))
}

/// Takes pending events out of the order, and into that of their keys.
pub(in crate::claims) fn park<DB: Dialect>(names: &Names, places: &[i64]) -> Vec<String> {
    let (table, parked, index) = (names.quoted_table(), names.quoted_part(PARKED), DB::BY_PLACE);
    let park = format!("UPDATE {table} {index} SET status = 'parked' WHERE {}", pending_at::<DB>(places));
    let insert = format!("INSERT INTO {parked} (seq, id, partition_hash, retry_at) ");
    if DB::WRITES_IN_WITH {
        let gone = format!("WITH gone AS ({park} RETURNING seq, id, partition_hash) ");
        return vec![gone + &insert + "SELECT seq, id, partition_hash, NULL FROM gone"];
    }
    let at = DB::one_of("seq", places);
    let of = format!(
        "SELECT seq, id, partition_hash, NULL FROM {table} {index} WHERE {at} AND {} = 'parked'",
        DB::STATUS
    );
    vec![park, insert + &of]
}
