//! What was set aside.

use async_trait::async_trait;
use outbox_traits::{DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Result};

use crate::{MemoryOutbox, state::State};

#[async_trait]
impl DeadLetterStore for MemoryOutbox {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        if filter.limit == 0 {
            return Ok(DeadLetterPage::new(Vec::new(), filter.after));
        }
        let state = self.shared.lock();
        let mut matching = state
            .dead_after(filter.after.unwrap_or(0))
            .filter(|(_, letter)| filter.matches(&letter.event_type, letter.dead_at));
        let page: Vec<_> = matching.by_ref().take(filter.limit).collect();
        let next = page.last().map(|(seq, _)| *seq).filter(|_| matching.next().is_some());
        Ok(DeadLetterPage::new(page.into_iter().map(|(_, letter)| letter).collect(), next))
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        Ok(self.change(|state| Vec::from_iter(state.dead_seq(id)), State::requeue) > 0)
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        Ok(self.change(|state| all_matching(state, filter), State::requeue))
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        Ok(self.change(|state| Vec::from_iter(state.dead_seq(id)), State::remove) > 0)
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        Ok(self.change(|state| all_matching(state, filter), State::remove))
    }
}

impl MemoryOutbox {
    /// Changes dead rows, and returns how many. What is pending again wakes, and so does what has waited for them.
    fn change(&self, which: impl FnOnce(&State) -> Vec<u64>, change: impl Fn(&mut State, u64)) -> u64 {
        let mut state = self.shared.lock();
        let these = which(&state);
        for seq in &these {
            change(&mut state, *seq);
        }
        drop(state);
        if !these.is_empty() {
            self.shared.commits.send_replace(());
        }
        these.len() as u64
    }
}

fn all_matching(state: &State, filter: &DeadLetterFilter) -> Vec<u64> {
    state
        .dead_after(0)
        .filter(|(_, letter)| filter.matches(&letter.event_type, letter.dead_at))
        .map(|(seq, _)| seq)
        .collect()
}
