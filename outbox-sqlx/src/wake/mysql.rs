//! MySQL and MariaDB: it is asked for the newest events, because it tells nobody.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, MySql, MySqlConnection, Pool};

use super::{
    Task, Wake, WakeEngine,
    poll::{self, Look},
};

impl WakeEngine for MySql {
    const ANNOUNCES: bool = false;

    async fn begin(wake: &Arc<Wake<Self>>, closing: Task) -> sqlx::Result<Option<Task>> {
        poll::begin(wake, closing).await
    }

    async fn announce(_wake: &Wake<Self>, _connection: &mut MySqlConnection) -> sqlx::Result<()> {
        Ok(())
    }
}

impl Look for MySql {
    const INTERVALS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

    async fn connect(pool: &Pool<Self>) -> sqlx::Result<MySqlConnection> {
        pool.connect_options().connect().await
    }

    async fn has_changed(_connection: &mut MySqlConnection, _version: &mut i64) -> sqlx::Result<bool> {
        Ok(true)
    }
}
