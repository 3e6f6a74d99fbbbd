//! Section 12: the inbox.

use std::{sync::Arc, time::Duration};

use outbox_traits::{ErrorKind, EventId, InboxStore, MAX_CONSUMER_CHARS, OutboxStore, Receipt};

use crate::{
    InboxHarness,
    support::{event, pending, rows},
};

const CONSUMER: &str = "billing";

/// Asks in a session of its own, which commits, and is tried again where another is in the way.
async fn process<H: InboxHarness>(h: &Arc<H>, consumer: &str, event: EventId) -> Receipt {
    process_with(h, consumer, event, None).await
}

/// The same, and writes a business row where the event is new.
async fn process_with<H: InboxHarness>(
    h: &Arc<H>,
    consumer: &str,
    event: EventId,
    row: Option<&str>,
) -> Receipt {
    for _ in 0..200 {
        let mut transaction = h.begin().await;
        let session = h.session(&mut transaction);
        match h.inbox().process_once(session, consumer, event).await {
            Ok(receipt) => {
                if let Some(row) = row.filter(|_| receipt.is_new()) {
                    h.write_row(row, session).await;
                }
                tokio::task::yield_now().await;
                match h.try_commit(transaction).await {
                    Ok(()) => return receipt,
                    Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("commit: {error}"),
                }
            }
            Err(error) if error.is_retryable() => {
                h.rollback(transaction).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("an error that a retry does not help: {error}"),
        }
    }
    panic!("still a conflict after 200 tries")
}

/// 12.1: an event is new to a consumer once, in one session and in the next.
pub async fn an_event_is_new_once_to_a_consumer<H: InboxHarness>(h: Arc<H>) {
    let (one, two) = (EventId::new(), EventId::new());
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    assert_eq!(h.inbox().process_once(session, CONSUMER, one).await.expect("process_once"), Receipt::New);
    let again = h.inbox().process_once(session, CONSUMER, one).await.expect("process_once");
    assert_eq!(again, Receipt::Duplicate, "in the same session");
    assert_eq!(h.inbox().process_once(session, CONSUMER, two).await.expect("process_once"), Receipt::New);
    h.commit(transaction).await;
    for event in [one, two] {
        assert_eq!(process(&h, CONSUMER, event).await, Receipt::Duplicate);
        assert_eq!(process(&h, CONSUMER, event).await, Receipt::Duplicate);
    }
    assert_eq!(process(&h, CONSUMER, EventId::new()).await, Receipt::New);
}

/// 12.1: rolled back or dropped, the session leaves no mark, and no business row.
pub async fn a_mark_shares_the_fate_of_its_session<H: InboxHarness>(h: Arc<H>) {
    let one = EventId::new();
    for dropped in [false, true] {
        let mut transaction = h.begin().await;
        let session = h.session(&mut transaction);
        let receipt = h.inbox().process_once(session, CONSUMER, one).await.expect("process_once");
        assert_eq!(receipt, Receipt::New, "the mark was never there");
        h.write_row("lost", session).await;
        if dropped {
            drop(transaction);
        } else {
            h.rollback(transaction).await;
        }
    }
    assert!(rows(&h).await.is_empty());
    assert_eq!(process_with(&h, CONSUMER, one, Some("once")).await, Receipt::New);
    assert_eq!(process_with(&h, CONSUMER, one, Some("twice")).await, Receipt::Duplicate);
    assert_eq!(rows(&h).await.into_iter().collect::<Vec<_>>(), ["once"]);
}

/// 12.1: a consumer that saves events of its own does so in the same session.
pub async fn a_mark_and_a_saved_event_share_their_fate<H: InboxHarness>(h: Arc<H>) {
    let (incoming, outgoing) = (EventId::new(), event("outgoing"));
    for commits in [false, true] {
        let mut transaction = h.begin().await;
        let session = h.session(&mut transaction);
        assert!(h.inbox().process_once(session, CONSUMER, incoming).await.expect("process_once").is_new());
        h.store().save_in_session(&outgoing, session).await.expect("save_in_session");
        if commits {
            h.commit(transaction).await;
        } else {
            h.rollback(transaction).await;
            assert!(pending(&h).await.is_empty());
        }
    }
    assert_eq!(pending(&h).await, [outgoing]);
    assert_eq!(process(&h, CONSUMER, incoming).await, Receipt::Duplicate);
}

/// 12.1: a repeated delivery leaves the session usable, and it commits.
pub async fn a_repeated_delivery_leaves_the_session_usable<H: InboxHarness>(h: Arc<H>) {
    let (old, new) = (EventId::new(), EventId::new());
    assert_eq!(process(&h, CONSUMER, old).await, Receipt::New);
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    h.write_row("before", session).await;
    for _ in 0..2 {
        let receipt = h.inbox().process_once(session, CONSUMER, old).await.expect("no error");
        assert_eq!(receipt, Receipt::Duplicate);
    }
    assert!(h.inbox().process_once(session, CONSUMER, new).await.expect("process_once").is_new());
    h.write_row("after", session).await;
    h.commit(transaction).await;
    assert_eq!(rows(&h).await.len(), 2);
    assert_eq!(process(&h, CONSUMER, new).await, Receipt::Duplicate);
}

/// 12.1: consumers are apart, and their names are compared exactly: no case folding, no trimming, no cutting off.
pub async fn consumers_are_apart_and_compared_exactly<H: InboxHarness>(h: Arc<H>) {
    let one = EventId::new();
    let long = "n".repeat(MAX_CONSUMER_CHARS - 1);
    let wide = "\u{10348}".repeat(MAX_CONSUMER_CHARS);
    let names = [
        "billing",
        "Billing",
        "billing ",
        " billing",
        "bílling",
        "bi\u{301}lling",
        "a'b\"c`d\\e%_$.",
        &long,
        &format!("{long}!"),
        &format!("{long}?"),
        &wide,
    ];
    for name in names {
        assert_eq!(process(&h, name, one).await, Receipt::New, "{name:?} is another consumer");
    }
    for name in names {
        assert_eq!(process(&h, name, one).await, Receipt::Duplicate, "{name:?} is the same consumer");
    }
}

/// 12.1: a consumer without a proper name is refused, and the session is unharmed.
pub async fn a_consumer_without_a_proper_name_is_refused<H: InboxHarness>(h: Arc<H>) {
    let one = EventId::new();
    let mut transaction = h.begin().await;
    let session = h.session(&mut transaction);
    for name in ["", " \n", "a\0b", &"n".repeat(MAX_CONSUMER_CHARS + 1)] {
        let refused = h.inbox().process_once(session, name, one).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::InvalidEvent, "{refused}");
        assert!(refused.to_string().len() < 300, "{refused}");
    }
    assert!(h.inbox().process_once(session, CONSUMER, one).await.expect("process_once").is_new());
    h.commit(transaction).await;
    assert_eq!(process(&h, CONSUMER, one).await, Receipt::Duplicate);
}

/// 12.1: of many at once exactly one is told that it is new, and does the work.
pub async fn of_many_at_once_one_is_told_that_it_is_new<H: InboxHarness>(h: Arc<H>) {
    for round in 0..6 {
        let one = EventId::new();
        let mut consumers = tokio::task::JoinSet::new();
        for worker in 0..6 {
            let h = Arc::clone(&h);
            let row = format!("round {round}, worker {worker}");
            consumers.spawn(async move { process_with(&h, CONSUMER, one, Some(&row)).await });
        }
        let receipts = consumers.join_all().await;
        let new = receipts.iter().filter(|receipt| receipt.is_new()).count();
        assert_eq!(new, 1, "{receipts:?}");
        assert_eq!(rows(&h).await.len(), round + 1);
    }
}

/// 12.1: while a session is open that has marked an event, another waits or is in conflict; once the first has rolled
/// back, the event is new to it.
pub async fn a_mark_that_is_rolled_back_is_free_for_the_next<H: InboxHarness>(h: Arc<H>) {
    let one = EventId::new();
    let mut first = h.begin().await;
    let session = h.session(&mut first);
    assert!(h.inbox().process_once(session, CONSUMER, one).await.expect("process_once").is_new());
    let second = tokio::spawn({
        let h = Arc::clone(&h);
        async move { process(&h, CONSUMER, one).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished(), "it was told something while nobody could know");
    h.rollback(first).await;
    assert_eq!(second.await.expect("the second"), Receipt::New);
}

/// 12.1: marks are purged by their age, by the store's clock; then the event is new again.
pub async fn marks_are_purged_by_their_age<H: InboxHarness>(h: Arc<H>) {
    let (old, new) = (EventId::new(), EventId::new());
    process(&h, CONSUMER, old).await;
    process(&h, "another", old).await;
    h.advance(Duration::from_secs(100)).await;
    process(&h, CONSUMER, new).await;
    // To meet a mark again does not make it younger.
    process(&h, CONSUMER, old).await;
    let purge = async |age| h.inbox().purge(age).await.expect("purge");
    assert_eq!(purge(Duration::MAX).await, 0);
    assert_eq!(purge(Duration::from_hours(1)).await, 0);
    assert_eq!(purge(Duration::from_secs(50)).await, 2);
    assert_eq!(process(&h, CONSUMER, new).await, Receipt::Duplicate);
    assert_eq!(process(&h, CONSUMER, old).await, Receipt::New);
    assert_eq!(purge(Duration::ZERO).await, 2);
    assert_eq!(purge(Duration::ZERO).await, 0);
    assert_eq!(process(&h, CONSUMER, new).await, Receipt::New);
}

/// 12.1: a purge of many takes more than one batch, and takes them all.
pub async fn a_purge_of_many_marks_takes_them_all<H: InboxHarness>(h: Arc<H>) {
    const EVENTS: usize = 2300;
    let mut transaction = h.begin().await;
    for _ in 0..EVENTS {
        let session = h.session(&mut transaction);
        h.inbox().process_once(session, CONSUMER, EventId::new()).await.expect("process_once");
    }
    h.commit(transaction).await;
    h.advance(Duration::from_secs(10)).await;
    let kept = EventId::new();
    process(&h, CONSUMER, kept).await;
    assert_eq!(h.inbox().purge(Duration::from_secs(5)).await.expect("purge"), EVENTS as u64);
    assert_eq!(process(&h, CONSUMER, kept).await, Receipt::Duplicate);
}
