use std::collections::HashMap;

use chrono::DateTime;
use cloudevents::{AttributesReader, Data};
use outbox_traits::PublishErrorKind;
use serde_json::{Value, json};

use super::*;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn event() -> Event {
    let mut event = Event::new("order.placed", json!({ "total": 4200, "note": "ünï" }))
        .unwrap()
        .with_timestamp(DateTime::parse_from_rfc3339("2026-01-02T03:04:05.6789Z").unwrap().to_utc())
        .with_resource("order", "o-17")
        .with_user_id("u-1")
        .with_organization_id("acme")
        .with_correlation_id("c-1")
        .with_causation_id("c-0")
        .with_partition_key("customer-9")
        .with_schema_version(3)
        .with_source("shop")
        .with_idempotency_key("once")
        .with_header("traceparent", TRACE)
        .with_header("tracestate", "vendor=1")
        .with_header("X-Region", "eu west");
    event.meta_mut().extra.insert("tenantTier".into(), json!("gold"));
    event.meta_mut().extra.insert("is_test".into(), json!(true));
    event.meta_mut().extra.insert("big".into(), json!(5_000_000_000_u64));
    event.meta_mut().extra.insert("tags".into(), json!(["a", 1]));
    event
}

fn of(event: &Event, encoding: Encoding) -> Message {
    Message::of(event, encoding, "outbox").unwrap()
}

fn expected_attributes(event: &Event) -> HashMap<String, String> {
    let id = event.id().to_string();
    [
        ("specversion", "1.0"),
        ("id", &id),
        ("source", "shop"),
        ("type", "order.placed"),
        ("time", "2026-01-02T03:04:05.678Z"),
        ("subject", "order/o-17"),
        ("partitionkey", "customer-9"),
        ("correlationid", "c-1"),
        ("causationid", "c-0"),
        ("userid", "u-1"),
        ("organizationid", "acme"),
        ("idempotencykey", "once"),
        ("schemaversion", "3"),
        ("traceparent", TRACE),
        ("tracestate", "vendor=1"),
        ("tenanttier", "gold"),
        ("istest", "true"),
        ("big", "5000000000"),
        ("tags", r#"["a",1]"#),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[test]
fn in_binary_mode_the_attributes_are_apart_and_the_body_is_the_payload() {
    let event = event();
    let message = of(&event, Encoding::Binary);
    assert_eq!(message.attributes.into_iter().collect::<HashMap<_, _>>(), expected_attributes(&event));
    assert_eq!(message.content_type, "application/json");
    assert_eq!(serde_json::from_slice::<Value>(&message.body).unwrap(), *event.payload());
}

#[test]
fn the_official_reader_of_cloud_events_reads_structured_mode() {
    let event = event();
    let message = of(&event, Encoding::Structured);
    assert_eq!(message.content_type, "application/cloudevents+json");
    assert_eq!(message.attributes, []);
    let read: cloudevents::Event = serde_json::from_slice(&message.body).unwrap();
    let mut attributes: HashMap<_, _> =
        read.iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    assert_eq!(attributes.remove("datacontenttype").unwrap(), "application/json");
    // The reader parses the time and writes it in a form of its own.
    assert_eq!(read.time().unwrap(), &event.meta().timestamp());
    let mut expected = expected_attributes(&event);
    attributes.remove("time");
    expected.remove("time");
    assert_eq!(attributes, expected);
    assert!(matches!(read.data(), Some(Data::Json(data)) if data == event.payload()));
}

#[test]
fn in_structured_mode_attributes_keep_their_types() {
    let body: Value = serde_json::from_slice(&of(&event(), Encoding::Structured).body).unwrap();
    assert_eq!(body["time"], "2026-01-02T03:04:05.678Z");
    assert_eq!((&body["schemaversion"], &body["istest"]), (&json!(3), &json!(true)));
    // More than the 32 bits of a CloudEvent's integer.
    assert_eq!(body["big"], "5000000000");
}

#[test]
fn the_plain_encoding_is_the_event_itself() {
    let event = event();
    let message = of(&event, Encoding::Plain);
    assert_eq!(serde_json::from_slice::<Event>(&message.body).unwrap(), event);
    assert_eq!((message.content_type, message.attributes), ("application/json", vec![]));
}

#[test]
fn headers_come_as_they_are_in_every_encoding() {
    for encoding in [Encoding::Binary, Encoding::Structured, Encoding::Plain] {
        let headers: Vec<_> = of(&event(), encoding).headers;
        let expected = [("X-Region", "eu west"), ("traceparent", TRACE), ("tracestate", "vendor=1")];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())),
            "{encoding:?}"
        );
    }
}

#[test]
fn an_event_with_nothing_set_has_the_required_attributes_alone() {
    let event = Event::new("a", json!(null)).unwrap();
    let message = of(&event, Encoding::Binary);
    let names: Vec<_> = message.attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["id", "source", "specversion", "time", "type"]);
    assert!(message.attributes.contains(&("source".into(), "outbox".into())));
    let body: Value = serde_json::from_slice(&of(&event, Encoding::Structured).body).unwrap();
    assert_eq!(body["data"], json!(null));
}

#[test]
fn the_resource_id_is_the_partition_key_where_there_is_none() {
    let event = Event::new("a", json!({})).unwrap().with_resource("order", "o-17");
    assert!(of(&event, Encoding::Binary).attributes.contains(&("partitionkey".into(), "o-17".into())));
}

#[test]
fn a_source_becomes_a_reference_to_a_uri() {
    let event = Event::new("a", json!({})).unwrap().with_source("https://shop.example/a b/é?x=%20");
    let attributes = of(&event, Encoding::Binary).attributes;
    assert!(attributes.contains(&("source".into(), "https://shop.example/a%20b/%C3%A9?x=%20".into())));
}

#[test]
fn a_source_is_encoded_where_a_reference_to_a_uri_has_no_place_for_a_letter() {
    for (source, reference) in [
        ("100%", "100%25"),
        ("%zz%4", "%25zz%254"),
        ("%e2%82%ac", "%e2%82%ac"),
        ("a#b#c", "a#b%23c"),
        ("orders[1]", "orders%5B1%5D"),
        ("http://[::1]:80/a[0]#[", "http://[::1]:80/a%5B0%5D#%5B"),
        ("//user@[::1]", "//user@[::1]"),
        ("http://[::1]x/", "http://%5B%3A%3A1%5Dx/"),
        ("http://[[::1]", "http://%5B%5B%3A%3A1%5D"),
        ("/[::1]", "/%5B::1%5D"),
        ("urn:shop:orders", "urn:shop:orders"),
        ("4:2/a:b", "4%3A2/a:b"),
        (":shop", "%3Ashop"),
        ("shop team:orders", "shop%20team%3Aorders"),
        ("/4:2", "/4:2"),
        ("?4:2", "?4:2"),
        ("http://a:b:c/", "http://a%3Ab%3Ac/"),
        ("http://a:b:80/", "http://a%3Ab:80/"),
        ("http://h:port/a:b", "http://h%3Aport/a:b"),
        ("http://h:/", "http://h:/"),
        ("http://h:80?a:b@c", "http://h:80?a:b@c"),
        ("http://u@b@c/", "http://u%40b@c/"),
        ("http://u:p:w@c:1/x@y", "http://u:p:w@c:1/x@y"),
        ("http://[zz]/", "http://%5Bzz%5D/"),
        ("http://[1.2.3.4]/", "http://%5B1.2.3.4%5D/"),
        ("http://[::1]:http/", "http://%5B%3A%3A1%5D%3Ahttp/"),
        ("http://[v1f.a:b]:80/", "http://[v1f.a:b]:80/"),
        ("http://[v.a]/", "http://%5Bv.a%5D/"),
        ("//a:b", "//a%3Ab"),
    ] {
        let event = Event::new("a", json!({})).unwrap().with_source(source);
        let attributes = Message::of(&event, Encoding::Binary, "outbox").unwrap().attributes;
        let found = attributes.iter().find(|(name, _)| name == "source").unwrap();
        assert_eq!(found.1, reference);
    }
}

#[test]
fn a_source_is_never_empty() {
    let event = Event::new("a", json!({})).unwrap();
    for event in [event.clone(), event.with_source("")] {
        for encoding in [Encoding::Binary, Encoding::Structured] {
            let message = Message::of(&event, encoding, "").unwrap();
            let body: Value = serde_json::from_slice(&message.body).unwrap();
            let header = message.attributes.iter().find(|(name, _)| name == "source");
            let source = header.map_or_else(|| body["source"].as_str().unwrap(), |(_, value)| value);
            assert_eq!(source, "outbox");
        }
    }
}

/// Those that the specification forbids, at each end of their ranges.
#[test]
fn a_text_that_no_attribute_may_have_is_refused_for_good() {
    for letter in ['\u{1}', '\u{1f}', '\u{7f}', '\u{9f}', '\u{fdd0}', '\u{fdef}', '\u{fffe}', '\u{10ffff}'] {
        let text = format!("a{letter}b");
        let event = Event::new("a", json!({ "text": text })).unwrap();
        let mut with_extra = event.clone();
        with_extra.meta_mut().extra.insert("note".into(), json!(text));
        let typed = Event::new(text.clone(), json!({})).unwrap();
        for encoding in [Encoding::Binary, Encoding::Structured] {
            for (name, event) in [
                ("type", &typed),
                ("subject", &event.clone().with_resource(text.clone(), "o-17")),
                ("traceparent", &event.clone().with_header("traceparent", text.clone())),
                ("note", &with_extra),
            ] {
                let error = Message::of(event, encoding, "outbox").unwrap_err();
                assert_eq!(error.kind(), PublishErrorKind::Rejected);
                assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            }
            assert!(Message::of(&event, encoding, "outbox").is_ok(), "a payload may have it");
        }
        assert_eq!(serde_json::from_slice::<Event>(&of(&typed, Encoding::Plain).body).unwrap(), typed);
    }
    for letter in ['\u{20}', '\u{7e}', '\u{a0}', '\u{fdcf}', '\u{fdf0}', '\u{fffd}', '\u{10000}'] {
        let event = Event::new(format!("a{letter}b"), json!({})).unwrap();
        assert!(of(&event, Encoding::Binary).attributes.contains(&("type".into(), format!("a{letter}b"))));
    }
}

#[test]
fn an_extra_field_without_a_value_is_not_written() {
    let mut event = Event::new("a", json!({})).unwrap();
    for (name, value) in [("none", json!(null)), ("empty", json!(""))] {
        event.meta_mut().extra.insert(name.into(), value);
    }
    let body: Value = serde_json::from_slice(&of(&event, Encoding::Structured).body).unwrap();
    assert_eq!((body.get("none"), body.get("empty")), (None, None));
    assert!(of(&event, Encoding::Binary).attributes.iter().all(|(_, value)| !value.is_empty()));
}

#[test]
fn an_extra_field_never_takes_the_place_of_an_attribute() {
    for name in ["Type", "data_base64", "partition-key", "subject", "user_ID", "é", "source_"] {
        let mut event = Event::new("a", json!({})).unwrap();
        event.meta_mut().extra.insert(name.into(), json!("x"));
        for encoding in [Encoding::Binary, Encoding::Structured] {
            let error = Message::of(&event, encoding, "outbox").unwrap_err();
            assert_eq!(error.kind(), PublishErrorKind::Rejected, "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(Message::of(&event, Encoding::Plain, "outbox").is_ok());
    }
}

#[test]
fn what_is_too_large_is_refused_for_good() {
    let message = of(&event(), Encoding::Binary);
    assert!(message.check_size(message.size()).is_ok());
    let error = message.check_size(message.size() - 1).unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Rejected);
    assert!(error.to_string().contains(&format!("at most {} are taken", message.size() - 1)), "{error}");
}

#[test]
fn values_for_headers_are_encoded_as_the_http_binding_says() {
    assert_eq!(percent_encoded("order/o-17"), "order/o-17");
    assert_eq!(percent_encoded("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
    assert_eq!(percent_encoded("100% \"x\"\r\n"), "100%25%20%22x%22%0D%0A");
}

#[test]
fn a_route_that_panics_is_the_failure_of_its_event() {
    let route = super::Route::new(|event| {
        assert_ne!(event.event_type(), "bad", "told to panic");
        "there".to_owned()
    });
    assert_eq!(route.try_of(&Event::new("good", json!({})).unwrap()).unwrap(), "there");
    let error = route.try_of(&Event::new("bad", json!({})).unwrap()).unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Failed);
    assert!(error.to_string().contains("told to panic"), "{error}");
}
