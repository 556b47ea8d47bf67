//! What an issuer's security events must be, and who may send them.

use std::cell::Cell;

use sha2::{Digest as _, Sha256};

use super::{denial::Denial, head::Head, limits, settings::Settings};
use portcullis_token::{EventError, EventFault, EventForm, EventPolicy, TokenPolicy, UnixMillis};

/// Receives events of one form from one issuer.
pub(super) struct EventReceiver {
    pub(super) policy: EventPolicy,
    /// Digest of the `Authorization` that the transmitter sends, or why it is not known; `None` if it sends none.
    sender: Option<Result<[u8; 32], String>>,
    /// When an event was last accepted.
    pub(super) last_at: Cell<Option<UnixMillis>>,
}

impl EventReceiver {
    /// Returns the receivers of an issuer, whose access tokens are checked by `token`.
    pub(super) fn of_issuer(
        issuer: &portcullis_policy::Issuer,
        token: &TokenPolicy,
        settings: &Settings<'_>,
    ) -> Vec<Self> {
        let new = |policy, sender| Self { policy, sender, last_at: Cell::new(None) };
        let logout = issuer.logout.as_ref();
        let logout = logout.map(|logout| new(EventPolicy::new(EventForm::Logout, token, None, &logout.audience), None));
        let events = issuer.events.as_ref().map(|events| {
            let policy = EventPolicy::new(EventForm::SecurityEvent, token, events.issuer.as_deref(), &events.audience);
            new(policy, events.authorization.then(|| sender_of(&issuer.name, settings)))
        });
        logout.into_iter().chain(events).collect()
    }

    /// The form of its events.
    pub(super) fn form(&self) -> EventForm {
        self.policy.form
    }

    /// Returns what is missing in the settings.
    pub(super) fn fault(&self) -> Option<&str> {
        self.sender.as_ref()?.as_ref().err().map(String::as_str)
    }

    pub(super) fn check_sender(&self, head: &Head) -> Result<(), Denial> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let expected = sender.as_ref().map_err(|fault| Denial::Misconfigured { fault: fault.clone() })?;
        // Digests, so that the time of the comparison reveals nothing about the secret.
        let shown = head.header("authorization").map(|shown| <[u8; 32]>::from(Sha256::digest(shown)));
        if shown.as_ref() == Some(expected) { Ok(()) } else { Err(self.refuse(EventFault::Sender)) }
    }

    pub(super) fn refuse(&self, error: impl Into<EventError>) -> Denial {
        Denial::Event { form: self.policy.form, error: error.into() }
    }
}

/// Returns the digest of the `Authorization` that an issuer's transmitter sends.
fn sender_of(issuer: &str, settings: &Settings<'_>) -> Result<[u8; 32], String> {
    let name = ["EVENTS_AUTHORIZATION_", &issuer.to_ascii_uppercase().replace('-', "_")].concat();
    let least = limits::EVENTS_AUTHORIZATION_CHARS;
    match settings.value(&name) {
        Some(value) if value.len() >= least => Ok(Sha256::digest(value).into()),
        Some(_) => Err(format!("secret {name} is shorter than {least} characters")),
        None => Err(format!("secret {name} is not set")),
    }
}
