//! The program of the services: reads the command line and leaves the work to `cli` and the
//! library.

mod cli;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run().await
}
