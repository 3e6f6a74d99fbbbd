//! The names of tables and indexes: the user's to choose, quoted safely.

use outbox_traits::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::schema::Layout;

// What follows the name of an outbox or inbox in those of its further tables.

/// The versions of the schema that were applied.
pub(crate) const VERSION: &str = "version";
/// Leases.
pub(crate) const LEASE: &str = "lease";
/// Keys that have parked events.
pub(crate) const KEY: &str = "key";
/// Parked and waiting events.
pub(crate) const PARKED: &str = "parked";

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
        let problem = if name.is_empty() {
            Some("is empty".to_owned())
        } else if name.contains('\0') {
            Some("contains a NUL character".to_owned())
        } else {
            self.unfit(name)
        };
        problem.map_or(Ok(()), |problem| {
            let message = format!("the {what} name {name:?} cannot be used: it {problem}");
            Err(Error::new(ErrorKind::Schema, message))
        })
    }

    /// Why the engine does not take a name, which is something at least.
    fn unfit(&self, name: &str) -> Option<String> {
        let length = (self.count)(name);
        if length > self.max {
            return Some(format!("has {length} {} and the engine's limit is {}", self.unit, self.max));
        }
        (self.problem)(name).map(str::to_owned)
    }

    fn quoted(&self, name: &str) -> String {
        let quote = self.quote.to_string();
        format!("{quote}{}{quote}", name.replace(&quote, &quote.repeat(2)))
    }

    /// `{table}_{suffix}`; where that is too long, the table's part is cut and a hash of it keeps it apart
    /// from others that begin alike.
    fn derived(&self, table: &str, suffix: &str) -> String {
        let name = format!("{table}_{suffix}");
        if self.unfit(&name).is_none() {
            return name;
        }
        let tail = format!("_{}_{suffix}", &hash(table)[..8]);
        let mut cut = table.to_owned();
        while self.unfit(&format!("{cut}{tail}")).is_some() {
            cut.pop();
        }
        cut + &tail
    }
}

/// The names of one outbox or inbox. Whatever of them is put into SQL is quoted.
#[derive(Debug)]
pub struct Names {
    rules: &'static NameRules,
    /// What they are the names of.
    pub layout: &'static Layout,
    /// The schema or database, as the user gave it.
    pub schema: Option<String>,
    /// The table, as the user gave it.
    pub table: String,
}

impl Names {
    /// The default ones, which are good for every engine.
    pub(crate) fn new(rules: &'static NameRules, layout: &'static Layout) -> Self {
        Self { rules, layout, schema: None, table: layout.name.to_owned() }
    }

    /// Those of another table.
    pub(crate) fn with_table(&self, table: &str) -> Result<Self> {
        self.rules.check("table", table)?;
        Ok(Self { schema: self.schema.clone(), table: table.to_owned(), ..*self })
    }

    /// Those in another schema.
    pub(crate) fn with_schema(&self, schema: &str) -> Result<Self> {
        self.rules.check("schema", schema)?;
        Ok(Self { schema: Some(schema.to_owned()), table: self.table.clone(), ..*self })
    }

    /// The name of a further table.
    pub(crate) fn part(&self, suffix: &str) -> String {
        self.rules.derived(&self.table, suffix)
    }

    /// The same, quoted, with its schema where one was given.
    pub(crate) fn quoted_part(&self, suffix: &str) -> String {
        self.quoted(&self.part(suffix))
    }

    /// The table, quoted, with its schema where one was given.
    pub(crate) fn quoted_table(&self) -> String {
        self.quoted(&self.table)
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
            let suffix = piece.strip_prefix(self.layout.name).and_then(|rest| rest.strip_prefix('_'));
            rewritten.push_str(&match suffix {
                Some(suffix) => {
                    let is_table = suffix == VERSION
                        || self.layout.tables.iter().any(|table| table.suffix == Some(suffix));
                    if is_table { self.quoted_part(suffix) } else { self.quoted_index(suffix) }
                }
                None if piece == self.layout.name => self.quoted_table(),
                None => self.rules.quoted(piece),
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
    use crate::schema::Table;

    static RULES: NameRules =
        NameRules { quote: '"', max: 63, unit: "bytes", count: str::len, problem: |_| None };

    static LAYOUT: Layout = Layout {
        name: "outbox",
        migrations: &[],
        tables: &[
            Table { suffix: None, columns: &[], indexes: &[], unique: &[] },
            Table { suffix: Some(KEY), columns: &[], indexes: &[], unique: &[] },
        ],
    };

    fn names(table: &str) -> Result<Names> {
        Names::new(&RULES, &LAYOUT).with_table(table)
    }

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        let names = names("out\"box").unwrap().with_schema("a\"pp").unwrap();
        assert_eq!(names.quoted_table(), r#""a""pp"."out""box""#);
    }

    #[test]
    fn a_name_that_cannot_be_used_says_why() {
        for (table, why) in [("", "is empty"), ("a\0b", "NUL"), (&*"é".repeat(32), "64 bytes")] {
            let error = names(table).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Schema);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn derived_names_of_a_long_table_are_cut_and_kept_apart() {
        let (one, two) = (
            names(&format!("{}1", "é".repeat(31))).unwrap(),
            names(&format!("{}2", "é".repeat(31))).unwrap(),
        );
        let versions = one.part(VERSION);
        assert!(versions.len() <= 63 && versions.ends_with("_version"), "{versions}");
        assert_ne!(versions, two.part(VERSION));
        assert_ne!(one.index("fifo"), two.index("fifo"));
    }

    #[test]
    fn a_derived_name_is_cut_no_more_than_it_has_to_be() {
        let names = |table: String| names(&table).unwrap();
        for (length, is_cut) in [(54, false), (55, false), (56, true), (63, true)] {
            let part = names("n".repeat(length)).part("version");
            assert_eq!(part.len(), 63.min(length + 8), "{part}");
            assert_eq!(part == format!("{}_version", "n".repeat(length)), !is_cut, "{part}");
        }
        // A character of two bytes is kept or cut as a whole.
        let part = names("é".repeat(31)).part("parked");
        assert_eq!((part.len(), part.matches('é').count()), (62, 23), "{part}");
    }

    #[test]
    fn a_name_that_only_begins_like_the_outbox_is_left_alone() {
        let sql = r#"SELECT "outboxes" FROM "out""#;
        assert_eq!(names("mine").unwrap().rewrite(sql), sql);
    }

    #[test]
    fn sql_is_rewritten_in_one_pass() {
        let sql = r#"CREATE INDEX "outbox_fifo" ON "outbox" ("seq"); SELECT "outbox_version""#;
        assert_eq!(
            names(r#"x"outbox"#).unwrap().rewrite(sql),
            r#"CREATE INDEX "x""outbox_fifo" ON "x""outbox" ("seq"); SELECT "x""outbox_version""#
        );
    }

    #[test]
    fn comments_are_left_out_so_that_no_name_can_end_one() {
        let sql = "-- of \"outbox\"\n  -- and its \"outbox_key\"\nSELECT 1 FROM \"outbox\";\n";
        let rewritten = names("x\n; DROP TABLE y; --").unwrap().rewrite(sql);
        assert_eq!(rewritten, "SELECT 1 FROM \"x\n; DROP TABLE y; --\";\n");
    }
}
