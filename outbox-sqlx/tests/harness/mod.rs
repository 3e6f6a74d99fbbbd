//! Each engine as the suite and the tests beside it open it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::env;

use outbox_conformance::Skip;

/// The address of a server and database, from the environment.
fn server(variable: &str, example: &str) -> Result<String, Skip> {
    env::var(variable).map_err(|_| Skip::new(format!("set {variable}, for example to `{example}`")))
}

/// A name that no other test has.
fn unique() -> String {
    format!("outbox_{}", uuid::Uuid::now_v7().simple())
}

/// What the store writes and compares with its clock.
const TIMES: [&str; 6] =
    ["not_before", "created_at", "delivered_at", "dead_at", "first_failed_at", "last_failed_at"];
