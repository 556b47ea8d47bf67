//! The OpenAPI 3.1 documents of the services, and the page that shows them.
//!
//! The router is built from the handlers' annotations, so every route is documented and every
//! documented route exists. This module has what routes share: refusals, credentials, and the
//! document around the operations.

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
    IntoParams, IntoResponses, PartialSchema as _,
    openapi::{
        self as document, HeaderBuilder, OpenApi, Ref, RefOr, Required, ResponseBuilder, Type,
        content::ContentBuilder,
        info::{InfoBuilder, LicenseBuilder},
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        server::{ServerBuilder, ServerVariableBuilder},
        tag::TagBuilder,
    },
};

use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use super::{
    ApiError, FieldError,
    error::{PROBLEM_TYPE, Problem},
};

/// A documented refusal: status, name, description, and an example.
struct Shared(u16, &'static str, &'static str, fn() -> ApiError);

/// Refusals, for the components of the document.
const REFUSALS: &[Shared] = &[
    Shared(400, "BadRequest", "The path, query, headers or JSON of the request are malformed; see `code`.", || {
        ApiError::bad_request("json_syntax", "The body is not valid JSON")
    }),
    Shared(401, "Unauthorized", "Missing, invalid or expired credentials; see `code`.", ApiError::invalid_token),
    Shared(403, "Forbidden", "Insufficient permissions.", ApiError::forbidden),
    Shared(404, "NotFound", "It does not exist, or the caller may not see it.", ApiError::not_found),
    Shared(409, "Conflict", "It is taken, in use, built in, or a limit is reached; see `code`.", ApiError::email_taken),
    Shared(
        412,
        "PreconditionFailed",
        "It has changed since: read it again, and send its `ETag` as `If-Match`.",
        ApiError::version_mismatch,
    ),
    Shared(413, "PayloadTooLarge", "The body is larger than 64 KiB.", ApiError::too_large),
    Shared(
        415,
        "UnsupportedMediaType",
        "The body has another media type than the documented one.",
        ApiError::unsupported_media_type,
    ),
    Shared(422, "UnprocessableContent", "Some fields are invalid; `errors` says for each what it must be.", || {
        ApiError::invalid(vec![FieldError { field: "email", message: "must be given" }])
    }),
    Shared(
        429,
        "TooManyRequests",
        "Too many requests, or too many wrong passwords in a row. `Retry-After` says when to try again.",
        || ApiError::login_delayed(1),
    ),
    Shared(500, "InternalError", "Internal error; `request_id` identifies it in the log.", ApiError::internal),
    Shared(502, "BadGateway", "The gateway cannot reach the service.", || {
        ApiError::of_gateway(
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            "The service behind the gateway cannot be reached",
        )
    }),
    Shared(503, "Unavailable", "The service cannot answer now. `Retry-After` says when to try again.", || {
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

/// Refusals of OAuth's endpoints (RFC 6749, section 5.2).
const OAUTH_REFUSALS: &[Shared] = &[
    Shared(400, "InvalidRequest", "The form is invalid; see `error`.", || {
        ApiError::bad_grant("invalid_request", "A parameter is given more than once")
    }),
    Shared(401, "InvalidClient", "The service's name or secret is wrong.", || {
        ApiError::bad_client("Invalid service credentials")
    }),
];

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $table:ident $statuses:expr;)*) => {
        /// Refusals by their cause, for the annotations of routes.
        pub mod refuses {
            use super::*;
            $($(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<document::Response>> {
                    shared($table, &$statuses)
                }
            })*
        }
    };
}

refusals! {
    /// A malformed query or header.
    Unreadable: REFUSALS [400];
    /// An invalid JSON body.
    Body: REFUSALS [400, 413, 415, 422];
    /// An invalid form of OAuth.
    Form: OAUTH_REFUSALS [400];
    /// Missing or invalid credentials of a service.
    Client: OAUTH_REFUSALS [401];
    /// A body that is too large.
    Size: REFUSALS [413];
    /// Missing or invalid credentials.
    Credentials: REFUSALS [401];
    /// Insufficient permissions.
    Rights: REFUSALS [403];
    /// No such entity.
    Missing: REFUSALS [404];
    /// An entity that is taken, in use or built in.
    Conflict: REFUSALS [409];
    /// Refusals of a change with a body and a condition.
    ConditionalWrite: REFUSALS [400, 403, 404, 409, 412, 413, 415, 422, 429];
}

fn shared(table: &[Shared], statuses: &[u16]) -> BTreeMap<String, RefOr<document::Response>> {
    let named = table.iter().filter(|Shared(status, ..)| statuses.contains(status));
    named.map(|Shared(status, name, ..)| (status.to_string(), Ref::from_response_name(*name).into())).collect()
}

/// Operation and request id in the examples.
const REQUEST: (&str, &str) = ("PATCH /api/v1/users/{id}", "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f");

fn refusal(status: u16, description: &str, example: &ApiError) -> document::Response {
    let text = |description: &str, kind| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        HeaderBuilder::new().description(Some(description)).schema(Some(schema)).build()
    };
    let (operation, request_id) = REQUEST;
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(example.problem(operation, request_id)).ok())
        .build();
    let mut response = ResponseBuilder::new().description(description).content(PROBLEM_TYPE, content.clone());
    if example.media_type() != PROBLEM_TYPE {
        // The gateway refuses with problem documents here, too.
        response = response.content(example.media_type(), content);
    }
    match status {
        401 | 403 => response.header("WWW-Authenticate", text("The challenge (RFC 6750, section 3).", Type::String)),
        429 | 503 => response.header("Retry-After", text("Seconds until the next attempt.", Type::Integer)),
        _ => response,
    }
    .build()
}

/// Describes an optional header.
pub fn header_parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(ParameterIn::Header, name, description, schema.schema_type(Type::String))
}

/// Describes an optional parameter.
pub fn parameter(place: ParameterIn, name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(Required::False);
    parameter.description(Some(description)).schema(Some(schema)).build()
}

/// The schema of an id.
pub fn id_schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
}

/// The title and the groups of a document.
#[derive(Debug)]
pub struct About {
    /// Name of the service.
    pub title: &'static str,
    /// Its purpose.
    pub description: &'static str,
    /// Groups of operations: name and description.
    pub tags: &'static [(&'static str, &'static str)],
}

/// The header with which a service names itself, besides its token. Read by `require_service`.
#[derive(Debug)]
pub struct CalledBy;

impl IntoParams for CalledBy {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().schema_type(Type::String).examples([json!("user-service")]);
        let text = "Name of the calling service, which must be that of its token.";
        let mut parameter = parameter(ParameterIn::Header, "x-service-caller", text, schema);
        parameter.required = Required::True;
        vec![parameter]
    }
}

/// Security scheme of access tokens.
const ACCESS_TOKEN: &str = "accessToken";

/// Security scheme of service tokens.
const SERVICE_TOKEN: &str = "serviceToken";

/// Security scheme of a service's name and secret.
const SERVICE_CREDENTIALS: &str = "serviceCredentials";

/// Security scheme of METRICS_TOKEN.
const METRICS_TOKEN: &str = "metricsToken";

/// The callers of a group of routes that share their middleware, their credentials and the refusals
/// that follow from both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Anyone, through the gateway.
    Anyone,
    /// Users, through the gateway.
    Users,
    /// Administrators, through the gateway.
    Admins,
    /// Services with a service token.
    Services,
    /// Anyone who reaches the service's own port.
    Network,
}

impl Callers {
    /// The statuses that every route of the group may answer.
    const fn statuses(self) -> &'static [u16] {
        match self {
            Self::Anyone => &[400, 429, 500, 502, 503, 504],
            Self::Users => &[400, 401, 429, 500, 502, 503, 504],
            Self::Admins => &[400, 401, 403, 429, 500, 502, 503, 504],
            Self::Services => &[401, 500, 503],
            Self::Network => &[500, 503],
        }
    }

    const fn scheme(self) -> Option<&'static str> {
        match self {
            Self::Users | Self::Admins => Some(ACCESS_TOKEN),
            Self::Services => Some(SERVICE_TOKEN),
            Self::Anyone | Self::Network => None,
        }
    }
}

/// Merges the routes of the resources (tag and routes) that a group of callers may use, and describes
/// what they share. An operation's id is its handler's name in camel case.
pub fn route_group<S: Clone + Send + Sync + 'static>(
    callers: Callers,
    resources: impl IntoIterator<Item = (&'static str, OpenApiRouter<S>)>,
) -> OpenApiRouter<S> {
    let mut group = OpenApiRouter::new();
    for (tag, mut routes) in resources {
        for item in routes.get_openapi_mut().paths.paths.values_mut() {
            let PathItem { get, put, post, patch, delete, .. } = item;
            for operation in [get, put, post, patch, delete].into_iter().flatten() {
                describe(operation, callers, tag);
            }
        }
        group = group.merge(routes);
    }
    group
}

fn describe(operation: &mut Operation, callers: Callers, tag: &str) {
    operation.tags = Some(vec![tag.to_owned()]);
    operation.operation_id = operation.operation_id.as_deref().map(camel_case);
    for (status, response) in shared(REFUSALS, callers.statuses()) {
        operation.responses.responses.entry(status).or_insert(response);
    }
    if let Some(scheme) = callers.scheme() {
        operation.security = Some(vec![SecurityRequirement::new(scheme, Vec::<String>::new())]);
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (initial, rest) = word.split_at_checked(1).unwrap_or_default();
        text + &initial.to_ascii_uppercase() + rest
    })
}

/// Completes a document: adds title, server, groups, shared responses and security schemes to the
/// operations.
pub fn document(mut api: OpenApi, about: &About) -> OpenApi {
    let licence = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    api.info = InfoBuilder::new()
        .title(about.title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(about.description))
        .license(Some(licence))
        .build();
    let gateway = ServerVariableBuilder::new()
        .default_value("http://127.0.0.1:8787")
        .description(Some("Scheme and host of the gateway; the default is that of `npm start`"))
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
    components.schemas.values_mut().for_each(merge_parts);
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    components.schemas.insert("FieldError".to_owned(), FieldError::schema());
    for Shared(status, name, description, example) in REFUSALS.iter().chain(OAUTH_REFUSALS) {
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
        (ACCESS_TOKEN, bearer("JWT", "An access token from `POST /api/v1/auth/login` or `/refresh`; 15 minutes.")),
        (
            SERVICE_TOKEN,
            bearer("JWT", "A service token from `POST /api/v1/auth/token`; 5 minutes. Not accepted by the gateway."),
        ),
        (SERVICE_CREDENTIALS, SecurityScheme::Http(basic)),
        (METRICS_TOKEN, bearer("opaque", "METRICS_TOKEN, if the service has one.")),
    ];
    for (name, scheme) in schemes.into_iter().filter(|(name, _)| used.contains(*name)) {
        components.security_schemes.insert(name.to_owned(), scheme.into());
    }
    api
}

/// Merges the parts of a type with flattened fields into one object.
fn merge_parts(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::AllOf(all)) = schema else { return };
    let mut merged = Object::new();
    merged.description.clone_from(&all.description);
    for part in &mut all.items {
        merge_parts(part);
        let RefOr::T(Schema::Object(part)) = part else { return };
        merged.properties.append(&mut part.properties.clone());
        merged.required.extend_from_slice(&part.required);
    }
    *schema = Schema::Object(merged).into();
}

/// Names of the security schemes that operations use, in one text.
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

/// Routes of the document and of the page that shows it, on the service's own port.
pub fn pages<S: Clone + Send + Sync + 'static>(api: &OpenApi) -> Router<S> {
    let text = Bytes::from(api.to_json().unwrap_or_default());
    let config = utoipa_swagger_ui::Config::new(["../openapi.json"])
        .use_base_layout()
        .deep_linking(true)
        .display_operation_id(true)
        // Requests go through the gateway, which refuses them from this page's origin.
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

/// `Content-Security-Policy` of the page: it loads from this service only.
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
    async fn the_files_of_the_page_are_not_copied_for_each_request() {
        let config = Arc::new(utoipa_swagger_ui::Config::new(["../openapi.json"]));
        let mut places = Vec::new();
        for _ in 0..2 {
            let body = file("swagger-ui-bundle.js", Arc::clone(&config)).into_body();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            assert!(bytes.len() > 100_000);
            places.push(bytes.as_ptr());
        }
        assert_eq!(places[0], places[1], "both point into the program");
    }
}
