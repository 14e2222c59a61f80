//! Each case in `cases` is a mistake that a user makes once. It must not compile, and the message must lead
//! to the cure.

/// The texts are those of the compiler that CI uses; another's may be laid out differently. After a change on
/// purpose: `TRYBUILD=overwrite cargo test -p kiocb-compile-fail`, and read the difference.
#[test]
fn mistakes_do_not_compile_and_the_message_leads_to_the_cure() {
    trybuild::TestCases::new().compile_fail("tests/cases/*.rs");
}
