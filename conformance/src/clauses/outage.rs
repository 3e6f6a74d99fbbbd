//! Section 9.5: calls that are cut off, and a server that is away.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use outbox_traits::{Error, ErrorKind, Event, EventId, OutboxStore, Result, Saved};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    OutageHarness, Proxy, patience,
    support::{acknowledge_all, event, events, ids, kept, pending, pending_ids, retried, rows, save_all},
};

/// More messages than any call here exchanges with its server.
const MOST: usize = 500;

/// So long a call has that is made while another one is held up: by then it is done, or waits for that one.
const A_MOMENT: Duration = Duration::from_millis(80);

/// The outbox by a way that can be cut.
pub(crate) struct Away<H> {
    pub(crate) h: Arc<H>,
    pub(crate) proxy: Proxy,
    /// The next call is cut off at this message.
    pub(crate) at: usize,
    /// The last one was done before it was cut off.
    is_over: bool,
}

impl<H: OutageHarness> Away<H> {
    pub(crate) async fn open(h: &Arc<H>) -> Self {
        let proxy = Proxy::to(h.server().await).await.expect("a port of this machine");
        let h = Arc::new(h.through(proxy.port()).await);
        Self { h, proxy, at: 0, is_over: false }
    }

    /// Whether a call is still to be made that is cut off one message later than the one before. It is connected then.
    pub(crate) async fn goes_on(&mut self) -> bool {
        if self.is_over {
            assert!(self.at > 1, "a call that exchanges nothing with its server was not cut off");
            return false;
        }
        self.proxy.come_back();
        // Also where all of several connections were cut.
        for _ in 0..3 {
            retried(|| bounded(self.h.store().get_pending(1))).await;
        }
        true
    }

    /// Begins anew, with another call.
    pub(crate) fn again(&mut self) {
        (self.at, self.is_over) = (0, false);
    }

    /// Makes the call, and says what it answered.
    pub(crate) async fn cut<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.proxy.cut_at(self.at);
        self.answer(call).await
    }

    /// Makes the call, and lets nothing through any more from where it is cut off on.
    pub(crate) async fn cut_for_good<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.proxy.go_down_at(self.at);
        self.answer(call).await
    }

    /// Makes the call, and another one while the next message of it is held up: by a handle of its own, which may have to
    /// wait for the first one all the same.
    pub(crate) async fn meet<T, U>(
        &mut self,
        call: impl Future<Output = T>,
        other: impl Future<Output = U>,
    ) -> (T, U) {
        self.assert_has_an_end();
        let (mut call, mut other) = (pin!(bounded(call)), pin!(bounded(other)));
        self.proxy.hold_at(self.at);
        let early = tokio::select! {
            answer = &mut call => Some(answer),
            () = self.proxy.is_held() => None,
        };
        let met = timeout(A_MOMENT, &mut other).await.ok();
        self.proxy.let_through();
        self.is_over = early.is_some();
        // An answer and the next question after it are held up at the same moment, as far as the server knows. But there may be
        // two questions at once.
        self.at += if self.at == 0 { 1 } else { 2 };
        let rest_of = async |early: Option<T>| match early {
            Some(answer) => answer,
            None => call.await,
        };
        let rest_of_other = async |met: Option<U>| match met {
            Some(answer) => answer,
            None => other.await,
        };
        tokio::join!(rest_of(early), rest_of_other(met))
    }

    #[track_caller]
    fn assert_has_an_end(&self) {
        assert!(self.at < MOST, "a call exchanges message after message with its server, and has no end");
    }

    /// Makes the call, and drops it while the next message of it is held up.
    pub(crate) async fn give_up<T>(&mut self, call: impl Future<Output = T>) {
        self.assert_has_an_end();
        self.proxy.hold_at(self.at);
        self.is_over = tokio::select! {
            _ = bounded(call) => true,
            () = self.proxy.is_held() => false,
        };
        self.proxy.let_through();
        self.at += 1;
    }

    /// Makes the call, and at each of its messages another one, as somebody would who is quicker all the time.
    pub(crate) async fn meet_always<T, U: Send + 'static>(
        &self,
        call: impl Future<Output = T>,
        other: impl Fn() -> Pin<Box<dyn Future<Output = U> + Send>>,
    ) -> T {
        let mut call = pin!(bounded(call));
        let mut others = JoinSet::new();
        for _ in 0..MOST {
            // Where it is held up at once, this is what the last time let through.
            self.proxy.hold_at(1);
            tokio::select! {
                answer = &mut call => {
                    self.proxy.let_through();
                    others.join_all().await;
                    return answer;
                }
                () = self.proxy.is_held() => {}
            }
            others.spawn(bounded(other()));
            // They are done by then, or wait for the call.
            let done = async {
                while let Some(other) = others.join_next().await {
                    other.expect("the other call");
                }
            };
            timeout(A_MOMENT, done).await.ok();
            self.proxy.let_through();
        }
        panic!("a call does not come to an end as long as others are made meanwhile");
    }

    async fn answer<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.assert_has_an_end();
        let answer = bounded(call).await;
        self.is_over = !self.proxy.spare();
        self.at += 1;
        answer
    }
}

/// What a call answers, and how many round trips were made meanwhile, which may be about something else.
pub(crate) async fn exchanged<T>(proxy: &Proxy, call: impl Future<Output = T>) -> (T, usize) {
    let before = proxy.round_trips();
    let answer = bounded(call).await;
    (answer, proxy.round_trips() - before)
}

pub(crate) async fn bounded<T>(call: impl Future<Output = T>) -> T {
    timeout(patience::of_a_call(), call)
        .await
        .expect("a call neither answers nor fails where its connection is cut")
}

/// That the error is one after which the call is made again.
#[track_caller]
pub(crate) fn assert_cut_off(error: &Error) {
    assert!(error.is_retryable(), "it says not to try again: {error}");
    assert!(std::error::Error::source(error).is_some(), "the driver's error is gone: {error:?}");
}

/// 9.5: a save that was cut off was made as a whole or not at all, one that answered was made, and it can be made again.
pub async fn a_save_that_is_cut_off_is_made_or_not<H: OutageHarness>(h: Arc<H>) {
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let (there, batch) = (Arc::clone(&away.h), events(3));
        let answer = away.cut(there.store().save_all(&batch)).await;
        if answer.is_err() {
            // What was sent may still be under way, and must not come after what follows.
            sleep(Duration::from_millis(50)).await;
        }
        // It waits for what the server may still be about.
        let again = retried(|| h.store().save_all(&batch)).await;
        match answer {
            Ok(saved) => {
                assert_eq!(saved, [Saved::Stored; 3], "they are new");
                assert_eq!(again, [Saved::Duplicate; 3], "what was reported as saved is lost");
            }
            Err(error) => {
                assert_cut_off(&error);
                assert!(again.iter().all(|saved| *saved == again[0]), "it was made in part: {again:?}");
            }
        }
        assert_eq!(pending_ids(&h).await, ids(&batch));
        acknowledge_all(&h, &ids(&batch)).await;
    }
    // Of one event, which a store may save in another way, and by the same handle, as an application tries again.
    away.again();
    while away.goes_on().await {
        let (there, one) = (Arc::clone(&away.h), event("alone"));
        let answer = away.cut(there.store().save(&one)).await;
        let again = retried(|| there.store().save(&one)).await;
        match answer {
            Ok(saved) => {
                assert_eq!(saved, Saved::Stored, "it is new");
                assert_eq!(again, Saved::Duplicate, "what was reported as saved is lost");
            }
            Err(error) => assert_cut_off(&error),
        }
        assert_eq!(pending_ids(&h).await, [one.id()], "it was made again in vain");
        acknowledge_all(&h, &[one.id()]).await;
    }
}

/// 9.5 and 2.4: so it is with a session, whose business rows and events go together.
pub async fn a_session_that_is_cut_off_leaves_all_of_it_or_nothing<H: OutageHarness>(h: Arc<H>) {
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let (there, event, row) = (Arc::clone(&away.h), event("beside a row"), format!("row {}", away.at));
        let work = {
            let (event, row) = (event.clone(), row.clone());
            async move {
                let mut transaction = there.begin().await;
                let session = there.session(&mut transaction);
                there.write_row(&row, session).await;
                there.store().save_in_session(&event, session).await?;
                there.commit(transaction).await;
                Ok::<(), Error>(())
            }
        };
        // Not before it is to be cut off, or else its first messages may have passed by then.
        let committed = away.cut(async { tokio::spawn(work).await }).await;
        // It waits for what the server may still be about.
        let was_there = retried(|| h.store().save(&event)).await == Saved::Duplicate;
        assert_eq!(rows(&h).await.contains(&row), was_there, "the row and the event are apart");
        match committed {
            Ok(Ok(())) => assert!(was_there, "what was committed is lost"),
            Ok(Err(error)) => {
                assert_cut_off(&error);
                assert!(!was_there, "nobody has committed");
            }
            // The driver of the harness.
            Err(panicked) => assert!(panicked.is_panic()),
        }
        acknowledge_all(&h, &[event.id()]).await;
    }
}

/// 9.5: an acknowledgement and a purge that were cut off can be made again, and do what they would have done.
pub async fn an_acknowledgement_and_a_purge_that_are_cut_off_can_be_made_again<H: OutageHarness>(h: Arc<H>) {
    let left = event("left");
    h.store().save(&left).await.expect("save");
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let (there, batch) = (Arc::clone(&away.h), ids(&saved(&h).await));
        if let Err(error) = away.cut(there.store().acknowledge_all(&batch)).await {
            assert_cut_off(&error);
            retried(|| h.store().acknowledge_all(&batch)).await;
        }
        assert_eq!(pending_ids(&h).await, [left.id()]);
    }
    away.again();
    while away.goes_on().await {
        retried(|| h.store().purge(Duration::ZERO)).await;
        let (there, batch) = (Arc::clone(&away.h), ids(&saved(&h).await));
        acknowledge_all(&h, &batch).await;
        match away.cut(there.store().purge(Duration::ZERO)).await {
            Ok(purged) => assert_eq!(purged, kept(&h, 3)),
            Err(error) => {
                assert_cut_off(&error);
                retried(|| h.store().purge(Duration::ZERO)).await;
            }
        }
        assert_eq!(retried(|| h.store().purge(Duration::ZERO)).await, 0, "what was to be purged is there");
        assert_eq!(pending_ids(&h).await, [left.id()]);
    }
}

async fn saved<H: OutageHarness>(h: &Arc<H>) -> Vec<Event> {
    let batch = events(3);
    save_all(h, &batch).await;
    batch
}

/// 6.3 and 9.5: a purge of many works in parts, none of which is long: what was done before it was cut off is done.
pub async fn a_purge_of_many_is_done_in_parts<H: OutageHarness>(h: Arc<H>) {
    const PART: usize = 3000;
    if kept(&h, 1) == 0 {
        // There is nothing to purge.
        return;
    }
    let mut ends = Vec::new();
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        if ends.is_empty() {
            for _ in 0..4 {
                let part = events(PART);
                save_all(&h, &part).await;
                acknowledge_all(&h, &ids(&part)).await;
                // Each is older than the next.
                h.advance(Duration::from_secs(60)).await;
                ends.extend([part[0].clone(), part[PART - 1].clone()]);
            }
        }
        let there = Arc::clone(&away.h);
        away.cut(there.store().purge(Duration::ZERO)).await.map_err(|error| assert_cut_off(&error)).ok();
        let saved = retried(|| h.store().save_all(&ends)).await;
        acknowledge_all(&h, &ids(&ends)).await;
        if saved.iter().all(|saved| *saved == Saved::Stored) {
            // All of it was purged.
            ends.clear();
        } else if saved.contains(&Saved::Stored) {
            return;
        }
    }
    panic!("a purge of many is done at once");
}

/// 9.5: a fetch that was cut off says so, or is whole.
pub async fn a_fetch_that_is_cut_off_can_be_made_again<H: OutageHarness>(h: Arc<H>) {
    let batch = saved(&h).await;
    let mut away = Away::open(&h).await;
    while away.goes_on().await {
        let there = Arc::clone(&away.h);
        match away.cut(there.store().get_pending(10)).await {
            Ok(fetched) => assert_eq!(fetched, batch),
            Err(error) => assert_cut_off(&error),
        }
    }
    assert_eq!(pending(&h).await, batch);
}

/// 9.5: while the server is away each call is `Unavailable`, and the same handle goes on when it is back.
pub async fn while_the_engine_is_away_calls_are_unavailable_and_then_they_go_on<H: OutageHarness>(h: Arc<H>) {
    type Call<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
    let (before, batch) = (saved(&h).await, events(2));
    let acknowledged: Vec<EventId> = ids(&before[..1]);
    let away = Away::open(&h).await;
    let there = away.h.store();
    assert_eq!(retried(|| there.get_pending(10)).await, before);
    away.proxy.go_down();
    let calls: [(&str, Call<'_>); 6] = [
        ("save", Box::pin(async { there.save(&batch[0]).await.map(drop) })),
        ("save_all", Box::pin(async { there.save_all(&batch).await.map(drop) })),
        ("get_pending", Box::pin(async { there.get_pending(10).await.map(drop) })),
        ("acknowledge", Box::pin(async { there.acknowledge(acknowledged[0]).await })),
        ("acknowledge_all", Box::pin(async { there.acknowledge_all(&acknowledged).await })),
        ("purge", Box::pin(async { there.purge(Duration::ZERO).await.map(drop) })),
    ];
    for (name, call) in calls {
        let error = bounded(call).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{name}: {error}");
        assert_cut_off(&error);
    }
    away.proxy.come_back();
    assert_eq!(retried(|| there.get_pending(10)).await, before, "nothing has changed meanwhile");
    assert_eq!(there.save_all(&batch).await.expect("save_all"), [Saved::Stored; 2]);
    there.acknowledge_all(&acknowledged).await.expect("acknowledge_all");
    assert_eq!(pending_ids(&h).await, [ids(&before[1..]), ids(&batch)].concat());
}

/// 2.5 and 5.3: what is saved, fetched or acknowledged by one call is not exchanged event by event.
pub async fn a_batch_takes_few_round_trips<H: OutageHarness>(h: Arc<H>) {
    const MANY: usize = 300;
    let away = Away::open(&h).await;
    let there = away.h.store();
    for _ in 0..2 {
        let batch = events(MANY);
        let (saved, saving) = exchanged(&away.proxy, there.save_all(&batch)).await;
        assert_eq!(saved.expect("save_all"), [Saved::Stored; MANY]);
        let (fetched, fetching) = exchanged(&away.proxy, there.get_pending(MANY)).await;
        assert_eq!(ids(&fetched.expect("get_pending")), ids(&batch));
        let (done, acknowledging) = exchanged(&away.proxy, there.acknowledge_all(&ids(&batch))).await;
        done.expect("acknowledge_all");
        for (what, trips) in
            [("a save", saving), ("a fetch", fetching), ("an acknowledgement", acknowledging)]
        {
            assert!(trips < MANY / 20, "{what} of {MANY} events takes {trips} round trips");
        }
    }
}

/// 2.5 and 4.4: a batch of one takes no more round trips than its event by itself, and a call about nothing takes none.
pub async fn a_batch_of_one_or_none_takes_no_more_than_it_has_to<H: OutageHarness>(h: Arc<H>) {
    const CALLS: usize = 40;
    let away = Away::open(&h).await;
    let there = away.h.store();
    // Connected, and whatever is asked only once.
    there.save(&event("first")).await.expect("save");
    let (mut alone, mut batched) = (0, 0);
    for _ in 0..CALLS {
        let (saved, trips) = exchanged(&away.proxy, there.save(&event("alone"))).await;
        assert_eq!(saved.expect("save"), Saved::Stored);
        alone += trips;
        let (saved, trips) = exchanged(&away.proxy, there.save_all(&[event("batched")])).await;
        assert_eq!(saved.expect("save_all"), [Saved::Stored]);
        batched += trips;
    }
    assert!(
        batched <= alone + alone / 4,
        "{CALLS} batches of one take {batched} round trips, and {alone} by themselves"
    );
    let nothing = async {
        for _ in 0..CALLS {
            assert_eq!(there.save_all(&[]).await.expect("save_all"), []);
            there.acknowledge_all(&[]).await.expect("acknowledge_all");
            assert_eq!(there.get_pending(0).await.expect("get_pending"), []);
        }
    };
    let ((), trips) = exchanged(&away.proxy, nothing).await;
    assert!(trips < CALLS, "calls about nothing take {trips} round trips");
}
