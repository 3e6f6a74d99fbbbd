//! Section 1: events.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, TimeDelta, TimeZone, Utc};
use outbox_traits::{
    EncodedEvent, Error, ErrorKind, Event, EventId, MAX_ENCODED_BYTES, MAX_NESTING, OutboxStore, Saved,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    Harness,
    support::{
        WAYS, acknowledge, acknowledge_all, assert_exact, event, full_event, fuller_event, ids, pending,
        pending_ids, save, save_all, saved_all_by,
    },
};

/// 1.1: as JSON an event is `{"type", "payload", "meta"}` with meta names in camel case, absent ones left out.
pub async fn an_event_comes_back_in_the_published_json_shape<H: Harness>(h: Arc<H>) {
    let id: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("a UUID");
    let time = Utc.timestamp_millis_opt(1_700_000_000_120).single().expect("a time");
    let full = full_event("order.placed").with_id(id).with_timestamp(time);
    let bare = Event::new("order.placed", Value::Null).expect("valid").with_timestamp(time);
    save_all(&h, &[full, bare.clone()]).await;

    let read: Vec<Value> = pending(&h).await.iter().map(|event| json!(event)).collect();
    assert_eq!(
        read[0],
        json!({
            "type": "order.placed",
            "payload": { "total": 4200 },
            "meta": {
                "id": "01890a5d-ac96-774b-bcce-b302099a8057",
                "timestamp": "2023-11-14T22:13:20.120Z",
                "resource": "order",
                "resourceId": "o-17",
                "userId": "u-1",
                "organizationId": "acme",
                "correlationId": "c-1",
                "causationId": "c-0",
                "partitionKey": "p-1",
                "schemaVersion": 3,
                "source": "shop",
                "idempotencyKey": "k-order.placed",
                "headers": { "traceparent": "00-1-2-01" },
            },
        })
    );
    assert_eq!(
        read[1],
        json!({
            "type": "order.placed",
            "payload": null,
            "meta": { "id": bare.id(), "timestamp": "2023-11-14T22:13:20.120Z" },
        })
    );
}

/// 1.2: unknown meta fields written by a newer producer survive.
pub async fn unknown_meta_fields_survive<H: Harness>(h: Arc<H>) {
    let written = json!({
        "type": "order.placed",
        "payload": {},
        "meta": {
            "id": EventId::new(),
            "timestamp": "2024-02-29T12:00:00.001Z",
            "region": "eu",
            "limits": { "a.b": [1, 2.5, null], "$set": u64::MAX },
            "nothing": null,
            "Region": "",
        },
    });
    let event: Event = serde_json::from_value(written.clone()).expect("an event");
    save(&h, &event).await;
    assert_eq!(json!(pending(&h).await[0]), written);
}

/// 1.3: an id is a UUID of version 7 unless the caller sets it; a time is kept as it was constructed.
pub async fn ids_and_times_come_back_as_constructed<H: Harness>(h: Arc<H>) {
    let made = event("made");
    assert_eq!(made.id().as_uuid().get_version_num(), 7);
    let own = Uuid::from_u128(17);
    let precise = Utc.timestamp_opt(1_700_000_000, 123_456_789).single().expect("a time");
    let old = Utc.timestamp_millis_opt(-1).single().expect("a time before 1970");
    let cut = event("own").with_id(own).with_timestamp(precise);
    let early = event("early").with_timestamp(old);
    assert_eq!(cut.meta().timestamp().timestamp_subsec_nanos(), 123_000_000, "cut from construction on");
    let saved = [made, cut, early];
    save_all(&h, &saved).await;
    let read = pending(&h).await;
    assert_eq!(read, saved);
    assert_eq!(read[1].id(), EventId::from(own));
}

/// 1.4: a blank type, one over 256 characters or one that starts with `$` is refused at `save` too, and nothing
/// is stored.
pub async fn an_invalid_type_is_refused_and_nothing_is_stored<H: Harness>(h: Arc<H>) {
    for bad in ["", " \t", "$internal", &"x".repeat(257), &"ü".repeat(257)] {
        let refused = Event::new(bad, json!({})).expect_err("refused at construction");
        assert_eq!(refused.kind(), ErrorKind::InvalidEvent);

        let written = json!({ "type": bad, "payload": {}, "meta": event("other").meta() });
        let bad: Event = serde_json::from_value(written).expect("reading takes what a producer wrote");
        is_refused(&h, bad).await;
    }

    let longest =
        ["ü", "🦀"].map(|char| Event::new(char.repeat(256), json!({})).expect("256 characters are allowed"));
    save_all(&h, &longest).await;
    assert_eq!(pending(&h).await, longest);
}

/// By each way to save it, and nothing is stored, neither it nor what comes with it.
async fn is_refused<H: Harness>(h: &Arc<H>, bad: Event) {
    let check = |answer: Result<(), Error>, way: &str| {
        let Err(refused) = answer else { panic!("{way} takes what it has to refuse") };
        assert_eq!(refused.kind(), ErrorKind::InvalidEvent, "{way}: {refused}");
        assert_eq!(refused.event(), Some(bad.id()), "{way}: the error names the event");
    };
    let both = [event("good"), bad.clone()];
    check(h.store().save(&bad).await.map(drop), "save");
    check(h.store().save_all(&both).await.map(drop), "save_all");
    let mut transaction = h.begin().await;
    let answer = h.store().save_in_session(&bad, h.session(&mut transaction)).await;
    check(answer.map(drop), "save_in_session");
    let answer = h.store().save_all_in_session(&both, h.session(&mut transaction)).await;
    check(answer.map(drop), "save_all_in_session");
    h.commit(transaction).await;
    assert!(pending_ids(h).await.is_empty(), "a refused event was stored, or the good ones beside it");
}

/// 1.5: a child takes causation, correlation, user, organization and source, and never the idempotency key,
/// resource or partition key: so it is stored beside its parent.
pub async fn a_child_event_is_stored_beside_its_parent<H: Harness>(h: Arc<H>) {
    let parent = full_event("order.placed");
    let child = Event::new("invoice.created", json!({})).expect("valid").caused_by(&parent);
    let grandchild = Event::new("mail.sent", json!({})).expect("valid").caused_by(&child);
    assert_eq!(child.meta().causation_id, Some(parent.id().to_string()));
    assert_eq!(child.meta().correlation_id.as_deref(), Some("c-1"));
    assert_eq!(grandchild.meta().correlation_id.as_deref(), Some("c-1"));
    for inherited in [&child, &grandchild] {
        assert_eq!(inherited.meta().user_id, parent.meta().user_id);
        assert_eq!(inherited.meta().organization_id, parent.meta().organization_id);
        assert_eq!(inherited.meta().source, parent.meta().source);
        assert_eq!(inherited.meta().idempotency_key, None);
        assert_eq!(inherited.meta().resource, None);
        assert_eq!(inherited.partition_key(), None);
    }
    let root = event("root");
    let of_root = event("child of root").caused_by(&root);
    assert_eq!(of_root.meta().correlation_id, Some(root.id().to_string()));

    let family = [parent, child, grandchild, root, of_root];
    for member in &family {
        assert_eq!(
            h.store().save(member).await.expect("save"),
            Saved::Stored,
            "{} is new",
            member.event_type()
        );
    }
    assert_eq!(pending(&h).await, family);
}

/// 1.6: the optional fields, all present and all absent.
pub async fn every_meta_field_comes_back_exactly<H: Harness>(h: Arc<H>) {
    let full = full_event("all");
    let bare = Event::new("none", json!({})).expect("valid");
    let empty = Event::new("empty", json!({}))
        .expect("valid")
        .with_resource("", "")
        .with_user_id("")
        .with_source("")
        .with_partition_key("")
        .with_schema_version(0);
    let at = |time: &str| time.parse().expect("a time");
    // Beyond what 32 bits hold, with a sign or without; and a name that differs in nothing but its case.
    let large = Event::new("large", json!({}))
        .expect("valid")
        .with_timestamp(at("2106-02-07T06:28:16.001Z"))
        .with_not_before(at("1901-12-13T20:45:51.999Z"))
        .with_schema_version(u32::MAX)
        .with_header("x-tenant", "lower")
        .with_header("X-Tenant", "upper");
    let saved = [full, bare, empty, large];
    save_all(&h, &saved).await;
    assert_eq!(pending(&h).await, saved);
}

/// 1.2, 1.3 and 1.6: whichever way it is saved, every field comes back, also what nobody knows, and until when it was hidden.
pub async fn an_event_is_the_same_whichever_way_it_was_saved<H: Harness>(h: Arc<H>) {
    for way in 0..WAYS {
        let hidden_until = h.now().await.trunc_subsecs(3) - TimeDelta::hours(1);
        let full = fuller_event(&format!("full.{way}"))
            .with_timestamp(Utc.timestamp_millis_opt(1_700_000_000_120).single().expect("a time"))
            .with_not_before(hidden_until);
        let bare = Event::new("bare", Value::Null).expect("valid");
        exact(&h, &[full, bare], way).await;
    }
}

/// 1.3 and 1.6: times at the ends of the calendar, and where kinds of numbers and other calendars end.
pub async fn early_and_late_timestamps_come_back<H: Harness>(h: Arc<H>) {
    let times = [
        "0000-02-29T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "0999-12-31T23:59:59.999Z",
        "1582-10-10T12:00:00.000Z",
        "1677-09-20T00:12:43.145Z",
        "1899-12-31T23:59:59.999Z",
        "1969-12-31T23:59:59.999Z",
        "2038-01-19T03:14:08.000Z",
        "2262-04-12T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
    ];
    let at = |time: &&str| event(time).with_timestamp(time.parse().expect("a time"));
    for way in 0..WAYS {
        exact(&h, &times.iter().map(at).collect::<Vec<_>>(), way).await;
    }
}

/// 1.6: what a relay orders and sends by, the partition key and 100 headers, comes back.
pub async fn the_partition_key_and_headers_come_back<H: Harness>(h: Arc<H>) {
    let mut many = event("headers").with_partition_key("a key").with_resource("order", "o-1");
    for index in 0..100 {
        many = many.with_header(format!("x-header-{index}"), "välue ✓".repeat(index % 7));
    }
    save(&h, &many).await;
    let read = pending(&h).await;
    assert_eq!(read[0].partition_key(), Some("a key"));
    assert_eq!(read[0].meta().headers, many.meta().headers);
    assert_eq!(read, [many]);
}

/// 1.6: numbers at their limits, to the last bit and to the sign of zero.
pub async fn extreme_numbers_come_back_exactly<H: Harness>(h: Arc<H>) {
    exact_payloads(
        h,
        vec![
            json!([i64::MIN, i64::MAX, u64::MAX, 0, -1]),
            json!([1e308, -1e308, 5e-324, 0.1, 1.0, 100.0, 0.1 + 0.2, 1.797_693_134_862_315_7e308]),
            json!([-0.0, 0.0]),
            json!({ "n": 9_007_199_254_740_993_i64, "f": 9_007_199_254_740_992.0_f64 }),
            // By themselves: one that has to be kept in another way keeps the others too.
            json!(u64::MAX),
            json!({ "n": i64::MAX }),
            json!({ "n": -0.0 }),
            json!({ "n": 1e300 }),
        ],
    )
    .await;
}

/// 1.6: many short values, which take far more room in some forms than as text, in the payload and in the meta.
pub async fn a_long_list_of_short_things_comes_back_exactly<H: Harness>(h: Arc<H>) {
    let list = json!(vec![0; 1_500_000]);
    let mut in_meta = Event::new("suite.long", json!({})).expect("valid");
    in_meta.meta_mut().extra.insert("long".to_owned(), list.clone());
    let in_payload = Event::new("suite.long", list).expect("valid");
    for long in [in_payload, in_meta] {
        save(&h, &long).await;
        assert!(pending(&h).await == [long.clone()], "it came back altered");
        acknowledge(&h, long.id()).await;
    }
}

/// 1.6: Unicode, a NUL character, quotes, control characters and look-alikes of other encodings.
pub async fn unusual_text_comes_back_exactly<H: Harness>(h: Arc<H>) {
    exact_payloads(
        h,
        vec![
            json!("a\u{0}b"),
            json!({ "nul\u{0}key": "\u{0}" }),
            json!("é e\u{301} ß İ 漢字 🦀 \u{10FFFF} \u{FEFF} \u{2028} \u{202E}"),
            json!("\\u0000 \\ \" ' ` \r\n\t \u{1} \u{7f} \u{85} %s ? $1 :x {} -- ; /* */"),
            json!(" leading and trailing "),
            json!(""),
            json!("2024-01-01T00:00:00Z"),
        ],
    )
    .await;
}

/// Each field of the meta that is a text, set to one.
const FIELDS: [fn(Event, &str) -> Event; 9] = [
    |event, text| event.with_resource(text, text),
    |event, text| event.with_user_id(text),
    |event, text| event.with_organization_id(text),
    |event, text| event.with_correlation_id(text),
    |event, text| event.with_causation_id(text),
    |event, text| event.with_source(text),
    |event, text| event.with_partition_key(text),
    |event, text| event.with_idempotency_key(text),
    |event, text| event.with_header(text, text),
];

/// 1.6: the same texts in the fields of the meta, in each by itself and in all at once, or a clear refusal; never an altered event.
pub async fn unusual_text_in_the_meta_comes_back_exactly_or_is_refused<H: Harness>(h: Arc<H>) {
    for text in [
        "a\u{0}b",
        "é e\u{301} 漢字 🦀",
        " spaces ",
        "'\"`\\;--",
        "\r\n\t\u{1}\u{7f}",
        "",
        "$a.b",
        &"k".repeat(5000),
    ] {
        let odd = || Event::new("odd", json!({})).expect("valid");
        for field in FIELDS {
            exact_or_refused(&h, field(odd(), text)).await;
        }
        let all = FIELDS.iter().fold(odd(), |event, field| field(event, text));
        // Of an event with this key another was delivered just now.
        exact_or_refused(&h, all.with_idempotency_key(format!("{text} in all"))).await;
    }
    for bad in ["a\u{0}b", "order placed 🦀", " order.placed ", "order.placed ", "Order.Placed"] {
        let written = json!({ "type": bad, "payload": {}, "meta": event("other").meta() });
        exact_or_refused(&h, serde_json::from_value(written).expect("an event")).await;
    }
}

/// 1.6: empty object and array, `null`, keys with `.` and `$`, keys that an engine might take for its own.
pub async fn unusual_structures_come_back_exactly<H: Harness>(h: Arc<H>) {
    exact_payloads(
        h,
        vec![
            json!({}),
            json!([]),
            json!(null),
            json!(true),
            json!({ "": {} }),
            json!({ "a.b": 1, "$set": { "$date": "x" }, "$oid": "y", "_id": 1, ".": [], "$": {} }),
            json!({ "$numberDecimal": "1", "$binary": { "base64": "AA==", "subType": "00" } }),
            json!([[], [[]], {}, [{}], null, [null]]),
            json!({ "z": 1, "a": 2, "Z": 3, "A": 4 }),
        ],
    )
    .await;
}

/// 1.6: as many levels of arrays, and of objects, as are allowed. Deeper, it is refused at the door: it could be written
/// and never be read again.
pub async fn deeply_nested_payloads_come_back_exactly<H: Harness>(h: Arc<H>) {
    let arrays = |levels: usize| (0..levels).fold(json!("end"), |inner, _| json!([inner]));
    let objects = |levels: usize| (0..levels).fold(json!("end"), |inner, _| json!({ "in": inner }));
    for deeper in [arrays(MAX_NESTING + 1), objects(MAX_NESTING + 1), arrays(200)] {
        let mut in_meta = event("abyss");
        in_meta.meta_mut().extra.insert("abyss".to_owned(), deeper.clone());
        for abyss in [Event::new("abyss", deeper).expect("valid"), in_meta] {
            is_refused(&h, abyss).await;
        }
    }
    let mut in_meta = event("deep");
    for deepest in [arrays(MAX_NESTING), objects(MAX_NESTING)] {
        let name = format!("field {}", in_meta.meta().extra.len());
        in_meta.meta_mut().extra.insert(name, deepest);
    }
    save(&h, &in_meta).await;
    assert_eq!(pending(&h).await, std::slice::from_ref(&in_meta));
    h.store().acknowledge(in_meta.id()).await.expect("acknowledge");
    exact_payloads(h, vec![arrays(64), objects(64), arrays(MAX_NESTING), objects(MAX_NESTING)]).await;
}

/// 1.6: a payload of 1 MiB.
pub async fn a_payload_of_one_mebibyte_comes_back_exactly<H: Harness>(h: Arc<H>) {
    let text: String = ('\u{20}'..'\u{2020}').cycle().take(512 * 1024).collect();
    exact_payloads(h, vec![json!({ "text": text }), json!("x".repeat(1024 * 1024))]).await;
}

/// 1.6: an extra meta field with the name of a known one would be lost in the other's place: it is refused.
pub async fn an_extra_field_that_shadows_a_known_one_is_refused<H: Harness>(h: Arc<H>) {
    for name in ["id", "timestamp", "userId", "headers", "schemaVersion"] {
        let mut bad = event("shadow");
        bad.meta_mut().extra = Map::from_iter([(name.to_owned(), json!("other"))]);
        is_refused(&h, bad).await;
    }
}

/// 1.6: what an object with such a key is read as depends on what else is compiled in: it is refused.
pub async fn a_key_that_the_json_library_keeps_for_itself_is_refused<H: Harness>(h: Arc<H>) {
    for name in ["RawValue", "Number"].map(|name| format!("$serde_json::private::{name}")) {
        for hidden in [json!({ &name: "{\"admin\":true}" }), json!([{ "deep": { &name: 5, "b": 1 } }])] {
            is_refused(&h, Event::new("reserved", &hidden).expect("valid")).await;
            let mut in_meta = event("reserved");
            in_meta.meta_mut().extra.insert("hidden".to_owned(), hidden);
            is_refused(&h, in_meta).await;
        }
        let mut of_meta = event("reserved");
        of_meta.meta_mut().extra.insert(name, json!("12"));
        is_refused(&h, of_meta).await;
    }
}

/// 1.6: a time outside the years 0 to 9999 is refused.
pub async fn a_time_beyond_the_calendar_is_refused<H: Harness>(h: Arc<H>) {
    for beyond in ["-0001-12-31T23:59:59.999Z", "+10000-01-01T00:00:00Z"] {
        let beyond: DateTime<Utc> = beyond.parse().expect("a time");
        is_refused(&h, event("beyond").with_timestamp(beyond)).await;
        is_refused(&h, event("beyond").with_not_before(beyond)).await;
    }
    is_refused(&h, event("beyond").with_not_before(DateTime::<Utc>::MAX_UTC)).await;
}

/// 1.6: an event of 8 MiB as JSON comes back exactly, and a larger one is refused.
pub async fn an_event_beyond_eight_mebibytes_is_refused<H: Harness>(h: Arc<H>) {
    let of = |bytes: usize| {
        let empty = EncodedEvent::new(&event("large")).expect("valid");
        // Its payload is a text of its own instead of `{}`: no longer than the other but for what is in it.
        let around = empty.meta.len() + 2;
        Event::new("large", "x".repeat(bytes - around)).expect("valid")
    };
    is_refused(&h, of(MAX_ENCODED_BYTES + 1)).await;
    let largest = of(MAX_ENCODED_BYTES);
    save(&h, &largest).await;
    assert!(pending(&h).await == [largest], "the largest event has changed");
}

/// In the payload and among the fields of the meta that nobody knows, whichever way they are saved.
async fn exact_payloads<H: Harness>(h: Arc<H>, payloads: Vec<Value>) {
    let of = |payload: &Value| {
        let mut event = Event::new("exact", payload).expect("valid");
        event.meta_mut().extra.insert("exact".to_owned(), payload.clone());
        event
    };
    for way in 0..WAYS {
        let events: Vec<Event> = payloads.iter().map(of).collect();
        exact(&h, &events, way).await;
    }
}

async fn exact<H: Harness>(h: &Arc<H>, events: &[Event], way: usize) {
    let saved = saved_all_by(h, events, way).await.expect("save");
    assert_eq!(saved, vec![Saved::Stored; events.len()], "all are new");
    assert_exact(&pending(h).await, events);
    acknowledge_all(h, &ids(events)).await;
}

async fn exact_or_refused<H: Harness>(h: &Arc<H>, event: Event) {
    match h.store().save(&event).await {
        Ok(saved) => {
            assert_eq!(saved, Saved::Stored, "{:?} is new", event.meta());
            let read = pending(h).await;
            assert_exact(&read, std::slice::from_ref(&event));
            h.store().acknowledge(read[0].id()).await.expect("acknowledge");
        }
        Err(refused) => {
            assert_eq!(refused.kind(), ErrorKind::InvalidEvent, "{refused}");
            assert!(pending_ids(h).await.is_empty(), "a refused event was stored");
        }
    }
}
