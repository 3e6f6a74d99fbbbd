//! What all handles on one outbox share in this process, also those that were opened apart.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sled::Db;
use tokio::sync::watch;

use crate::{clock::Clock, reservations::Reservations};

/// One for each name in each data base. It does not hold the data base open.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) clock: Clock,
    pub(crate) reservations: Arc<Reservations>,
    commits: watch::Sender<()>,
}

/// By the path of the data base, which can be open only once, and the name.
type ByName = HashMap<(PathBuf, String), Weak<Peers>>;

static ALL: Mutex<Option<ByName>> = Mutex::new(None);

impl Peers {
    pub(crate) fn of(db: &Db, name: &str) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        all.retain(|_, peers| peers.strong_count() > 0);
        // Sled hides the path in its documentation, but its last version, which this is made for, has it.
        let entry = all.entry((db.context.get_path(), name.to_owned())).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let peers = Arc::default();
            *entry = Arc::downgrade(&peers);
            peers
        })
    }

    /// Wakes all who listen.
    pub(crate) fn wake(&self) {
        self.commits.send_replace(());
    }

    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        self.commits.subscribe()
    }
}
