//! `openapi`: how a service describes itself, for generators of clients and for the shelf.

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

/// The document, which is JSON for people and scripts alike.
pub(super) fn openapi(service: Service, output: Output) -> Result<(), StartError> {
    let api = match service {
        Service::Auth => auth::description(),
        Service::Users => users::description(),
    };
    let failed = |_| StartError::Other("the description cannot be written".to_owned());
    let document = serde_json::to_value(&api).map_err(failed)?;
    output.say(&api.to_pretty_json().map_err(failed)?, &document);
    Ok(())
}
