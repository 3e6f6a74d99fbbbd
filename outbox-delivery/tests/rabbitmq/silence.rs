//! Confirms that do not come, and connections on which nothing comes.

use std::time::Duration;

use outbox_conformance::require;
use outbox_delivery::transport::{RabbitMq, message::Route};
use outbox_traits::{Event, PublishErrorKind, Transport};
use serde_json::json;
use tokio::time::sleep;

use crate::{Queue, broker::Broker, given_url, proxy::Proxy};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A queue, and a transport to it that goes through a proxy.
async fn through_proxy(url: &str) -> (Queue, Proxy, RabbitMq) {
    let (queue, proxy) = (Queue::new(url).await, Proxy::to(url).await);
    let transport =
        RabbitMq::new(proxy.url()).unwrap().with_route(Route::to(&queue.name)).with_timeout(TIMEOUT);
    (queue, proxy, transport)
}

async fn publish(transport: &RabbitMq) -> Option<PublishErrorKind> {
    let published = transport.publish(&Event::new("order.placed", json!({})).unwrap()).await;
    published.err().map(|error| error.kind())
}

#[tokio::test]
async fn an_event_that_is_not_confirmed_has_failed_where_the_broker_answers_otherwise() {
    let Some(url) = require("rabbitmq::not_confirmed", given_url()) else { return };
    let (queue, proxy, transport) = through_proxy(&url).await;
    proxy.keep_confirms(true);
    assert_eq!(publish(&transport).await, Some(PublishErrorKind::Failed));
    proxy.keep_confirms(false);
    assert_eq!(publish(&transport).await, None);
    assert_eq!(proxy.connections(), 1);
    queue.close().await;
}

#[tokio::test]
async fn a_connection_that_went_silent_is_used_no_more_and_costs_no_other() {
    let Some(url) = require("rabbitmq::silent", given_url()) else { return };
    let (queue, proxy, transport) = through_proxy(&url).await;
    // Two at the same time, so that there are two channels.
    let both = || async { tokio::join!(publish(&transport), publish(&transport)) };
    assert_eq!(both().await, (None, None));
    proxy.cut();
    let first_and_next = async {
        let first = publish(&transport).await;
        (first, publish(&transport).await)
    };
    let late = async {
        sleep(TIMEOUT / 2).await;
        publish(&transport).await
    };
    let unavailable = Some(PublishErrorKind::Unavailable);
    assert_eq!(tokio::join!(first_and_next, late), ((unavailable, None), unavailable));
    for _ in 0..3 {
        assert_eq!(both().await, (None, None));
    }
    assert_eq!(proxy.connections(), 2);
    queue.close().await;
}

#[tokio::test]
async fn a_broker_that_takes_connections_and_says_nothing_is_left_with_one() {
    let Some(url) = require("rabbitmq::no_greeting", given_url()) else { return };
    let (queue, proxy, transport) = through_proxy(&url).await;
    proxy.keep_waiting(true);
    for _ in 0..3 {
        assert_eq!(publish(&transport).await, Some(PublishErrorKind::Unavailable));
    }
    proxy.keep_waiting(false);
    assert_eq!(publish(&transport).await, None);
    assert_eq!(proxy.connections(), 1);
    queue.close().await;
}

/// It reads from nobody who publishes, and so notices no connection that is given up.
#[tokio::test]
async fn a_broker_that_lacks_memory_is_left_with_one_connection_and_used_when_it_has_some() {
    let Some(broker) = require("rabbitmq::alarm", Broker::rabbitmq().await) else { return };
    let (queue, proxy, transport) = through_proxy(broker.url()).await;
    assert_eq!(publish(&transport).await, None);
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1000"]);
    for _ in 0..4 {
        let (one, other) = tokio::join!(publish(&transport), publish(&transport));
        assert_eq!((one, other), (Some(PublishErrorKind::Unavailable), Some(PublishErrorKind::Unavailable)));
    }
    assert_eq!(proxy.connections(), 1);
    broker.control(&["set_vm_memory_high_watermark", "0.9"]);
    let event = Event::new("order.shipped", json!({})).unwrap();
    while transport.publish(&event).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(proxy.connections(), 1);
    // What was sent when the alarm began comes before it.
    let received = queue.received().await;
    assert_eq!(received.last().unwrap().id, event.id());
}

/// The large one has the channel of all closed, and each of the others, alone, is not confirmed in time.
#[tokio::test]
async fn after_a_round_that_the_broker_ended_no_more_are_tried_alone_than_there_is_time_for() {
    let Some(broker) = require("rabbitmq::alone", Broker::rabbitmq().await) else { return };
    let (queue, proxy, transport) = through_proxy(broker.url()).await;
    broker.control(&["eval", "application:set_env(rabbit, max_message_size, 10000)."]);
    proxy.keep_confirms(true);
    let mut events: Vec<_> = (0..40).map(|_| Event::new("order.placed", json!({})).unwrap()).collect();
    events[20] = Event::new("order.placed", "x".repeat(20_000)).unwrap();
    let published = transport.publish_all(&events).await;
    let count = |wanted: PublishErrorKind| {
        published.iter().filter(|one| one.result.as_ref().is_err_and(|error| error.kind() == wanted)).count()
    };
    let counts = (count(PublishErrorKind::Failed), count(PublishErrorKind::NotAttempted));
    assert_eq!(counts, (8, 32));
    proxy.keep_confirms(false);
    let published = transport.publish_all(&events).await;
    assert!(published.iter().all(|one| one.result.is_ok() == (one.id != events[20].id())));
    queue.close().await;
}
