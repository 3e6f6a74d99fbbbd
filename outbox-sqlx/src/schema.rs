//! Creating, upgrading and checking the tables.

use std::{
    fmt,
    time::{Duration, Instant},
};

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
    /// Those of the indexes by which duplicates are told.
    pub unique: &'static [&'static str],
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
            unique: &["id", "idempotency"],
        }
    }

    pub(crate) const LEASES: Self = Self {
        suffix: Some(LEASE),
        columns: &["token", "leased_until", "claimed_at", "worker", "entries"],
        indexes: &[],
        unique: &[],
    };
    pub(crate) const KEYS: Self = Self {
        suffix: Some(KEY),
        columns: &["partition_hash", "ready_at"],
        indexes: &["key_ready"],
        unique: &[],
    };
    pub(crate) const PARKED: Self = Self {
        suffix: Some(PARKED),
        columns: &["seq", "id", "partition_hash", "retry_at"],
        indexes: &["parked_id", "parked_key", "parked_last", "parked_retry"],
        unique: &[],
    };
    /// What consumers have processed, in an inbox.
    pub(crate) const MARKS: Self = Self {
        suffix: None,
        columns: &["consumer", "event_id", "processed_at"],
        indexes: &["processed"],
        unique: &[],
    };

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

/// So often a migration that meets a conflict is tried again, unless that took long.
const MORE_TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn migrate<DB: Dialect>(pool: &Pool<DB>, names: &Names) -> Result<()> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    // Asked first without a lock: where nothing is to be done, no right to change a schema is needed. What
    // is amiss is only said under the lock, when no other process is half-way.
    let applied = version::<DB>(&mut connection, names).await.map_err(failed)?;
    if let Some(reason) = unfit::<DB>(&mut connection).await.map_err(failed)? {
        return Err(refused(names, &reason));
    }
    let is_whole = applied == Some(newest(names))
        && problems::<DB>(&mut connection, names, applied).await.map_err(failed)?.is_empty();
    drop(connection);
    if is_whole {
        return Ok(());
    }
    let started = Instant::now();
    for _ in 0..MORE_TRIES {
        match DB::migrate(pool, names).await {
            // As where it meets claims that go on.
            Err(error) if error.kind() == ErrorKind::Conflict && started.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
    DB::migrate(pool, names).await
}

pub(crate) async fn verify<DB: Dialect>(pool: &Pool<DB>, names: &Names) -> Result<SchemaReport> {
    let failed = |error| error::of::<DB>(names, VERIFY, error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    let applied = version::<DB>(&mut connection, names).await.map_err(failed)?;
    let problems = problems::<DB>(&mut connection, names, applied).await.map_err(failed)?;
    let mut all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    all.extend(unfit::<DB>(&mut connection).await.map_err(failed)?);
    Ok(SchemaReport::new(all))
}

fn refused(names: &Names, why: &str) -> Error {
    Error::new(ErrorKind::Schema, format!("could not migrate table `{}`: {why}", names.display()))
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

/// Applies the versions that are missing and, where a part was lost since, all of them again; called under the lock. It brings
/// back all or, where something is to be done by hand first, nothing.
pub(crate) async fn apply_missing<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> Result<()> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    let missing = missing::<DB>(connection, names).await?;
    // A table of somebody else's that has the name of a part would be passed over by `IF NOT EXISTS`. The first one was looked
    // at with the version.
    for table in names.layout.tables.iter().skip(1) {
        if is_foreign::<DB>(connection, names, table).await.map_err(failed)? {
            let taken = taken(names, &table.name(names));
            return Err(Error::new(ErrorKind::Schema, taken.to_string()));
        }
    }
    if !missing.is_empty() {
        let there = there::<DB>(connection, names).await.map_err(failed)?;
        begin_anew::<DB>(connection, names, &there).await?;
    }
    for sql in missing {
        DB::execute(connection, names.rewrite(sql)).await.map_err(failed)?;
    }
    let applied = version::<DB>(connection, names).await.map_err(failed)?;
    let mut problems = problems::<DB>(connection, names, applied).await.map_err(failed)?;
    if let Some(first) = problems.first()
        && problems.iter().all(|problem| problem.is_made_again)
    {
        apply_again::<DB>(connection, names, first).await?;
        let applied = version::<DB>(connection, names).await.map_err(failed)?;
        problems = self::problems::<DB>(connection, names, applied).await.map_err(failed)?;
    }
    let outbox = names.layout.name;
    if let Some(by_hand) = problems.iter().find(|problem| !problem.is_made_again) {
        let why = format!(
            "{by_hand}; or, if something else has the name of that table, choose another name for the \
             {outbox} with `with_table`"
        );
        return Err(refused(names, &why));
    }
    // So would an index of somebody else's.
    problems.first().map_or(Ok(()), |problem| {
        let why = format!(
            "{}, and it could not be made, because something else has its name: drop or rename that, which may be \
             an index that is not valid, or choose another name for the {outbox} with `with_table`",
            problem.what
        );
        Err(refused(names, &why))
    })
}

/// Applies all versions again, for what was lost.
async fn apply_again<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
    lost: &Problem,
) -> Result<()> {
    let failed = |error| error::of::<DB>(names, MIGRATE, error);
    let there = there::<DB>(connection, names).await.map_err(failed)?;
    for table in &there {
        if !DB::is_where_made(connection, names, table).await.map_err(failed)? {
            let why = format!(
                "{}, and it would be made elsewhere than the table `{table}`, which is not where these connections \
                 make tables: have them make tables there, or apply the files in `migrations/{}` of outbox-sqlx \
                 there again",
                lost.what,
                DB::DIRECTORY
            );
            return Err(refused(names, &why));
        }
    }
    begin_anew::<DB>(connection, names, &there).await?;
    for sql in names.layout.migrations {
        DB::execute(connection, names.rewrite(sql))
            .await
            .map_err(|error| not_made::<DB>(names, lost, error))?;
    }
    Ok(())
}

/// The tables that are there.
async fn there<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> sqlx::Result<Vec<String>> {
    let tables = names.layout.tables.iter().map(|table| table.name(names));
    let mut there = Vec::new();
    for table in tables.chain([names.part(VERSION)]) {
        if !DB::columns(connection, names, &table).await?.is_empty() {
            there.push(table);
        }
    }
    Ok(there)
}

/// What is parked, waits or is leased is known by several tables together, and by none alone: where one was lost, it is pending as
/// if nobody had met it yet.
///
/// Before that is made again: as long as one is missing nobody claims, and where this is cut off, on an engine that makes tables
/// in no transaction, the next migration finds it missing and does this again.
async fn begin_anew<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
    there: &[String],
) -> Result<()> {
    let mut of_claims = names.layout.tables.iter().filter(|table| table.suffix.is_some());
    if !there.contains(&names.table) || of_claims.all(|table| there.contains(&table.name(names))) {
        return Ok(());
    }
    let sql = making_pending::<DB>(names, there);
    DB::execute(connection, sql).await.map(drop).map_err(|error| error::of::<DB>(names, MIGRATE, error))
}

/// Under the lock of the claims, if there is one.
fn making_pending<DB: Dialect>(names: &Names, there: &[String]) -> String {
    let is_there = |part: &&str| there.contains(&names.part(part));
    let (begin, end) = DB::AROUND_REPAIR;
    let mut statements = Vec::new();
    if is_there(&VERSION) {
        let version = names.quoted_part(VERSION);
        statements.push(format!("SELECT version FROM {version} WHERE version = 2 {}", DB::FOR_UPDATE));
    }
    let events = names.quoted_table();
    statements.push(format!("UPDATE {events} SET status = 'pending' WHERE status IN ('parked', 'waiting')"));
    let parts = [LEASE, KEY, PARKED].into_iter().filter(is_there);
    statements.extend(parts.map(|part| format!("DELETE FROM {}", names.quoted_part(part))));
    format!("{begin}{}{end}", statements.join("; "))
}

/// Says what was to be made again, beside the error of the driver.
fn not_made<DB: Dialect>(names: &Names, lost: &Problem, error: sqlx::Error) -> Error {
    let is_duplicate = matches!(&error, sqlx::Error::Database(error) if error.is_unique_violation());
    // No index can be unique before that.
    let (kind, hint) = if is_duplicate {
        (ErrorKind::Schema, ", as there are duplicates: delete all but one of each, and run `migrate` again")
    } else {
        (error::kind::<DB>(&error), "")
    };
    let (table, what) = (names.display(), &lost.what);
    let message = format!("could not migrate table `{table}`: {what}, and it could not be made{hint}");
    Error::new(kind, message).with_source(error)
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

/// The newest version that the table of versions names; 0 if none, or if one before it is missing: claims lock a row of these.
async fn last_applied<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> sqlx::Result<i64> {
    let versions = names.quoted_part(VERSION);
    let sql = format!(
        "SELECT CAST(CASE WHEN MAX(version) > {} OR MAX(version) = COUNT(*) THEN MAX(version) ELSE 0 END AS {}) FROM {versions}",
        newest(names),
        DB::BIGINT
    );
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
    if is_whole::<DB>(connection, names).await.map_err(failed)? {
        // What says the version was lost. Nothing is to be upgraded; all is to be made again.
        let lost = lost_version::<DB>(names);
        return if lost.is_made_again { Ok(newest(names)) } else { Err(refused(names, &lost.to_string())) };
    }
    match in_the_way::<DB>(connection, names).await.map_err(failed)? {
        Some(table) => Err(Error::new(ErrorKind::Schema, taken(names, &table).to_string())),
        None => Ok(0),
    }
}

/// The table of versions was lost. Its rows are also the lock of the claims, which an engine that makes tables in no transaction
/// would show before they are there.
fn lost_version<DB: Dialect>(names: &Names) -> Problem {
    let what = format!("the table `{}` is missing", names.part(VERSION));
    let (begin, _) = DB::AROUND_REPAIR;
    if begin.is_empty() {
        return Problem::made_again(what, "run `migrate`");
    }
    Problem::by_hand(
        what,
        format!(
            "stop what claims and settles, apply the first of the files in `migrations/{}` of outbox-sqlx again, and run \
             `migrate`",
            DB::DIRECTORY
        ),
    )
}

/// Whether the table of an outbox has all columns that it has in the newest version, by which it is no other's. An inbox has too few
/// for that.
async fn is_whole<DB: Dialect>(connection: &mut DB::Connection, names: &Names) -> sqlx::Result<bool> {
    let is_outbox = names.layout.tables.len() > 1;
    if !is_outbox || !DB::columns(connection, names, &names.part(VERSION)).await?.is_empty() {
        return Ok(false);
    }
    let columns = DB::columns(connection, names, &names.table).await?;
    Ok(absent(names.layout.tables[0].columns, &columns).next().is_none())
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

fn taken(names: &Names, table: &str) -> Problem {
    let outbox = names.layout.name;
    Problem::by_hand(
        format!("there is a table `{table}` already which is not of an {outbox}"),
        format!("choose another name for the {outbox} with `with_table`"),
    )
}

/// What is amiss.
struct Problem {
    what: String,
    remedy: String,
    /// Whether a migration makes what is missing, so that it can be applied again.
    is_made_again: bool,
}

impl Problem {
    /// The migrations pass it over.
    fn by_hand(what: String, remedy: impl Into<String>) -> Self {
        Self { what, remedy: remedy.into(), is_made_again: false }
    }

    fn made_again(what: String, remedy: &str) -> Self {
        Self { what, remedy: remedy.to_owned(), is_made_again: true }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// What is amiss with the tables, of which this version was applied.
async fn problems<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names,
    applied: Option<i64>,
) -> sqlx::Result<Vec<Problem>> {
    let newest = newest(names);
    let files = format!("the files in `migrations/{}` of outbox-sqlx", DB::DIRECTORY);
    let again = format!("run `migrate` or apply {files} again");
    // What stands in the statement that makes a table is passed over where the table is there.
    let by_hand = format!("create it as {files} do");
    let mut problems = Vec::new();
    let (mut has_events, mut is_part_lost) = (false, false);

    if let Some(applied) = applied {
        if applied < newest {
            let what = format!("the schema of table `{}` has version {applied}, not {newest}", names.table);
            problems.push(Problem::made_again(what, &again));
        } else if applied > newest {
            let what = format!(
                "the schema of table `{}` has version {applied} and this library knows versions up to {newest}",
                names.table
            );
            problems.push(Problem::by_hand(what, "upgrade the library"));
        }
    } else if is_whole::<DB>(connection, names).await? {
        problems.push(lost_version::<DB>(names));
    } else if let Some(table) = in_the_way::<DB>(connection, names).await? {
        return Ok(vec![taken(names, &table)]);
    } else {
        let what = format!("the table `{}` is missing", names.part(VERSION));
        problems.push(Problem::made_again(what, &again));
    }

    for table in names.layout.tables {
        let name = table.name(names);
        let found = DB::columns(connection, names, &name).await?;
        has_events |= table.suffix.is_none() && !found.is_empty();
        if found.is_empty() {
            is_part_lost |= has_events && applied.is_none_or(|applied| applied == newest);
            problems.push(Problem::made_again(format!("the table `{name}` is missing"), &again));
            continue;
        }
        for column in absent(table.columns, &found) {
            let what = format!("the table `{name}` has no column `{column}`");
            problems.push(Problem::by_hand(what, &*by_hand));
        }
        if table.indexes.is_empty() {
            continue;
        }
        let found = DB::indexes(connection, names, &name).await?;
        for suffix in table.indexes {
            let (index, is_by_hand) = (names.index(suffix), DB::is_made_with_table(suffix));
            // SQLite and MySQL do not tell upper from lower case here.
            match found.iter().find(|(found, _)| found.eq_ignore_ascii_case(&index)) {
                None => {
                    let what = format!("the table `{name}` has no index `{index}`");
                    problems.push(if is_by_hand {
                        Problem::by_hand(what, &*by_hand)
                    } else {
                        Problem::made_again(what, &again)
                    });
                }
                Some((_, false)) if table.unique.contains(suffix) => {
                    let what = format!(
                        "the index `{index}` of the table `{name}` is not unique, so that duplicates are stored"
                    );
                    let then = if is_by_hand { &by_hand } else { &again };
                    problems.push(Problem::by_hand(what, format!("drop it, and {then}")));
                }
                Some(_) => {}
            }
        }
    }
    // The files would make that table empty, and what it knew of events would be stuck.
    if is_part_lost {
        for problem in problems.iter_mut().filter(|problem| problem.is_made_again) {
            "run `migrate`".clone_into(&mut problem.remedy);
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
