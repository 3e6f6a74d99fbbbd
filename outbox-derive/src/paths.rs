//! Where the crates that the generated code names are found.

use proc_macro_crate::{Error as LookupError, FoundCrate, crate_name};
use proc_macro2::Span;
use syn::{Error, Ident, Path, Result, parse_quote};

/// The crate with the trait: the core or the facade, under the name that `Cargo.toml` gives it.
pub(crate) fn outbox() -> Result<Path> {
    outbox_by(crate_name)
}

/// The core comes first: the facade may be there for the tests alone, which a look-up does not tell, and where both
/// are there for all the trait is the same.
fn outbox_by(find: impl Fn(&str) -> std::result::Result<FoundCrate, LookupError>) -> Result<Path> {
    for (package, itself) in [("outbox-traits", "outbox_traits"), ("outbox", "outbox")] {
        match find(package) {
            Ok(FoundCrate::Name(name)) => return Ok(global(&name)),
            // The examples and tests of the crate itself see it from outside.
            Ok(FoundCrate::Itself) => return Ok(global(itself)),
            Err(LookupError::CrateNotFound { .. }) => {}
            // Built without Cargo: the usual name is the best guess.
            Err(_) => return Ok(global("outbox")),
        }
    }
    Err(Error::new(
        Span::call_site(),
        "neither `outbox` nor `outbox-traits` is a dependency of this package; add one of them, \
         or say where the trait is: #[domain_event(crate = \"path::to::outbox\")]",
    ))
}

/// The crate `serde`, if the package has it under some name.
pub(crate) fn serde() -> Option<Path> {
    match crate_name("serde") {
        Ok(FoundCrate::Name(name)) => Some(global(&name)),
        _ => None,
    }
}

fn global(name: &str) -> Path {
    let name = Ident::new(name, Span::call_site());
    parse_quote!(::#name)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quote::quote;

    use super::*;

    /// What is generated in a package that has these, by their names in `Cargo.toml`.
    fn generated(packages: &[(&str, &str)]) -> Option<String> {
        let find = |package: &str| {
            let found = packages.iter().find(|(known, _)| *known == package);
            found.map(|(_, name)| FoundCrate::Name((*name).to_owned())).ok_or_else(|| {
                LookupError::CrateNotFound { crate_name: package.to_owned(), path: PathBuf::new() }
            })
        };
        outbox_by(find).ok().map(|path| quote!(#path).to_string())
    }

    #[test]
    fn the_core_is_named_where_the_facade_may_be_there_for_tests_alone() {
        let (core, facade) = (("outbox-traits", "outbox_traits"), ("outbox", "outbox"));
        assert_eq!(generated(&[facade, core]).as_deref(), Some(":: outbox_traits"));
        assert_eq!(generated(&[facade, ("outbox-traits", "events")]).as_deref(), Some(":: events"));
        assert_eq!(generated(&[facade]).as_deref(), Some(":: outbox"));
        assert_eq!(generated(&[]), None);
    }
}
