//! Real servers for the tests: private instances on free ports, each with a data directory of its own.
//!
//! The modules [`postgres`], [`mysql`] and [`mongo`] are alike: `missing` says what is to be installed,
//! `start` makes a fresh instance, and `answers` tells whether one is ready for work.

pub(crate) mod by_hand;
mod home;
mod instance;
pub(crate) mod mongo;
mod mysql;
mod postgres;
mod site;

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub(crate) use home::{Home, Lifetime};
pub(crate) use instance::{Instance, Running};

use crate::install;

/// The kinds of server that the tests want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Postgres,
    Mysql,
    Mongodb,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Postgres, Self::Mysql, Self::Mongodb];

    /// The name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MariaDB",
            Self::Mongodb => "MongoDB",
        }
    }

    /// The name in paths.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Mongodb => "mongodb",
        }
    }

    /// The variable that gives a server of this kind to the tests.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "OUTBOX_TEST_POSTGRES_URL",
            Self::Mysql => "OUTBOX_TEST_MYSQL_URL",
            Self::Mongodb => "OUTBOX_TEST_MONGODB_URL",
        }
    }

    /// The server that the environment gives, if it does.
    pub(crate) fn given(self) -> Option<String> {
        std::env::var(self.variable()).ok().filter(|url| !url.is_empty())
    }

    /// What has to be installed before `start` can work.
    pub(crate) fn missing(self) -> install::Missing {
        match self {
            Self::Postgres => postgres::missing(),
            Self::Mysql => mysql::missing(),
            Self::Mongodb => mongo::missing(),
        }
    }

    /// Makes and starts a fresh instance.
    fn start(self, home: &Home) -> Result<Running> {
        let running = match self {
            Self::Postgres => postgres::start(home),
            Self::Mysql => mysql::start(home),
            Self::Mongodb => mongo::start(home),
        };
        running.with_context(|| {
            format!("cannot start {}; {} can name a server that runs elsewhere", self.name(), self.variable())
        })
    }
}

/// The servers of one run, which are stopped when this is dropped as far as they were started for it.
#[derive(Debug)]
pub(crate) struct Servers {
    urls: Vec<(Kind, String)>,
    // In this order they are dropped: the servers first, then the directory they live in.
    _running: Vec<Running>,
    _home: Option<Home>,
}

impl Servers {
    /// A server of each kind: the one that the environment gives, else the one of `servers up`, else
    /// one that is started for this run.
    pub(crate) fn for_this_run(kinds: &[Kind]) -> Result<Self> {
        let mut urls = Vec::new();
        let mut wanted = Vec::new();
        let by_hand = by_hand::healthy();
        for &kind in kinds {
            if let Some(url) = kind.given() {
                eprintln!("servers: {} is given by {}", kind.name(), kind.variable());
                urls.push((kind, url));
            } else if let Some(instance) = by_hand.iter().find(|instance| instance.kind == kind) {
                eprintln!("servers: {} is the one of `servers up`, port {}", kind.name(), instance.port);
                urls.push((kind, instance.url.clone()));
            } else {
                wanted.push(kind);
            }
        }
        if wanted.is_empty() {
            return Ok(Self { urls, _running: Vec::new(), _home: None });
        }
        install::install(&wanted)?;
        home::remove_abandoned();
        let home = Home::new(Lifetime::Run)?;
        let running = start_all(&wanted, &home)?;
        urls.extend(running.iter().map(|running| (running.instance().kind, running.instance().url.clone())));
        Ok(Self { urls, _running: running, _home: Some(home) })
    }

    /// Gives the servers to a command.
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("OUTBOX_TEST_REQUIRE", "1");
        for (kind, url) in &self.urls {
            command.env(kind.variable(), url);
        }
    }
}

/// Starts servers side by side: all of them or, when one fails, none.
fn start_all(kinds: &[Kind], home: &Home) -> Result<Vec<Running>> {
    std::thread::scope(|scope| {
        let starting: Vec<_> = kinds.iter().map(|kind| scope.spawn(|| kind.start(home))).collect();
        let started: Vec<_> = starting
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        started.into_iter().collect()
    })
}
