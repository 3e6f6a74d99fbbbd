//! PostgreSQL: `NOTIFY`, after the commit and not in it, because transactions that notify commit one after the
//! other.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres, Row,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{STUCK, Task, Wake, WakeEngine, before_reconnect};
use crate::{dialect::Engine, names::Names};

/// How long the server may be silent before it is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);

impl WakeEngine for Postgres {
    const ANNOUNCES: bool = true;

    async fn begin(wake: &Arc<Wake<Self>>, closing: Task) -> sqlx::Result<Option<Task>> {
        // Asked through the pool, whose connections may have a search path of their own.
        let sql = format!("SELECT {CHANNEL} {}", of_table(&wake.names));
        let channel = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&wake.pool).await?.try_get(0)?;
        let ear = Ear { wake: Arc::downgrade(wake), id: wake.id, notice: wake.notice.clone(), channel };
        let listener = ear.connect().await?;
        Ok(Some(Box::pin(async move {
            tokio::select! {
                () = closing => {}
                () = ear.listen(listener) => {}
            }
        })))
    }

    async fn announce(wake: &Wake<Self>, connection: &mut PgConnection) -> sqlx::Result<()> {
        // Its commit, which nobody waits for, is not worth a flush.
        let sql = format!(
            "SET LOCAL synchronous_commit = off; SELECT pg_notify({CHANNEL}, '{}') {}",
            wake.id,
            of_table(&wake.names)
        );
        Self::execute(connection, sql).await.map(|_| ())
    }
}

/// The channel of a table: by the schema where it is, which one process may name and another leave to its search
/// path. A name may be longer than the 63 bytes that a channel has, but not its hash.
const CHANNEL: &str = "'outbox_' ||
    left(encode(sha256(convert_to(format('%I.%I', nspname, relname), 'UTF8')), 'hex'), 32)";

fn of_table(names: &Names) -> String {
    let table = Postgres::text(&names.quoted_table());
    format!(
        "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = {table}::regclass"
    )
}

struct Ear {
    wake: Weak<Wake<Postgres>>,
    id: Uuid,
    notice: watch::Sender<()>,
    channel: String,
}

impl Ear {
    /// Listens for ever, or until the store is gone.
    async fn listen(&self, mut listener: PgListener) {
        loop {
            self.hear(&mut listener).await;
            drop(listener);
            let mut attempt = 0;
            listener = loop {
                match self.connect().await {
                    Ok(listener) => break listener,
                    Err(_) if self.wake.strong_count() == 0 => return,
                    Err(_) => sleep(before_reconnect(attempt)).await,
                }
                attempt += 1;
            };
            // Whatever was announced meanwhile is for nobody to know.
            self.notice.send_replace(());
        }
    }

    /// Listens until the connection is lost.
    async fn hear(&self, listener: &mut PgListener) {
        let id = self.id.to_string();
        loop {
            match timeout(HEARTBEAT, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    let mut others = notification.payload() != id;
                    while let Some(notification) = listener.next_buffered() {
                        others |= notification.payload() != id;
                    }
                    // Who made it has told his own already.
                    if others {
                        self.notice.send_replace(());
                    }
                }
                Ok(Ok(None) | Err(_)) => return,
                Err(_) => {
                    // The other end may have gone without a word. To listen again changes nothing for a server
                    // that listens, and mends what a pooler between may have forgotten.
                    let listen = listener.execute(AssertSqlSafe(format!(r#"LISTEN "{}""#, self.channel)));
                    if !matches!(timeout(STUCK, listen).await, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }

    async fn connect(&self) -> sqlx::Result<PgListener> {
        let Some(wake) = self.wake.upgrade() else { return Err(sqlx::Error::PoolClosed) };
        // A pool of its own, because sqlx listens on nothing else, and one of the user's may have but one
        // connection.
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(STUCK);
        let options = options.max_lifetime(None).idle_timeout(None);
        let pool = options.connect_lazy_with((*wake.pool.connect_options()).clone());
        drop(wake);
        let mut listener = PgListener::connect_with(&pool).await?;
        // What is lost is found out and made good here, and not behind the scenes.
        listener.eager_reconnect(false);
        listener.listen(&self.channel).await?;
        Ok(listener)
    }
}
