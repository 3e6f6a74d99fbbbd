//! What the broker says of messages that were sent at the same time.
//!
//! It sends an unroutable message back before it confirms it, and the client hands what came back to whichever confirm
//! comes next, be it of another message. What came back is therefore told by its message id, and by nothing else. Each
//! confirm takes one from those that wait, and no message is confirmed before it has come back: so nothing waits any
//! more where a confirm has taken nothing, and where all have come.

use std::{collections::HashMap, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use lapin::Confirmation;
use tokio::time::{Instant, timeout_at};

use super::outgoing::Outgoing;
use crate::relay::MAX_INTERVAL;

/// What became of one message.
#[derive(Debug)]
pub(super) enum Answer {
    Accepted,
    /// No queue wanted it: the code and the text of the broker.
    CameBack(String),
    Refused,
    /// No confirm came in time.
    Silence,
    /// The channel or the connection was closed.
    Closed(lapin::Error),
    /// It was confirmed, and may have come back.
    Unclear,
}

impl Answer {
    pub(super) fn is_confirm(&self) -> bool {
        matches!(self, Self::Accepted | Self::CameBack(_) | Self::Refused)
    }
}

/// The confirm of a message that is on its way.
type Confirm<'a> = BoxFuture<'a, Result<Confirmation, lapin::Error>>;

/// Waits for the confirms of these messages, which are all that are under way on their channel.
pub(super) async fn answers(sent: Vec<(&Outgoing, Confirm<'_>)>, time: Duration) -> Vec<Answer> {
    let (messages, confirms): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
    let numbered = confirms.into_iter().enumerate();
    let mut waiting: FuturesUnordered<_> =
        numbered.map(|(number, confirm)| confirm.map(move |confirmed| (number, confirmed))).collect();
    let mut confirmed: Vec<_> = messages.iter().map(|_| None).collect();
    let deadline = Instant::now() + time.min(MAX_INTERVAL);
    while let Ok(Some((number, result))) = timeout_at(deadline, waiting.next()).await {
        confirmed[number] = Some(result);
    }
    let is_complete = confirmed.iter().all(|result| matches!(result, Some(Ok(_))));
    // One that came too late may have taken what came back of one that came in time.
    let late = waiting.into_iter().filter_map(|confirm| confirm.now_or_never().map(|(_, result)| result));
    let late: Vec<_> = late.collect();
    let returned: HashMap<_, _> = confirmed.iter().flatten().chain(&late).filter_map(returned).collect();
    let answer = |message: &Outgoing, result| match result {
        None => Answer::Silence,
        Some(Err(error)) => Answer::Closed(error),
        Some(Ok(confirmation)) => match (returned.get(message.id()), confirmation) {
            (Some(reason), _) => Answer::CameBack(reason.clone()),
            (None, Confirmation::Ack(None)) => Answer::Accepted,
            (None, Confirmation::Ack(Some(_))) if is_complete => Answer::Accepted,
            (None, Confirmation::Ack(Some(_))) => Answer::Unclear,
            (None, Confirmation::Nack(_) | Confirmation::NotRequested) => Answer::Refused,
        },
    };
    messages.into_iter().zip(confirmed).map(|(message, result)| answer(message, result)).collect()
}

/// The id of what came back, if a confirm has taken something, and what the broker says of it.
fn returned(result: &Result<Confirmation, lapin::Error>) -> Option<(String, String)> {
    let (Confirmation::Ack(returned) | Confirmation::Nack(returned)) = result.as_ref().ok()? else {
        return None;
    };
    let returned = returned.as_ref()?;
    let id = returned.properties.message_id().as_ref()?.as_str().to_owned();
    Some((id, format!("{} {}", returned.reply_code, returned.reply_text)))
}
