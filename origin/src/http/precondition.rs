//! Conditional requests (RFC 9110, sections 8.8.3 and 13.1). The version of a user is its strong entity
//! tag. The caller compares the parsed headers with the version.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};

use serde_json::json;
use utoipa::{
    IntoParams,
    openapi::{
        path::{Parameter, ParameterIn},
        schema::{ObjectBuilder, SchemaFormat},
    },
};

use super::{ApiError, openapi::header_parameter};
use crate::limits;

/// Returns the strong entity tag of a version.
pub(super) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Returns the `ETag` header of a version.
pub fn etag_header(version: i64) -> [(HeaderName, HeaderValue); 1] {
    [(header::ETAG, HeaderValue::from_str(&etag(version)).unwrap_or(HeaderValue::from_static("\"\"")))]
}

/// `If-Match`: the versions that may be changed.
///
/// A malformed header is 400, because a change must not ignore the client's condition. A weak tag
/// matches nothing, because the comparison is strong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Vec<i64>>);

impl IfMatch {
    /// Returns whether a version may be changed.
    pub fn allows(&self, version: i64) -> bool {
        self.0.as_ref().is_none_or(|versions| versions.contains(&version))
    }

    /// Returns the header for the service that decides. `*` needs no header, because a missing user is
    /// 404 anyway.
    pub fn to_header(&self) -> Option<String> {
        let versions = self.0.as_ref()?;
        // The tag of no version.
        if versions.is_empty() {
            return Some("\"\"".to_owned());
        }
        Some(versions.iter().map(|version| etag(*version)).collect::<Vec<_>>().join(", "))
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        // At most `limits::ENTITY_TAGS`.
        let schema = ObjectBuilder::new()
            .pattern(Some(r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*"){0,31})$"#))
            .format(Some(SchemaFormat::Custom("entity-tags".to_owned())))
            .examples([json!("\"1\"")]);
        let text = "Only if the user is still at this version: the `ETag` of an earlier answer, or a list of such \
                    (RFC 9110, section 13.1.1).";
        vec![header_parameter("If-Match", text, schema)]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        match tags(&parts.headers, &header::IF_MATCH) {
            Ok(Tags::None | Tags::Any) => Ok(Self(None)),
            Ok(Tags::These(tags)) => {
                let strong = tags.iter().filter(|tag| !tag.is_weak);
                Ok(Self(Some(strong.filter_map(|tag| tag.version()).collect())))
            }
            Err(Malformed) => {
                Err(ApiError::bad_request("precondition_invalid", "If-Match must be * or a list of entity tags"))
            }
        }
    }
}

/// `If-None-Match`: the versions that a reader has. A malformed header is ignored, which costs only a
/// body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfNoneMatch {
    is_any: bool,
    versions: Vec<i64>,
}

impl IfNoneMatch {
    /// Returns whether the reader has this version (weak comparison).
    pub fn has(&self, version: i64) -> bool {
        self.is_any || self.versions.contains(&version)
    }
}

impl IntoParams for IfNoneMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().examples([json!("\"1\"")]);
        let text = "Only if the user has another version than this: the `ETag` of an earlier answer.";
        vec![header_parameter("If-None-Match", text, schema)]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(match tags(&parts.headers, &header::IF_NONE_MATCH) {
            Ok(Tags::None) | Err(Malformed) => Self::default(),
            Ok(Tags::Any) => Self { is_any: true, versions: Vec::new() },
            Ok(Tags::These(tags)) => {
                Self { is_any: false, versions: tags.iter().filter_map(|tag| tag.version()).collect() }
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// No header.
    None,
    /// `*`.
    Any,
    These(Vec<Tag>),
}

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    opaque: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Malformed;

impl Tag {
    /// Returns the version with this tag. `"07"` and `"+7"` are not tags of 7, because tags are compared
    /// byte by byte.
    fn version(&self) -> Option<i64> {
        self.opaque.parse().ok().filter(|version: &i64| version.to_string() == self.opaque)
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Tags, Malformed> {
    let mut lines = Vec::new();
    for value in headers.get_all(name) {
        lines.push(value.to_str().map_err(|_| Malformed)?);
    }
    if lines.is_empty() {
        return Ok(Tags::None);
    }
    // Several lines are one list (RFC 9110, section 5.3).
    parse(&lines.join(","))
}

fn parse(text: &str) -> Result<Tags, Malformed> {
    const BLANK: [char; 2] = [' ', '\t'];
    if text.trim_matches(BLANK) == "*" {
        return Ok(Tags::Any);
    }
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |rest| (true, rest));
        let inner = quoted.strip_prefix('"').ok_or(Malformed)?;
        // A comma inside the quotes is part of the tag.
        let (opaque, after) = inner.split_once('"').ok_or(Malformed)?;
        let after = after.trim_start_matches(BLANK);
        let is_good = opaque.chars().all(|c| c.is_ascii_graphic()) && (after.is_empty() || after.starts_with(','));
        if !is_good || tags.len() >= limits::ENTITY_TAGS {
            return Err(Malformed);
        }
        tags.push(Tag { is_weak, opaque: opaque.to_owned() });
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    // A list without elements (", ,") is malformed.
    if tags.is_empty() { Err(Malformed) } else { Ok(Tags::These(tags)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_parsed_as_in_rfc_9110() {
        let strong = |text: &str| Tag { is_weak: false, opaque: text.to_owned() };
        let weak = |text: &str| Tag { is_weak: true, opaque: text.to_owned() };
        let many = vec!["\"1\""; limits::ENTITY_TAGS.saturating_add(1)].join(",");
        for (text, expected) in [
            ("*", Ok(Tags::Any)),
            (" * ", Ok(Tags::Any)),
            ("\"1\"", Ok(Tags::These(vec![strong("1")]))),
            ("W/\"1\"", Ok(Tags::These(vec![weak("1")]))),
            ("\"1\", \"2\"", Ok(Tags::These(vec![strong("1"), strong("2")]))),
            (", \"1\" ,, W/\"2\"\t,", Ok(Tags::These(vec![strong("1"), weak("2")]))),
            ("\"a,b\",\"\"", Ok(Tags::These(vec![strong("a,b"), strong("")]))),
            ("", Err(Malformed)),
            (", ,", Err(Malformed)),
            ("1", Err(Malformed)),
            ("\"1", Err(Malformed)),
            ("\"1\" \"2\"", Err(Malformed)),
            ("w/\"1\"", Err(Malformed)),
            ("W/ \"1\"", Err(Malformed)),
            ("\"a b\"", Err(Malformed)),
            ("*, \"1\"", Err(Malformed)),
            ("\"1\", *", Err(Malformed)),
            (&many, Err(Malformed)),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_version_has_one_tag() {
        for (opaque, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("07", None),
            ("+7", None),
            ("", None),
            ("x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Tag { is_weak: false, opaque: opaque.to_owned() }.version(), expected, "{opaque}");
        }
    }

    #[test]
    fn a_condition_is_forwarded_to_the_other_service_unchanged() {
        for (versions, header) in [
            (None, None),
            (Some(vec![]), Some("\"\"".to_owned())),
            (Some(vec![1, 22]), Some("\"1\", \"22\"".to_owned())),
        ] {
            let condition = IfMatch(versions);
            assert_eq!(condition.to_header(), header);
            assert_eq!(condition.allows(22), header.is_none_or(|text| text.contains("\"22\"")));
        }
    }
}
