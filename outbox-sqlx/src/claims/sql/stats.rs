//! The statements that count.

use outbox_traits::EventId;

use super::{OPEN, ids};
use crate::{
    dialect::Dialect,
    names::{KEY, Names, PARKED},
};

/// How many events are pending, scheduled, parked or waiting, delivered, and dead, each a row of one column; then
/// rows with when the oldest of the first three were saved, where there are any. Each with the index that it is to
/// use.
pub(crate) fn counts<DB: Dialect>(names: &Names) -> Vec<(String, &'static str)> {
    if DB::FIFO_OF_ALL {
        let (pending, scheduled, parked) = ("= 'pending'", "= 'scheduled'", "IN ('parked', 'waiting')");
        let counts = [pending, scheduled, parked, "= 'delivered'", "= 'dead_letter'"];
        let oldest = ["= 'pending'", "= 'scheduled'", "= 'parked'", "= 'waiting'"];
        let counts = counts.map(|status| (count::<DB>(names, status, "fifo"), "fifo"));
        return counts.into_iter().chain(oldest.map(|status| (first::<DB>(names, status), "fifo"))).collect();
    }
    vec![
        (count::<DB>(names, "= 'pending'", "fifo"), "fifo"),
        (count::<DB>(names, "= 'scheduled'", "scheduled"), "scheduled"),
        (count_parked::<DB>(names), "id"),
        (count::<DB>(names, "= 'delivered'", "delivered"), "delivered"),
        (count::<DB>(names, "= 'dead_letter'", "dead_letter"), "dead_letter"),
        (first::<DB>(names, "= 'pending'"), "fifo"),
        (first_scheduled::<DB>(names), "scheduled"),
        (first_parked::<DB>(names), "id"),
    ]
}

fn count<DB: Dialect>(names: &Names, status: &str, index: &str) -> String {
    let (table, index) = (names.quoted_table(), DB::hint(names, index));
    format!("SELECT COUNT(*) FROM {table} {index} WHERE status {status}")
}

fn first<DB: Dialect>(names: &Names, status: &str) -> String {
    let (table, fifo) = (names.quoted_table(), DB::hint(names, "fifo"));
    let saved = DB::micros("created_at");
    format!("SELECT {saved} FROM {table} {fifo} WHERE status {status} ORDER BY seq LIMIT 1")
}

/// Their index has another order: all are looked at.
fn first_scheduled<DB: Dialect>(names: &Names) -> String {
    let (table, index) = (names.quoted_table(), DB::hint(names, "scheduled"));
    format!("SELECT {} FROM {table} {index} WHERE status = 'scheduled'", DB::micros("MIN(created_at)"))
}

/// The place of what is parked in a row, null if it was acknowledged since. In the select list or compared, it is a
/// search for each row, and no join that might read the whole outbox.
fn live<DB: Dialect>(names: &Names) -> String {
    format!(
        "(SELECT e.seq FROM {} AS e {} WHERE e.id = p.id AND e.seq = p.seq AND e.{} IN ('parked', 'waiting'))",
        names.quoted_table(),
        DB::hint(names, "id"),
        DB::STATUS
    )
}

fn count_parked<DB: Dialect>(names: &Names) -> String {
    let (parked, by_id) = (names.quoted_part(PARKED), DB::hint(names, "parked_id"));
    format!("SELECT COUNT({}) FROM {parked} AS p {by_id}", live::<DB>(names))
}

fn first_parked<DB: Dialect>(names: &Names) -> String {
    format!(
        "SELECT (SELECT {} FROM {} AS e {} WHERE e.id = p.id) FROM {} AS p WHERE {} = p.seq
        ORDER BY p.seq LIMIT 1",
        DB::micros("e.created_at"),
        names.quoted_table(),
        DB::hint(names, "id"),
        names.quoted_part(PARKED),
        live::<DB>(names)
    )
}

/// When the first of each kind were saved, until when they were hidden and, of those that failed, when their keys
/// were ready: of those before which nothing of their keys is parked, of those that are, and of those that are hidden, perhaps
/// until a time that has come. Each with the index that it is to use.
pub(crate) fn due<DB: Dialect>(names: &Names) -> Vec<(String, &'static str)> {
    let (table, keys) = (names.quoted_table(), names.quoted_part(KEY));
    let (created, hidden) = (DB::micros("created_at"), DB::micros("not_before"));
    let nothing = format!("CAST(NULL AS {})", DB::BIGINT);
    let first = format!(
        "SELECT {created}, {hidden}, {nothing} FROM {table} AS e {} WHERE status = 'pending'
        AND (SELECT MIN(p.seq) FROM {} AS p {} WHERE p.partition_hash = e.partition_hash) IS NULL
        ORDER BY seq LIMIT 1",
        DB::hint(names, "fifo"),
        names.quoted_part(PARKED),
        DB::hint(names, "parked_key"),
    );
    let of_event = |column: &str| {
        format!("(SELECT {column} FROM {table} AS e {} WHERE e.id = p.id)", DB::hint(names, "id"))
    };
    let of_key = |column: &str| {
        format!("(SELECT {column} FROM {keys} AS k WHERE k.partition_hash = p.partition_hash)")
    };
    let parked = format!(
        "SELECT {}, {}, CASE WHEN {} > 0 THEN {} ELSE {nothing} END FROM {} AS p
        WHERE {} = p.seq AND {} <= {} ORDER BY p.seq LIMIT 1",
        of_event(&DB::micros("e.created_at")),
        of_event(&DB::micros("e.not_before")),
        of_event("e.failures"),
        of_key(&DB::micros("k.ready_at")),
        names.quoted_part(PARKED),
        live::<DB>(names),
        of_key("k.ready_at"),
        DB::CLOCK,
    );
    let scheduled = format!(
        "SELECT {created}, {hidden}, {nothing} FROM {table} {} WHERE status = 'scheduled'
        ORDER BY not_before LIMIT 1",
        DB::hint(names, "scheduled")
    );
    vec![(first, "fifo"), (parked, "id"), (scheduled, "scheduled")]
}

/// When these were saved, until when they were hidden, and how often they failed.
pub(in crate::claims) fn leased_since<DB: Dialect>(names: &Names, events: &[EventId]) -> String {
    format!(
        "{}SELECT id, {}, {}, CAST(failures AS {}) FROM {} {} WHERE id IN ({}) AND {} IN {OPEN}",
        DB::BY_INDEX,
        DB::micros("created_at"),
        DB::micros("not_before"),
        DB::BIGINT,
        names.quoted_table(),
        DB::hint(names, "id"),
        ids::<DB>(events),
        DB::STATUS
    )
}
