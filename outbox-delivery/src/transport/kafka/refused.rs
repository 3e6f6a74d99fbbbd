//! What an error of the producer means for the event.

use outbox_traits::PublishError;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

/// Whether a broker refused everything that came in one request, of which one message may be to blame, or another one
/// is.
pub(super) fn is_of_company(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| is_of_message(code) || code == Code::InvalidDifferentRecord)
}

/// Whether the client gave up the message after its time.
pub(super) fn is_timeout(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::MessageTimedOut)
}

/// What became of a message that the cluster did not accept in time, though it answers otherwise.
pub(super) fn not_in_time(error: KafkaError, topic: &str) -> PublishError {
    let message = format!(
        "the topic `{topic}` did not accept the event in time, and Kafka answers otherwise: its partition may lack a \
         leader or replicas in sync"
    );
    PublishError::failed(message).with_source(error)
}

pub(super) fn refused(error: KafkaError, topic: &str) -> PublishError {
    let refused = match error.rdkafka_error_code() {
        Some(code) if is_of_message(code) => {
            PublishError::rejected(format!("the topic `{topic}` does not take a message like this"))
        }
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

fn is_of_message(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidMessage
            | Code::InvalidRecord
    )
}

/// Whether no event is to blame: what the client says by itself, of connections, queues and time, and what a broker
/// says of the state of the cluster. What it says of a partition is of no other one: that it does not know what is wrong,
/// or that another message of the request is, is among it, although the numbers are like those of the client.
fn is_of_cluster(code: Code) -> bool {
    let is_of_partition = matches!(code, Code::Unknown | Code::InvalidDifferentRecord);
    let is_of_client = (code as i32) < 0 && !is_of_partition;
    is_of_client
        || matches!(
            code,
            Code::BrokerNotAvailable
                | Code::NetworkException
                | Code::ClusterAuthorizationFailed
                | Code::OutOfOrderSequenceNumber
                | Code::SaslAuthenticationFailed
        )
}
