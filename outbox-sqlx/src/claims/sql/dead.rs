//! Dead letters.

use outbox_traits::EventId;

use super::{OPEN, parked::holds_key, pending_at};
use crate::{dead_letter::Selection, dialect::Dialect, names::Names, row};

/// Sets a pending event aside that cannot be read, by its place.
pub(crate) fn set_aside<DB: Dialect>(names: &Names, seq: i64, reason: &str) -> String {
    DB::ALONE.to_owned() + &aside::<DB>(names, DB::BY_PLACE, reason, &pending_at::<DB>(&[seq]))
}

/// The same of one that may be parked too, by its id.
pub(in crate::claims) fn bury<DB: Dialect>(names: &Names, event: EventId, reason: &str) -> String {
    let this = format!("id = {} AND {} IN {OPEN}", DB::uuid(event.into()), DB::STATUS);
    aside::<DB>(names, &DB::hint(names, "id"), reason, &this)
}

/// Without an attempt, since nobody has tried.
fn aside<DB: Dialect>(names: &Names, index: &str, reason: &str, this: &str) -> String {
    format!(
        "UPDATE {} {index} SET status = 'dead_letter', dead_at = {}, last_error = {} WHERE {this}",
        names.quoted_table(),
        DB::CLOCK,
        DB::text(&row::reason(reason)),
    )
}

/// A page of dead letters: all that is known about them or, `brief`, their places and ids.
pub(crate) fn dead_letters<DB: Dialect>(names: &Names, selection: &Selection<'_>, brief: bool) -> String {
    let columns = if brief {
        "seq, id".to_owned()
    } else {
        format!(
            "{}, last_error, attempts, failures, {}, {}, {}, {}",
            DB::EVENT,
            DB::micros("first_failed_at"),
            DB::micros("last_failed_at"),
            DB::micros("dead_at"),
            holds_key::<DB>(names),
        )
    };
    let of_type =
        selection.event_type.map(|wanted| format!("{} = {}", DB::TYPE, DB::bytes(wanted.as_bytes())));
    let since = selection.since.map(|time| format!("dead_at >= {}", DB::time(time)));
    // What another program has given up on may not say when: it is shown as dead since 1970, and so it is found.
    let before = selection.before.map(|time| format!("(dead_at IS NULL OR dead_at < {})", DB::time(time)));
    let wanted = [of_type, since, before].into_iter().flatten().map(|one| format!("AND {one}"));
    format!(
        "{}SELECT {columns} FROM {} AS e {} WHERE status = 'dead_letter' AND seq > {} {} ORDER BY seq LIMIT {}",
        DB::ALONE,
        names.quoted_table(),
        DB::hint(names, if DB::FIFO_OF_ALL { "fifo" } else { "dead_letter" }),
        selection.after,
        wanted.collect::<Vec<_>>().join(" "),
        selection.limit,
    )
}
