//! A repository of one store cannot be wired to the outbox of another.
#![cfg(all(feature = "memory", feature = "sqlite"))]

#[test]
fn a_foreign_session_does_not_compile_and_its_own_does() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/foreign_session/same_store.rs");
    cases.compile_fail("tests/foreign_session/other_store.rs");
}
