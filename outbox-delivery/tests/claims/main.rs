//! A relay on claims that runs, in simulated time.

mod edges;
mod failures;
mod health;
mod held;
mod leases;
#[cfg(feature = "metrics")]
mod metrics;
mod outages;
mod panics;
mod slow;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod wake;
mod work;

use std::time::Duration;

use outbox_traits::Event;

use self::support::event;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

fn one_a_key(count: usize) -> Vec<Event> {
    (0..count).map(|n| event(&format!("e{n}"), &n.to_string())).collect()
}
