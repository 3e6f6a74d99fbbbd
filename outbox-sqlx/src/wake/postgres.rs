//! PostgreSQL: `NOTIFY`, after the commit and not in it, because transactions that notify commit one after the
//! other.

use std::{sync::Arc, time::Duration};

use backon::BackoffBuilder;
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres, Row,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::{sleep, timeout};

use super::{RECONNECT, STUCK, Task, Wake, WakeEngine};
use crate::{dialect::Engine, names::Names};

/// How long the server may be silent before it is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);

impl WakeEngine for Postgres {
    const ANNOUNCES: bool = true;

    async fn begin(wake: &Arc<Wake<Self>>, closing: Task) -> sqlx::Result<Option<Task>> {
        // Asked through the pool, whose connections may have a search path of their own.
        let sql = format!("SELECT {CHANNEL} {}", of_table(&wake.names));
        let channel = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&wake.pool).await?.try_get(0)?;
        let ear = Ear { wake: Arc::clone(wake), channel };
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
    wake: Arc<Wake<Postgres>>,
    channel: String,
}

impl Ear {
    /// Listens for ever.
    async fn listen(&self, mut listener: PgListener) {
        loop {
            self.hear(&mut listener).await;
            drop(listener);
            let mut delays = RECONNECT.build();
            listener = loop {
                // The first time, too: a pooler may take the connection away again as soon as it listens.
                sleep(delays.next().unwrap_or(STUCK)).await;
                if let Ok(listener) = self.connect().await {
                    break listener;
                }
            };
            // Whatever was announced meanwhile is for nobody to know.
            self.wake.notice.send_replace(());
        }
    }

    /// Listens until the connection is lost.
    async fn hear(&self, listener: &mut PgListener) {
        let own = self.wake.id.to_string();
        loop {
            match timeout(HEARTBEAT, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    // Who made it has told his own already.
                    if notification.payload() != own {
                        self.wake.notice.send_replace(());
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
        // A pool of its own, because sqlx listens on nothing else, and one of the user's may have but one
        // connection.
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(STUCK);
        let options = options.max_lifetime(None).idle_timeout(None);
        let pool = options.connect_lazy_with((*self.wake.pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        // What is lost is found out and made good here, and not behind the scenes.
        listener.eager_reconnect(false);
        listener.listen(&self.channel).await?;
        Ok(listener)
    }
}
