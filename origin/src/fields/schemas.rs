//! OpenAPI schemas of the text fields, for clients that check before they send. [`Check`](super::Check)
//! decides.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Type,
        schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat},
    },
};

use crate::limits;

/// One line of text, as a pattern.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

const EMAIL: &str = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64})*@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$";

/// A named schema of a text.
struct Text {
    description: &'static str,
    example: &'static str,
    pattern: Option<&'static str>,
    length: (Option<usize>, Option<usize>),
    is_password: bool,
}

impl Text {
    const fn new(description: &'static str, example: &'static str) -> Self {
        Self { description, example, pattern: None, length: (None, None), is_password: false }
    }

    const fn pattern(mut self, pattern: &'static str) -> Self {
        self.pattern = Some(pattern);
        self
    }

    const fn at_most(mut self, length: usize) -> Self {
        self.length = (None, Some(length));
        self
    }

    const fn at_least(mut self, length: usize) -> Self {
        self.length.0 = Some(length);
        self
    }

    const fn password(mut self) -> Self {
        self.is_password = true;
        self
    }

    fn schema(self) -> RefOr<Schema> {
        let (least, most) = self.length;
        let format = self.is_password.then_some(SchemaFormat::KnownFormat(KnownFormat::Password));
        object(Type::String, self.description, json!(self.example))
            .pattern(self.pattern)
            .min_length(least)
            .max_length(most)
            .format(format)
            .into()
    }
}

fn object(kind: Type, description: &str, example: Value) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind).description(Some(description)).examples([example])
}

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident: $schema:expr;)*) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        })*
    };
}

schemas! {
    /// [`Check::email`](super::Check::email).
    Email: Text::new(
        "An e-mail address; trimmed and lower-cased. An internationalised domain may be written as it is or in \
         punycode (`xn--…`), which is how it is stored.",
        "ada@example.com",
    ).pattern(EMAIL).at_most(limits::EMAIL_BYTES).schema();
    /// The current password, of any form.
    Password: Text::new(PASSWORD, "correct horse battery staple").password().schema();
    /// [`Check::password`](super::Check::password).
    NewPassword: Text::new(NEW_PASSWORD, "correct horse battery staple")
        .at_most(*limits::PASSWORD_CHARS.end()).at_least(*limits::PASSWORD_CHARS.start()).password().schema();
    /// [`Check::name`](super::Check::name).
    Name: Text::new("A name of one line; trimmed.", "Ada").pattern(LINE).at_most(limits::NAME_CHARS).schema();
    /// [`Check::description`](super::Check::description).
    Description: Text::new("A description of one line; trimmed.", "Keeps the books")
        .pattern(LINE).at_most(limits::DESCRIPTION_CHARS).schema();
    /// [`Check::line`](super::Check::line).
    Line: Text::new("A text of one line.", "user").pattern(LINE).schema();
    /// [`Check::role`](super::Check::role).
    RoleName: Text::new("The name of a role; any but `service`, the role of services.", "bookkeeper")
        .pattern("^[a-z][a-z0-9_.-]*$").at_most(limits::RIGHT_NAME_BYTES).schema();
    /// [`Check::permission`](super::Check::permission).
    PermissionName: Text::new("The name of a permission, of its resource, or of its action.", "read:invoices")
        .pattern("^[a-z][a-z0-9_.:-]*$").at_most(limits::RIGHT_NAME_BYTES).schema();
    /// A scope of an API key.
    Scope: Text::new("A scope (RFC 6749, section 3.3).", "invoices:read").pattern(r"^[!#-\[\]-~]+$")
        .at_most(*limits::SCOPE_BYTES.end()).at_least(*limits::SCOPE_BYTES.start()).schema();
    /// A refresh token.
    RefreshToken: Text::new(
        "A refresh token: 256 random bits, not a JWT.",
        "VGhpcyBpcyBhbiBleGFtcGxlIG9mIGEgdG9rZW4uLi4",
    ).password().schema();
    /// [`Check::instant`](super::Check::instant).
    Instant: object(Type::Integer, "Milliseconds since 1970, up to the year 9999.", json!(1_767_323_045_000_i64))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(*limits::INSTANT_MS.start()))
        .maximum(Some(*limits::INSTANT_MS.end()))
        .into();
}

const PASSWORD: &str = "A password. `é` may be one code point or two.";
const NEW_PASSWORD: &str = "A new password. `é` may be one code point or two.";
