//! The profile fields of a user: their checks, their schemas in the OpenAPI documents, and their
//! columns, which the tables `accounts` and `profiles` have in common. A field is one line of
//! `profile_fields!` here; `portcullis_client::profile` has its type.

use portcullis_client::profile::{ProfileChange, ProfileFields};
use serde::{Deserialize as _, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use sqlx::{
    Any, Row as _,
    any::{AnyArguments, AnyRow},
    query::Query,
};
use utoipa::ToSchema;

use crate::fields::{
    Check,
    schemas::{Line, Name},
};

/// Defines the fields, each with its schema in requests, its check in [`Check`] and an example.
macro_rules! profile_fields {
    ($($field:ident: $schema:ident, $check:ident, $example:tt;)*) => {
        /// Schema of the fields in answers.
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "a schema")]
        pub(crate) struct Answered {$(
            /// May be empty.
            #[schema(example = $example)]
            $field: String,
        )*}

        /// Schema of the fields in requests.
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "a schema")]
        pub(crate) struct Optional {
            $($field: Option<$schema>,)*
        }

        /// Schema of the fields in requests that contain all of them.
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "a schema")]
        pub(crate) struct Required {
            $($field: $schema,)*
        }

        /// Schema of the fields in changes that the auth service has checked.
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "a schema")]
        pub(crate) struct OptionalLines {
            $($field: Option<Line>,)*
        }

        const COLUMNS: &[&str] = &[$(stringify!($field)),*];

        impl Check {
            /// Validates and normalises the fields of a request.
            pub(crate) fn profile(&mut self, sent: &ProfileChange) -> ProfileChange {
                ProfileChange {
                    $($field: sent.$field.as_deref().map(|text| self.$check(stringify!($field), Some(text))),)*
                }
            }

            /// Validates the fields of a profile from the auth service.
            pub(crate) fn profile_lines(&mut self, fields: &ProfileFields) {
                $(self.line(stringify!($field), &fields.$field);)*
            }
        }

        /// Returns the fields after a change.
        pub(crate) fn apply(change: ProfileChange, fields: &ProfileFields) -> ProfileFields {
            ProfileFields { $($field: change.$field.unwrap_or_else(|| fields.$field.clone()),)* }
        }

        /// Returns the change that sets every field; a field that was not sent becomes empty.
        pub(crate) fn replace(sent: ProfileChange) -> ProfileChange {
            ProfileChange { $($field: Some(sent.$field.unwrap_or_default()),)* }
        }

        /// Binds the values of [`placeholders`].
        pub(crate) fn bind<'q>(
            query: Query<'q, Any, AnyArguments>,
            fields: &'q ProfileFields,
        ) -> Query<'q, Any, AnyArguments> {
            query$(.bind(&fields.$field))*
        }

        /// Reads the columns of a row.
        pub(crate) fn read(row: &AnyRow) -> Result<ProfileFields, sqlx::Error> {
            Ok(ProfileFields { $($field: row.try_get(stringify!($field))?,)* })
        }
    };
}

profile_fields! {
    first_name: Name, name, "Ada";
    last_name: Name, name, "Lovelace";
}

/// Returns the list of the columns for a statement, each with a prefix such as `excluded.`.
pub(crate) fn columns(prefix: &str) -> String {
    COLUMNS.iter().map(|column| format!("{prefix}{column}")).collect::<Vec<_>>().join(", ")
}

/// Returns the list of the columns' placeholders, which are numbered from `first`.
pub(crate) fn placeholders(first: usize) -> String {
    (first..).zip(COLUMNS).map(|(number, _)| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// Deserializes the fields of a merge patch (RFC 7396): null removes a field, which is empty then.
pub(crate) fn merge_patch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProfileChange, D::Error> {
    let mut members = Map::deserialize(deserializer)?;
    members.values_mut().filter(|value| value.is_null()).for_each(|value| *value = Value::from(""));
    ProfileChange::deserialize(Value::Object(members)).map_err(D::Error::custom)
}
