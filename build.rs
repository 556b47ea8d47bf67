//! Compiles the policy into the worker: checks `gateway.toml` (or the file that
//! `GATEWAY_CONFIG` names) and stops the build with file, line and mend when
//! something is wrong with it. Builds for other targets than wasm32 do not need it.

#![allow(clippy::disallowed_methods, reason = "a build script's settings are its environment")]

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    // The worker alone reads the compiled policy. A mistake in it must not stop the build of
    // the tool that explains mistakes, nor be reported by both.
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("wasm32") {
        return ExitCode::SUCCESS;
    }
    println!("cargo::rerun-if-env-changed=GATEWAY_CONFIG");
    let name =
        env::var("GATEWAY_CONFIG").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "gateway.toml".to_owned());
    println!("cargo::rerun-if-changed={name}");
    match compile(&name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(lines) => {
            for line in lines {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn compile(name: &str) -> Result<(), Vec<String>> {
    let text = fs::read_to_string(name).map_err(|error| {
        vec![format!("{name} cannot be read ({error}); GATEWAY_CONFIG names the policy file, gateway.toml by default")]
    })?;
    let policy = portcullis_policy::config::check(&text)
        .map_err(|mistakes| mistakes.iter().map(|mistake| format!("{name}:{mistake}")).collect::<Vec<_>>())?;
    let json = serde_json::to_string(&policy).map_err(|error| vec![error.to_string()])?;
    let out = env::var("OUT_DIR").map_err(|error| vec![error.to_string()])?;
    fs::write(Path::new(&out).join("policy.json"), json).map_err(|error| vec![error.to_string()])
}
