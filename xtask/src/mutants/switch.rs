//! What the mutated crate asks at each switch.

/// The variable that says which mutants are on, with a comma between two.
pub(crate) const ON: &str = "OUTBOX_MUTANT";

/// The variable that names a file, to which the number of each mutant that is asked for is written, once.
pub(crate) const TRACE: &str = "OUTBOX_MUTANT_TRACE";

/// What is put at the end of the crate's `lib.rs`. It writes a number in one call, because a test may be killed, and
/// because some start themselves as another process.
pub(crate) const MODULE: &str = r#"
#[doc(hidden)]
mod __mutants {
    use std::{collections::HashSet, fs::File, io::Write, sync::{LazyLock, Mutex, PoisonError}};

    static ON: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let list = std::env::var("OUTBOX_MUTANT").unwrap_or_default();
        list.split(',').filter_map(|number| number.parse().ok()).collect()
    });

    static TRACE: LazyLock<Option<Mutex<(File, HashSet<u32>)>>> = LazyLock::new(|| {
        let path = std::env::var_os("OUTBOX_MUTANT_TRACE")?;
        let file = File::options().create(true).append(true).open(path).ok()?;
        Some(Mutex::new((file, HashSet::new())))
    });

    pub(crate) fn is_on(number: u32) -> bool {
        if let Some(trace) = &*TRACE {
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            let (file, seen) = &mut *trace;
            if seen.insert(number) {
                let _ = file.write_all(format!("{number}\n").as_bytes());
            }
        }
        ON.contains(&number)
    }
}
pub(crate) use __mutants::is_on as __mutant;
"#;
