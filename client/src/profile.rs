//! The profile fields of a user: optional texts that no service decides by. Every type of a user
//! embeds [`ProfileFields`] or [`ProfileChange`], so a new field is defined here only.

use serde::{Deserialize, Serialize};

/// Profile fields. A field that an answer lacks is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProfileFields {
    /// First name, may be empty.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::line, required = false))]
    pub first_name: String,
    /// Last name, may be empty.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::schema::line, required = false))]
    pub last_name: String,
}

/// Profile fields to change; `None` keeps a field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileChange {
    /// First name, may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// Last name, may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_always_sent_and_changes_only_if_there_are_any() {
        let fields = ProfileFields { first_name: "Ada".to_owned(), ..ProfileFields::default() };
        let sent = json!(fields);
        assert_eq!((&sent["first_name"], &sent["last_name"]), (&json!("Ada"), &json!("")));
        assert_eq!(serde_json::from_value::<ProfileFields>(json!({ "first_name": "Ada" })).unwrap(), fields);
        assert_eq!(json!(ProfileChange::default()), json!({}));
        let change = ProfileChange { last_name: Some(String::new()), ..ProfileChange::default() };
        assert_eq!(json!(change), json!({ "last_name": "" }));
    }
}
