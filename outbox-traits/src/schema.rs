//! Creating and checking what a store needs in its engine.

use std::fmt::{self, Debug};

use async_trait::async_trait;

use crate::Result;

/// An outbox or an inbox with tables, collections or indexes of its own.
#[async_trait]
pub trait SchemaStore: Debug + Send + Sync + 'static {
    /// Creates or upgrades the schema. Many processes may call it at once, and again and again; it never loses
    /// an event or a mark.
    ///
    /// # Errors
    /// [`Schema`](crate::ErrorKind::Schema) if something else has the name already, or if the schema is of a
    /// newer version of this library.
    async fn migrate(&self) -> Result<()>;

    /// Says, without changing anything, what is missing or out of date.
    async fn verify(&self) -> Result<SchemaReport>;
}

/// The answer of [`SchemaStore::verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct SchemaReport {
    problems: Vec<String>,
}

impl SchemaReport {
    /// A report of these problems; none means that all is well.
    pub fn new(problems: Vec<String>) -> Self {
        Self { problems }
    }

    /// Whether the schema is complete and up to date.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is missing or out of date, one sentence each.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for SchemaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_current() {
            return f.write_str("the schema is up to date");
        }
        f.write_str(&self.problems.join("; "))
    }
}
