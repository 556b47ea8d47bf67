//! The arrows between the rooms, read from the sources: who imports whom, and
//! that nobody imports the rim.

use std::{fs, path::Path};

/// Room, and the rooms that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("token", &[]),
    ("keys", &["token"]),
    ("revocation", &["keys", "token"]),
    ("route", &["config"]),
    ("gate", &["config", "keys", "revocation", "route", "token"]),
    ("edge", &["gate", "keys", "revocation", "token"]),
];

const ROOMS: &[&str] = &["config", "token", "keys", "revocation", "route", "gate", "edge"];

/// What pure rooms must not reach for.
///
/// Single names and not paths, because a braced import hides the path.
const WORLD: &[&str] = &[
    "SystemTime",
    "Instant",
    "env::",
    "fs::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "thread::",
    "worker::",
    "js_sys",
    "web_sys",
    "wasm_bindgen",
    "println!",
    "eprintln!",
];

fn sources(room: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(!files.is_empty(), "room {room} is empty");
    files.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

/// The code of a file: tests and comments may name anything.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether code names another room, alone or in a braced list of imports.
fn names(code: &str, room: &str) -> bool {
    let mut grouped = false;
    code.lines().any(|line| {
        grouped = (grouped || line.starts_with("use crate::{")) && !line.starts_with("};");
        line.contains(&format!("crate::{room}::"))
            || line.contains(&format!("crate::{room};"))
            || (grouped
                && [format!(" {room}::"), format!("{{{room}::"), format!(" {room},"), format!("{{{room},")]
                    .iter()
                    .any(|form| line.contains(form)))
    })
}

#[test]
fn rooms_import_only_whom_their_arrows_name() {
    for (room, allowed) in ARROWS {
        for (path, text) in sources(room) {
            let code = code(&text);
            for other in ROOMS.iter().filter(|other| *other != room && !allowed.contains(other)) {
                assert!(!names(&code, other), "{path} imports {other}");
            }
        }
    }
}

#[test]
fn arrows_that_are_listed_exist() {
    for (room, allowed) in ARROWS {
        for other in *allowed {
            assert!(
                sources(room).iter().any(|(_, text)| names(&code(text), other)),
                "{room} does not use {other}; take the arrow off the list"
            );
        }
    }
}

#[test]
fn pure_rooms_reach_for_nothing_of_the_world() {
    for room in ["config", "token", "keys", "revocation", "route", "gate"] {
        for (path, text) in sources(room) {
            let code = code(&text);
            for word in WORLD {
                assert!(!code.contains(word), "{path} reaches for {word}");
            }
        }
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for room in ROOMS {
        for (path, text) in sources(room) {
            assert!(text.starts_with("//! "), "{path} has no opening paragraph");
        }
    }
}
