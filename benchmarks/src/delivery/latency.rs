//! From the return of a commit to the call of the handler.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use outbox_delivery::{CancellationToken, Relay, transport::InProcess};
use outbox_mongo::mongodb::Client;
use outbox_sqlx::SqlxOutbox;
use outbox_traits::{ClaimStore, Event, PublishError, WakeStore};
use sqlx::Postgres;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Amounts, Poller};
use crate::{
    claims::{Orders, Table, mongo},
    engine::Engine as _,
    place::{Place, own_name, unless_interrupted},
    postgres,
    side::Side,
};

/// How many transactions a second are committed.
pub(super) const PACE: u32 = 200;
/// How often code by hand looks.
const POLL: Duration = Duration::from_millis(20);
/// Of writer, relay and listener together.
const CONNECTIONS: u32 = 8;
/// After so long without the last event a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured in one way.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) engine: &'static str,
    pub(super) way: &'static str,
    /// How many commits a second there were.
    pub(super) pace: f64,
    /// In order, without those of the first second.
    pub(super) times: Vec<Duration>,
}

/// On `PostgreSQL`.
pub(super) async fn on_postgres(place: &Place, amounts: Amounts) -> Result<Vec<Latency>> {
    let names = ["latency", "latency_other", "latency_hand"];
    let work = async |pools: &[sqlx::PgPool]| {
        let run = async |way, table: &dyn Table, deliver| {
            measure(Postgres::TITLE, way, table, deliver, amounts).await
        };
        let library = Side::library(pools[0].clone()).await?;
        let Side::Library(writer) = &library else { unreachable!("it was made as one") };
        let store = Arc::new(writer.clone());
        let clone =
            run("relay, a clone of the writer's handle", &library, relay(store.clone(), store)).await?;

        let library = Side::library(pools[1].clone()).await?;
        let store = Arc::new(SqlxOutbox::<Postgres>::new(pools[1].clone()));
        let other = run("relay, a handle of its own", &library, relay(store.clone(), store)).await?;

        let by_hand = Side::hand_written(pools[2].clone()).await?;
        let poller = Deliver::ByHand(Arc::new(postgres::Poll(pools[2].clone())));
        let by_hand = run("by hand, every 20 ms", &by_hand, poller).await?;
        Ok(vec![clone, other, by_hand])
    };
    place.with::<Postgres, _>(&names, CONNECTIONS, work).await
}

/// On `MongoDB`.
pub(super) async fn on_mongo(amounts: Amounts) -> Result<Vec<Latency>> {
    let client = Client::with_uri_str(mongo::server()?).await?;
    let names = ["latency", "latency_hand"].map(own_name);
    let outcome = unless_interrupted(async {
        let outbox = mongo::Outbox::new(&client, &client.database(&names[0])).await?;
        let store = Arc::new(outbox.store.clone());
        let relay = relay(store.clone(), store);
        let relay = measure("MongoDB", "relay", &outbox, relay, amounts).await?;
        let by_hand = mongo::ByHand::new(&client, &client.database(&names[1])).await?;
        let poller = Deliver::ByHand(Arc::new(by_hand.poller()));
        let by_hand = measure("MongoDB", "by hand, every 20 ms", &by_hand, poller, amounts).await?;
        Ok(vec![relay, by_hand])
    })
    .await;
    mongo::remove(&client, &names).await;
    outcome
}

/// How the events come to the handler.
enum Deliver {
    Relay(Arc<dyn ClaimStore>, Arc<dyn WakeStore>),
    ByHand(Arc<dyn Poller>),
}

fn relay(store: Arc<dyn ClaimStore>, wakeups: Arc<dyn WakeStore>) -> Deliver {
    Deliver::Relay(store, wakeups)
}

impl Deliver {
    /// Until it is stopped.
    async fn run(self, seen: Arc<Seen>, stop: CancellationToken) -> Result<()> {
        match self {
            Self::Relay(store, wakeups) => {
                let transport = InProcess::new().subscribe("*", move |event: Arc<Event>| {
                    if let Some(number) = event.payload()["number"].as_i64() {
                        seen.note(number);
                    }
                    async { Ok::<_, PublishError>(()) }
                });
                Relay::new(store, transport).with_wakeups(wakeups).run(stop).await?;
            }
            Self::ByHand(poller) => {
                let mut ticks = interval(POLL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.is_cancelled() {
                    ticks.tick().await;
                    poller.poll(&|number| seen.note(number)).await?;
                }
            }
        }
        Ok(())
    }
}

/// When the handler was called first, by the number of the order.
#[derive(Debug, Default)]
struct Seen(Mutex<HashMap<i64, Instant>>);

impl Seen {
    fn note(&self, number: i64) {
        let now = Instant::now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_insert(now);
    }

    fn of(&self, number: i64) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied()
    }
}

async fn measure(
    engine: &'static str,
    way: &'static str,
    table: &dyn Table,
    deliver: Deliver,
    amounts: Amounts,
) -> Result<Latency> {
    let (seen, stop) = (Arc::new(Seen::default()), CancellationToken::new());
    let running = tokio::spawn(deliver.run(Arc::clone(&seen), stop.clone()));
    // So that it listens when the first commit comes.
    sleep(Duration::from_secs(1)).await;

    let mut committed = Vec::new();
    let mut ticks = interval(Duration::from_secs(1) / PACE);
    let start = Instant::now();
    for order in Orders::default().next(PACE * (amounts.seconds + 1)) {
        ticks.tick().await;
        table.save_one(&order).await?;
        committed.push((order.number, Instant::now()));
    }
    let pace = f64::from(PACE * (amounts.seconds + 1)) / start.elapsed().as_secs_f64();

    let end = Instant::now();
    let mut times = Vec::new();
    for (number, commit) in committed.into_iter().skip(PACE as usize) {
        loop {
            if let Some(handled) = seen.of(number) {
                // The handler may well be called before the commit has returned.
                times.push(handled.saturating_duration_since(commit));
                break;
            }
            ensure!(!running.is_finished(), "{engine}, {way}: the delivery ended early");
            ensure!(end.elapsed() < PATIENCE, "{engine}, {way}: event {number} never came");
            sleep(Duration::from_millis(1)).await;
        }
    }
    stop.cancel();
    running.await??;
    times.sort();
    eprintln!("bench: {engine}: {way}: latency measured");
    Ok(Latency { engine, way, pace, times })
}
