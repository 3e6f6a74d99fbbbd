//! The names of tables and indexes: the user's to choose, quoted safely.

use outbox_traits::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

/// The table's name in the shipped SQL, and the default.
pub(crate) const DEFAULT_TABLE: &str = "outbox";
const VERSION: &str = "version";
const LEASE: &str = "lease";
const KEY: &str = "key";
const PARKED: &str = "parked";

/// What an engine takes as a quoted identifier.
#[derive(Debug)]
pub struct NameRules {
    /// Stands on both sides; doubled inside.
    pub quote: char,
    /// The longest name.
    pub max: usize,
    /// What it is counted in.
    pub unit: &'static str,
    /// Counts it.
    pub count: fn(&str) -> usize,
    /// What else is wrong with a name.
    pub problem: fn(&str) -> Option<&'static str>,
}

impl NameRules {
    fn check(&self, what: &str, name: &str) -> Result<()> {
        let length = (self.count)(name);
        let problem = if name.is_empty() {
            "is empty".to_owned()
        } else if name.contains('\0') {
            "contains a NUL character".to_owned()
        } else if length > self.max {
            format!("has {length} {} and the engine's limit is {}", self.unit, self.max)
        } else if let Some(problem) = (self.problem)(name) {
            problem.to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Schema, format!("the {what} name {name:?} cannot be used: it {problem}")))
    }

    fn quoted(&self, name: &str) -> String {
        let quote = self.quote.to_string();
        format!("{quote}{}{quote}", name.replace(&quote, &quote.repeat(2)))
    }

    /// `{table}_{suffix}`; where that is too long, the table's part is cut and a hash of it keeps it apart
    /// from others that begin alike.
    fn derived(&self, table: &str, suffix: &str) -> String {
        let name = format!("{table}_{suffix}");
        if (self.count)(&name) <= self.max {
            return name;
        }
        let tail = format!("_{}_{suffix}", &hash(table)[..8]);
        let mut cut = table.to_owned();
        while (self.count)(&cut) + (self.count)(&tail) > self.max {
            cut.pop();
        }
        cut + &tail
    }
}

/// The names of one outbox. Whatever of them is put into SQL is quoted.
#[derive(Debug)]
pub struct Names {
    rules: &'static NameRules,
    /// The schema or database, as the user gave it.
    pub schema: Option<String>,
    /// The table, as the user gave it.
    pub table: String,
    /// The table of versions.
    pub versions: String,
    /// The table of leases.
    pub leases: String,
    /// The table of keys that have parked events.
    pub keys: String,
    /// The table of parked and waiting events.
    pub parked: String,
}

impl Names {
    pub(crate) fn new(rules: &'static NameRules, schema: Option<&str>, table: &str) -> Result<Self> {
        if let Some(schema) = schema {
            rules.check("schema", schema)?;
        }
        rules.check("table", table)?;
        Ok(Self {
            rules,
            schema: schema.map(str::to_owned),
            table: table.to_owned(),
            versions: rules.derived(table, VERSION),
            leases: rules.derived(table, LEASE),
            keys: rules.derived(table, KEY),
            parked: rules.derived(table, PARKED),
        })
    }

    /// The table, quoted, with its schema where one was given.
    pub(crate) fn quoted_table(&self) -> String {
        self.quoted(&self.table)
    }

    /// The table of versions, likewise.
    pub(crate) fn quoted_versions(&self) -> String {
        self.quoted(&self.versions)
    }

    /// A table, likewise.
    pub(crate) fn quoted(&self, table: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", self.rules.quoted(schema), self.rules.quoted(table)),
            None => self.rules.quoted(table),
        }
    }

    /// The name of one of the table's indexes.
    pub(crate) fn index(&self, suffix: &str) -> String {
        self.rules.derived(&self.table, suffix)
    }

    /// The same, quoted.
    pub(crate) fn quoted_index(&self, suffix: &str) -> String {
        self.rules.quoted(&self.index(suffix))
    }

    /// For people.
    pub(crate) fn display(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.table),
            None => self.table.clone(),
        }
    }

    /// A number that stands for outboxes of this name: without the schema, which one process may name and
    /// another leave to its search path.
    pub(crate) fn lock_key(&self) -> i64 {
        let digest = Sha256::digest(format!("outbox {}", self.table));
        i64::from_be_bytes(std::array::from_fn(|index| digest[index]))
    }

    /// A shipped SQL file with these names in place of the default ones.
    ///
    /// Its only quotation marks are those of identifiers, so that every second piece between them is one. All
    /// is replaced in one pass: a chosen name is not looked at again, whatever it contains.
    pub(crate) fn rewrite(&self, sql: &str) -> String {
        // Without the comments: a name in one of them would stand outside of any quotes that count.
        let sql: String =
            sql.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("--")).collect();
        let mut rewritten = String::with_capacity(sql.len());
        for (index, piece) in sql.split(self.rules.quote).enumerate() {
            if index % 2 == 0 {
                rewritten.push_str(piece);
                continue;
            }
            rewritten.push_str(&match piece.strip_prefix(DEFAULT_TABLE) {
                Some("") => self.quoted_table(),
                Some("_version") => self.quoted_versions(),
                Some("_lease") => self.quoted(&self.leases),
                Some("_key") => self.quoted(&self.keys),
                Some("_parked") => self.quoted(&self.parked),
                Some(suffix) if suffix.starts_with('_') => self.quoted_index(&suffix[1..]),
                _ => self.rules.quoted(piece),
            });
        }
        rewritten
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    static RULES: NameRules =
        NameRules { quote: '"', max: 63, unit: "bytes", count: str::len, problem: |_| None };

    fn names(table: &str) -> Names {
        Names::new(&RULES, Some("a\"pp"), table).unwrap()
    }

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        assert_eq!(names("out\"box").quoted_table(), r#""a""pp"."out""box""#);
    }

    #[test]
    fn a_name_that_cannot_be_used_says_why() {
        for (table, why) in [("", "is empty"), ("a\0b", "NUL"), (&*"é".repeat(32), "64 bytes")] {
            let error = Names::new(&RULES, None, table).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Schema);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn derived_names_of_a_long_table_are_cut_and_kept_apart() {
        let (one, two) = (names(&format!("{}1", "é".repeat(31))), names(&format!("{}2", "é".repeat(31))));
        assert!(one.versions.len() <= 63 && one.versions.ends_with("_version"), "{}", one.versions);
        assert_ne!(one.versions, two.versions);
        assert_ne!(one.index("fifo"), two.index("fifo"));
    }

    #[test]
    fn sql_is_rewritten_in_one_pass() {
        let sql = r#"CREATE INDEX "outbox_fifo" ON "outbox" ("seq"); SELECT "outbox_version""#;
        assert_eq!(
            Names::new(&RULES, None, r#"x"outbox"#).unwrap().rewrite(sql),
            r#"CREATE INDEX "x""outbox_fifo" ON "x""outbox" ("seq"); SELECT "x""outbox_version""#
        );
    }

    #[test]
    fn comments_are_left_out_so_that_no_name_can_end_one() {
        let sql = "-- of \"outbox\"\n  -- and its \"outbox_key\"\nSELECT 1 FROM \"outbox\";\n";
        let rewritten = Names::new(&RULES, None, "x\n; DROP TABLE y; --").unwrap().rewrite(sql);
        assert_eq!(rewritten, "SELECT 1 FROM \"x\n; DROP TABLE y; --\";\n");
    }
}
