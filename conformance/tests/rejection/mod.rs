//! How a suite is tried against faults: each must be rejected, by the clauses that name it.

use std::{cell::Cell, sync::Once};

/// An enumeration of faults, with a list of them all.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)+) => {
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) enum Fault { $($(#[$doc])* $fault,)+ }

        impl Fault {
            pub(crate) const ALL: &[Self] = &[$(Self::$fault,)+];
        }
    };
}

/// A test for each fault, and one that none is left out but those that are `ACCEPTED`. It calls `failures`, which is told which
/// clauses to run.
macro_rules! rejected {
    ($($test:ident: $fault:ident by $($clause:literal),+;)+) => {
        $(#[test]
        fn $test() {
            let named = [$($clause),+];
            let failures = failures(Fault::$fault, |clause| named.contains(&clause));
            for clause in named {
                assert!(
                    failures.iter().any(|(failed, _)| *failed == clause),
                    "{clause} does not reject the fault {:?}",
                    Fault::$fault,
                );
            }
        })+

        /// The clauses that reject the faults above.
        const NAMED: &[&str] = &[$($($clause),+),+];

        #[test]
        fn every_fault_is_tried() {
            let rejected = [$(Fault::$fault),+];
            for fault in Fault::ALL {
                assert!(rejected.contains(fault) || ACCEPTED.contains(fault), "{fault:?} is not tried");
            }
        }
    };
}

thread_local! {
    /// Whether the panics of this very thread are as they should be.
    pub(crate) static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Clauses run in tasks, and here most of their panics are as they should be: they are collected, not printed.
pub(crate) fn hush_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() && std::thread::current().name() != Some("tokio-rt-worker") {
                print(panic);
            }
        }));
    });
}
