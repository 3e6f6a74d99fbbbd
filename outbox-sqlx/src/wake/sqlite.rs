//! SQLite: the version of the file says whether anybody else has committed.

use std::{sync::Arc, time::Duration};

use sqlx::{ConnectOptions, Pool, Sqlite, SqliteConnection};

use super::{
    Task, Wake, WakeEngine,
    poll::{self, Look},
};

impl WakeEngine for Sqlite {
    const ANNOUNCES: bool = false;

    async fn begin(wake: &Arc<Wake<Self>>, closing: Task) -> sqlx::Result<Option<Task>> {
        // A database in memory has no file, is nobody else's, and a connection of one's own would be to another.
        let mut connection = wake.pool.acquire().await?;
        let file: Option<String> =
            sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
                .persistent(false)
                .fetch_one(&mut *connection)
                .await?;
        drop(connection);
        if file.is_none_or(|file| file.is_empty()) {
            return Ok(None);
        }
        poll::begin(wake, closing).await
    }

    async fn announce(_wake: &Wake<Self>, _connection: &mut SqliteConnection) -> sqlx::Result<()> {
        Ok(())
    }
}

impl Look for Sqlite {
    const INTERVALS: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(16));

    async fn connect(pool: &Pool<Self>) -> sqlx::Result<SqliteConnection> {
        // A file that somebody deleted is not to come back.
        (*pool.connect_options()).clone().create_if_missing(false).connect().await
    }

    // It changes with each commit of any other connection, of this process or another.
    async fn has_changed(connection: &mut SqliteConnection, version: &mut i64) -> sqlx::Result<bool> {
        let now = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await?;
        Ok(std::mem::replace(version, now) != now)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;

    #[tokio::test]
    async fn a_file_has_changed_once_after_a_commit_of_another_connection() {
        let directory = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(directory.path().join("file.db"));
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(file.create_if_missing(true)).await.unwrap();
        let mut connection = <Sqlite as Look>::connect(&pool).await.unwrap();
        let mut version = i64::MIN;
        let mut has_changed = async || Sqlite::has_changed(&mut connection, &mut version).await.unwrap();
        assert!(has_changed().await, "it was never looked at");
        assert!(!has_changed().await);
        sqlx::raw_sql("CREATE TABLE business (x INT)").execute(&pool).await.unwrap();
        assert!(has_changed().await);
        assert!(!has_changed().await);
    }
}
