//! Which types of events a subscriber wants.

use std::fmt;

/// All types, those below a prefix, or one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    All,
    /// With its last dot: `order.`.
    Below(String),
    Exactly(String),
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parsed = match text.strip_suffix('*') {
            None => Self::Exactly(text.to_owned()),
            Some("") => Self::All,
            Some(prefix) => Self::Below(prefix.to_owned()),
        };
        match &parsed {
            Self::Below(prefix) if !prefix.ends_with('.') || prefix.len() == 1 => {}
            Self::Below(rest) | Self::Exactly(rest) if rest.contains('*') || rest.trim().is_empty() => {}
            _ => return Ok(parsed),
        }
        Err(format!(
            "`{text}` is no pattern for types of events: write `*` for all, `order.*` for all below `order.`, \
             or one type such as `order.placed`"
        ))
    }

    pub(crate) fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Below(prefix) => event_type.len() > prefix.len() && event_type.starts_with(prefix),
            Self::Exactly(wanted) => event_type == wanted,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::Exactly(event_type) => f.write_str(event_type),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(event_type)
    }

    #[test]
    fn a_star_matches_everything() {
        assert!(matches("*", "order.placed") && matches("*", "x"));
    }

    #[test]
    fn a_prefix_matches_by_whole_segments_at_any_depth() {
        assert!(matches("order.*", "order.placed"));
        assert!(matches("order.*", "order.line.added"));
        assert!(matches("order.line.*", "order.line.added"));
        assert!(!matches("order.*", "order"));
        assert!(!matches("order.*", "order."));
        assert!(!matches("order.*", "orders.placed"));
        assert!(!matches("order.line.*", "order.placed"));
    }

    #[test]
    fn a_type_matches_itself_alone() {
        assert!(matches("order.placed", "order.placed"));
        assert!(!matches("order.placed", "order.placed.late"));
        assert!(!matches("order.placed", "Order.placed"));
    }

    #[test]
    fn a_pattern_that_would_never_match_as_meant_is_refused() {
        for wrong in ["", " ", "*.placed", "order*", "order.*.added", "**", ".*", "a.*b"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
