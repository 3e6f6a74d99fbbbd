//! A shop that takes orders. Each order and its event `order.placed` are written in one transaction, orders that
//! break a rule of the shop are rolled back with their event, and a relay publishes the rest as lines of JSON.
//!
//! ```sh
//! cargo run --example quickstart                        # 1,000 orders, everything in a temporary directory
//! cargo run --example quickstart -- --db shop.db        # kill it and run it again: it goes on where it was
//! cargo run --example quickstart -- --orders - --publish -   # from standard input to standard output
//! ```

use std::{
    error::Error,
    num::NonZeroU32,
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::ProgressBar;
use outbox::{
    DomainEvent, Event, OutboxStore, OutboxStoreExt, SchemaStore, SqliteOutbox,
    relay::{CancellationToken, Relay},
    sqlx::{
        self, SqlitePool,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
    transport::JsonLines,
};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncRead, BufReader},
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/orders.jsonl");

/// Takes orders into an SQLite database and publishes what was ordered.
#[derive(Parser)]
struct Arguments {
    /// Orders as lines of JSON, `-` for standard input [default: 1,000 orders that come with the example]
    #[arg(long, value_name = "FILE", default_value = BUNDLED, hide_default_value = true)]
    orders: PathBuf,
    /// The SQLite database, created if there is none [default: one in a temporary directory]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Where events are appended, `-` for standard output [default: a file next to the database]
    #[arg(long, value_name = "FILE")]
    publish: Option<PathBuf>,
}

/// An order as it comes in, and as its event tells of it. The price is that of one piece, in cents.
#[derive(Deserialize, Serialize, DomainEvent)]
#[domain_event(type = "order.placed", resource = "order")]
struct Order {
    #[domain_event(resource_id)]
    id: String,
    #[domain_event(partition_key)]
    customer: String,
    product: String,
    quantity: NonZeroU32,
    price: u32,
}

enum Decision {
    Committed,
    RolledBack,
    /// By an earlier run, or for an earlier line.
    MadeBefore,
}

#[tokio::main]
async fn main() {
    let result = run(Arguments::parse()).await;
    if let Err(error) = &result {
        eprintln!("error: {error}");
    }
    // Not by returning: a read of standard input that is still waiting would hold up the end.
    std::process::exit(i32::from(result.is_err()));
}

async fn run(arguments: Arguments) -> Result<()> {
    let started = Instant::now();
    let in_orders = |error: std::io::Error| format!("{}: {error}", arguments.orders.display());
    let orders: Box<dyn AsyncRead + Unpin> = if arguments.orders == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        Box::new(File::open(&arguments.orders).await.map_err(in_orders)?)
    };
    let db = match &arguments.db {
        Some(db) => db.clone(),
        None => tempfile::Builder::new().prefix("quickstart-").tempdir()?.keep().join("shop.db"),
    };
    let publish = arguments.publish.clone().unwrap_or_else(|| db.with_extension("events.jsonl"));
    eprintln!("database {}, events to {}", db.display(), publish.display());

    let options = SqliteConnectOptions::new().filename(&db).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let options = options.busy_timeout(Duration::from_secs(10));
    let pool =
        SqlitePool::connect_with(options).await.map_err(|error| format!("{}: {error}", db.display()))?;
    sqlx::raw_sql(include_str!("shop.sql")).execute(&pool).await?;
    let outbox = SqliteOutbox::new(pool.clone());
    outbox.migrate().await?;

    if publish.canonicalize().is_ok_and(|publish| db.canonicalize().is_ok_and(|db| db == publish)) {
        return Err(format!("{} is the database: publish to another file", publish.display()).into());
    }
    let transport = if publish == Path::new("-") {
        JsonLines::new(tokio::io::stdout())
    } else {
        JsonLines::append(&publish).await?
    };
    let relay = Relay::single_worker(outbox.clone(), transport);
    let all_read = CancellationToken::new();
    let stop = all_read.clone();
    let publishing = tokio::spawn(async move {
        // What is committed while orders are read, and then the rest.
        Ok::<_, outbox::Error>((relay.run(stop).await?, relay.publish_pending().await?))
    });

    let mut lines = BufReader::new(orders).split(b'\n');
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let bar = ProgressBar::new_spinner();
    let (mut line_number, mut malformed, mut read) = (0, 0, 0);
    let (mut committed, mut rolled_back, mut made_before) = (0, 0, 0);
    while let Some(line) = tokio::select! {
        line = lines.next_segment() => line.map_err(in_orders)?,
        _ = &mut interrupted => None,
    } {
        line_number += 1;
        // Some editors begin a file with a byte order mark.
        let line = line.strip_prefix(b"\xEF\xBB\xBF").filter(|_| line_number == 1).unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let order: Order = match serde_json::from_slice(line) {
            Ok(order) => order,
            Err(error) => {
                let error = error.to_string().replace(" at line 1 column", " at column");
                bar.suspend(|| eprintln!("line {line_number} is no order and is skipped: {error}"));
                malformed += 1;
                continue;
            }
        };
        read += 1;
        match decide(&order, &pool, &outbox).await? {
            Decision::Committed => committed += 1,
            Decision::RolledBack => rolled_back += 1,
            Decision::MadeBefore => made_before += 1,
        }
        bar.inc(1);
        bar.set_message(format!("{read} orders: {committed} committed, {rolled_back} rolled back"));
        if bar.is_hidden() && read % 250 == 0 {
            eprintln!("{}", bar.message());
        }
    }

    all_read.cancel();
    let (while_reading, at_the_end) = publishing.await??;
    bar.finish_and_clear();
    if malformed + made_before > 0 {
        eprintln!("{malformed} lines were skipped, {made_before} orders had been decided before");
    }
    let published = while_reading.published + at_the_end.published;
    let pending = outbox.get_pending(usize::MAX).await?.len();
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "read {read}, committed {committed}, rolled back {rolled_back}, \
         published {published}, pending {pending}, seconds {seconds:.1}"
    );
    match at_the_end.last_error {
        Some(error) => Err(format!("not everything could be published: {error}").into()),
        None => Ok(()),
    }
}

/// The order, its event and the new stock: all of them, or none.
async fn decide(order: &Order, pool: &SqlitePool, outbox: &SqliteOutbox) -> Result<Decision> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let is_decided = "SELECT EXISTS (SELECT 1 FROM orders WHERE id = ?1 \
                      UNION SELECT 1 FROM refused_orders WHERE id = ?1)";
    if sqlx::query_scalar(is_decided).bind(&order.id).fetch_one(&mut *transaction).await? {
        return Ok(Decision::MadeBefore);
    }
    sqlx::query("INSERT INTO orders (id, customer, product, quantity, price) VALUES (?, ?, ?, ?, ?)")
        .bind(&order.id)
        .bind(&order.customer)
        .bind(&order.product)
        .bind(order.quantity)
        .bind(order.price)
        .execute(&mut *transaction)
        .await?;
    let event = Event::of(order)?.with_idempotency_key(&order.id);
    outbox.enqueue(event, &mut transaction).await?;

    let sell = "UPDATE products SET stock = stock - ? WHERE id = ? RETURNING price, stock";
    let product: Option<(u32, i64)> = sqlx::query_as(sell)
        .bind(order.quantity)
        .bind(&order.product)
        .fetch_optional(&mut *transaction)
        .await?;
    let reason = match product {
        None => "no such product",
        Some((now, _)) if now != order.price => "wrong price",
        Some((_, left)) if left < 0 => "out of stock",
        Some(_) => {
            transaction.commit().await?;
            return Ok(Decision::Committed);
        }
    };
    transaction.rollback().await?;
    // Remembered, so that a later run does not accept what this one refused. Killed before this line, the next
    // run meets the same order with the same stock, and refuses it again.
    sqlx::query("INSERT OR IGNORE INTO refused_orders (id, reason) VALUES (?, ?)")
        .bind(&order.id)
        .bind(reason)
        .execute(pool)
        .await?;
    Ok(Decision::RolledBack)
}
