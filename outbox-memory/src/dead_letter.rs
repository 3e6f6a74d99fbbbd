//! What was set aside.

use async_trait::async_trait;
use outbox_traits::{DeadLetterFilter, DeadLetterPage, DeadLetterStore, EventId, Result};

use crate::{MemoryOutbox, state::State};

#[async_trait]
impl DeadLetterStore for MemoryOutbox {
    async fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let state = self.shared.lock();
        let mut matching = state
            .dead_after(filter.after.unwrap_or(0))
            .filter(|(_, letter)| filter.matches(&letter.event_type, letter.dead_at));
        let page: Vec<_> = matching.by_ref().take(filter.limit).collect();
        let next = page.last().map(|(seq, _)| *seq).filter(|_| matching.next().is_some());
        Ok(DeadLetterPage::new(page.into_iter().map(|(_, letter)| letter).collect(), next))
    }

    async fn requeue(&self, id: EventId) -> Result<bool> {
        let mut state = self.shared.lock();
        let seq = state.dead_seq(id);
        if let Some(seq) = seq {
            state.requeue(seq);
        }
        Ok(seq.is_some())
    }

    async fn requeue_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut state = self.shared.lock();
        let matching = all_matching(&state, filter);
        for seq in &matching {
            state.requeue(*seq);
        }
        Ok(matching.len() as u64)
    }

    async fn discard(&self, id: EventId) -> Result<bool> {
        let mut state = self.shared.lock();
        let seq = state.dead_seq(id);
        if let Some(seq) = seq {
            state.remove(seq);
        }
        Ok(seq.is_some())
    }

    async fn discard_all(&self, filter: &DeadLetterFilter) -> Result<u64> {
        let mut state = self.shared.lock();
        let matching = all_matching(&state, filter);
        for seq in &matching {
            state.remove(*seq);
        }
        Ok(matching.len() as u64)
    }
}

fn all_matching(state: &State, filter: &DeadLetterFilter) -> Vec<u64> {
    state
        .dead_after(0)
        .filter(|(_, letter)| filter.matches(&letter.event_type, letter.dead_at))
        .map(|(seq, _)| seq)
        .collect()
}
