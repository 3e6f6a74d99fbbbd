//! The rules for the type of an event, as `Event::new` checks them when the program runs.

use syn::{Error, LitStr, Result};

const MAX_TYPE_CHARS: usize = 256;

/// Holds the type to the rules, so that a wrong one does not compile.
pub(crate) fn check(literal: &LitStr) -> Result<()> {
    let event_type = literal.value();
    let problem = if event_type.trim().is_empty() {
        "is blank"
    } else if event_type.chars().count() > MAX_TYPE_CHARS {
        "is longer than 256 characters"
    } else if event_type.starts_with('$') {
        "starts with `$`, which is reserved"
    } else if event_type.contains('\0') {
        "contains a NUL character"
    } else {
        return Ok(());
    };
    Err(Error::new(literal.span(), format!("the event type {problem}; choose one such as `order.placed`")))
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;
    use syn::LitStr;

    use super::check;

    fn check_length(chars: usize) -> Result<(), String> {
        check(&LitStr::new(&"é".repeat(chars), Span::call_site())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_length_is_counted_in_characters() {
        assert_eq!(check_length(256), Ok(()));
        assert_eq!(
            check_length(257).unwrap_err(),
            "the event type is longer than 256 characters; choose one such as `order.placed`"
        );
    }
}
