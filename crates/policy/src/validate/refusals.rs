//! Templates of refusals.

use super::Validator;
use crate::{
    error::Place,
    limits,
    model::RefusalTemplate,
    template::{PageTemplate, check_json, is_json_type},
};

impl Validator<'_> {
    pub(super) fn refusals(&mut self) {
        let policy = self.policy;
        self.subject = None;
        self.at_most(&Place::Document.key("refusals"), policy.refusals.len(), limits::REFUSALS);
        if let Some(name) = &policy.default_refusals {
            self.reference(&Place::Document.key("default_refusals"), "refusal", name, &policy.refusals);
        }
        self.table("refusals", "refusal", &policy.refusals, Validator::refusal);
    }

    fn refusal(&mut self, at: &Place<'_>, refusal: &RefusalTemplate) {
        let has_page = refusal.html.is_some() || refusal.html_file.is_some();
        let is_single = refusal.html.is_none() || refusal.html_file.is_none();
        self.require(has_page || refusal.json.is_some(), at, || "write json, html or html_file");
        self.require(is_single, &at.key("html_file"), || "html and html_file are both there; keep one of them");
        self.require(
            is_json_type(&refusal.json_type),
            &at.key("json_type"),
            || "json_type must be \"application/json\", or a type such as \"application/problem+json\" in lower case",
        );
        if let Some(fault) = refusal.json.as_ref().and_then(|json| check_json(json).err()) {
            self.report(&at.key("json"), format_args!("json: {fault}"));
        }
        let key = if refusal.html.is_some() { "html" } else { "html_file" };
        match refusal.page() {
            Some(page) => {
                if let Err(fault) = PageTemplate::parse(page) {
                    self.report(&at.key(key), format_args!("the page of {key}: {fault}"));
                }
            }
            None => self.require(refusal.html_file.is_none(), &at.key(key), || {
                "the file of html_file cannot be read; write its path relative to the policy file, inside its folder (the \
                 gateway reads no files: npm run policy:push copies it)"
            }),
        }
    }
}
