//! How the services describe themselves (OpenAPI 3.1), and the page that shows it.
//!
//! A handler's annotation is its route: the router is made of the annotations, so no route is
//! without a description and none is described that there is not. Here is what all of them
//! share: refusals, credentials, and the document's frame.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use utoipa::{
    IntoParams, IntoResponses, PartialSchema as _, ToSchema,
    openapi::{
        self as document, HeaderBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder, Type,
        content::ContentBuilder,
        info::{InfoBuilder, LicenseBuilder},
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::ObjectBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        server::{ServerBuilder, ServerVariableBuilder},
        tag::TagBuilder,
    },
};

use serde::Serialize;

use super::{ApiError, FieldError};

/// An answer that is a refusal (RFC 9457), of a service or of the gateway before it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the form of what ApiError renders")]
pub(super) struct Problem {
    /// The family of refusals.
    #[schema(example = "not_found")]
    r#type: String,
    /// The status in words.
    #[schema(example = "Not Found")]
    title: String,
    /// The status.
    #[schema(example = 404, minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, in a sentence.
    #[schema(example = "Not found")]
    detail: String,
    /// The same as `detail`; at the token endpoint a code of RFC 6749, section 5.2.
    #[schema(example = "Not found")]
    error: String,
    /// The stable code, for programs.
    #[schema(example = "not_found")]
    code: String,
    /// Method and template of the route, as far as one was found.
    #[schema(example = "GET /api/v1/users/{id}")]
    operation: String,
    /// What this request is called in every log.
    #[schema(example = "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f")]
    request_id: String,
    /// What is wrong with each field (422 alone).
    #[schema(nullable = false)]
    errors: Option<Vec<FieldError>>,
    /// RFC 6749, section 5.2 (token endpoint alone).
    #[schema(nullable = false)]
    error_description: Option<String>,
}

/// A refusal: status, name, what it says, and one of the errors with that status.
struct Shared(u16, &'static str, &'static str, fn() -> ApiError);

/// The refusals.
const REFUSALS: &[Shared] = &[
    Shared(
        400,
        "BadRequest",
        "The request cannot be read: its path, query, headers or JSON. `code` says what.",
        || ApiError::bad_request("json_syntax", "The body is not valid JSON"),
    ),
    Shared(
        401,
        "Unauthorized",
        "No credentials, or none that are good (any more). `code` says which.",
        ApiError::invalid_token,
    ),
    Shared(403, "Forbidden", "The right is missing.", ApiError::forbidden),
    Shared(404, "NotFound", "There is none, or it is not yours to see.", ApiError::not_found),
    Shared(
        409,
        "Conflict",
        "It is taken, in use, built in, or a bound is reached. `code` says which.",
        ApiError::email_taken,
    ),
    Shared(
        412,
        "PreconditionFailed",
        "It was changed meanwhile: read it again, and send its `ETag` as `If-Match`.",
        ApiError::version_mismatch,
    ),
    Shared(413, "PayloadTooLarge", "The body has more than 64 KiB.", ApiError::too_large),
    Shared(
        415,
        "UnsupportedMediaType",
        "The body is of another media type than is asked for.",
        ApiError::unsupported_media_type,
    ),
    Shared(422, "UnprocessableContent", "Some fields are invalid: `errors` names each and what it must be.", || {
        ApiError::invalid(vec![FieldError { field: "email", message: "must be given" }])
    }),
    Shared(
        429,
        "TooManyRequests",
        "Too many requests, or too many wrong passwords in a row. `Retry-After` says when to come back.",
        || ApiError::login_delayed(1),
    ),
    Shared(500, "InternalError", "Something went wrong; `request_id` finds it in the log.", ApiError::internal),
    Shared(502, "BadGateway", "The gateway cannot reach the service.", || {
        ApiError::of_gateway(
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            "The service behind the gateway cannot be reached",
        )
    }),
    Shared(503, "Unavailable", "Our own trouble. `Retry-After` says when to come back.", || {
        ApiError::unavailable("store_unavailable", "The service cannot reach its database")
    }),
    Shared(504, "GatewayTimeout", "The service did not answer the gateway in time.", || {
        ApiError::of_gateway(
            StatusCode::GATEWAY_TIMEOUT,
            "upstream_timeout",
            "The service behind the gateway did not answer in time",
        )
    }),
];

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $statuses:expr;)*) => {
        /// Groups of refusals that operations share.
        pub mod refuses {
            use super::*;
            $($(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<document::Response>> {
                    shared(&$statuses)
                }
            })*
        }
    };
}

refusals! {
    /// What every operation behind the gateway may be answered.
    Always: [400, 429, 500, 502, 503, 504];
    /// A service's own trouble.
    Trouble: [500, 503];
    /// A query or a header that cannot be read.
    Unreadable: [400];
    /// A body that is none.
    Body: [400, 413, 415, 422];
    /// A form that is none.
    Form: [400, 413, 415];
    /// Credentials.
    Credentials: [401];
    /// Rights.
    Rights: [403];
    /// What is not there.
    Missing: [404];
    /// What is taken, in use or built in.
    Conflict: [409];
    /// A condition that does not hold.
    Changed: [412];
    /// A value that nobody knows.
    Invalid: [422];
}

fn shared(statuses: &[u16]) -> BTreeMap<String, RefOr<document::Response>> {
    let named = REFUSALS.iter().filter(|Shared(status, ..)| statuses.contains(status));
    named.map(|Shared(status, name, ..)| (status.to_string(), Ref::from_response_name(*name).into())).collect()
}

/// What requests are called in the examples.
const REQUEST: (&str, &str) = ("PATCH /api/v1/users/{id}", "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f");

fn refusal(status: u16, description: &str, example: &ApiError) -> document::Response {
    let text = |description: &str, kind| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        HeaderBuilder::new().description(Some(description)).schema(Some(schema)).build()
    };
    let (operation, request_id) = REQUEST;
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(example.document(operation, request_id)))
        .build();
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content);
    match status {
        401 | 403 => {
            response.header("WWW-Authenticate", text("What is asked for (RFC 6750, section 3).", Type::String))
        }
        429 | 503 => response.header("Retry-After", text("Seconds until another try is worth it.", Type::Integer)),
        _ => response,
    }
    .build()
}

/// A header that may be sent.
pub fn header_parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    let schema = schema.schema_type(Type::String).build();
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
    parameter.description(Some(description)).schema(Some(schema)).build()
}

/// That a process is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

impl Health {
    /// It is.
    pub const OK: Self = Self { status: "ok" };
}

/// That a service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    #[schema(example = true)]
    ready: bool,
}

impl Readiness {
    /// It can.
    pub const READY: Self = Self { ready: true };
}

/// Public keys (RFC 7517, section 5).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the form of what the keyring gives")]
pub struct KeySet {
    /// JWKs, with `kid`, `alg` and `use`.
    #[schema(value_type = Vec<Object>)]
    keys: Vec<()>,
}

/// What a service says of itself.
#[derive(Debug)]
pub struct About {
    /// Its name.
    pub title: &'static str,
    /// What it is there for.
    pub description: &'static str,
    /// Groups of operations: name and what they are about.
    pub tags: &'static [(&'static str, &'static str)],
}

/// What a call from one service to another says of itself besides its token.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the form of what require_service reads")]
pub struct CalledBy {
    /// The calling service's name, which its token must be of.
    #[param(rename = "x-service-caller", example = "user-service")]
    caller: String,
}

/// Who may ask: a user with an access token.
pub const USER: &str = "accessToken";

/// Who may ask: a service with a service token.
pub const SERVICE: &str = "serviceToken";

/// Who may ask: a service with its name and secret.
pub const CREDENTIALS: &str = "serviceCredentials";

/// Who may ask: whoever has METRICS_TOKEN, where there is one.
pub const METRICS: &str = "metricsToken";

/// Puts the frame around the operations.
pub fn framed(mut api: OpenApi, about: &About) -> OpenApi {
    let licence = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    api.info = InfoBuilder::new()
        .title(about.title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(about.description))
        .license(Some(licence))
        .build();
    let gateway = ServerVariableBuilder::new()
        .default_value("http://127.0.0.1:8787")
        .description(Some("Scheme and host of the gateway; this is where `npm start` puts it"))
        .build();
    api.servers = Some(vec![
        ServerBuilder::new()
            .url("{gateway}")
            .description(Some("Through the gateway"))
            .parameter("gateway", gateway)
            .build(),
    ]);
    let tags = about.tags.iter().map(|(name, text)| TagBuilder::new().name(*name).description(Some(*text)).build());
    api.tags = Some(tags.collect());
    let used = used_schemes(&api);
    let components = api.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    components.schemas.insert("FieldError".to_owned(), FieldError::schema());
    for Shared(status, name, description, example) in REFUSALS {
        components.responses.insert((*name).to_owned(), refusal(*status, description, &example()).into());
    }
    let bearer = |format: &str, text: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
        SecurityScheme::Http(scheme.description(Some(text)).build())
    };
    let basic = HttpBuilder::new()
        .scheme(HttpAuthScheme::Basic)
        .description(Some("A service's name and secret (RFC 6749, section 2.3.1)."))
        .build();
    let schemes = [
        (USER, bearer("JWT", "An access token from `POST /api/v1/auth/login` or `/refresh`; 15 minutes.")),
        (
            SERVICE,
            bearer("JWT", "A service token from `POST /api/v1/auth/token`; 5 minutes. Never through the gateway."),
        ),
        (CREDENTIALS, SecurityScheme::Http(basic)),
        (METRICS, bearer("opaque", "METRICS_TOKEN, where the service has one.")),
    ];
    for (name, scheme) in schemes.into_iter().filter(|(name, _)| used.contains(*name)) {
        components.security_schemes.insert(name.to_owned(), scheme.into());
    }
    api
}

/// The text of what an operation asks for: whatever it names.
fn used_schemes(api: &OpenApi) -> String {
    serde_json::to_value(&api.paths)
        .ok()
        .and_then(|paths| {
            let items = paths.as_object()?.values().filter_map(|item| item.as_object());
            let operations = items.flat_map(|item| item.values());
            let security = operations.filter_map(|operation| Some(operation.get("security")?.to_string()));
            Some(security.collect::<Vec<_>>().concat())
        })
        .unwrap_or_default()
}

/// The document and its page: for developers and operators, on the service's own port.
pub fn pages<S: Clone + Send + Sync + 'static>(api: &OpenApi) -> Router<S> {
    let text = Bytes::from(api.to_json().unwrap_or_default());
    let config = utoipa_swagger_ui::Config::new(["../openapi.json"])
        .use_base_layout()
        .deep_linking(true)
        .display_operation_id(true)
        // Requests go through the gateway, which lets no foreign page ask.
        .supported_submit_methods(Vec::<String>::new())
        .validator_url("none");
    let config = Arc::new(config);
    let home = Arc::clone(&config);
    Router::new()
        .route("/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text) }))
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(move || async move { file("", home) }))
        .route("/docs/{file}", get(move |Path(name): Path<String>| async move { file(&name, config) }))
}

/// Everything comes from this service, and nothing else is loaded, whatever the page's
/// scripts would like.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(name: &str, config: Arc<utoipa_swagger_ui::Config<'static>>) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, config) else {
        return ApiError::not_found().into_response();
    };
    let Ok(content_type) = HeaderValue::from_str(&file.content_type) else {
        return ApiError::internal().into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (StatusCode::OK, headers, Body::from(file.bytes)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_for_the_page_without_reading_it_takes_no_memory_for_its_files() {
        let config = Arc::new(utoipa_swagger_ui::Config::new(["../openapi.json"]));
        let mut places = Vec::new();
        for _ in 0..2 {
            let body = file("swagger-ui-bundle.js", Arc::clone(&config)).into_body();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            assert!(bytes.len() > 100_000);
            places.push(bytes.as_ptr());
        }
        assert_eq!(places[0], places[1], "both are the file that is part of the program");
    }
}
