//! The error of a missing or wrong setting.

use std::fmt;

/// A setting is missing or wrong. The text names the setting and the correction, and contains no
/// secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError(pub String);

impl fmt::Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for SettingError {}
