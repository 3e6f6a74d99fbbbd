//! What an error of the producer means for the event.

use outbox_traits::PublishError;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

pub(super) fn refused(error: KafkaError, topic: &str) -> PublishError {
    let refused = match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidMessage | Code::InvalidRecord,
        ) => PublishError::rejected(format!("the topic `{topic}` does not take a message like this")),
        Some(Code::InvalidTopic) => PublishError::rejected(format!("Kafka can have no topic `{topic}`")),
        Some(
            Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::UnknownTopicId,
        ) => PublishError::failed(format!("there is no topic `{topic}`: create it")),
        Some(code) if is_of_cluster(code) => {
            PublishError::unavailable("Kafka did not accept the event in time")
        }
        _ => PublishError::failed(format!("the topic `{topic}` did not take the event")),
    };
    refused.with_source(error)
}

/// Whether no event is to blame: what the client says by itself, of connections, queues and time, and what a broker
/// says of the state of the cluster.
fn is_of_cluster(code: Code) -> bool {
    let is_of_client = (code as i32) < 0;
    is_of_client
        || matches!(
            code,
            Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::RequestTimedOut
                | Code::BrokerNotAvailable
                | Code::ReplicaNotAvailable
                | Code::NetworkException
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend
                | Code::ClusterAuthorizationFailed
                | Code::OutOfOrderSequenceNumber
                | Code::KafkaStorageError
                | Code::SaslAuthenticationFailed
        )
}
