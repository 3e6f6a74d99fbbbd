//! Where in the syntax of a file its mutants are, and how each can be switched.

use std::collections::HashMap;
use std::ops::Range;

use proc_macro2::LineColumn;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::list::{Genre, Mutant, Place, Span};

/// How a mutant is written into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// A value is returned at the beginning of a function.
    Return { at: usize },
    /// An expression has another form. It is the text of the range, in which `cut` is replaced.
    Expression { whole: Range<usize>, cut: Range<usize> },
    /// A guard is another.
    Guard { whole: Range<usize> },
    /// An arm gets a guard, behind its pattern.
    Arm { at: usize },
    /// It cannot be switched while the program runs, and is built by itself.
    Alone { cut: Range<usize> },
    /// No compiler takes it: an operator of a chain of `let` can only be `&&`.
    Unviable,
}

/// Finds each mutant of a file, which are named by their index. Those that are not found are missing in the answer.
pub(crate) fn find<'a>(
    source: &str,
    mutants: impl Iterator<Item = (usize, &'a Mutant)>,
) -> syn::Result<HashMap<usize, Way>> {
    let file = syn::parse_file(source)?;
    let mut wanted: HashMap<(Genre, Place), Vec<usize>> = HashMap::new();
    for (index, mutant) in mutants {
        wanted.entry((mutant.genre, mutant.span.start)).or_default().push(index);
    }
    let mut finder = Finder { wanted, found: HashMap::new(), roots: Vec::new(), in_const: false };
    finder.visit_file(&file);
    Ok(finder.found)
}

struct Finder {
    wanted: HashMap<(Genre, Place), Vec<usize>>,
    found: HashMap<usize, Way>,
    /// The binary expressions that we are in, from an outermost one on: an operator binds as it stands in the text.
    roots: Vec<Range<usize>>,
    /// Whether the compiler runs this.
    in_const: bool,
}

impl Finder {
    fn take(&mut self, genre: Genre, at: LineColumn, way: &Way) {
        let place = Place { line: at.line, column: at.column + 1 };
        for mutant in self.wanted.remove(&(genre, place)).unwrap_or_default() {
            self.found.insert(mutant, way.clone());
        }
    }

    /// An expression that is one of several, at run time.
    fn expression(&self, whole: Range<usize>, cut: Range<usize>) -> Way {
        if self.in_const { Way::Alone { cut } } else { Way::Expression { whole, cut } }
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) else { return };
        let body = first.span().byte_range().start..last.span().byte_range().end;
        let is_opaque = matches!(&signature.output, syn::ReturnType::Type(_, of) if matches!(**of, syn::Type::ImplTrait(_)));
        // A value of another type cannot be returned in the same function as the one that hides behind `impl`.
        let way = if signature.constness.is_some() || is_opaque {
            Way::Alone { cut: body }
        } else {
            Way::Return { at: body.start }
        };
        self.take(Genre::FnValue, first.span().start(), &way);
    }

    fn in_const(&mut self, is_const: bool, visit: impl FnOnce(&mut Self)) {
        let before = self.in_const;
        self.in_const |= is_const;
        self.apart(visit);
        self.in_const = before;
    }

    /// What is in brackets of any kind is apart from the operators around it.
    fn apart(&mut self, visit: impl FnOnce(&mut Self)) {
        let roots = std::mem::take(&mut self.roots);
        visit(self);
        self.roots = roots;
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.in_const(item.sig.constness.is_some(), |finder| visit::visit_item_fn(finder, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.in_const(item.sig.constness.is_some(), |finder| visit::visit_impl_item_fn(finder, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        self.in_const(item.sig.constness.is_some(), |finder| visit::visit_trait_item_fn(finder, item));
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.in_const(true, |finder| visit::visit_item_const(finder, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.in_const(true, |finder| visit::visit_item_static(finder, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.in_const(true, |finder| visit::visit_impl_item_const(finder, item));
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.in_const(true, |finder| visit::visit_trait_item_const(finder, item));
    }

    fn visit_expr_const(&mut self, expr: &'ast syn::ExprConst) {
        self.in_const(true, |finder| visit::visit_expr_const(finder, expr));
    }

    fn visit_type(&mut self, of: &'ast syn::Type) {
        // The length of an array is the only expression in a type.
        self.in_const(true, |finder| visit::visit_type(finder, of));
    }

    fn visit_expr_repeat(&mut self, expr: &'ast syn::ExprRepeat) {
        self.apart(|finder| finder.visit_expr(&expr.expr));
        self.in_const(true, |finder| finder.visit_expr(&expr.len));
    }

    fn visit_expr(&mut self, expr: &'ast syn::Expr) {
        if matches!(expr, syn::Expr::Binary(_)) {
            visit::visit_expr(self, expr);
        } else {
            self.apart(|finder| visit::visit_expr(finder, expr));
        }
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let whole = expr.span().byte_range();
        if has_let(expr) {
            self.take(Genre::BinaryOperator, expr.op.span().start(), &Way::Unviable);
            self.apart(|finder| visit::visit_expr_binary(finder, expr));
            return;
        }
        self.roots.push(whole.clone());
        let root = self.roots.first().cloned().unwrap_or(whole);
        let way = self.expression(root, expr.op.span().byte_range());
        self.take(Genre::BinaryOperator, expr.op.span().start(), &way);
        visit::visit_expr_binary(self, expr);
        self.roots.pop();
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        let way = self.expression(expr.span().byte_range(), expr.op.span().byte_range());
        self.take(Genre::UnaryOperator, expr.op.span().start(), &way);
        visit::visit_expr_unary(self, expr);
    }

    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        if expr.rest.is_some() {
            for pair in expr.fields.pairs() {
                let field = pair.value().span();
                let end = pair.punct().map_or(field, syn::spanned::Spanned::span).byte_range().end;
                let cut = field.byte_range().start..end;
                let way = self.expression(expr.span().byte_range(), cut);
                self.take(Genre::StructField, field.start(), &way);
            }
        }
        visit::visit_expr_struct(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let alone = Way::Alone { cut: arm.span().byte_range() };
        let way = Way::Arm { at: arm.pat.span().byte_range().end };
        self.take(Genre::MatchArm, arm.span().start(), if self.in_const { &alone } else { &way });
        if let Some((_, guard)) = &arm.guard {
            let whole = guard.span().byte_range();
            let way = if self.in_const { Way::Alone { cut: whole } } else { Way::Guard { whole } };
            self.take(Genre::MatchArmGuard, guard.span().start(), &way);
        }
        visit::visit_arm(self, arm);
    }
}

/// Whether a condition is a chain with a `let` in it, which must stay at the top of an `if` or `while`.
fn has_let(expr: &syn::ExprBinary) -> bool {
    [&expr.left, &expr.right].into_iter().any(|side| match &**side {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(inner) => has_let(inner),
        _ => false,
    })
}

/// The bytes of a span.
pub(crate) fn bytes(source: &str, span: Span) -> Range<usize> {
    let byte = |place: Place| {
        let start: usize = source.split_inclusive('\n').take(place.line - 1).map(str::len).sum();
        let line = &source[start..];
        start + line.char_indices().nth(place.column - 1).map_or(line.len(), |(at, _)| at)
    };
    byte(span.start)..byte(span.end)
}

/// The names of the modules, in files of their own, that only tests have.
pub(crate) fn modules_for_tests(source: &str) -> syn::Result<Vec<String>> {
    let file = syn::parse_file(source)?;
    let modules = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && module.attrs.iter().any(is_for_tests) => {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    Ok(modules.collect())
}

/// The lines of functions, and of modules with functions, that only tests have.
pub(crate) fn functions_for_tests(source: &str) -> syn::Result<Vec<std::ops::RangeInclusive<usize>>> {
    let file = syn::parse_file(source)?;
    let functions = file.items.iter().filter(|item| match item {
        syn::Item::Fn(function) => function.attrs.iter().any(is_for_tests),
        syn::Item::Mod(module) => module.attrs.iter().any(is_for_tests),
        _ => false,
    });
    Ok(functions.map(|item| item.span().start().line..=item.span().end().line).collect())
}

/// Whether an attribute is `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_for_tests(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let condition = list.tokens.to_string();
    list.path.is_ident("cfg") && (condition == "test" || condition.replace(' ', "").starts_with("all(test,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_only_tests_have_are_known() {
        let source = "mod a; #[cfg(test)] mod b; #[cfg(all(test, unix))] mod c; #[cfg(unix)] mod d; \
                      #[cfg(test)] mod e { }";
        assert_eq!(modules_for_tests(source).expect("a file"), ["b", "c"]);
    }

    #[test]
    fn functions_that_only_tests_have_are_known() {
        let source = "fn a() {}\n#[cfg(all(test, unix))]\nfn b() {\n}\nfn c() {}\n\
                      #[cfg(all(test, unix))]\nmod d {\nfn e() {}\n}\nmod f {}";
        assert_eq!(functions_for_tests(source).expect("a file"), [2..=4, 6..=9]);
    }

    #[test]
    fn a_span_counts_characters() {
        let source = "one\nzwö drei\n";
        let place = |line, column| Place { line, column };
        let span = Span { start: place(2, 3), end: place(2, 6) };
        assert_eq!(&source[bytes(source, span)], "ö d");
    }
}
