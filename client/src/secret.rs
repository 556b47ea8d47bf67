//! Text that is never printed: passwords and tokens.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

/// A secret text. `Debug` hides it, and there is no `Display` and no `Serialize`, so it cannot reach
/// a log or an answer by accident.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Returns the body of a request: the fields, and a secret that their serialized form does not contain.
pub(crate) fn body_with_secret(fields: &impl Serialize, name: &str, secret: Option<&Secret>) -> Value {
    let mut body = json!(fields);
    if let (Some(members), Some(secret)) = (body.as_object_mut(), secret) {
        members.insert(name.to_owned(), json!(secret.expose()));
    }
    body
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}
