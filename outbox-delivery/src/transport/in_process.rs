//! Functions of the same program as a transport.

use std::{error::Error as StdError, fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};
use outbox_traits::{Event, PublishError, Transport};

use super::pattern::Pattern;
use crate::guard;

type BoxError = Box<dyn StdError + Send + Sync>;
type Handler = dyn Fn(Arc<Event>) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

/// Publishes events to functions of the same program.
///
/// Every subscriber whose pattern matches the type of the event is called, one after the other in the order of
/// subscription. The event is accepted when all of them returned `Ok`; at the first that fails or panics it is
/// not, and all of them will see it again. An event that nobody wants is accepted.
///
/// Events are handled one after the other. Once half of the [time](crate::Relay::with_publish_timeout) that a relay has
/// for a call is used up, the rest of the batch is left for the next one, and costs no attempt. So one event is to take
/// less than that half.
///
/// A handler must not block its thread, neither by I/O nor by a long calculation: the same task renews the leases of
/// what it handles, and they would run out. Use [`spawn_blocking`](tokio::task::spawn_blocking) for such work.
///
/// | pattern | matches |
/// |---|---|
/// | `*` | every type |
/// | `order.*` | all below `order.`, at any depth: `order.placed`, `order.line.added`; not `order` itself |
/// | `order.placed` | this type alone |
///
/// ```
/// use outbox_delivery::transport::InProcess;
/// use outbox_traits::PublishError;
///
/// let transport = InProcess::new()
///     .subscribe("order.*", |event| async move {
///         println!("{}", event.event_type());
///         Ok::<_, PublishError>(())
///     })
///     .subscribe("order.placed", |event| async move {
///         let total = event.payload()["total"].as_u64().ok_or("an order without a total")?;
///         println!("{total}");
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///     });
/// ```
#[derive(Clone, Default)]
pub struct InProcess {
    subscribers: Vec<(Pattern, Arc<Handler>)>,
}

impl InProcess {
    /// A transport without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscriber for the types that match the pattern.
    ///
    /// It runs in the task of the relay, and must not block its thread: see [`InProcess`].
    ///
    /// Its error may be of any type; a [`PublishError`] keeps its kind, any other counts as
    /// [`Failed`](outbox_traits::PublishErrorKind::Failed).
    ///
    /// # Panics
    /// If the pattern is none of the three kinds above.
    #[must_use]
    pub fn subscribe<H, F, E>(mut self, pattern: &str, handler: H) -> Self
    where
        H: Fn(Arc<Event>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let pattern = Pattern::parse(pattern).unwrap_or_else(|problem| panic!("{problem}"));
        let handler = move |event| handler(event).map(|result| result.map_err(Into::into)).boxed();
        self.subscribers.push((pattern, Arc::new(handler)));
        self
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn publish(&self, event: &Event) -> Result<(), PublishError> {
        let mut shared = None;
        for (pattern, handler) in &self.subscribers {
            if !pattern.matches(event.event_type()) {
                continue;
            }
            let event = Arc::clone(shared.get_or_insert_with(|| Arc::new(event.clone())));
            // A panic is the failure of this event, and of none of the others of its batch.
            match guard::wait(async { handler(event).await }).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(match error.downcast::<PublishError>() {
                        Ok(error) => *error,
                        Err(error) => PublishError::failed(format!("the subscriber of `{pattern}` failed"))
                            .with_source(error),
                    });
                }
                Err(panic) => {
                    let message = format!("the subscriber of `{pattern}` panicked: {panic}");
                    return Err(PublishError::failed(message));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.subscribers.iter().map(|(pattern, _)| pattern.to_string());
        f.debug_list().entries(patterns).finish()
    }
}
