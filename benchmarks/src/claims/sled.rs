//! Claims on sled.

use std::{fmt, sync::Arc};

use anyhow::{Result, anyhow};
use outbox_sled::{
    SledOutbox,
    sled::{
        Batch, Config, Db, Transactional as _, Tree,
        transaction::{ConflictableTransactionError, TransactionError},
    },
};
use outbox_traits::{ClaimStore, OutboxStore as _, OutboxStoreExt as _, Retention, async_trait};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    Amounts,
    measure::{self, Condition, Measured, Subject, Tables},
    queue::{Queue, Table, Taker, Way, all_new, empty_store, events, fill_store},
};
use crate::{
    hand_written::{Event, Meta},
    job::Order,
    place::{Place, own_name, unless_interrupted},
};

/// Of each data base: there are seven, and by default each would take 1 GiB.
const CACHE: u64 = 256 * 1024 * 1024;

/// Measures.
pub(super) async fn measure(place: &Place, amounts: Amounts) -> Result<Measured> {
    let open = |side: &str, condition: Condition| open(place, &format!("{side}_{}", condition.name()));
    let mut tables = Vec::new();
    for condition in Condition::ALL {
        let outbox = Outbox::new(&open("outbox", condition)?)?;
        let handle =
            |retention| Arc::new(outbox.store.clone().with_retention(retention)) as Arc<dyn ClaimStore>;
        let handles = vec![
            (Way::KEPT, handle(Retention::UntilPurged)),
            (Way::DELETED, handle(Retention::DeleteOnDelivery)),
        ];
        let by_hand = if condition.has_by_hand() {
            let by_hand = ByHand::new(&open("hand", condition)?)?;
            let way = Way { title: "remove in a batch", ..Way::BY_HAND };
            let taker = Remove { turn: Mutex::default(), by_hand: by_hand.clone() };
            Some(Queue::by_hand(by_hand, vec![(way, Arc::new(taker))]))
        } else {
            None
        };
        tables.push(Tables { condition, outbox: Queue::outbox(outbox, handles), by_hand });
    }
    let subject = Subject { title: "sled", description: describe(), has_saves: true, tables };
    unless_interrupted(measure::run(subject, amounts)).await
}

/// Makes a data base.
pub(crate) fn open(place: &Place, name: &str) -> Result<Db> {
    let path = place.file(&own_name(&format!("sled_{name}")));
    Ok(Config::new().path(path).cache_capacity(CACHE).open()?)
}

/// Its version and settings.
pub(crate) fn describe() -> String {
    format!("sled 0.34, a cache of {} MiB for each data base", CACHE / 1024 / 1024)
}

/// The outbox.
pub(crate) struct Outbox {
    db: Db,
    orders: Tree,
    pub(crate) store: SledOutbox,
}

impl Outbox {
    pub(crate) fn new(db: &Db) -> Result<Self> {
        Ok(Self { orders: db.open_tree("orders")?, store: SledOutbox::open(db)?, db: db.clone() })
    }
}

#[async_trait(?Send)]
impl Table for Outbox {
    async fn save_one(&self, order: &Order) -> Result<()> {
        let mut session = self.store.begin();
        session.insert(&self.orders, order.number.to_be_bytes(), business(order))?;
        let saved = self.store.enqueue(order.event()?, &mut session).await?;
        session.commit().await?;
        all_new(&[saved])
    }

    async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        let events = events(orders)?;
        let mut session = self.store.begin();
        let saved = self.store.save_all_in_session(&events, &mut session).await?;
        session.commit().await?;
        all_new(&saved)
    }

    async fn fill(&self, delivered: u32) -> Result<()> {
        fill_store(&self.store, delivered).await
    }

    async fn clear(&self) -> Result<()> {
        empty_store(&self.store).await?;
        self.orders.clear()?;
        Ok(())
    }

    async fn tidy(&self) -> Result<()> {
        self.db.flush_async().await?;
        Ok(())
    }
}

fn business(order: &Order) -> Vec<u8> {
    json!({ "customer": order.customer(), "total": order.total() }).to_string().into_bytes()
}

/// What a team writes for itself: a tree of pending events under numbers that grow.
#[derive(Clone)]
struct ByHand {
    db: Db,
    orders: Tree,
    pending: Tree,
    delivered: Tree,
}

impl ByHand {
    fn new(db: &Db) -> Result<Self> {
        let tree = |name: &str| db.open_tree(name);
        Ok(Self {
            orders: tree("orders")?,
            pending: tree("pending")?,
            delivered: tree("delivered")?,
            db: db.clone(),
        })
    }

    fn row(&self, order: &Order) -> Result<([u8; 8], Vec<u8>)> {
        let Event { id, kind, payload, meta } = Event::of(order)?;
        Ok((self.db.generate_id()?.to_be_bytes(), serde_json::to_vec(&(id, kind, payload, meta))?))
    }
}

impl fmt::Debug for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the trees, which would show all that is in them.
        f.write_str("ByHand")
    }
}

#[async_trait(?Send)]
impl Table for ByHand {
    async fn save_one(&self, order: &Order) -> Result<()> {
        let (key, row) = self.row(order)?;
        let done = (&self.orders, &self.pending).transaction(|(orders, pending)| {
            orders.insert(&order.number.to_be_bytes(), business(order))?;
            pending.insert(&key, row.as_slice())?;
            Ok::<_, ConflictableTransactionError<()>>(())
        });
        done.map_err(|error: TransactionError<()>| anyhow!("the transaction failed: {error:?}"))?;
        self.db.flush_async().await?;
        Ok(())
    }

    async fn save_batch(&self, orders: &[Order]) -> Result<()> {
        let mut batch = Batch::default();
        for order in orders {
            let (key, row) = self.row(order)?;
            batch.insert(&key, row);
        }
        self.pending.apply_batch(batch)?;
        self.db.flush_async().await?;
        Ok(())
    }

    async fn fill(&self, delivered: u32) -> Result<()> {
        for number in 0..i64::from(delivered) {
            let (key, row) = self.row(&Order::new(number))?;
            self.delivered.insert(key, row)?;
        }
        self.db.flush_async().await?;
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.pending.clear()?;
        self.orders.clear()?;
        Ok(())
    }

    async fn tidy(&self) -> Result<()> {
        self.db.flush_async().await?;
        Ok(())
    }
}

/// Reads the first events and removes them at once. Two workers would take the same ones, so they take turns.
#[derive(Debug)]
struct Remove {
    turn: Mutex<()>,
    by_hand: ByHand,
}

#[async_trait]
impl Taker for Remove {
    async fn take(&self, limit: usize) -> Result<usize> {
        let turn = self.turn.lock().await;
        let mut batch = Batch::default();
        let mut events = Vec::new();
        for row in self.by_hand.pending.iter().take(limit) {
            let (key, row) = row?;
            let (id, kind, payload, meta): (_, String, Value, Meta) = serde_json::from_slice(&row)?;
            events.push(Event { id, kind, payload, meta });
            batch.remove(key);
        }
        self.by_hand.pending.apply_batch(batch)?;
        drop(turn);
        self.by_hand.db.flush_async().await?;
        Ok(events.len())
    }
}
