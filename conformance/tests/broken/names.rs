//! The names of a database, and what each of them is that of.

use std::collections::{HashMap, HashSet};

use outbox_traits::{Error, ErrorKind, Result};

use crate::fault::Fault;

/// What an outbox or an inbox consists of: how the name of each part ends, and what it is.
pub(crate) type Parts = [(&'static str, &'static str)];

pub(crate) const OUTBOX: &Parts = &[("", EVENTS), ("_lease", "leases"), ("_due", "an index of events")];
pub(crate) const INBOX: &Parts = &[("", MARKS), ("_processed", "an index of marks")];

const EVENTS: &str = "an outbox";
const MARKS: &str = "an inbox";
/// It has nothing to do with either.
pub(crate) const OTHER: &str = "a table of the application";

/// In characters.
pub(crate) const LONGEST: usize = 60;

/// Whether there is room for a name.
pub(crate) fn check(fault: Fault, name: &str) -> Result<()> {
    let length = match fault {
        Fault::NamesAreCountedInBytes => name.len(),
        _ => name.chars().count(),
    };
    let problem = match fault {
        Fault::AnyNameIsTaken => return Ok(()),
        _ if name.is_empty() => "is empty",
        Fault::OnlyEmptyNamesAreRefused => return Ok(()),
        _ if name.contains('\0') => "contains a NUL character",
        _ if length > LONGEST => "is too long",
        _ => return Ok(()),
    };
    let message = match fault {
        Fault::ARefusalDoesNotSayTheName => format!("the name {problem}: choose another"),
        _ => format!("the name {name:?} {problem}: choose another"),
    };
    Err(Error::new(ErrorKind::Schema, message))
}

/// The name by which a store goes that was asked for one of this name.
pub(crate) fn altered(fault: Fault, name: &str) -> String {
    match fault {
        Fault::LongNamesAreCutOff => name.chars().take(40).collect(),
        Fault::NamesAreTrimmed => name.trim().to_owned(),
        _ => name.to_owned(),
    }
}

/// All names that are taken, and what each is that of.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) taken: HashMap<String, &'static str>,
    /// What is of a newer version.
    pub(crate) newer: HashSet<String>,
    by_hand: HashSet<String>,
}

impl Names {
    /// What is missing or in the way, one sentence each.
    pub(crate) fn problems(&self, parts: &Parts, name: &str) -> Vec<String> {
        let problem = |(ending, what): &(&str, &str)| {
            let part = format!("{name}{ending}");
            match self.taken.get(&part) {
                Some(found) if found == what => None,
                Some(found) => Some(format!("`{part}` is {found}: choose another name")),
                None => Some(format!("`{part}` is missing, {what}: run migrate")),
            }
        };
        let newer = self.newer.contains(name).then(|| newer(name));
        newer.into_iter().chain(parts.iter().filter_map(problem)).collect()
    }

    /// Takes the names of all parts that are not taken, as somebody who knows them.
    pub(crate) fn make_by_hand(&mut self, parts: &Parts, name: &str) {
        for (ending, what) in parts {
            self.taken.entry(format!("{name}{ending}")).or_insert(what);
        }
        self.by_hand.insert(name.to_owned());
    }

    /// The same, as verify says it.
    pub(crate) fn report(&self, fault: Fault, parts: &Parts, name: &str) -> Vec<String> {
        let mut problems = self.problems(parts, name);
        match fault {
            Fault::VerifySaysThatAllIsWell => problems.clear(),
            Fault::WhatWasMadeByHandIsMissing if self.by_hand.contains(name) => {
                problems.push(format!("`{name}` was not made here: run migrate"));
            }
            Fault::VerifyAsksOnlyWhetherTheNameIsTaken if self.taken.contains_key(name) => problems.clear(),
            Fault::VerifyTakesNamesForPatterns => {
                let is_there = |(ending, _): &(&str, &str)| self.has_like(&format!("{name}{ending}"));
                if parts.iter().all(is_there) {
                    problems.clear();
                }
            }
            Fault::VerifyNamesOnePartOnly => problems.truncate(1),
            Fault::VerifyForgetsIndexes => problems.retain(|problem| !problem.contains("index")),
            Fault::VerifyKnowsNoNewerVersion => problems.retain(|problem| *problem != newer(name)),
            Fault::VerifyDoesNotSayWhatToDo => {
                for problem in &mut problems {
                    problem.truncate(problem.rfind(':').unwrap_or_default());
                }
            }
            _ => {}
        }
        problems
    }

    /// Whether a name is taken that is like this pattern, in which `_` stands for any character.
    fn has_like(&self, pattern: &str) -> bool {
        self.taken.keys().any(|name| is_like(name, pattern))
    }

    /// Takes the names of all parts, if nothing is in the way.
    pub(crate) fn make(&mut self, fault: Fault, parts: &Parts, name: &str) -> Result<()> {
        if self.newer.contains(name) && fault != Fault::ANewerSchemaIsMigrated {
            if fault == Fault::ANewerSchemaIsMadeOld {
                self.newer.remove(name);
            }
            return Err(Error::new(ErrorKind::Schema, newer(name)));
        }
        if self.by_hand.contains(name) && fault == Fault::AMigrationRefusesWhatWasMadeByHand {
            return Err(Error::new(ErrorKind::Schema, format!("`{name}` is there already")));
        }
        for (ending, what) in parts {
            let part = format!("{name}{ending}");
            let in_the_way = self.taken.get(&part).filter(|found| *found != what);
            if let Some(found) = in_the_way.filter(|found| !is_taken_over(fault, parts, ending, found)) {
                let message = match fault {
                    Fault::WhatIsInTheWayIsNotSaid => format!("could not migrate `{name}`"),
                    Fault::WhatIsSpoiltIsNotSaid if self.taken.get(name) == Some(&parts[0].1) => {
                        format!("could not migrate `{name}`")
                    }
                    _ => format!("could not migrate `{name}`: `{part}` is {found}: choose another name"),
                };
                return Err(Error::new(ErrorKind::Schema, message));
            }
            if fault == Fault::HalfAnOutboxIsMade {
                self.taken.insert(part, what);
            }
        }
        self.newer.remove(name);
        self.taken.extend(parts.iter().map(|(ending, what)| (format!("{name}{ending}"), *what)));
        Ok(())
    }
}

/// Whether a text is like a pattern, in which `_` stands for any character.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    text.chars().count() == pattern.chars().count()
        && text.chars().zip(pattern.chars()).all(|(char, like)| char == like || like == '_')
}

fn newer(name: &str) -> String {
    format!("`{name}` is of a newer version: upgrade the library")
}

fn is_taken_over(fault: Fault, parts: &Parts, ending: &str, found: &str) -> bool {
    match fault {
        Fault::SomethingElseIsTakenOver => found == OTHER,
        Fault::AnInboxIsMadeOfAnOutbox => parts == INBOX && found == EVENTS,
        Fault::AnOutboxIsMadeOfAnInbox => parts == OUTBOX && found == MARKS,
        Fault::AnOutboxIsMadeAPartOfAnother => !ending.is_empty() && found == EVENTS,
        Fault::APartOfAnOutboxIsMadeAnother => parts == OUTBOX && found != EVENTS && found != OTHER,
        _ => false,
    }
}
