//! The program, run as a command.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::support::{
    app::{ASSERTION_SECRET, AUTH_SECRET, USERS_SECRET},
    databases::{Databases, Service},
};

/// Makes a command with the settings of a test's services and nothing else of the environment.
pub(crate) fn program(databases: &Databases, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-origin"));
    let key = format!("k1:{}", URL_SAFE_NO_PAD.encode(ASSERTION_SECRET));
    command
        .args(arguments)
        .env_clear()
        .env("DATA_DIR", databases.folder.path())
        .env("AUTH_DATABASE_URL", databases.url(Service::Auth))
        .env("USERS_DATABASE_URL", databases.url(Service::Users))
        .env("MASTER_KEY", URL_SAFE_NO_PAD.encode([1; 32]))
        .env("ASSERTION_KEYS_AUTH", &key)
        .env("ASSERTION_KEYS_USERS", &key)
        .env("SERVICE_SECRET_AUTH_SERVICE", AUTH_SECRET)
        .env("SERVICE_SECRET_USER_SERVICE", USERS_SECRET)
        .env("EDGE_URL", "http://127.0.0.1:9")
        .env("AUTH_PORT", "0")
        .env("USERS_PORT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The file for coverage data.
    if let Some(file) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", file);
    }
    command
}

#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl CommandOutput {
    /// Returns the one document on standard output; standard error must be empty.
    pub(crate) fn document(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// Returns the one object on standard error; standard output must be empty.
    pub(crate) fn failure(&self) -> Value {
        assert_ne!(self.code, 0, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.err).unwrap()
    }
}

/// Runs the program to its end, while the services of this test continue.
pub(crate) async fn run(databases: &Databases, arguments: &[&str], input: &str) -> CommandOutput {
    let mut command = program(databases, arguments);
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // A program that reads no input may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        CommandOutput { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    })
    .await
    .unwrap()
}

/// A running `serve`, until it is dropped.
pub(crate) struct Serving {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    pub(crate) read: String,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, read: String::new() }
    }

    /// Reads the log up to a line with a text. Returns that line.
    pub(crate) fn until(&mut self, text: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.read.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
        panic!("it ended without {text:?}: {}", self.read);
    }

    /// Stops it and returns the rest of the log.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        for line in self.lines.by_ref() {
            self.read.push_str(&line.unwrap());
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.read);
        std::mem::take(&mut self.read)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
