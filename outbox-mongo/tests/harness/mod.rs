//! A database for each test.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod elsewhere;
mod faults;
mod loss;
#[path = "../replica_set/mod.rs"]
mod replica_set;

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use mongodb::{
    Client, ClientSession, Collection, Database, IndexModel,
    bson::{Bson, DateTime, Document, RawDocumentBuf, Timestamp, doc},
    options::{ClientOptions, IndexOptions, ServerAddress},
};
use outbox_conformance::{
    CostHarness, DurableHarness, ExpiryHarness, Fault, FaultHarness, Harness, InboxHarness,
    InboxMigrationHarness, InboxNamesHarness, MigrationHarness, NamesHarness, OutageHarness, RefusalHarness,
    SchemaHarness, Skip, WakeHarness, require,
};
use outbox_mongo::{MongoInbox, MongoOutbox, mongodb};
use outbox_traits::{EventId, Result, Retention, SchemaStore, async_trait};

use self::{faults::Way, replica_set::Alone};

pub(crate) type Mongo = MongoOf<false>;
pub(crate) type DeletingMongo = MongoOf<true>;
pub(crate) type FaultyMongo = MongoOf<false, true>;
pub(crate) type FaultyDeletingMongo = MongoOf<true, true>;

/// Of either retention, and by a way on which it meets faults, or not.
pub(crate) struct MongoOf<const DELETES: bool, const FAULTY: bool = false> {
    pub(crate) store: MongoOutbox,
    pub(crate) inbox: MongoInbox,
    /// What was read, as far as it was asked for.
    reads: AtomicU64,
    way: Option<Way>,
    /// Once it was asked for.
    alone: Mutex<Option<Alone>>,
    /// How often what listens was cut off.
    cuts: AtomicU64,
}

impl<const DELETES: bool, const FAULTY: bool> MongoOf<DELETES, FAULTY> {
    pub(crate) fn database(&self) -> &Database {
        self.store.database()
    }

    pub(crate) fn outbox(&self) -> Collection<Document> {
        self.database().collection("outbox")
    }

    /// A document of the outbox as it is: as a `Document`, by way of serde, the driver takes `{"$oid": …}` for what it is in Extended
    /// JSON.
    pub(crate) async fn stored(&self, filter: Document) -> Option<Document> {
        let found = self.outbox().clone_with_type::<RawDocumentBuf>().find_one(filter).await.unwrap()?;
        Some(found.try_into().unwrap())
    }

    fn over(database: &Database) -> Self {
        let (store, inbox) = (Self::outbox_in(database), MongoInbox::new(database));
        let (reads, alone, cuts) = Default::default();
        Self { store, inbox, reads, way: None, alone, cuts }
    }

    fn outbox_in(database: &Database) -> MongoOutbox {
        let retention = if DELETES { Retention::DeleteOnDelivery } else { Retention::UntilPurged };
        MongoOutbox::new(database).with_retention(retention)
    }

    /// After how long the server deletes by the index of this field.
    async fn ttl(&self, collection: &str, field: &str) -> Option<Duration> {
        let mut found = self.database().collection::<Document>(collection).list_indexes().await.unwrap();
        while found.advance().await.unwrap() {
            let index = found.deserialize_current().unwrap();
            if index.keys == doc! { field: 1 } {
                return index.options.unwrap().expire_after;
            }
        }
        None
    }

    /// Makes a collection with the indexes of another, of floats and of long integers, as some shells and drivers do, and by names
    /// of its own.
    async fn copy_by_hand(&self, of: &str, name: &str) {
        if !self.database().list_collection_names().await.unwrap().iter().any(|known| known == name) {
            self.database().create_collection(name).await.unwrap();
        }
        let mut found = self.database().collection::<Document>(of).list_indexes().await.unwrap();
        let mut ones = [Bson::Double(1.0), Bson::Int64(1)].into_iter().cycle();
        while found.advance().await.unwrap() {
            let mut index = found.deserialize_current().unwrap();
            if index.keys != doc! { "_id": 1 } {
                index.keys = index.keys.keys().map(|field| (field.clone(), ones.next().unwrap())).collect();
                let mut options = index.options.unwrap();
                options.name = options.name.map(|name| format!("{name} by hand"));
                index.options = Some(options);
                self.database().collection::<Document>(name).create_index(index).await.unwrap();
            }
        }
    }

    /// Gives the collection another name, and its own again: as it is, to all but those that watch it.
    async fn rename_and_back(&self) {
        let admin = self.database().client().database("admin");
        let [here, away] = ["outbox", "elsewhere"].map(|name| format!("{}.{name}", self.database().name()));
        for (from, to) in [(&here, &away), (&away, &here)] {
            admin.run_command(doc! { "renameCollection": from, "to": to }).await.unwrap();
        }
    }

    fn business(&self) -> Collection<Document> {
        self.database().collection("business")
    }
}

/// By another port of this machine.
async fn by(port: u16) -> ClientOptions {
    let mut options = ClientOptions::parse(server().unwrap()).await.unwrap();
    options.hosts = vec![ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: Some(port) }];
    // The set would name the server's own port.
    options.repl_set_name = None;
    options.direct_connection = Some(true);
    options.server_selection_timeout = Some(Duration::from_secs(2));
    options.heartbeat_freq = Some(Duration::from_millis(500));
    options
}

/// The address of the server, from the environment.
pub(crate) fn server() -> std::result::Result<String, Skip> {
    env::var("OUTBOX_TEST_MONGODB_URL").map_err(|_| {
        Skip::new("set OUTBOX_TEST_MONGODB_URL, for example to `mongodb://localhost/?replicaSet=rs0`, or run `cargo xtask test`")
    })
}

#[async_trait]
impl<const DELETES: bool, const FAULTY: bool> Harness for MongoOf<DELETES, FAULTY> {
    type Store = MongoOutbox;
    type Transaction = ClientSession;

    async fn open() -> std::result::Result<Self, Skip> {
        let options = ClientOptions::parse(server()?).await.unwrap();
        let way = if FAULTY { Some(Way::to(options.hosts[0].to_string()).await) } else { None };
        let options = if let Some(way) = &way { by(way.port).await } else { options };
        let client = Client::with_options(options).unwrap();
        let database = client.database(&format!("outbox_{}", uuid::Uuid::now_v7().simple()));
        let harness = Self { way, ..Self::over(&database) };
        harness.store.migrate().await.unwrap();
        harness.inbox.migrate().await.unwrap();
        harness.database().create_collection("business").await.unwrap();
        Ok(harness)
    }

    fn store(&self) -> &MongoOutbox {
        &self.store
    }

    fn retention(&self) -> Retention {
        if DELETES { Retention::DeleteOnDelivery } else { Retention::UntilPurged }
    }

    async fn begin(&self) -> ClientSession {
        let mut session = self.database().client().start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        session
    }

    fn session<'a>(&self, transaction: &'a mut ClientSession) -> &'a mut ClientSession {
        transaction
    }

    async fn commit(&self, mut transaction: ClientSession) {
        transaction.commit_transaction().await.unwrap();
    }

    async fn rollback(&self, mut transaction: ClientSession) {
        transaction.abort_transaction().await.unwrap();
    }

    async fn write_row(&self, key: &str, session: &mut ClientSession) {
        self.business().insert_one(doc! { "name": key }).session(session).await.unwrap();
    }

    async fn rows(&self) -> Vec<String> {
        let names = self.business().distinct("name", doc! {}).await.unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    async fn insert_undecodable(&self, id: EventId) {
        let row = doc! {
            "eventId": id.to_string(), "type": "broken", "payload": {}, "meta": [], "status": "pending",
            "createdAt": DateTime::now(), "seq": Timestamp { time: 0, increment: 0 },
        };
        self.outbox().insert_one(row).await.unwrap();
    }

    fn undecodable_content(&self) -> &'static str {
        "broken"
    }

    async fn insert_unreadable(&self, way: usize) -> bool {
        let mut row = doc! {
            "_id": i32::try_from(way).unwrap(), "type": "broken", "payload": "", "meta": [],
            "status": "pending", "createdAt": DateTime::now(), "seq": Timestamp { time: 0, increment: 0 },
        };
        match way {
            0 => {}
            1 => drop(row.insert("eventId", "no UUID")),
            2 => {
                row.insert("eventId", EventId::new().to_string());
                row.insert("payload", "no text");
                let mut bytes = RawDocumentBuf::try_from(&row).unwrap().into_bytes();
                let at = bytes.windows(7).position(|bytes| bytes == b"no text").unwrap();
                bytes[at] = 0xff;
                let raw = self.database().collection::<RawDocumentBuf>("outbox");
                raw.insert_one(RawDocumentBuf::from_bytes(bytes).unwrap()).await.unwrap();
                return true;
            }
            // There is room for another status, and for no more.
            3 => {
                row.insert("eventId", EventId::new().to_string());
                let size = RawDocumentBuf::try_from(&row).unwrap().as_bytes().len();
                row.insert("payload", "x".repeat(16 * 1024 * 1024 - size - 3));
            }
            _ => return false,
        }
        self.outbox().insert_one(row).await.unwrap();
        true
    }

    async fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        for time in
            ["notBefore", "createdAt", "deliveredAt", "deadAt", "firstFailedAt", "lastFailedAt", "retryAt"]
        {
            let earlier = doc! { "$set": { time: { "$subtract": [format!("${time}"), by] } } };
            self.outbox().update_many(doc! { time: { "$type": "date" } }, vec![earlier]).await.unwrap();
        }
        for (collection, time) in [
            ("outbox.leases", "until"),
            ("outbox.leases", "claimedAt"),
            ("outbox.keys", "readyAt"),
            ("inbox", "processedAt"),
        ] {
            let earlier = doc! { "$set": { time: { "$subtract": [format!("${time}"), by] } } };
            let collection = self.database().collection::<Document>(collection);
            collection.update_many(doc! { time: { "$type": "date" } }, vec![earlier]).await.unwrap();
        }
        // No operator makes a timestamp.
        let body = "function(seq, by) { return Timestamp(seq.getTime() - by, seq.getInc()); }";
        let earlier = doc! { "$function": { "body": body, "args": ["$seq", by / 1000], "lang": "js" } };
        let open = doc! { "status": { "$ne": "delivered" }, "seq": { "$type": "timestamp" } };
        self.outbox().update_many(open, vec![doc! { "$set": { "seq": earlier } }]).await.unwrap();
    }

    async fn close(&self) {
        self.database().drop().await.unwrap();
    }
}

#[async_trait]
impl<const DELETES: bool> DurableHarness for MongoOf<DELETES> {
    fn location(&self) -> String {
        self.database().name().to_owned()
    }

    async fn reopen(location: &str) -> Self {
        let client = Client::with_uri_str(server().unwrap()).await.unwrap();
        Self::over(&client.database(location))
    }
}

#[async_trait]
impl<const DELETES: bool> OutageHarness for MongoOf<DELETES> {
    async fn server(&self) -> String {
        ClientOptions::parse(server().unwrap()).await.unwrap().hosts[0].to_string()
    }

    async fn through(&self, port: u16) -> Self {
        let client = Client::with_options(by(port).await).unwrap();
        Self::over(&client.database(self.database().name()))
    }
}

#[async_trait]
impl<const DELETES: bool> SchemaHarness for MongoOf<DELETES> {
    fn unmigrated(&self, name: &str) -> MongoOutbox {
        self.store.clone().with_collection(name).unwrap()
    }

    /// A server on its own has no transactions.
    async fn unfit(&self, way: usize) -> Option<(MongoOutbox, &'static str)> {
        if way > 0 {
            return None;
        }
        let alone = require("a server on its own", Alone::start().await)?;
        let database = alone.client().database("outbox");
        *self.alone.lock().unwrap() = Some(alone);
        Some((Self::outbox_in(&database), "on its own"))
    }
}

#[async_trait]
impl<const DELETES: bool> NamesHarness for MongoOf<DELETES> {
    fn named(&self, name: &str) -> Result<MongoOutbox> {
        self.store.clone().with_collection(name)
    }

    fn has_room_for(&self, name: &str) -> bool {
        // With that of the database, and a dot, and that of the leases.
        let longest = 255 - self.database().name().len() - ".".len() - ".leases".len();
        let is_ours = self.endings().iter().any(|ending| name.ends_with(ending));
        let is_plain = !name.contains(['\0', '$']) && !name.starts_with('.') && !name.ends_with('.');
        !name.is_empty() && name.len() <= longest && is_plain && !is_ours && !name.starts_with("system.")
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".leases", ".keys"]
    }

    async fn make_others(&self) -> Vec<String> {
        let database = self.database();
        database.create_collection("capped").capped(true).size(4096).await.unwrap();
        database.create_collection("view").view_on("business").await.unwrap();
        let collation = mongodb::options::Collation::builder().locale("de").build();
        database.create_collection("german").collation(collation).await.unwrap();
        let times = mongodb::options::TimeseriesOptions::builder().time_field("at").build();
        database.create_collection("series").timeseries(times).await.unwrap();
        let other = [doc! { "x": 1 }, doc! { "x": 2 }];
        database.collection::<Document>("other").insert_many(&other).await.unwrap();
        // Of which even a unique index can be made.
        database.collection::<Document>("single").insert_one(&other[0]).await.unwrap();
        ["capped", "view", "german", "series", "other", "single"].map(str::to_owned).to_vec()
    }

    async fn take_parts_away(&self, name: &str) -> Vec<String> {
        let outbox = self.database().collection::<Document>(name);
        for index in ["eventId_1", "status_1_seq_1"] {
            outbox.drop_index(index).await.unwrap();
        }
        let leases = format!("{name}.leases");
        self.database().collection::<Document>(&leases).drop().await.unwrap();
        vec!["`eventId_1`".to_owned(), "`status_1_seq_1`".to_owned(), leases]
    }

    fn name_of(&self, store: &MongoOutbox) -> Option<String> {
        Some(store.collection_name().to_owned())
    }

    async fn spoil(&self, name: &str, way: usize) -> Option<&'static str> {
        let outbox = self.database().collection::<Document>(name);
        if way < 3 {
            outbox.drop_index("eventId_1").await.unwrap();
        }
        match way {
            0 => {
                let mut options = IndexOptions::default();
                options.name = Some("eventId_1".to_owned());
                let other = IndexModel::builder().keys(doc! { "createdAt": 1 }).options(options).build();
                outbox.create_index(other).await.unwrap();
                Some("drop")
            }
            1 => {
                outbox.create_index(IndexModel::builder().keys(doc! { "eventId": 1 }).build()).await.unwrap();
                Some("drop")
            }
            // As may happen without the index: an event that is there twice.
            2 => {
                let mut twice = outbox.find_one(doc! {}).await.unwrap().unwrap();
                twice.remove("_id");
                outbox.insert_one(twice).await.unwrap();
                Some("another name")
            }
            // Something else beside it.
            3 | 4 => {
                let beside = format!("{name}{}", self.endings()[way - 3]);
                let other = doc! { "_id": "x", "what": "else" };
                self.database().collection(&beside).insert_one(other).await.unwrap();
                Some("another name")
            }
            _ => None,
        }
    }

    async fn make_newer(&self, _name: &str) -> bool {
        false
    }
}

#[async_trait]
impl<const DELETES: bool> ExpiryHarness for MongoOf<DELETES> {
    fn expiring(&self, after: Option<Duration>) -> (MongoOutbox, MongoInbox) {
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        match after {
            Some(after) => (store.with_ttl(after), inbox.with_ttl(after)),
            None => (store, inbox),
        }
    }

    fn expiring_elsewhere(&self, after: Option<Duration>, name: &str) -> (MongoOutbox, MongoInbox) {
        let (store, inbox) = self.expiring(after);
        (store.with_collection(name).unwrap(), inbox.with_collection(&format!("{name}_inbox")).unwrap())
    }

    async fn told(&self) -> (Option<Duration>, Option<Duration>) {
        (self.ttl("outbox", "deliveredAt").await, self.ttl("inbox", "processedAt").await)
    }

    /// The server does it after each pause of some seconds, which is a minute by default.
    async fn expire(&self) {
        let admin = self.database().client().database("admin");
        admin.run_command(doc! { "setParameter": 1, "ttlMonitorSleepSecs": 1 }).await.unwrap();
        let passes = async || {
            let status = admin.run_command(doc! { "serverStatus": 1 }).await.unwrap();
            let metrics = status.get_document("metrics").unwrap();
            metrics.get_document("ttl").unwrap().get_i64("passes").unwrap()
        };
        // The one that is under way may have passed by already.
        let end = passes().await + 2;
        while passes().await < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[async_trait]
impl<const DELETES: bool> RefusalHarness for MongoOf<DELETES> {
    async fn refuse(&self, event_type: &str) {
        let validator = doc! { "type": { "$ne": event_type } };
        self.database().run_command(doc! { "collMod": "outbox", "validator": validator }).await.unwrap();
    }

    async fn collide(&self, event_type: &str, way: usize) -> bool {
        // The second is of a field whose name ends like that of an id.
        let Some(field) = ["type", "meta.eventId"].get(way) else { return false };
        let mut options = IndexOptions::default();
        options.unique = Some(true);
        options.partial_filter_expression = Some(doc! { "type": event_type });
        let index = IndexModel::builder().keys(doc! { *field: 1 }).options(options).build();
        self.outbox().create_index(index).await.unwrap();
        true
    }
}

#[async_trait]
impl<const DELETES: bool> FaultHarness for MongoOf<DELETES, true> {
    fn faults(&self) -> Vec<Fault> {
        Way::faults()
    }

    async fn fail(&self, fault: &Fault, times: u32) {
        self.way.as_ref().unwrap().fail(fault, times);
    }
}

#[async_trait]
impl<const DELETES: bool> MigrationHarness for MongoOf<DELETES> {
    async fn make_by_hand(&self, name: &str) {
        for ending in [""].iter().chain(self.endings()) {
            self.copy_by_hand(&format!("outbox{ending}"), &format!("{name}{ending}")).await;
        }
    }
}

#[async_trait]
impl<const DELETES: bool> InboxMigrationHarness for MongoOf<DELETES> {
    async fn make_inbox_by_hand(&self, name: &str) {
        self.copy_by_hand("inbox", name).await;
    }
}

#[async_trait]
impl<const DELETES: bool> InboxNamesHarness for MongoOf<DELETES> {
    fn inbox_named(&self, name: &str) -> Result<MongoInbox> {
        self.inbox.clone().with_collection(name)
    }

    fn name_of_inbox(&self, inbox: &MongoInbox) -> Option<String> {
        Some(inbox.collection_name().to_owned())
    }

    async fn take_inbox_parts_away(&self, name: &str) -> Vec<String> {
        let inbox = self.database().collection::<Document>(name);
        let all = inbox.list_index_names().await.unwrap();
        let ours: Vec<String> = all.into_iter().filter(|index| index != "_id_").collect();
        for index in &ours {
            inbox.drop_index(index).await.unwrap();
        }
        ours
    }
}

#[async_trait]
impl<const DELETES: bool> WakeHarness for MongoOf<DELETES> {
    /// Of the same client, whose sessions serve no other; handles have nothing else in common.
    async fn peer(&self) -> MongoOutbox {
        Self::outbox_in(self.database())
    }

    /// Ends what this database's change streams do at the server, and the cursors that are idle. Other tests have
    /// databases of their own. Every second time it has the streams end by themselves, without an error.
    async fn cut_connections(&self) {
        if self.cuts.fetch_add(1, Relaxed) % 2 == 1 {
            return self.rename_and_back().await;
        }
        let namespace = format!("{}.outbox", self.database().name());
        let admin = self.database().client().database("admin");
        let ours = [
            doc! { "$currentOp": { "idleCursors": true } },
            doc! { "$match": { "ns": &namespace, "$or": [{ "type": "idleCursor" }, { "op": "getmore" }] } },
        ];
        let mut found = admin.aggregate(ours).await.unwrap();
        let mut count = 0;
        while found.advance().await.unwrap() {
            count += 1;
            let found = found.deserialize_current().unwrap();
            let of_cursor = found.get_document("cursor").unwrap();
            let cursors = vec![of_cursor.get("cursorId").unwrap().clone()];
            // It may have ended by itself.
            self.database().run_command(doc! { "killCursors": "outbox", "cursors": cursors }).await.ok();
            if let Some(Bson::Int32(op)) = found.get("opid") {
                admin.run_command(doc! { "killOp": 1, "op": op }).await.ok();
            }
        }
        assert!(count > 0, "nobody listens");
    }
}

#[async_trait]
impl<const DELETES: bool> CostHarness for MongoOf<DELETES> {
    /// By the profiler of this database, which writes down each command.
    async fn reads(&self) -> u64 {
        let (database, profile) = (self.database(), self.database().collection::<Document>("system.profile"));
        database.run_command(doc! { "profile": 0 }).await.unwrap();
        let ours = doc! { "ns": { "$regex": format!("^{}[.]outbox", database.name()) } };
        let read = doc! { "$sum": { "$add": [ 0_i64,
            { "$ifNull": ["$keysExamined", 0_i64] }, { "$ifNull": ["$docsExamined", 0_i64] },
        ] } };
        let sum = [doc! { "$match": ours }, doc! { "$group": { "_id": null, "read": read } }];
        let mut sums = profile.aggregate(sum).await.unwrap();
        if sums.advance().await.unwrap() {
            let read = sums.current().get_i64("read").unwrap();
            self.reads.fetch_add(u64::try_from(read).unwrap(), Relaxed);
        }
        profile.drop().await.unwrap();
        // By itself it would be too small.
        let large = doc! { "create": "system.profile", "capped": true, "size": 64 * 1024 * 1024 };
        database.run_command(large).await.unwrap();
        database.run_command(doc! { "profile": 2 }).await.unwrap();
        self.reads.load(Relaxed)
    }
}

impl<const DELETES: bool, const FAULTY: bool> InboxHarness for MongoOf<DELETES, FAULTY> {
    type Inbox = MongoInbox;

    fn inbox(&self) -> &MongoInbox {
        &self.inbox
    }
}
