//! A process that never finds its library. Alone in its file: a library once loaded serves the whole process.

mod common;

use std::fs;

use dih_core::{Class, Classify};
use dih_inference::{Config, Engine, InferenceError};

#[test]
fn without_a_usable_library_the_start_fails_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing.so");
    let text = folder.path().join("text.so");
    fs::write(&text, "this is no library").expect("the folder is writable");

    for library in [missing, text] {
        let config = Config { library: Some(library.clone()), ..Config::default() };
        let error = Engine::load(common::manifest(), &config).expect_err("there is no library");
        assert_eq!(error.class(), Class::Halt);
        let said = error.to_string();
        assert!(said.contains(&library.display().to_string()) && said.contains("make setup"), "{said}");
    }

    // A failed try does not spoil the next.
    let engine = Engine::load(common::manifest(), &common::config());
    assert!(!matches!(engine, Err(InferenceError::LoadLibrary { .. })), "{engine:?}");
    engine.expect("the real library loads");
}
