//! Creating, upgrading and checking the tables.

use outbox_traits::{Error, ErrorKind, Result, SchemaReport, SchemaStore, async_trait};

use crate::{SqlxOutbox, dialect::Dialect, error, names::Names};

/// One version of the schema: a file that takes it there from the one before.
#[derive(Debug)]
pub struct Migration {
    /// Which version.
    pub version: i64,
    /// The file's name.
    pub file: &'static str,
    /// What is in it, for the default names.
    pub sql: &'static str,
}

const VERSION_COLUMNS: &[&str] = &["version", "applied_at"];

/// A table of the newest version.
struct Table<'a> {
    name: &'a str,
    columns: &'static [&'static str],
    /// By what follows the outbox's name in theirs.
    indexes: &'static [&'static str],
}

fn tables<DB: Dialect>(names: &Names) -> [Table<'_>; 4] {
    let events = &[
        "seq",
        "id",
        "type",
        "payload",
        "meta",
        "status",
        "not_before",
        "partition_hash",
        "lane",
        "idempotency_hash",
        "created_at",
        "delivered_at",
        "dead_at",
        "attempts",
        "failures",
        "first_failed_at",
        "last_failed_at",
        "last_error",
    ];
    let leases = &["token", "leased_until", "claimed_at", "worker", "entries"];
    let parked = &["seq", "id", "partition_hash", "retry_at"];
    [
        Table { name: &names.table, columns: events, indexes: DB::INDEXES },
        Table { name: &names.leases, columns: leases, indexes: &[] },
        Table { name: &names.keys, columns: &["partition_hash", "ready_at"], indexes: &["key_ready"] },
        Table {
            name: &names.parked,
            columns: parked,
            indexes: &["parked_id", "parked_key", "parked_last", "parked_retry"],
        },
    ]
}

pub(crate) const MIGRATE: &str = "migrate";
const VERIFY: &str = "verify";

impl<DB: Dialect> SqlxOutbox<DB> {
    /// The SQL that [`migrate`](SchemaStore::migrate) would run on an empty database, with this outbox's
    /// names: for a migration tool of one's own. The crate's directory `migrations` has the same for the
    /// default names.
    #[must_use]
    pub fn migration_sql(&self) -> String {
        DB::MIGRATIONS.iter().map(|migration| self.names.rewrite(migration.sql)).collect()
    }
}

#[async_trait]
impl<DB: Dialect> SchemaStore for SqlxOutbox<DB> {
    async fn migrate(&self) -> Result<()> {
        let mut connection = self.acquire(MIGRATE).await?;
        // Asked first without a lock: where nothing is to be done, no right to change a schema is needed. What
        // is amiss is only said under the lock, when no other process is half-way.
        let applied = version::<DB>(&mut connection, &self.names).await.map_err(self.error(MIGRATE))?;
        drop(connection);
        if applied == Some(newest::<DB>()) { Ok(()) } else { DB::migrate(&self.pool, &self.names).await }
    }

    async fn verify(&self) -> Result<SchemaReport> {
        let mut connection = self.acquire(VERIFY).await?;
        Ok(SchemaReport::new(problems::<DB>(&mut connection, &self.names).await?))
    }
}

/// Applies the versions that are missing; called under the lock.
pub(crate) async fn apply_missing<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<()> {
    let missing = missing::<DB>(connection, names).await?;
    for migration in &missing {
        DB::execute(connection, names.rewrite(migration.sql))
            .await
            .map_err(|error| error::of::<DB>(names, MIGRATE, error))?;
    }
    // A table of somebody else's that has one of the names was passed over by `IF NOT EXISTS`.
    match problems::<DB>(connection, names).await?.first().filter(|_| !missing.is_empty()) {
        Some(problem) => {
            let message = format!(
                "could not migrate table `{}`, because something else has the name of a part of it: {problem}; \
                 or choose another name for the outbox with `with_table`",
                names.display()
            );
            Err(Error::new(ErrorKind::Schema, message))
        }
        None => Ok(()),
    }
}

fn newest<DB: Dialect>() -> i64 {
    DB::MIGRATIONS.last().map_or(0, |migration| migration.version)
}

async fn missing<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
) -> Result<Vec<&'static Migration>> {
    let applied = applied::<DB>(connection, names).await?;
    let newest = newest::<DB>();
    if applied > newest {
        let message = format!(
            "the schema of table `{}` has version {applied} and this library knows versions up to {newest}: \
             upgrade the library",
            names.display()
        );
        return Err(Error::new(ErrorKind::Schema, message));
    }
    Ok(DB::MIGRATIONS.iter().filter(|migration| migration.version > applied).collect())
}

/// The version that the table of versions names, if there is one.
async fn version<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> sqlx::Result<Option<i64>> {
    let columns = DB::columns(connection, names, &names.versions).await?;
    if absent(VERSION_COLUMNS, &columns).next().is_some() {
        return Ok(None);
    }
    DB::version(connection, names).await.map(Some)
}

/// The version that is there; 0 if there is nothing yet.
async fn applied<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<i64> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    if let Some(version) = version::<DB>(connection, names).await.map_err(failed)? {
        return Ok(version);
    }
    // The table of versions comes first, and so it is what tells an outbox from anything else.
    let mut taken = None;
    for table in [&names.versions, &names.table, &names.leases, &names.keys, &names.parked] {
        if taken.is_none() && !DB::columns(connection, names, table).await.map_err(failed)?.is_empty() {
            taken = Some(table);
        }
    }
    let Some(taken) = taken else { return Ok(0) };
    let message = format!(
        "there is a table `{taken}` already which is not of an outbox: choose another name for the outbox \
         with `with_table`"
    );
    Err(Error::new(ErrorKind::Schema, message))
}

async fn problems<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<Vec<String>> {
    let failed = |error| error::of::<DB>(names, VERIFY, error);
    let newest = newest::<DB>();
    let remedy =
        format!("run `migrate` or apply the files in `migrations/{}` of outbox-sqlx again", DB::DIRECTORY);
    let mut problems = Vec::new();

    let versions = DB::columns(connection, names, &names.versions).await.map_err(failed)?;
    if versions.is_empty() {
        problems.push(format!("the table `{}` is missing: {remedy}", names.versions));
    } else if let Some(column) = absent(VERSION_COLUMNS, &versions).next() {
        problems.push(format!(
            "the table `{}` has no column `{column}` and is not of an outbox: choose another name for the \
             outbox with `with_table`",
            names.versions
        ));
    } else {
        let applied = DB::version(connection, names).await.map_err(failed)?;
        if applied < newest {
            problems.push(format!(
                "the schema of table `{}` has version {applied}, not {newest}: {remedy}",
                names.table
            ));
        } else if applied > newest {
            problems.push(format!(
                "the schema of table `{}` has version {applied} and this library knows versions up to \
                 {newest}: upgrade the library",
                names.table
            ));
        }
    }

    // Once its version is there `migrate` has nothing more to do: what somebody dropped is to be put back.
    let file =
        format!("create it as `migrations/{}` of outbox-sqlx does, or apply its files again", DB::DIRECTORY);
    for Table { name, columns, indexes } in tables::<DB>(names) {
        let found = DB::columns(connection, names, name).await.map_err(failed)?;
        if found.is_empty() {
            problems.push(format!("the table `{name}` is missing: {remedy}"));
            continue;
        }
        for column in absent(columns, &found) {
            problems.push(format!("the table `{name}` has no column `{column}`: {file}"));
        }
        let found = DB::indexes(connection, names, name).await.map_err(failed)?;
        for index in indexes.iter().map(|suffix| names.index(suffix)) {
            // SQLite and MySQL do not tell upper from lower case here.
            if !found.iter().any(|found| found.eq_ignore_ascii_case(&index)) {
                problems.push(format!("the table `{name}` has no index `{index}`: {file}"));
            }
        }
    }
    Ok(problems)
}

/// Those of the wanted columns that are not there.
fn absent<'a>(wanted: &'a [&str], found: &'a [String]) -> impl Iterator<Item = &'a str> {
    wanted.iter().copied().filter(move |wanted| !found.iter().any(|column| column == wanted))
}
