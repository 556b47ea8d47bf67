//! Templates of refusals: JSON and pages with placeholders for what the gateway knows of a refusal.
//!
//! A page is a subset of HTML that every parser reads in the same way: `<` only begins a tag of a known element, each
//! attribute is known and its value in double quotes, and there are no scripts, forms, frames, comments and inline
//! styles. So a placeholder is in text or in the quotes of a harmless attribute, where escaping makes each value safe.

use serde_json::Value;

use crate::limits;

/// Defines the placeholders: name, and its text in a template.
macro_rules! placeholders {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What a template may show.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Placeholder {
            $($(#[$doc])* $name,)+
        }

        impl Placeholder {
            /// Their names, as in `{code}`.
            pub const NAMES: &[&str] = &[$($text),+];

            fn find(name: &str) -> Option<Self> {
                [$(($text, Self::$name)),+].into_iter().find_map(|(known, it)| (known == name).then_some(it))
            }
        }
    };
}

placeholders! {
    /// The status, such as `403`.
    Status = "status",
    /// The status in words.
    Title = "title",
    /// What is wrong, in a sentence.
    Detail = "detail",
    /// The stable code.
    Code = "code",
    /// The family of errors.
    Type = "type",
    /// The id of the request.
    RequestId = "request_id",
    /// Seconds until a retry; empty if there is no such time.
    RetryAfter = "retry_after_s",
    /// The pattern of the route, or `gateway`.
    Operation = "operation",
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text of the template.
    Text(String),
    /// A value.
    Value(Placeholder),
}

/// A page that is ready to be filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageTemplate {
    /// The parts in their order. Values are escaped.
    pub parts: Vec<Part>,
    /// The contents of its `<style>` elements, which a content security policy allows by their digests.
    pub styles: Vec<String>,
    /// Whether it has images, which are `data:` URLs.
    pub has_images: bool,
}

const ELEMENTS: &str = "|html|head|meta|title|style|body|main|header|footer|nav|section|article|div|span|p|h1|h2|h3|h4|h5\
                        |h6|a|img|ul|ol|li|dl|dt|dd|strong|em|b|i|small|code|pre|br|hr|time|address|blockquote|table\
                        |thead|tbody|tr|th|td|";
const ATTRIBUTES: &str = "|lang|dir|charset|name|content|class|id|href|src|alt|title|width|height|role|rel|datetime|";
/// What a link may begin with.
const LINKS: [&str; 6] = ["https://", "http://", "mailto:", "tel:", "/", "#"];
const DOCTYPE: &str = "<!doctype html>";
const STYLE_END: &str = "</style>";

/// Splits a text at its placeholders.
///
/// # Errors
/// Which brace begins none.
pub fn parse_text(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let found = behind.split_once('}').map(|(name, behind)| (Placeholder::find(name), name, behind));
        let Some((Some(placeholder), _, behind)) = found else {
            let name = found.map_or("", |(_, name, _)| name);
            let known = Placeholder::NAMES.join("}, {");
            let shown = if name.len() <= limits::NAME_BYTES { name } else { "…" };
            return Err(format!("{{{shown}}} is no placeholder; choose from {{{known}}} (in HTML, &#123; is a brace)"));
        };
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Value(placeholder));
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

impl PageTemplate {
    /// Parses a page.
    ///
    /// # Errors
    /// What it must not have.
    pub fn parse(html: &str) -> Result<Self, String> {
        // As browsers do before they compute the digest of a style.
        let html = html.replace("\r\n", "\n");
        if html.len() > limits::PAGE_BYTES {
            return Err(format!("it has {} bytes; write at most {}", html.len(), limits::PAGE_BYTES));
        }
        if html.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err("it has a control character".to_owned());
        }
        let (doctype, mut rest) = html.split_at_checked(DOCTYPE.len()).unwrap_or_default();
        if !doctype.eq_ignore_ascii_case(DOCTYPE) {
            return Err(format!("it must begin with {DOCTYPE}"));
        }
        let mut page = Self::default();
        page.push(DOCTYPE);
        while let Some((text, behind)) = rest.split_once('<') {
            page.parts.extend(parse_text(text)?);
            let (tag, behind) = behind.split_once('>').ok_or("a < begins no tag; write &lt;")?;
            page.push_tag(tag)?;
            rest = behind;
            if tag == "style" {
                let (style, behind) = rest.split_once(STYLE_END).ok_or("<style> does not end with </style>")?;
                if style.contains('<') || Placeholder::NAMES.iter().any(|name| style.contains(&format!("{{{name}}}"))) {
                    return Err("<style> has a placeholder or a <".to_owned());
                }
                page.push(style);
                page.push(STYLE_END);
                page.styles.push(style.to_owned());
                rest = behind;
            }
        }
        page.parts.extend(parse_text(rest)?);
        check_parts(page.parts.iter())?;
        Ok(page)
    }

    fn push(&mut self, text: &str) {
        self.parts.push(Part::Text(text.to_owned()));
    }

    fn push_tag(&mut self, tag: &str) -> Result<(), String> {
        let name = tag.strip_prefix('/').unwrap_or(tag);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let (name, mut rest) = name.split_at_checked(end).unwrap_or_default();
        let is_end = tag.starts_with('/');
        if !is_among(ELEMENTS, name) {
            return Err(format!("it may not have <{}>, only plain elements, in lower case", shown(name)));
        }
        if !rest.is_empty() && (is_end || name == "style") {
            return Err(format!("</{name}> and <style> have no attributes"));
        }
        self.push(if is_end { "</" } else { "<" });
        self.push(name);
        self.has_images |= name == "img";
        while !matches!(rest.trim_start(), "" | "/") {
            let trimmed = rest.trim_start();
            let parsed = trimmed.split_once("=\"").and_then(|(attribute, rest)| {
                let (value, rest) = rest.split_once('"')?;
                Some((attribute, value, rest))
            });
            let (attribute, value, behind) = parsed
                .filter(|_| trimmed.len() < rest.len())
                .ok_or("an attribute must be written as name=\"value\"")?;
            check_attribute(attribute, value)?;
            self.push(" ");
            self.push(attribute);
            self.push("=\"");
            self.parts.extend(parse_text(value)?);
            self.push("\"");
            rest = behind;
        }
        self.push(">");
        Ok(())
    }
}

fn is_among(names: &str, name: &str) -> bool {
    !name.is_empty() && !name.contains('|') && names.contains(&format!("|{name}|"))
}

fn shown(name: &str) -> &str {
    if name.len() <= limits::NAME_BYTES { name } else { "…" }
}

fn check_attribute(name: &str, value: &str) -> Result<(), String> {
    let is_plain = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_free = ["aria-", "data-"].iter().any(|prefix| name.strip_prefix(prefix).is_some_and(is_plain));
    if !is_free && !is_among(ATTRIBUTES, name) {
        return Err(format!("it may not have the attribute {}; put styles into <style>", shown(name)));
    }
    let is_valid = match name {
        "href" => value.is_empty() || LINKS.iter().any(|prefix| value.starts_with(prefix)),
        "src" => value.starts_with("data:image/"),
        "charset" => value.eq_ignore_ascii_case("utf-8"),
        _ => return Ok(()),
    };
    if is_valid && !value.contains('{') {
        return Ok(());
    }
    Err(match name {
        "href" => {
            "href must be an https:, http:, mailto: or tel: URL, or begin with / or #, without placeholders".to_owned()
        }
        "src" => "src must be a data:image/ URL, without placeholders".to_owned(),
        _ => "charset must be utf-8".to_owned(),
    })
}

/// Checks a JSON template.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_json(template: &Value) -> Result<(), String> {
    if !template.is_object() {
        return Err("it must be a table".to_owned());
    }
    let bytes = template.to_string().len();
    if bytes > limits::REFUSAL_JSON_BYTES {
        return Err(format!("it has {bytes} bytes; write at most {}", limits::REFUSAL_JSON_BYTES));
    }
    let mut parts = Vec::new();
    collect(template, &mut parts)?;
    check_parts(parts.iter())
}

fn collect(template: &Value, parts: &mut Vec<Part>) -> Result<(), String> {
    match template {
        Value::String(text) => parts.extend(parse_text(text)?),
        Value::Array(items) => return items.iter().try_for_each(|item| collect(item, parts)),
        Value::Object(members) => {
            if members.keys().any(|name| name.contains('{')) {
                return Err("the name of a member has a placeholder".to_owned());
            }
            return members.values().try_for_each(|value| collect(value, parts));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// Clients and operators need the code and the id. The number of values bounds the size of an answer.
fn check_parts<'a>(parts: impl Iterator<Item = &'a Part> + Clone) -> Result<(), String> {
    let values = || parts.clone().filter(|part| matches!(part, Part::Value(_)));
    for (name, needed) in [("code", Placeholder::Code), ("request_id", Placeholder::RequestId)] {
        if !values().any(|part| *part == Part::Value(needed)) {
            return Err(format!("it does not show {{{name}}}, by which people and programs tell what happened"));
        }
    }
    let count = values().count();
    if count > limits::PLACEHOLDERS {
        return Err(format!("it has {count} placeholders; write at most {}", limits::PLACEHOLDERS));
    }
    Ok(())
}

/// Returns whether a text is the media type of JSON: `application/json`, or one with the suffix `+json`.
pub(crate) fn is_json_type(text: &str) -> bool {
    let is_plain = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
    };
    let subtype = text.strip_prefix("application/").filter(|_| text.len() <= limits::NAME_BYTES);
    subtype.is_some_and(|subtype| subtype == "json" || subtype.strip_suffix("+json").is_some_and(is_plain))
}
