//! Conditions on many places.
//!
//! What one claim takes lies close together in the order, mostly. A range of places is found at once, and is a few words to the
//! engine; each place by itself is one more thing to read, to plan for and to search for.

use super::{CHUNK, pending_at};
use crate::dialect::Dialect;

/// The next place of a range is so far away at most.
const NEAR: i64 = 32;
/// So few are no range.
const FEW: usize = 50;
/// A place is compared with each range that is left out, where a list of any length is one look-up: so there are few of those.
const MOST_LEFT_OUT: usize = 16;

/// The places from the first to the last one, but for some.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: i64,
    last: i64,
    holes: Vec<i64>,
}

impl Range {
    /// The range of places that are in order, if it has not too many others.
    fn of(places: &[i64]) -> Option<Self> {
        let (first, last) = (*places.first()?, *places.last()?);
        let missing = usize::try_from(last - first + 1).ok()?.checked_sub(places.len())?;
        if places.len() < FEW || missing > places.len() / 2 {
            return None;
        }
        let pairs = places.iter().zip(&places[1..]);
        let holes = pairs.flat_map(|(place, next)| place + 1..*next).collect();
        Some(Self { first, last, holes })
    }

    fn places(&self) -> impl Iterator<Item = i64> {
        (self.first..=self.last).filter(|place| self.holes.binary_search(place).is_err())
    }

    /// That a place is in it. The column may be written in a way that searches no index; the holes always are.
    fn condition<DB: Dialect>(&self, column: &str) -> String {
        let range = format!("{column} BETWEEN {} AND {}", self.first, self.last);
        if self.holes.is_empty() {
            return range;
        }
        format!("{range} AND {}", DB::none_of("seq", &self.holes))
    }
}

/// The ranges that some places are in, and those that are in none.
fn ranges(places: &[i64]) -> (Vec<Range>, Vec<i64>) {
    let mut places = places.to_vec();
    places.sort_unstable();
    places.dedup();
    let (mut ranges, mut rest) = (Vec::new(), Vec::new());
    divide(&places, NEAR, &mut ranges, &mut rest);
    (ranges, rest)
}

/// Divides places that are in order: where some are too far apart to be a range, others among them may be none the less.
fn divide(places: &[i64], near: i64, ranges: &mut Vec<Range>, rest: &mut Vec<i64>) {
    for together in places.chunk_by(|place, next| next.saturating_sub(*place) <= near) {
        match Range::of(together) {
            Some(range) => ranges.push(range),
            None if near > 1 && together.len() >= FEW => divide(together, near / 4, ranges, rest),
            None => rest.extend(together),
        }
    }
}

/// That an event is pending and in one of these places, in parts that one statement each takes.
pub(super) fn pending_in<DB: Dialect>(places: &[i64]) -> Vec<String> {
    // What only reads would not lock there either, but is not worth words of its own.
    if DB::LOCKS_RANGES {
        return places.chunks(CHUNK).map(pending_at::<DB>).collect();
    }
    let (ranges, rest) = ranges(places);
    let ranges =
        ranges.iter().map(|range| format!("{} AND status = 'pending'", range.condition::<DB>("seq")));
    ranges.chain(rest.chunks(CHUNK).map(pending_at::<DB>)).collect()
}

/// That an event is in none of these places, in words that search no index.
pub(super) fn but_for<DB: Dialect>(places: &[i64]) -> String {
    let (mut ranges, mut rest) = ranges(places);
    ranges.sort_by_key(|range| range.first - range.last);
    rest.extend(ranges.iter().skip(MOST_LEFT_OUT).flat_map(Range::places));
    ranges.truncate(MOST_LEFT_OUT);
    let ranges = ranges.iter().map(|range| format!("({}) IS NOT TRUE", range.condition::<DB>("seq + 0")));
    let rest = (!rest.is_empty()).then(|| DB::none_of("seq", &rest));
    ranges.chain(rest).map(|condition| format!("AND {condition}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_lie_close_together_are_a_range() {
        let mut places: Vec<i64> = (101..=200).filter(|place| place % 10 != 0).rev().collect();
        places.extend([3, 5, 1000, 1000]);
        let (ranges, rest) = ranges(&places);
        let holes = (110..=190).step_by(10).collect();
        assert_eq!(ranges, [Range { first: 101, last: 199, holes }]);
        assert_eq!(rest, [3, 5, 1000]);
    }

    #[test]
    fn few_places_or_such_with_many_others_between_them_are_none() {
        let few: Vec<i64> = (1..50).collect();
        assert_eq!(ranges(&few), (Vec::new(), few));
        let thin: Vec<i64> = (1..=500).map(|number| 5 * number).collect();
        assert_eq!(ranges(&thin), (Vec::new(), thin));
        let many: Vec<i64> = (1..=50).collect();
        let range = Range { first: 1, last: 50, holes: Vec::new() };
        assert_eq!(ranges(&many), (vec![range], Vec::new()));
    }

    #[test]
    fn a_range_is_found_beside_places_that_are_far_apart() {
        let thin = (1..=500).map(|number| 1000 + 10 * number);
        let places: Vec<i64> = (1..=1000).chain(thin).collect();
        let (ranges, rest) = ranges(&places);
        assert_eq!(ranges, [Range { first: 1, last: 1000, holes: Vec::new() }]);
        assert_eq!(rest, places[1000..]);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn what_is_in_the_places_and_what_is_not_is_all_that_is_there() {
        use sqlx::{AssertSqlSafe, Sqlite, SqlitePool};

        let pool = SqlitePool::connect("sqlite::memory:").await.unwrap();
        let numbers = "WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < 4000)
            SELECT seq FROM (SELECT seq, 'pending' AS status FROM n) WHERE";
        let select = async |condition: String| -> Vec<i64> {
            let sql = AssertSqlSafe(format!("{numbers} {condition} ORDER BY seq"));
            sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
        };
        let is_wanted: [fn(i64) -> bool; 6] = [
            |place| place <= 200 || place > 1000 && place % 200 == 0,
            |place| place % 9 != 0 && place % 1000 > 300,
            |place| place % 7 == 0,
            |place| place <= 60 || place % 3 == 0 && place < 600 || place % 50 == 0,
            // More ranges than are left out one by one.
            |place| place % 100 < 55 && place % 10 != 3,
            |_| true,
        ];
        for is_wanted in is_wanted {
            let (places, others): (Vec<i64>, Vec<i64>) = (1..=4000).partition(|place| is_wanted(*place));
            let mut found = Vec::new();
            for condition in pending_in::<Sqlite>(&places) {
                found.extend(select(condition).await);
            }
            found.sort_unstable();
            assert_eq!(found, places);
            assert_eq!(select(format!("1 = 1 {}", but_for::<Sqlite>(&places))).await, others);
        }
    }
}
