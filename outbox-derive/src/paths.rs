//! Where the crates that the generated code names are found.

use proc_macro_crate::{Error as LookupError, FoundCrate, crate_name};
use proc_macro2::Span;
use syn::{Error, Ident, Path, Result, parse_quote};

/// The crate with the trait: the facade or the core, under the name that `Cargo.toml` gives it.
pub(crate) fn outbox() -> Result<Path> {
    for (package, itself) in [("outbox", "outbox"), ("outbox-traits", "outbox_traits")] {
        match crate_name(package) {
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
