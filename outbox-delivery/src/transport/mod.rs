//! Where events go: one transport for each feature.

#[cfg(any(feature = "http", feature = "kafka", feature = "nats", feature = "rabbitmq", feature = "redis"))]
mod by_key;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "in-process")]
mod in_process;
#[cfg(feature = "json-lines")]
mod json_lines;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "json-lines")]
mod line_file;
#[cfg(feature = "message")]
pub mod message;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "in-process")]
mod pattern;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod probe;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "http")]
pub use self::http::{Http, HttpConfigError};
#[cfg(feature = "in-process")]
pub use self::in_process::InProcess;
#[cfg(feature = "json-lines")]
pub use self::json_lines::JsonLines;
#[cfg(feature = "kafka")]
pub use self::kafka::Kafka;
#[cfg(feature = "nats")]
pub use self::nats::Nats;
#[cfg(feature = "rabbitmq")]
pub use self::rabbitmq::RabbitMq;
#[cfg(feature = "redis")]
pub use self::redis::RedisStreams;
#[cfg(feature = "nats")]
pub use async_nats;
