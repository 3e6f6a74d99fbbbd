//! Confirms that do not come, and connections on which nothing comes.

use std::time::Duration;

use outbox_conformance::require;
use outbox_delivery::transport::{RabbitMq, message::Route};
use outbox_traits::{Event, PublishErrorKind, Transport};
use serde_json::json;
use tokio::time::sleep;

use crate::{Queue, given_url, proxy::Proxy};

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
