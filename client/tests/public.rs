//! The public interface: errors, names at the root, and version requirements of dependencies.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, which is its purpose")]

use std::{error::Error, fs, path::Path};

use portcullis_client::{
    assertion::{AssertionError, AssertionKeys, BadAssertionKeys},
    error::{ClientError, Refusal},
    extract::{BadGatewayUrl, BadServiceToken, GateRefusal, ServiceRefusal},
    internal::CallError,
    jwks::TokenError,
    session::StoreError,
};

/// Returns the text of all source files.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        text += &if path.is_dir() { sources(&path) } else { fs::read_to_string(&path).unwrap() };
    }
    text
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_error_is_one_for_the_question_mark() {
    fn text_of<E: Error + Send + Sync + 'static>(error: E) -> (&'static str, String) {
        (std::any::type_name::<E>(), Box::<dyn Error + Send + Sync>::from(error).to_string())
    }
    let errors = [
        text_of(BadAssertionKeys),
        text_of(AssertionError::Expired),
        text_of(BadGatewayUrl),
        text_of(BadServiceToken(TokenError::Expired)),
        text_of(TokenError::Invalid),
        text_of(GateRefusal::NoUser),
        text_of(ServiceRefusal::<std::io::Error>::TokenMissing),
        text_of(CallError::Unavailable),
        text_of(ClientError::LoggedOut),
        text_of(Refusal::new(404, "not_found")),
        text_of(StoreError::Busy),
    ];
    for (name, text) in &errors {
        assert!(!text.is_empty(), "{name}");
    }
    // The list above is complete.
    let sources = sources(&root().join("src"));
    let words = sources.split("pub ").filter_map(|rest| rest.strip_prefix("enum ").or(rest.strip_prefix("struct ")));
    let names = words.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap());
    let is_error = |name: &&str| name.starts_with("Bad") || name.ends_with("Error") || name.ends_with("Refusal");
    for name in names.filter(is_error).filter(|name| *name != "FieldError") {
        assert!(errors.iter().any(|(known, _)| known.split("::").any(|part| part.starts_with(name))), "{name}");
    }
    let setting = || -> Result<AssertionKeys, Box<dyn Error>> { Ok(AssertionKeys::parse("secret-text")?) };
    let text = setting().unwrap_err().to_string();
    assert!(text.contains("kid:base64url") && !text.contains("secret-text"), "{text}");
}

#[test]
fn each_type_that_the_readme_names_is_at_the_root() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let shown: Vec<&str> = library
        .lines()
        .filter(|line| line.starts_with("pub use "))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric()))
        .collect();
    // A type is one capitalised name between two backticks; these are not types of the crate.
    let others = ["Debug", "Stale"];
    let is_type = |name: &&str| {
        name.starts_with(char::is_uppercase)
            && name.contains(char::is_lowercase)
            && name.chars().all(char::is_alphanumeric)
    };
    let prose: String = readme.split("```").step_by(2).collect();
    let mut named: Vec<&str> = prose.split('`').skip(1).step_by(2).filter(is_type).collect();
    named.retain(|name| !others.contains(name));
    assert!(named.len() > 7, "{named:?}");
    for name in named {
        assert!(shown.contains(&name), "{name}");
    }
}

#[test]
fn no_dependency_is_pinned_to_one_release() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let own = manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap();
    let lines: Vec<&str> = own.lines().skip(1).filter(|line| line.contains('=') && !line.starts_with('#')).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        assert!(!line.contains("\"=") && !line.contains("workspace"), "a range is wanted, not a pin: {line}");
    }
}
