//! Refusals by the templates of the policy. A template decides about the body alone: status and headers are those of the
//! gateway's own answers. No value comes from a request but a well-formed id of it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{
    answer::{Answer, escape},
    denial::Denial,
    settings::Misconfiguration,
};
use portcullis_policy::{PageTemplate, Part, Placeholder, Policy, Route, parse_text};

/// The templates of the policy.
pub(super) struct RefusalTemplates {
    templates: Vec<Template>,
    /// Index of the one for refusals without a template of their own.
    default: Option<usize>,
}

struct Template {
    name: String,
    /// With its media type.
    json: Option<(Value, String)>,
    /// With its content security policy.
    page: Option<(PageTemplate, String)>,
}

impl RefusalTemplates {
    /// Returns the templates, if there are any.
    ///
    /// # Errors
    /// A page cannot be used, which validation finds first.
    pub(super) fn of_policy(policy: &Policy) -> Result<Option<Box<Self>>, Misconfiguration> {
        let templates = policy.refusals.iter().map(|refusal| {
            let page = refusal.page().map(PageTemplate::parse).transpose();
            let page = page.map_err(|fault| Misconfiguration(format!("refusal {:?}: {fault}", refusal.name)))?;
            Ok(Template {
                name: refusal.name.clone(),
                json: refusal.json.clone().map(|json| (json, refusal.json_type.clone())),
                page: page.map(|page| {
                    let content_policy = content_policy(&page);
                    (page, content_policy)
                }),
            })
        });
        let templates = templates.collect::<Result<Vec<_>, _>>()?;
        let is_default = |template: &Template| Some(&template.name) == policy.default_refusals.as_ref();
        let default = templates.iter().position(is_default);
        Ok((!templates.is_empty()).then(|| Box::new(Self { templates, default })))
    }

    /// Answers a refusal by the route's template or the default one. `None` if there is none for this kind of answer.
    pub(super) fn answer(
        &self,
        route: Option<&Route>,
        is_page: bool,
        denial: &Denial,
        request_id: &str,
    ) -> Option<Answer> {
        let named = route.and_then(|route| route.refusals.as_ref());
        let own = named.and_then(|name| self.templates.iter().position(|template| template.name == *name));
        let template = self.templates.get(own.or(self.default)?)?;
        let values = Values { denial, request_id, operation: route.map_or("gateway", |route| &route.path) };
        if is_page {
            let (page, content_policy) = template.page.as_ref()?;
            let body = values.fill(&page.parts, escape);
            let mut answer = Answer::refusal(denial, "text/html; charset=utf-8", request_id, body);
            answer.headers.push(("content-security-policy", content_policy.clone()));
            return Some(answer);
        }
        let (json, media_type) = template.json.as_ref()?;
        let document = values.fill_json(json)?;
        Some(Answer::refusal(denial, media_type, request_id, document.to_string()))
    }
}

/// Nothing is loaded, run, sent or framed. The styles of the page apply, and its images are parts of it.
fn content_policy(page: &PageTemplate) -> String {
    let mut text = "default-src 'none'".to_owned();
    for (index, style) in page.styles.iter().enumerate() {
        let digest = STANDARD.encode(Sha256::digest(style));
        text.extend([if index == 0 { "; style-src" } else { "" }, " 'sha256-", &digest, "'"]);
    }
    text.extend([
        if page.has_images { "; img-src data:" } else { "" },
        "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ]);
    text
}

/// What templates show of a refusal.
struct Values<'a> {
    denial: &'a Denial,
    request_id: &'a str,
    operation: &'a str,
}

impl Values<'_> {
    fn text(&self, placeholder: Placeholder) -> String {
        let (family, title) = self.denial.family_and_title();
        let text = match placeholder {
            Placeholder::Status => return self.denial.status().to_string(),
            Placeholder::RetryAfter => {
                return self.denial.retry_after_s().map(|seconds| seconds.to_string()).unwrap_or_default();
            }
            Placeholder::Title => title,
            Placeholder::Detail => self.denial.detail(),
            Placeholder::Code => self.denial.code(),
            Placeholder::Type => family,
            Placeholder::RequestId => self.request_id,
            Placeholder::Operation => self.operation,
        };
        text.to_owned()
    }

    /// Fills in the parts of a text. A value is never searched for placeholders.
    fn fill(&self, parts: &[Part], escape: fn(&str) -> String) -> String {
        let mut filled = String::new();
        for part in parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Value(placeholder) => filled.push_str(&escape(&self.text(*placeholder))),
            }
        }
        filled
    }

    /// Fills in a JSON template. `None` for a number that there is not.
    fn fill_json(&self, template: &Value) -> Option<Value> {
        Some(match template {
            Value::String(text) => {
                let parts = parse_text(text).ok()?;
                match parts.as_slice() {
                    [Part::Value(Placeholder::Status)] => self.denial.status().into(),
                    [Part::Value(Placeholder::RetryAfter)] => self.denial.retry_after_s()?.into(),
                    parts => self.fill(parts, str::to_owned).into(),
                }
            }
            Value::Array(items) => items.iter().filter_map(|item| self.fill_json(item)).collect(),
            Value::Object(members) => {
                // Member by member: `collect` would bring a sort into the Worker.
                let mut filled = Map::new();
                for (name, value) in members {
                    if let Some(value) = self.fill_json(value) {
                        filled.insert(name.clone(), value);
                    }
                }
                Value::Object(filled)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
        })
    }
}
