//! The endpoints of security events, and the token in the body of a request to one.

use portcullis_token::EventForm;

use crate::{
    model::Policy,
    reserved::{EVENTS_PATH, LOGOUT_PATH},
    target::decode,
};

/// Returns the path for events of a form of the issuer with this name.
pub fn event_path(form: EventForm, issuer: &str) -> String {
    [prefix(form), issuer].concat()
}

const fn prefix(form: EventForm) -> &'static str {
    match form {
        EventForm::Logout => LOGOUT_PATH,
        EventForm::SecurityEvent => EVENTS_PATH,
    }
}

/// Returns the form and the index of the issuer whose events a path is for.
pub(crate) fn events_at(policy: &Policy, path: &str) -> Option<(EventForm, usize)> {
    let (form, name) = EventForm::ALL.iter().find_map(|form| Some((*form, path.strip_prefix(prefix(*form))?)))?;
    let is_meant = |issuer: &crate::Issuer| issuer.name == name && issuer.accepts_events(form);
    Some((form, policy.issuers.iter().position(is_meant)?))
}

/// Returns the token in a body with this `Content-Type`, unparsed. A form has the field `logout_token` once: parsers
/// disagree on which of two counts.
pub fn event_token(form: EventForm, content_type: Option<&str>, body: &[u8]) -> Option<String> {
    let media_type = match form {
        EventForm::Logout => "application/x-www-form-urlencoded",
        EventForm::SecurityEvent => "application/secevent+jwt",
    };
    let essence = content_type?.split(';').next()?.trim_matches([' ', '\t']);
    let text = str::from_utf8(body).ok().filter(|_| essence.eq_ignore_ascii_case(media_type))?;
    if form == EventForm::SecurityEvent {
        return Some(text.to_owned());
    }
    let decoded = |text: &str| String::from_utf8(decode(text.replace('+', " ").as_bytes(), |_| {})).ok();
    let fields = text.split('&').map(|field| field.split_once('=').unwrap_or((field, "")));
    let mut tokens = fields.filter(|(name, _)| decoded(name).is_some_and(|name| name == "logout_token"));
    let token = tokens.next().filter(|_| tokens.next().is_none());
    token.and_then(|(_, value)| decoded(value))
}
