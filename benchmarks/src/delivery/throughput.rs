//! Through a relay to a handler that only counts, beside claims and settlements alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use outbox_delivery::{CancellationToken, Relay, transport::InProcess};
use outbox_memory::MemoryOutbox;
use outbox_mongo::mongodb::Client;
use outbox_sqlx::SqlxOutbox;
use outbox_traits::{ClaimStore, Event, PublishError};
use tokio::sync::Notify;

use super::Amounts;
use crate::{
    claims::{Orders, Queue, Way, drain, memory, mongo, rate, sled},
    hand_written::HandWritten,
    place::{Place, own_name, unless_interrupted},
    side::Side,
};

/// How many events at a time.
const LIMITS: [usize; 2] = [100, 500];
/// Of relay and worker.
const CONNECTIONS: u32 = 8;
/// After so long a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was measured on one engine.
#[derive(Debug)]
pub(super) struct Throughput {
    pub(super) engine: &'static str,
    pub(super) description: String,
    pub(super) rows: Vec<Row>,
}

/// With so many events at a time, events a second in each round.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) limit: usize,
    pub(super) relay: Vec<f64>,
    pub(super) alone: Vec<f64>,
}

/// On an SQL engine.
pub(super) async fn on_sql<DB: HandWritten>(place: &Place, amounts: Amounts) -> Result<Throughput> {
    let work = async |pools: &[sqlx::Pool<DB>]| {
        let description = DB::describe(&pools[0]).await?;
        let store = Arc::new(SqlxOutbox::<DB>::new(pools[0].clone()));
        let queue = Queue::outbox(Side::library(pools[0].clone()).await?, vec![(Way::KEPT, store)]);
        measure(DB::TITLE, description, queue, amounts).await
    };
    place.with::<DB, _>(&["throughput"], CONNECTIONS, work).await
}

/// On `MongoDB`.
pub(super) async fn on_mongo(amounts: Amounts) -> Result<Throughput> {
    let client = Client::with_uri_str(mongo::server()?).await?;
    let name = own_name("throughput");
    let outcome = unless_interrupted(async {
        let outbox = mongo::Outbox::new(&client, &client.database(&name)).await?;
        let store = Arc::new(outbox.store.clone());
        let queue = Queue::outbox(outbox, vec![(Way::KEPT, store)]);
        measure("MongoDB", mongo::describe(&client).await?, queue, amounts).await
    })
    .await;
    mongo::remove(&client, &[name]).await;
    outcome
}

/// On sled.
pub(super) async fn on_sled(place: &Place, amounts: Amounts) -> Result<Throughput> {
    let outbox = sled::Outbox::new(&sled::open(place, "throughput")?)?;
    let store = Arc::new(outbox.store.clone());
    let queue = Queue::outbox(outbox, vec![(Way::KEPT, store)]);
    unless_interrupted(measure("sled", sled::describe(), queue, amounts)).await
}

/// In memory.
pub(super) async fn in_memory(amounts: Amounts) -> Result<Throughput> {
    let store = MemoryOutbox::new();
    let queue = Queue::outbox(memory::Outbox(store.clone()), vec![(Way::KEPT, Arc::new(store))]);
    unless_interrupted(measure("memory", memory::DESCRIPTION.to_owned(), queue, amounts)).await
}

async fn measure(
    engine: &'static str,
    description: String,
    queue: Queue,
    amounts: Amounts,
) -> Result<Throughput> {
    let orders = Orders::default();
    let store = queue.store.clone().context("it is an outbox")?;
    let mut rows: Vec<_> =
        LIMITS.into_iter().map(|limit| Row { limit, relay: Vec::new(), alone: Vec::new() }).collect();
    for round in 0..amounts.rounds {
        for row in &mut rows {
            for turn in 0..2 {
                queue.table.clear().await?;
                orders.save(&queue, amounts.events).await?;
                queue.table.tidy().await?;
                // Whoever goes first in one round goes last in the next.
                if (round + turn) % 2 == 0 {
                    let (taken, time) = drain(&queue.ways[0].1, 1, row.limit, amounts.events.into()).await?;
                    row.alone.push(rate(taken, time));
                } else {
                    row.relay.push(relay(&store, row.limit, amounts.events.into()).await?);
                }
            }
        }
    }
    eprintln!("bench: {engine}: throughput measured");
    Ok(Throughput { engine, description, rows })
}

/// Runs a relay until so many events are handled and settled.
async fn relay(store: &Arc<dyn ClaimStore>, limit: usize, events: u64) -> Result<f64> {
    let (handled, last) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let transport = InProcess::new().subscribe("*", {
        let (handled, last) = (Arc::clone(&handled), Arc::clone(&last));
        move |_: Arc<Event>| {
            if handled.fetch_add(1, Relaxed) + 1 == events {
                last.notify_one();
            }
            async { Ok::<_, PublishError>(()) }
        }
    });
    let relay = Relay::new(Arc::clone(store), transport).with_batch_size(limit);
    let stop = CancellationToken::new();
    let start = Instant::now();
    let mut running = tokio::spawn({
        let stop = stop.clone();
        async move { relay.run(stop).await }
    });
    tokio::select! {
        () = last.notified() => {}
        ended = &mut running => { ended??; }
        () = tokio::time::sleep(PATIENCE) => {}
    }
    stop.cancel();
    let report = running.await??;
    let time = start.elapsed();
    ensure!(report.published == events, "of {events} events the relay published: {report}");
    Ok(rate(events, time))
}
