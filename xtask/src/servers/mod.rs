//! Real servers for the tests: private instances on free ports, each with a data directory of its own.
//!
//! The modules [`postgres`], [`mysql`], [`mongo`], [`nats`], [`rabbitmq`] and [`redis`] are alike: `missing`
//! says what is to be installed, `start` makes a fresh instance, and `answers` tells whether one is ready
//! for work. Most also have `program`: tests start, kill and restart servers of their own.

mod ask;
pub(crate) mod by_hand;
mod home;
mod instance;
pub(crate) mod mongo;
mod mysql;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;
mod site;

use std::path::PathBuf;
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
    Nats,
    Rabbitmq,
    Redis,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Postgres, Self::Mysql, Self::Mongodb, Self::Nats, Self::Rabbitmq, Self::Redis];

    /// The name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MariaDB",
            Self::Mongodb => "MongoDB",
            Self::Nats => "NATS",
            Self::Rabbitmq => "RabbitMQ",
            Self::Redis => "Redis",
        }
    }

    /// The name in paths.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Mongodb => "mongodb",
            Self::Nats => "nats",
            Self::Rabbitmq => "rabbitmq",
            Self::Redis => "redis",
        }
    }

    /// The variable that gives a server of this kind to the tests.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "OUTBOX_TEST_POSTGRES_URL",
            Self::Mysql => "OUTBOX_TEST_MYSQL_URL",
            Self::Mongodb => "OUTBOX_TEST_MONGODB_URL",
            Self::Nats => "OUTBOX_TEST_NATS_URL",
            Self::Rabbitmq => "OUTBOX_TEST_RABBITMQ_URL",
            Self::Redis => "OUTBOX_TEST_REDIS_URL",
        }
    }

    /// The server that the environment gives, if it does.
    pub(crate) fn given(self) -> Option<String> {
        std::env::var(self.variable()).ok().filter(|url| !url.is_empty())
    }

    /// The variable that gives the program to the tests, which start and kill servers of their own. None where
    /// they make do with one that runs.
    pub(crate) fn program_variable(self) -> Option<&'static str> {
        match self {
            Self::Postgres | Self::Mysql => None,
            Self::Mongodb => Some("OUTBOX_TEST_MONGOD"),
            Self::Nats => Some("OUTBOX_TEST_NATS_SERVER"),
            Self::Rabbitmq => Some("OUTBOX_TEST_RABBITMQ_SERVER"),
            Self::Redis => Some("OUTBOX_TEST_REDIS_SERVER"),
        }
    }

    /// The program for the tests: the one that the environment gives, else the one that is installed.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let given = std::env::var_os(self.program_variable()?).filter(|program| !program.is_empty());
        given.map(PathBuf::from).or_else(|| match self {
            Self::Postgres | Self::Mysql => None,
            Self::Mongodb => mongo::program(),
            Self::Nats => nats::program(),
            Self::Rabbitmq => rabbitmq::program(),
            Self::Redis => redis::program(),
        })
    }

    /// What has to be installed before `start` can work.
    pub(crate) fn missing(self) -> install::Missing {
        match self {
            Self::Postgres => postgres::missing(),
            Self::Mysql => mysql::missing(),
            Self::Mongodb => mongo::missing(),
            Self::Nats => nats::missing(),
            Self::Rabbitmq => rabbitmq::missing(),
            Self::Redis => redis::missing(),
        }
    }

    /// Makes and starts a fresh instance.
    fn start(self, home: &Home) -> Result<Running> {
        let running = match self {
            Self::Postgres => postgres::start(home),
            Self::Mysql => mysql::start(home),
            Self::Mongodb => mongo::start(home),
            Self::Nats => nats::start(home),
            Self::Rabbitmq => rabbitmq::start(home),
            Self::Redis => redis::start(home),
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
        // Tests start servers of their own also where one that runs is given.
        let installed = |kind: &&Kind| wanted.contains(kind) || kind.program_variable().is_some();
        install::install(&kinds.iter().filter(installed).copied().collect::<Vec<_>>())?;
        if wanted.is_empty() {
            return Ok(Self { urls, _running: Vec::new(), _home: None });
        }
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
            if let (Some(variable), Some(program)) = (kind.program_variable(), kind.program()) {
                command.env(variable, program);
            }
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
