//! Histories made by hand, each with one fault that must be found, and beside it what is none.

use outbox_traits::EventId;
use uuid::Uuid;

use super::{Fault, check};
use crate::history::{Answer, Call, Held, How, Line, Saving, Settled, Step};

/// A history in milliseconds. Leases last for 100.
#[derive(Default)]
struct History {
    lines: Vec<Line>,
    look: (Vec<u64>, Vec<EventId>, Vec<EventId>),
    /// Whether it ends with a look at the state.
    is_looked_at: bool,
}

fn event(number: u128) -> EventId {
    Uuid::from_u128(number).into()
}

/// A lease on an event under the token of a claim.
fn lease(number: u128, token: u128) -> Held {
    Held { event: event(number), token: Uuid::from_u128(1000 + token) }
}

fn keyed(number: u128) -> Saving {
    Saving { event: event(number), key: Some("k".to_owned()), idempotency_key: None }
}

fn alone(number: u128) -> Saving {
    Saving { key: None, ..keyed(number) }
}

impl History {
    fn call(&mut self, begin: u64, call: Call, answer: impl Into<Option<(u64, Answer)>>) -> &mut Self {
        let op = self.lines.len() as u64;
        self.lines.push(Line { at: begin * 1000, op, step: Step::Begin(call) });
        if let Some((end, answer)) = answer.into() {
            self.lines.push(Line { at: end * 1000, op, step: Step::End(answer) });
        }
        self
    }

    fn save(&mut self, at: u64, session: u64, events: &[Saving]) -> &mut Self {
        let stored = vec![true; events.len()];
        let call = Call::Save { session, events: events.to_vec() };
        self.call(at, call, (at + 1, Answer::Saved(stored)))
    }

    /// With its row.
    fn commit(&mut self, at: u64, session: u64) -> &mut Self {
        self.look.0.push(session);
        self.call(at, Call::Commit { session }, (at + 1, Answer::Done))
    }

    fn claim(&mut self, at: u64, leases: &[Held]) -> &mut Self {
        let call = Call::Claim { worker: "w".to_owned(), lease_micros: 100_000 };
        self.call(at, call, (at + 1, Answer::Claimed(leases.to_vec())))
    }

    fn publish(&mut self, at: u64, lease: Held, is_accepted: bool) -> &mut Self {
        self.call(at, Call::Publish { lease }, (at + 1, Answer::Accepted(is_accepted)))
    }

    fn renew(&mut self, at: u64, lease: Held, took: bool) -> &mut Self {
        let call = Call::Renew { leases: vec![lease], lease_micros: 100_000 };
        self.call(at, call, (at + 1, Answer::Each(vec![took])))
    }

    fn settle(&mut self, at: u64, lease: Held, how: How, took: bool) -> &mut Self {
        let call = Call::Settle { settlements: vec![Settled { lease, how }] };
        self.call(at, call, (at + 1, Answer::Each(vec![took])))
    }

    fn delivered(&mut self, at: u64, lease: Held) -> &mut Self {
        self.settle(at, lease, How::Delivered, true)
    }

    fn requeue(&mut self, at: u64) -> &mut Self {
        self.call(at, Call::Requeue { event: None }, (at + 1, Answer::Changed(1)))
    }

    fn clock_set(&mut self, at: u64, micros: i64) -> &mut Self {
        let op = self.lines.len() as u64;
        self.lines.push(Line { at: at * 1000, op, step: Step::ClockSet { micros } });
        self
    }

    /// The state in the end.
    fn look(&mut self) -> &mut Self {
        self.is_looked_at = true;
        self
    }

    #[track_caller]
    fn has(&mut self, expected: &[Fault]) {
        if self.is_looked_at {
            let (rows, dead, pending) = self.look.clone();
            self.call(9000, Call::Look, (9001, Answer::State { rows, dead, pending }));
        }
        let report = check(&self.lines);
        let found: Vec<Fault> = report.found.iter().map(|one| one.fault).collect();
        assert_eq!(found, expected, "{report}");
        assert_eq!(report.is_clean(), expected.is_empty());
        let stories = report.to_string().lines().filter(|line| line.starts_with("FAULT")).count();
        assert_eq!(stories, expected.len());
    }
}

/// One committed event, leased at 10.
fn one() -> History {
    let mut history = History::default();
    history.save(0, 1, &[alone(1)]).commit(2, 1).claim(10, &[lease(1, 1)]);
    history
}

/// Two of one key, of which the first was committed before the second was saved.
fn two() -> History {
    let mut history = History::default();
    history.save(0, 1, &[keyed(1)]).commit(2, 1).save(4, 2, &[keyed(2)]).commit(6, 2);
    history
}

#[test]
fn a_history_without_a_fault_is_clean() {
    one().publish(12, lease(1, 1), true).delivered(20, lease(1, 1)).look().has(&[]);
    let both = [lease(1, 1), lease(2, 1)];
    let mut history = two();
    history.claim(10, &both).publish(12, both[0], true).publish(14, both[1], true);
    history.delivered(20, both[0]).delivered(20, both[1]).look().has(&[]);
}

#[test]
fn a_committed_event_that_nobody_has_delivered_is_lost() {
    one().look().has(&[Fault::Lost]);
    one().settle(20, lease(1, 1), How::Retry, true).look().has(&[Fault::Lost]);
    one().settle(200, lease(1, 1), How::Delivered, false).look().has(&[Fault::Lost]);
    let mut pending = one();
    pending.look.2.push(event(1));
    pending.look().has(&[Fault::Lost]);
    let mut dead = one();
    dead.look.1.push(event(1));
    dead.settle(20, lease(1, 1), How::DeadLetter, true).look().has(&[]);
    let discarded = (31, Answer::Changed(1));
    one().call(30, Call::Discard { event: event(1) }, discarded).look().has(&[]);
}

#[test]
fn a_settlement_that_was_cut_off_may_have_delivered() {
    let settled = Settled { lease: lease(1, 1), how: How::Delivered };
    one().call(20, Call::Settle { settlements: vec![settled] }, None).look().has(&[]);
}

#[test]
fn the_row_tells_what_became_of_a_commit_without_an_answer() {
    for has_row in [false, true] {
        let mut history = History::default();
        history.save(0, 1, &[alone(1)]).call(2, Call::Commit { session: 1 }, None);
        if has_row {
            history.look.0.push(1);
            history.look().has(&[Fault::Lost]);
        } else {
            history.look().has(&[]);
        }
    }
}

#[test]
fn an_event_that_was_rolled_back_must_not_be_seen() {
    let rolled_back = || {
        let mut history = History::default();
        history.save(0, 1, &[alone(1)]).call(2, Call::Rollback { session: 1 }, (3, Answer::Done));
        history
    };
    rolled_back().look().has(&[]);
    rolled_back().claim(10, &[lease(1, 1)]).look().has(&[Fault::RolledBack]);
    rolled_back().call(10, Call::Pending, (11, Answer::Pending(vec![event(1)]))).has(&[Fault::RolledBack]);
    let mut dead = rolled_back();
    dead.look.1.push(event(1));
    dead.look().has(&[Fault::RolledBack]);
}

#[test]
fn an_event_must_not_be_seen_before_its_commit_began() {
    let mut history = History::default();
    history.save(0, 1, &[alone(1)]).claim(2, &[lease(1, 1)]).commit(10, 1);
    history.delivered(20, lease(1, 1)).look().has(&[Fault::RolledBack]);
}

#[test]
fn what_was_told_to_be_a_duplicate_must_not_be_seen() {
    let mut history = History::default();
    let call = Call::Save { session: 1, events: vec![alone(1)] };
    history.call(0, call, (1, Answer::Saved(vec![false]))).commit(2, 1);
    history.claim(10, &[lease(1, 1)]).delivered(20, lease(1, 1)).look().has(&[Fault::RolledBack]);
}

#[test]
fn rows_and_events_share_a_fate() {
    let mut without_row = one();
    without_row.look.0.clear();
    without_row.delivered(20, lease(1, 1)).look().has(&[Fault::Torn]);
    let mut without_commit = History::default();
    without_commit.look.0.push(1);
    without_commit.save(0, 1, &[alone(1)]).look().has(&[Fault::Torn]);
}

#[test]
fn an_idempotency_key_is_stored_once_until_its_event_is_delivered() {
    let twice = |second_at| {
        let mut history = History::default();
        let key = Some("i".to_owned());
        for (at, number) in [(0, 1), (second_at, 2)] {
            let saving = Saving { idempotency_key: key.clone(), ..alone(u128::from(number)) };
            history.save(at, number, &[saving]).commit(at + 2, number);
        }
        history.claim(10, &[lease(1, 1)]).delivered(20, lease(1, 1));
        history.claim(50, &[lease(2, 2)]).delivered(60, lease(2, 2)).look();
        history
    };
    twice(4).has(&[Fault::StoredTwice]);
    twice(30).has(&[]);
}

#[test]
fn a_lease_that_ran_out_has_no_effect() {
    for (how, at) in [(How::Delivered, 200), (How::Retry, 120), (How::DeadLetter, 120), (How::Released, 120)]
    {
        one().settle(at, lease(1, 1), how, true).has(&[Fault::StaleLease]);
        one().settle(at, lease(1, 1), how, false).has(&[]);
    }
    // As long as it may still have been held, nobody knows better than the store.
    one().delivered(110, lease(1, 1)).has(&[]);
    one().renew(120, lease(1, 1), true).has(&[Fault::StaleLease]);
    one().renew(100, lease(1, 1), true).delivered(190, lease(1, 1)).has(&[]);
    one().renew(100, lease(1, 1), false).delivered(190, lease(1, 1)).has(&[Fault::StaleLease]);
    one().renew(100, lease(1, 1), true).delivered(220, lease(1, 1)).has(&[Fault::StaleLease]);
}

#[test]
fn a_lease_is_settled_once() {
    let held = lease(1, 1);
    one().settle(20, held, How::Released, true).delivered(30, held).has(&[Fault::StaleLease]);
    one().settle(20, held, How::Released, true).renew(30, held, true).has(&[Fault::StaleLease]);
    one().settle(20, held, How::Released, true).settle(30, held, How::Delivered, false).has(&[]);
}

#[test]
fn two_cannot_both_have_delivered_one_event() {
    let mut history = one();
    history.claim(150, &[lease(1, 2)]).delivered(160, lease(1, 2));
    // It began before its lease had run out, and the answer came after the other's.
    let settled = Settled { lease: lease(1, 1), how: How::Delivered };
    let call = Call::Settle { settlements: vec![settled] };
    history.call(105, call, (170, Answer::Each(vec![true]))).has(&[Fault::StaleLease]);
}

#[test]
fn what_is_delivered_or_dead_is_not_claimed_again() {
    one().delivered(20, lease(1, 1)).claim(30, &[lease(1, 2)]).has(&[Fault::StaleLease]);
    let dead = || {
        let mut history = one();
        history.settle(20, lease(1, 1), How::DeadLetter, true);
        history
    };
    dead().claim(30, &[lease(1, 2)]).has(&[Fault::StaleLease]);
    dead().requeue(25).claim(30, &[lease(1, 2)]).has(&[]);
    let of_another = Call::Requeue { event: Some(event(7)) };
    dead().call(25, of_another, (26, Answer::Changed(1))).claim(30, &[lease(1, 2)]).has(&[Fault::StaleLease]);
}

#[test]
fn an_event_is_leased_to_one_at_a_time() {
    one().claim(60, &[lease(1, 2)]).has(&[Fault::StaleLease]);
    one().claim(112, &[lease(1, 2)]).has(&[]);
    one().settle(20, lease(1, 1), How::Released, true).claim(60, &[lease(1, 2)]).has(&[]);
    one().renew(60, lease(1, 1), true).claim(120, &[lease(1, 2)]).has(&[Fault::StaleLease]);
}

#[test]
fn a_lease_may_end_earlier_where_the_clock_was_set() {
    one().clock_set(50, 60_000).claim(60, &[lease(1, 2)]).has(&[]);
    one().clock_set(50, -60_000).settle(150, lease(1, 1), How::Delivered, true).has(&[]);
    one().clock_set(50, 20_000).claim(60, &[lease(1, 2)]).has(&[Fault::StaleLease]);
    one().clock_set(5, 60_000).claim(60, &[lease(1, 2)]).has(&[Fault::StaleLease]);
    one().clock_set(2000, 60_000).claim(60, &[lease(1, 2)]).has(&[Fault::StaleLease]);
}

#[test]
fn a_key_is_leased_to_one_at_a_time() {
    let mut history = two();
    history.claim(10, &[lease(1, 1)]).claim(60, &[lease(2, 2)]).has(&[Fault::Order]);
    two().claim(10, &[lease(1, 1)]).claim(112, &[lease(2, 2)]).has(&[]);
}

#[test]
fn an_earlier_event_of_a_key_is_accepted_or_dead_before_a_later_one_is_published() {
    let (first, second) = (lease(1, 1), lease(2, 1));
    two().claim(10, &[first, second]).publish(20, second, true).has(&[Fault::Order]);
    let mut refused = two();
    refused.claim(10, &[first, second]).publish(15, first, false).publish(20, second, true);
    refused.has(&[Fault::Order]);
    let mut accepted_late = two();
    accepted_late.claim(10, &[first, second]).publish(20, second, true).publish(22, first, true);
    accepted_late.has(&[Fault::Order]);
    let mut dead = two();
    dead.claim(10, &[first, second]).settle(15, first, How::DeadLetter, true).publish(20, second, true);
    dead.has(&[]);
    let mut held = two();
    held.claim(10, &[first]).settle(15, first, How::Held, true);
    held.claim(20, &[lease(2, 2)]).publish(25, lease(2, 2), true).has(&[Fault::Order]);
    // Requeued, it comes first; discarded, it is out of the way.
    let mut requeued = two();
    requeued.claim(10, &[first]).settle(15, first, How::Held, true).requeue(18);
    requeued.claim(20, &[lease(1, 2), lease(2, 2)]).publish(25, lease(2, 2), true).has(&[Fault::Order]);
    let mut discarded = two();
    discarded.claim(10, &[first]).settle(15, first, How::Held, true);
    discarded.call(18, Call::Discard { event: event(1) }, (19, Answer::Changed(1)));
    discarded.claim(20, &[lease(2, 2)]).publish(25, lease(2, 2), true).has(&[]);
    // The store cannot keep one from publishing whose lease has run out.
    two().claim(10, &[first, second]).publish(120, second, true).has(&[]);
}

#[test]
fn the_order_of_a_session_counts_and_that_of_sessions_that_overlap_does_not() {
    let (first, second) = (lease(1, 1), lease(2, 1));
    let mut of_one = History::default();
    of_one.save(0, 1, &[keyed(1), keyed(2)]).commit(2, 1);
    of_one.claim(10, &[first, second]).publish(20, second, true).has(&[Fault::Order]);
    let mut overlapping = History::default();
    overlapping.save(0, 1, &[keyed(1)]).save(2, 2, &[keyed(2)]).commit(4, 1).commit(6, 2);
    overlapping.claim(10, &[first, second]).publish(20, second, true).has(&[]);
}

#[test]
fn an_error_that_a_retry_does_not_help_is_told_and_one_that_it_helps_is_not() {
    for (is_retryable, expected) in [(true, &[][..]), (false, &[Fault::Error])] {
        let answer = Answer::Failed { error: "no such table".to_owned(), is_retryable };
        History::default().call(0, Call::Purge, (1, answer)).has(expected);
    }
}

#[test]
fn a_history_comes_back_from_its_file() {
    let mut history = one();
    history
        .publish(12, lease(1, 1), true)
        .renew(15, lease(1, 1), true)
        .delivered(20, lease(1, 1))
        .requeue(30);
    let file = tempfile::NamedTempFile::new().unwrap();
    let recorder = crate::history::Recorder::keeping(Some(file.path())).unwrap();
    for line in &history.lines {
        recorder.add(line.clone());
    }
    assert_eq!(recorder.lines().unwrap(), history.lines);
    assert_eq!(crate::history::read(file.path()).unwrap(), history.lines);
}
