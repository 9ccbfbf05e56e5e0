//! The checks before the tests: each is one command that a person can run alone.

use crate::{cargo, layers, licences, papers, run, say};

pub(crate) fn all() -> Result<(), String> {
    say("== formatting");
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    say("== layers");
    layers::check()?;
    say("== papers");
    papers::check()?;
    say("== licences");
    licences::check()?;
    say("== clippy");
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    say("== docs");
    run(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}
