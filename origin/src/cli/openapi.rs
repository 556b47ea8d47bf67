//! `openapi`: prints a service's OpenAPI document.

use clap::ValueEnum;
use portcullis_origin::{auth, boot::StartError, users};

use super::output::Output;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Service {
    /// Accounts and tokens.
    Auth,
    /// Profiles.
    Users,
}

/// Prints the document, which is JSON with and without `--json`.
pub(super) fn openapi(service: Service, output: Output) -> Result<(), StartError> {
    let api = match service {
        Service::Auth => auth::description(),
        Service::Users => users::description(),
    };
    let failed = |_| StartError::Other("the description cannot be written".to_owned());
    let document = serde_json::to_value(&api).map_err(failed)?;
    output.print(&api.to_pretty_json().map_err(failed)?, &document)
}
