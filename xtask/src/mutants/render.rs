//! A file with all of its mutants in it, each behind a switch.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::ops::Range;

use super::list::Mutant;
use super::places::Way;

/// The text of a file, and which of it belongs to which mutant.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Ranges of the text that are compiled for the sake of a mutant alone.
    pub(crate) owned: Vec<(Range<usize>, usize)>,
    /// Ranges of the text that have a mutant's switch, what it switches off included.
    pub(crate) around: Vec<(Range<usize>, usize)>,
}

impl Rendered {
    /// The mutants for whose sake alone there is text at this range.
    pub(crate) fn owners(&self, at: &Range<usize>) -> BTreeSet<usize> {
        self.owned.iter().filter(|(range, _)| holds(range, at)).map(|(_, mutant)| *mutant).collect()
    }

    /// The mutants with the closest switches around this range.
    pub(crate) fn neighbours(&self, at: &Range<usize>) -> BTreeSet<usize> {
        let around: Vec<_> = self.around.iter().filter(|(range, _)| holds(range, at)).collect();
        let closest = around.iter().map(|(range, _)| range.len()).min();
        around.iter().filter(|(range, _)| Some(range.len()) == closest).map(|(_, mutant)| *mutant).collect()
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// One place of the text with the mutants that are switched there.
#[derive(Debug)]
struct Edit {
    range: Range<usize>,
    /// Where two begin at the same place, the outer one comes first.
    order: u8,
    mutants: Vec<usize>,
}

/// Writes the switches of these mutants into the source. One may be on for good, without a switch.
pub(crate) fn render(
    source: &str,
    ways: &HashMap<usize, Way>,
    mutants: &[Mutant],
    alone: Option<usize>,
) -> Rendered {
    let mut edits: HashMap<(usize, usize, u8), Vec<usize>> = HashMap::new();
    for (mutant, way) in ways {
        let key = match way {
            Way::Return { at } => (*at, *at, 0),
            Way::Arm { at } => (*at, *at, 1),
            Way::Guard { whole } => (whole.start, whole.end, 2),
            Way::Alone { cut } if alone == Some(*mutant) => (cut.start, cut.end, 3),
            Way::Expression { whole, .. } => (whole.start, whole.end, 4),
            Way::Alone { .. } | Way::Unviable => continue,
        };
        edits.entry(key).or_default().push(*mutant);
    }
    let mut edits: Vec<_> = edits
        .into_iter()
        .map(|((start, end, order), mut mutants)| {
            mutants.sort_unstable();
            Edit { range: start..end, order, mutants }
        })
        .collect();
    // The outer before the inner, and what is put in between two texts before the second of them.
    edits.sort_by_key(|edit| {
        (edit.range.start, !edit.range.is_empty(), std::cmp::Reverse(edit.range.end), edit.order)
    });
    let mut writer =
        Writer { source, ways, mutants, edits: edits.into_iter().peekable(), out: Rendered::default() };
    writer.copy(0..source.len());
    writer.out
}

struct Writer<'a, I: Iterator<Item = Edit>> {
    source: &'a str,
    ways: &'a HashMap<usize, Way>,
    mutants: &'a [Mutant],
    edits: std::iter::Peekable<I>,
    out: Rendered,
}

impl<I: Iterator<Item = Edit>> Writer<'_, I> {
    /// Writes a range of the source with the edits that are in it.
    fn copy(&mut self, range: Range<usize>) {
        let mut at = range.start;
        while let Some(edit) = self.edits.next_if(|edit| edit.range.start < range.end) {
            if edit.range.start < at {
                // It lies in what was cut out.
                continue;
            }
            self.plain(at..edit.range.start);
            at = edit.range.end;
            self.edit(&edit);
        }
        self.plain(at..range.end);
    }

    fn plain(&mut self, range: Range<usize>) {
        self.out.text.push_str(&self.source[range]);
    }

    fn edit(&mut self, edit: &Edit) {
        let start = self.out.text.len();
        match edit.order {
            0 => {
                for &mutant in &edit.mutants {
                    self.on(mutant, "if ", " { ");
                    let value = &self.mutants[mutant].replacement;
                    self.own(mutant, &format!("return {value};"));
                    self.out.text.push_str(" } ");
                }
            }
            1 => {
                for &mutant in &edit.mutants {
                    self.on(mutant, " if !", "");
                }
            }
            2 => {
                for &mutant in &edit.mutants {
                    if self.mutants[mutant].replacement == "true" {
                        self.on(mutant, "", " || ");
                    }
                }
                for &mutant in &edit.mutants {
                    if self.mutants[mutant].replacement == "false" {
                        self.on(mutant, "!", " && ");
                    }
                }
                self.out.text.push('(');
                self.copy(edit.range.clone());
                self.out.text.push(')');
            }
            3 => {
                let mutant = edit.mutants[0];
                self.own(mutant, &self.mutants[mutant].replacement);
            }
            _ => {
                self.out.text.push('(');
                for &mutant in &edit.mutants {
                    self.on(mutant, "if ", " { ");
                    self.own(mutant, &self.changed(mutant));
                    self.out.text.push_str(" } else ");
                }
                self.out.text.push_str("{ ");
                self.copy(edit.range.clone());
                self.out.text.push_str(" })");
            }
        }
        let around = start..self.out.text.len();
        self.out.around.extend(edit.mutants.iter().map(|&mutant| (around.clone(), mutant)));
    }

    /// The expression as the mutant has it.
    fn changed(&self, mutant: usize) -> String {
        let Some(Way::Expression { whole, cut }) = self.ways.get(&mutant) else { return String::new() };
        let before = &self.source[whole.start..cut.start];
        let after = &self.source[cut.end..whole.end];
        let mutant = &self.mutants[mutant];
        // `cargo mutants` puts a comment behind the replacement, which parts it from what follows.
        format!("{before}{} {after}", mutant.replacement)
    }

    /// Asks whether a mutant is on.
    fn on(&mut self, mutant: usize, before: &str, after: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.out.text, "{before}crate::__mutant({mutant}){after}");
    }

    /// Text that is there for one mutant alone.
    fn own(&mut self, mutant: usize, text: &str) {
        let start = self.out.text.len();
        self.out.text.push_str(text);
        self.out.owned.push((start..self.out.text.len(), mutant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::list::{Genre, Place, Span};
    use crate::mutants::places;

    /// A mutant of what stands where `at` does in the source, by its first appearance.
    fn mutant(source: &str, genre: Genre, at: &str, replacement: &str) -> Mutant {
        let start = source.find(at).expect("it is in the source");
        let place = |byte: usize| {
            let before = &source[..byte];
            let line = before.rsplit('\n').next().unwrap_or_default();
            Place { line: 1 + before.matches('\n').count(), column: 1 + line.chars().count() }
        };
        let span = Span { start: place(start), end: place(start + at.len()) };
        Mutant { name: at.to_owned(), file: String::new(), genre, replacement: replacement.to_owned(), span }
    }

    /// The file with these mutants, which is still one.
    fn rendered(source: &str, mutants: &[Mutant], alone: Option<usize>) -> Rendered {
        let ways = places::find(source, mutants.iter().enumerate()).expect("a file");
        assert_eq!(ways.len(), mutants.len(), "all are found");
        let rendered = render(source, &ways, mutants, alone);
        syn::parse_file(&rendered.text).unwrap_or_else(|error| panic!("{error}: {}", rendered.text));
        rendered
    }

    #[test]
    fn a_function_returns_another_value_at_its_beginning() {
        let source = "fn f(é: u8) -> u8 {\n    é + 1\n}";
        let mutants = [
            mutant(source, Genre::FnValue, "é + 1", "0"),
            mutant(source, Genre::FnValue, "é + 1", "1"),
            mutant(source, Genre::BinaryOperator, "+", "-"),
        ];
        assert_eq!(
            rendered(source, &mutants, None).text,
            "fn f(é: u8) -> u8 {\n    if crate::__mutant(0) { return 0; } if crate::__mutant(1) { return 1; } \
             (if crate::__mutant(2) { é -  1 } else { é + 1 })\n}"
        );
    }

    #[test]
    fn an_operator_binds_as_it_stands_in_the_text() {
        let source = "fn f() -> bool { a && b || !c(d == e) }";
        let mutants = [
            mutant(source, Genre::BinaryOperator, "&&", "||"),
            mutant(source, Genre::BinaryOperator, "||", "&&"),
            mutant(source, Genre::UnaryOperator, "!", ""),
            mutant(source, Genre::BinaryOperator, "==", "!="),
        ];
        assert_eq!(
            rendered(source, &mutants, None).text,
            "fn f() -> bool { (if crate::__mutant(0) { a ||  b || !c(d == e) } \
             else if crate::__mutant(1) { a && b &&  !c(d == e) } \
             else { a && b || (if crate::__mutant(2) {  c(d == e) } \
             else { !c((if crate::__mutant(3) { d !=  e } else { d == e })) }) }) }"
        );
    }

    #[test]
    fn a_chain_of_let_stays_one() {
        let source = "fn f() { if let Some(x) = y && x == 1 && z {} }";
        let mutants = [
            mutant(source, Genre::BinaryOperator, "&&", "||"),
            mutant(source, Genre::BinaryOperator, "== 1", "!="),
        ];
        let rendered = rendered(source, &mutants, None).text;
        assert!(rendered.contains("if let Some(x) = y && (if crate::__mutant(1) {"), "{rendered}");
        assert!(!rendered.contains("__mutant(0)"), "{rendered}");
    }

    #[test]
    fn an_arm_gets_a_guard_and_a_guard_another() {
        let source = "fn f() { match x { A => 1, B if y == 1 => 2, _ => 3 } }";
        let mutants = [
            mutant(source, Genre::MatchArm, "A => 1,", ""),
            mutant(source, Genre::MatchArmGuard, "y == 1", "true"),
            mutant(source, Genre::MatchArmGuard, "y == 1", "false"),
            mutant(source, Genre::BinaryOperator, "== 1", "!="),
        ];
        let rendered = rendered(source, &mutants, None).text;
        assert!(rendered.contains("A if !crate::__mutant(0) => 1"), "{rendered}");
        let guard = "B if crate::__mutant(1) || !crate::__mutant(2) && ((if crate::__mutant(3)";
        assert!(rendered.contains(guard), "{rendered}");
    }

    #[test]
    fn a_field_is_left_to_the_rest() {
        let source = "fn f() -> S { S { a: 1, b, ..c } }";
        let mutants = [mutant(source, Genre::StructField, "a: 1,", "")];
        let rendered = rendered(source, &mutants, None).text;
        assert!(rendered.contains("(if crate::__mutant(0) { S {   b, ..c } } else { S { a: 1, b, ..c } })"));
    }

    #[test]
    fn what_the_compiler_runs_is_changed_for_good_or_not_at_all() {
        let source =
            "const A: [u8; 2 - 1] = [3 * 4; 1];\nconst fn f() -> u8 { 5 }\nfn g() -> impl Fn() { h }";
        let mutants = [
            mutant(source, Genre::BinaryOperator, "*", "+"),
            mutant(source, Genre::BinaryOperator, "-", "+"),
            mutant(source, Genre::FnValue, "5", "6"),
            mutant(source, Genre::FnValue, "h }", "i"),
        ];
        assert_eq!(rendered(source, &mutants, None).text, source);
        let changed = |alone| rendered(source, &mutants, Some(alone)).text;
        assert_eq!(changed(0), source.replace('*', "+"));
        assert_eq!(changed(1), source.replace('-', "+").replace("+>", "->"));
        assert_eq!(changed(2), source.replace('5', "6"));
        assert_eq!(changed(3), source.replace("{ h }", "{ i }"));
    }

    #[test]
    fn an_error_is_laid_to_the_mutant_whose_text_it_is_in() {
        let source = "fn f() -> u8 { a + b }";
        let mutants = [
            mutant(source, Genre::BinaryOperator, "+", "-"),
            mutant(source, Genre::BinaryOperator, "+", "*"),
        ];
        let rendered = rendered(source, &mutants, None);
        let at = |text: &str| {
            let start = rendered.text.find(text).expect("it is there");
            start..start + text.len()
        };
        assert_eq!(rendered.owners(&at("a *")), BTreeSet::from([1]));
        assert!(rendered.owners(&at("a +")).is_empty(), "this is nobody's");
        assert_eq!(rendered.neighbours(&at("a +")), BTreeSet::from([0, 1]));
        assert!(rendered.neighbours(&at("fn f")).is_empty());
    }
}
