//! Settings of librdkafka.

use rdkafka::ClientConfig;

/// The two names of each setting of a producer that has two. Both would be set, in an order that is another each time.
const ALIASES: &[(&str, &str)] = &[
    ("acks", "request.required.acks"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.codec", "compression.type"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
];

/// Sets a setting under this name, and under no other.
pub(super) fn set(config: &mut ClientConfig, name: &str, value: impl Into<String>) {
    for (one, other) in ALIASES {
        if name == *one {
            config.remove(other);
        } else if name == *other {
            config.remove(one);
        }
    }
    config.set(name, value);
}
