//! What a relay with nothing to do asks of the server.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use outbox_delivery::{CancellationToken, Relay, transport::InProcess};
use outbox_mongo::{
    MongoOutbox,
    mongodb::{Client, bson::doc},
};
use outbox_sqlx::SqlxOutbox;
use outbox_traits::{ClaimStore, SchemaStore as _, WakeStore};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Postgres, postgres::PgPoolOptions,
};
use tokio::time::sleep;

use super::Amounts;
use crate::{
    claims::mongo,
    engine::Engine as _,
    place::{own_name, unless_interrupted},
    postgres,
};

/// Until the relay is as quiet as it becomes, and `PostgreSQL` has counted what was before: a connection that is idle
/// hands in its counts after ten seconds.
const SETTLE: Duration = Duration::from_secs(15);

/// What was measured on one engine.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) engine: &'static str,
    /// What was counted.
    pub(super) what: &'static str,
    pub(super) with_relay: i64,
    pub(super) without: i64,
}

/// On `PostgreSQL`, in a data base of its own.
pub(super) async fn on_postgres(amounts: Amounts) -> Result<Idle> {
    let name = own_name("idle");
    // It counts from another data base.
    let mut admin = postgres::server()?.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
    let outcome = unless_interrupted(async {
        let options = postgres::server()?.database(&name);
        let pool = PgPoolOptions::new().max_connections(4).connect_with(options).await?;
        let store = Arc::new(SqlxOutbox::<Postgres>::new(pool.clone()));
        store.migrate().await?;
        sleep(SETTLE).await;
        let before = transactions(&mut admin, &name).await?;
        idle(amounts).await;
        let without = transactions(&mut admin, &name).await? - before;

        let stop = CancellationToken::new();
        let running = tokio::spawn(relay(store.clone(), store, stop.clone()));
        sleep(SETTLE).await;
        let before = transactions(&mut admin, &name).await?;
        idle(amounts).await;
        let with_relay = transactions(&mut admin, &name).await? - before;
        stop.cancel();
        running.await??;
        pool.close().await;
        Ok(Idle { engine: Postgres::TITLE, what: "transactions", with_relay, without })
    })
    .await;
    let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await {
        eprintln!("bench: {name} could not be removed: {error}");
    }
    admin.close().await?;
    outcome
}

async fn transactions(admin: &mut PgConnection, name: &str) -> Result<i64> {
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
    Ok(sqlx::query_scalar(sql).bind(name).fetch_one(admin).await?)
}

/// On `MongoDB`, whose counters are those of the whole server.
pub(super) async fn on_mongo(amounts: Amounts) -> Result<Idle> {
    let client = Client::with_uri_str(mongo::server()?).await?;
    let name = own_name("idle");
    let outcome = unless_interrupted(async {
        let store = Arc::new(MongoOutbox::new(&client.database(&name)));
        store.migrate().await?;
        sleep(SETTLE).await;
        let before = operations(&client).await?;
        idle(amounts).await;
        let without = operations(&client).await? - before;

        let stop = CancellationToken::new();
        let running = tokio::spawn(relay(store.clone(), store, stop.clone()));
        sleep(SETTLE).await;
        let before = operations(&client).await?;
        idle(amounts).await;
        let with_relay = operations(&client).await? - before;
        stop.cancel();
        running.await??;
        Ok(Idle { engine: "MongoDB", what: "operations", with_relay, without })
    })
    .await;
    mongo::remove(&client, &[name]).await;
    outcome
}

/// Those that were counted since the server started: queries, more of them, commands, and writes.
async fn operations(client: &Client) -> Result<i64> {
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await?;
    let counters = status.get_document("opcounters").context("the server counts no operations")?;
    let count = |name: &str| {
        let long = counters.get_i64(name).ok();
        long.or_else(|| counters.get_i32(name).ok().map(i64::from)).unwrap_or(0)
    };
    Ok(["insert", "query", "update", "delete", "getmore", "command"].into_iter().map(count).sum())
}

async fn relay(
    store: Arc<dyn ClaimStore>,
    wakeups: Arc<dyn WakeStore>,
    stop: CancellationToken,
) -> Result<()> {
    Relay::new(store, InProcess::new()).with_wakeups(wakeups).run(stop).await?;
    Ok(())
}

async fn idle(amounts: Amounts) {
    sleep(Duration::from_secs(amounts.idle.into())).await;
}
