//! Creating, upgrading and checking the tables.

use outbox_traits::{Error, ErrorKind, Result, SchemaReport, SchemaStore, async_trait};
use sqlx::Pool;

use crate::{
    SqlxOutbox,
    dialect::Dialect,
    error,
    names::{KEY, LEASE, Names, PARKED, VERSION},
    row::ReadRow,
};

/// What an outbox or an inbox consists of.
#[derive(Debug)]
pub struct Layout {
    /// What it is, which is also the name of its table by default, and in the shipped SQL.
    pub name: &'static str,
    /// The versions of its schema, from the first on: each is the SQL, for the default names, that takes it there from the
    /// one before.
    pub migrations: &'static [&'static str],
    /// The tables of the newest version beside that of versions, the one of its own name first.
    pub tables: &'static [Table],
}

/// A table of the newest version.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// What follows the name of the outbox or inbox in its own; none in that of its own name.
    pub suffix: Option<&'static str>,
    /// The first two tell it from any other.
    pub columns: &'static [&'static str],
    /// By what follows the name of the outbox or inbox in theirs.
    pub indexes: &'static [&'static str],
}

impl Table {
    /// The events of an outbox.
    pub(crate) const fn events(indexes: &'static [&'static str]) -> Self {
        Self {
            suffix: None,
            columns: &[
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
            ],
            indexes,
        }
    }

    pub(crate) const LEASES: Self = Self {
        suffix: Some(LEASE),
        columns: &["token", "leased_until", "claimed_at", "worker", "entries"],
        indexes: &[],
    };
    pub(crate) const KEYS: Self =
        Self { suffix: Some(KEY), columns: &["partition_hash", "ready_at"], indexes: &["key_ready"] };
    pub(crate) const PARKED: Self = Self {
        suffix: Some(PARKED),
        columns: &["seq", "id", "partition_hash", "retry_at"],
        indexes: &["parked_id", "parked_key", "parked_last", "parked_retry"],
    };
    /// What consumers have processed, in an inbox.
    pub(crate) const MARKS: Self =
        Self { suffix: None, columns: &["consumer", "event_id", "processed_at"], indexes: &["processed"] };

    fn name(&self, names: &Names) -> String {
        self.suffix.map_or_else(|| names.table.clone(), |suffix| names.part(suffix))
    }
}

const VERSION_COLUMNS: &[&str] = &["version", "applied_at"];

pub(crate) const MIGRATE: &str = "migrate";
const VERIFY: &str = "verify";

/// The SQL of all versions, with the user's names.
pub(crate) fn migration_sql(names: &Names) -> String {
    names.layout.migrations.iter().map(|sql| names.rewrite(sql)).collect()
}

pub(crate) async fn migrate<DB: Dialect>(pool: &Pool<DB>, names: &Names) -> Result<()> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    // Asked first without a lock: where nothing is to be done, no right to change a schema is needed. What
    // is amiss is only said under the lock, when no other process is half-way.
    let applied = version::<DB>(&mut connection, names).await.map_err(failed)?;
    if let Some(reason) = unfit::<DB>(&mut connection).await.map_err(failed)? {
        let message = format!("could not migrate table `{}`: {reason}", names.display());
        return Err(Error::new(ErrorKind::Schema, message));
    }
    drop(connection);
    if applied == Some(newest(names)) { Ok(()) } else { DB::migrate(pool, names).await }
}

pub(crate) async fn verify<DB: Dialect>(pool: &Pool<DB>, names: &Names) -> Result<SchemaReport> {
    let failed = |error| error::of::<DB>(names, VERIFY, error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    let mut all = problems::<DB>(&mut connection, names).await?;
    all.extend(unfit::<DB>(&mut connection).await.map_err(failed)?);
    Ok(SchemaReport::new(all))
}

/// Why connections of this kind cannot be used.
async fn unfit<DB: Dialect>(connection: &mut DB::Connection) -> sqlx::Result<Option<String>> {
    let Some(sql) = DB::UNFIT else { return Ok(None) };
    DB::rows(connection, sql.to_owned()).await?.first().map(|row| row.text(0)).transpose()
}

impl<DB: Dialect> SqlxOutbox<DB> {
    /// The SQL that [`migrate`](SchemaStore::migrate) would run on an empty database, with this outbox's
    /// names: for a migration tool of one's own. The crate's directory `migrations` has the same for the
    /// default names.
    #[must_use]
    pub fn migration_sql(&self) -> String {
        migration_sql(&self.names)
    }
}

#[async_trait]
impl<DB: Dialect> SchemaStore for SqlxOutbox<DB> {
    async fn migrate(&self) -> Result<()> {
        migrate(&self.pool, &self.names).await
    }

    async fn verify(&self) -> Result<SchemaReport> {
        verify(&self.pool, &self.names).await
    }
}

/// Applies the versions that are missing; called under the lock.
pub(crate) async fn apply_missing<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<()> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    let missing = missing::<DB>(connection, names).await?;
    if missing.is_empty() {
        return Ok(());
    }
    // A table of somebody else's that has the name of a part would be passed over by `IF NOT EXISTS`. The first one was looked
    // at with the version.
    for table in names.layout.tables.iter().skip(1) {
        if is_foreign::<DB>(connection, names, table).await.map_err(failed)? {
            let message = format!("there is {}", taken(names, &table.name(names)));
            return Err(Error::new(ErrorKind::Schema, message));
        }
    }
    for sql in missing {
        DB::execute(connection, names.rewrite(sql)).await.map_err(failed)?;
    }
    // So would an index.
    match problems::<DB>(connection, names).await?.first() {
        Some(problem) => {
            let message = format!(
                "could not migrate table `{}`, because something else has the name of a part of it: {problem}; \
                 or choose another name for the {} with `with_table`",
                names.display(),
                names.layout.name
            );
            Err(Error::new(ErrorKind::Schema, message))
        }
        None => Ok(()),
    }
}

fn newest(names: &Names) -> i64 {
    i64::try_from(names.layout.migrations.len()).unwrap_or(i64::MAX)
}

async fn missing<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
) -> Result<&'static [&'static str]> {
    let applied = applied::<DB>(connection, names).await?;
    after(applied, names.layout.migrations).ok_or_else(|| {
        let message = format!(
            "the schema of table `{}` has version {applied} and this library knows versions up to {}: \
             upgrade the library",
            names.display(),
            newest(names)
        );
        Error::new(ErrorKind::Schema, message)
    })
}

/// The versions after one; none if that is a newer one than all of them.
fn after<T>(version: i64, migrations: &[T]) -> Option<&[T]> {
    migrations.get(usize::try_from(version).ok()?..)
}

/// The version that the table of versions names, if there is one and it is of such a thing.
async fn version<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> sqlx::Result<Option<i64>> {
    let columns = DB::columns(connection, names, &names.part(VERSION)).await?;
    let is_there = absent(VERSION_COLUMNS, &columns).next().is_none();
    if !is_there || is_foreign::<DB>(connection, names, &names.layout.tables[0]).await? {
        return Ok(None);
    }
    last_applied::<DB>(connection, names).await.map(Some)
}

/// The newest version that the table of versions names; 0 if none.
async fn last_applied<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> sqlx::Result<i64> {
    let versions = names.quoted_part(VERSION);
    let sql = format!("SELECT CAST(COALESCE(MAX(version), 0) AS {}) FROM {versions}", DB::BIGINT);
    DB::rows(connection, sql).await?.first().map_or(Ok(0), |row| row.number(0))
}

/// Whether a table is there and something else. That of the name itself may be so beside a table of versions like ours: an
/// inbox where an outbox is looked for, or the other way round.
async fn is_foreign<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
    table: &Table,
) -> sqlx::Result<bool> {
    let columns = DB::columns(connection, names, &table.name(names)).await?;
    Ok(!columns.is_empty() && absent(&table.columns[..2], &columns).next().is_some())
}

/// The version that is there; 0 if there is nothing yet.
async fn applied<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<i64> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    if let Some(version) = version::<DB>(connection, names).await.map_err(failed)? {
        return Ok(version);
    }
    match in_the_way::<DB>(connection, names).await.map_err(failed)? {
        Some(table) => Err(Error::new(ErrorKind::Schema, format!("there is {}", taken(names, &table)))),
        None => Ok(0),
    }
}

/// Where no version is there, a table that has the name of a part, of an index too if those share their names with tables.
/// A migration makes the table of versions first, and so it is what tells an outbox from anything else.
async fn in_the_way<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
) -> sqlx::Result<Option<String>> {
    let tables = names.layout.tables.iter().map(|table| table.name(names));
    let indexes = names.layout.tables.iter().flat_map(|table| table.indexes);
    let indexes = indexes.filter(|_| DB::INDEXES_TAKE_NAMES).map(|suffix| names.index(suffix));
    for table in tables.chain([names.part(VERSION)]).chain(indexes) {
        if !DB::columns(connection, names, &table).await?.is_empty() {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

fn taken(names: &Names, table: &str) -> String {
    let what = names.layout.name;
    format!(
        "a table `{table}` already which is not of an {what}: choose another name for the {what} with `with_table`"
    )
}

async fn problems<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<Vec<String>> {
    let failed = |error| error::of::<DB>(names, VERIFY, error);
    let newest = newest(names);
    let remedy =
        format!("run `migrate` or apply the files in `migrations/{}` of outbox-sqlx again", DB::DIRECTORY);
    let mut problems = Vec::new();

    if let Some(applied) = version::<DB>(connection, names).await.map_err(failed)? {
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
    } else if let Some(table) = in_the_way::<DB>(connection, names).await.map_err(failed)? {
        return Ok(vec![format!("there is {}", taken(names, &table))]);
    } else {
        problems.push(format!("the table `{}` is missing: {remedy}", names.part(VERSION)));
    }

    // Once its version is there `migrate` has nothing more to do: what somebody dropped is to be put back.
    let file =
        format!("create it as `migrations/{}` of outbox-sqlx does, or apply its files again", DB::DIRECTORY);
    for table in names.layout.tables {
        let name = table.name(names);
        let found = DB::columns(connection, names, &name).await.map_err(failed)?;
        if found.is_empty() {
            problems.push(format!("the table `{name}` is missing: {remedy}"));
            continue;
        }
        for column in absent(table.columns, &found) {
            problems.push(format!("the table `{name}` has no column `{column}`: {file}"));
        }
        let found = DB::indexes(connection, names, &name).await.map_err(failed)?;
        for index in table.indexes.iter().map(|suffix| names.index(suffix)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_not_applied_again() {
        let versions = |applied| after(applied, &[1, 2, 3]);
        assert_eq!(versions(0), Some(&[1, 2, 3][..]));
        assert_eq!(versions(2), Some(&[3][..]));
        assert_eq!(versions(3), Some(&[][..]));
        assert_eq!((versions(4), versions(-1)), (None, None));
    }
}
