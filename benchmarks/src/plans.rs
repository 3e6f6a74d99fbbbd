//! How an engine runs the fetch of the outbox.

use std::{fmt::Write as _, time::Instant};

use anyhow::{Context as _, Result, ensure};
use outbox_sqlx::SqlxOutbox;
use outbox_traits::{Event, OutboxStore as _, SchemaStore as _};
use sqlx::Pool;

use crate::{
    engine::{Engine, LIBRARY_COLUMNS},
    job::{BATCH, Order},
    place::Place,
    report::grouped,
    statements,
};

/// The plans on one engine, as Markdown: with this many delivered events, and with as many pending.
pub(crate) async fn run<DB: Engine>(place: &Place, rows: u32) -> Result<String> {
    let names = ["plans_delivered", "plans_pending"];
    // One connection, because the counters of reads are a connection's own.
    let plans = place.with::<DB, _>(&names, 1, async |pools| plans(pools, rows).await).await;
    plans.with_context(|| DB::TITLE)
}

async fn plans<DB: Engine>(pools: &[Pool<DB>], rows: u32) -> Result<String> {
    let mut text = format!("### {}\n", DB::describe(&pools[0]).await?);
    for (pool, is_delivered) in pools.iter().zip([true, false]) {
        let outbox = SqlxOutbox::<DB>::new(pool.clone());
        outbox.migrate().await?;
        let start = Instant::now();
        outbox.save(&Order::new(0).event()?).await?;
        if is_delivered {
            let ids: Vec<_> = outbox.get_pending(1).await?.iter().map(Event::id).collect();
            outbox.acknowledge_all(&ids).await?;
        }
        DB::multiply(pool, LIBRARY_COLUMNS, rows - 1).await?;
        // So that the limit is what ends the fetch.
        let orders = (1..=10 * i64::try_from(BATCH)?).map(|number| Order::new(number).event());
        outbox.save_all(&orders.collect::<outbox_traits::Result<Vec<_>>>()?).await?;
        DB::run(pool, DB::ANALYZE).await?;
        eprintln!("bench: {}: a table filled in {:.0?}", DB::TITLE, start.elapsed());

        let (rows, state) = (grouped(rows), if is_delivered { "delivered" } else { "pending" });
        write!(text, "\n#### {rows} {state} events, and then 1,000 pending ones\n\n")?;
        text.push_str(&fetch(&outbox).await?);
    }
    Ok(text)
}

/// The statements of one fetch, each with its plan.
async fn fetch<DB: Engine>(outbox: &SqlxOutbox<DB>) -> Result<String> {
    // Once before, so that what is only done on a new connection is over.
    outbox.get_pending(BATCH).await?;
    let before = DB::reads(outbox.pool()).await?;
    statements::take();
    let events = outbox.get_pending(BATCH).await?;
    let statements = statements::take();
    let after = DB::reads(outbox.pool()).await?;
    ensure!(events.len() == BATCH, "{} events were fetched", events.len());

    let mut text = String::new();
    for statement in statements {
        let plan = DB::explain(outbox.pool(), &statement).await?;
        write!(text, "```sql\n{}\n```\n\n```text\n{plan}\n```\n\n", unindented(&statement))?;
    }
    if !after.is_empty() {
        let read = before.iter().zip(&after).filter(|((_, before), (_, after))| after > before);
        let read = read.map(|((name, before), (_, after))| format!("{name} {}", after - before));
        writeln!(text, "Read by the whole fetch: {}.\n", read.collect::<Vec<_>>().join(", "))?;
    }
    Ok(text)
}

/// Without the indentation of the source that it stands in.
fn unindented(statement: &str) -> String {
    statement.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}
