//! What the other side says of itself when an event has failed, such as that it answers at all.

use tokio::{sync::Mutex, time::Instant};

/// The last answer, and when it was there: what fails at the same time asks once for all.
#[derive(Debug, Default)]
pub(crate) struct Probe(Mutex<Option<(Instant, bool)>>);

impl Probe {
    /// The answer, for an event that began then. One that was there before says nothing of it, as the other side may have
    /// gone away since: then it is asked again.
    pub(crate) async fn answer(&self, began: Instant, ask: impl Future<Output = bool>) -> bool {
        let mut last = self.0.lock().await;
        if let Some((answered, answer)) = *last
            && began <= answered
        {
            return answer;
        }
        let answer = ask.await;
        *last = Some((Instant::now(), answer));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn events_that_began_before_the_answer_share_it_and_one_that_began_after_it_asks_again() {
        let (probe, asked) = (Probe::default(), Cell::new(0));
        let ask = |answer: bool| {
            let asked = &asked;
            async move {
                asked.set(asked.get() + 1);
                sleep(SECOND).await;
                answer
            }
        };
        let first = Instant::now();
        let meanwhile = async {
            sleep(SECOND / 2).await;
            probe.answer(Instant::now(), ask(false)).await
        };
        assert_eq!(tokio::join!(probe.answer(first, ask(true)), meanwhile), (true, true));
        assert_eq!(asked.get(), 1);
        sleep(SECOND).await;
        let late = Instant::now();
        assert!(!probe.answer(late, ask(false)).await);
        assert_eq!(asked.get(), 2);
        // The last answer is that of all that began before it.
        assert!(!probe.answer(first, ask(true)).await);
        assert_eq!(asked.get(), 2);
    }
}
