//! What a policy decides about a request, and by which rule.

use portcullis_policy::{
    Access, BadTarget, ClaimPath, Miss, PUSH_PATH, Params, Policy, Principal, Route, Table, Target, is_own_path,
    matches, permits,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{access, output::Output};

/// Who calls, as a verified token would say it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Caller {
    pub(crate) user: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) claims: Vec<(ClaimPath, Value)>,
    /// Name of the token's issuer; `None` stands for any that the route accepts.
    pub(crate) issuer: Option<String>,
}

impl Caller {
    /// Whether any field is set.
    pub(crate) fn is_described(&self) -> bool {
        self.user.is_some()
            || self.issuer.is_some()
            || !(self.roles.is_empty() && self.scopes.is_empty() && self.claims.is_empty())
    }
}

/// Status and code of a refusal, as in the response and the log. `tests/native/decisions.rs` compares
/// them with the gateway's.
pub(crate) type Refusal = (u16, &'static str);

const PATH_AMBIGUOUS: Refusal = (400, "path_ambiguous");
const PATH_TOO_LONG: Refusal = (414, "path_too_long");
const CREDENTIALS_MISSING: Refusal = (401, "credentials_missing");
const RIGHTS_MISSING: Refusal = (403, "rights_missing");
const ROUTE_UNKNOWN: Refusal = (404, "route_unknown");
const METHOD_NOT_ALLOWED: Refusal = (405, "method_not_allowed");

/// A decision about one request.
pub(crate) struct Decision {
    /// `None` for a request that is forwarded, or answered by the gateway itself.
    pub(crate) refusal: Option<Refusal>,
    /// The route and what matters about it, one line each.
    pub(crate) context: Vec<String>,
    /// The decision in words.
    pub(crate) verdict: String,
}

impl Decision {
    /// Decides about a request of a caller with a token, of one without, or of one whose token is refused.
    pub(crate) fn of(policy: &Policy, method: &str, path: &str, caller: Result<Option<&Caller>, Refusal>) -> Self {
        let (route, params, mut context) = match find(policy, method, path) {
            Ok(found) => found,
            Err(decision) => return decision,
        };
        let decision = match caller {
            _ if route.access == Access::Public => Self::permit(""),
            Err(refusal) => Self::refuse(refusal, ""),
            Ok(None) => Self::refuse(
                CREDENTIALS_MISSING,
                " without a token; --user, --roles, --scopes, --claim and --issuer say who calls",
            ),
            Ok(Some(caller)) => {
                if let (Some(issuers), None) = (&route.issuers, &caller.issuer) {
                    context.push(format!("(as a token of {})", issuers.join(" or ")));
                }
                if admits(route, &params, caller) {
                    Self::permit("yes")
                } else {
                    Self::refuse(RIGHTS_MISSING, ": not this caller")
                }
            }
        };
        Self { context, ..decision }
    }

    fn refuse(refusal: Refusal, verdict: impl Into<String>) -> Self {
        Self { refusal: Some(refusal), ..Self::permit(verdict) }
    }

    fn permit(verdict: impl Into<String>) -> Self {
        Self { refusal: None, context: Vec::new(), verdict: verdict.into() }
    }

    pub(crate) fn into_output(self) -> Output {
        let verdict = match self.refusal {
            Some((status, _)) => format!("{status}{}", self.verdict),
            None => self.verdict,
        };
        let mut lines = self.context;
        lines.extend(Some(verdict).filter(|verdict| !verdict.is_empty()));
        Output::decided(&lines, self.refusal.is_some())
    }
}

/// Returns the route that a request matches, the path's parameters, and what matters about the route.
///
/// # Errors
/// The decision, where it does not depend on the caller.
fn find<'a>(policy: &'a Policy, method: &str, path: &str) -> Result<(&'a Route, Params, Vec<String>), Decision> {
    let target = Target::parse(path).map_err(|error| match error {
        BadTarget::TooLong => Decision::refuse(PATH_TOO_LONG, ": the path is too long"),
        BadTarget::Ambiguous => Decision::refuse(PATH_AMBIGUOUS, ": the path has more than one reading"),
    })?;
    let path = target.path();
    if is_own_path(path) {
        return Err(decide_endpoint(policy, method, &target));
    }
    let unknown = || Decision::refuse(ROUTE_UNKNOWN, format!(": no route names {path}"));
    let table = Table::build(policy).map_err(|_| unknown())?;
    let found = table.find(method, &target).map_err(|miss| match miss {
        Miss::Ambiguous => Decision::refuse(
            PATH_AMBIGUOUS,
            ": services read this path differently; encoded_path = \"forward\" at the route lets it through, and \
             variants = \"refuse\" at another one may refuse it",
        ),
        Miss::Path => unknown(),
        Miss::Method { allow, .. } => Decision::refuse(METHOD_NOT_ALLOWED, format!(": {path} takes {allow}")),
    })?;
    let route = policy.routes.get(found.route).ok_or_else(unknown)?;
    let Route { path: pattern, upstream, access, .. } = route;
    let mut context =
        vec![format!("{method} {path} is {pattern} at {upstream}; may enter: {}", access::describe(access))];
    let mut others: Vec<&str> = policy.routes.iter().map(|other| other.path.as_str()).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|other| other != pattern && matches(other, path));
    if !others.is_empty() {
        context.push(format!("({pattern} wins over {}, which match, too)", others.join(", ")));
    }
    Ok((route, found.params, context))
}

/// Decides about one of the gateway's own endpoints. Settings such as `METRICS_TOKEN` are not known here.
fn decide_endpoint(policy: &Policy, method: &str, target: &Target) -> Decision {
    let is_read = matches!(method, "GET" | "HEAD");
    let takes_pushes = policy.issuers.iter().any(|issuer| issuer.revocations_from.is_some());
    let not_allowed = |allow| Decision::refuse(METHOD_NOT_ALLOWED, format!(": {} takes {allow}", target.path()));
    match target.path() {
        _ if !target.is_plain() => Decision::refuse(PATH_AMBIGUOUS, ": the path has more than one reading"),
        "/health" | "/ready" | "/status" | "/metrics" if is_read => {
            Decision::permit("the gateway's own; see docs/operations.md")
        }
        "/health" | "/ready" | "/status" => not_allowed("GET, HEAD"),
        PUSH_PATH if takes_pushes && method == "POST" => {
            Decision::refuse(CREDENTIALS_MISSING, ": a push needs a service token of its issuer")
        }
        PUSH_PATH if takes_pushes => not_allowed("POST"),
        path => Decision::refuse(ROUTE_UNKNOWN, format!(": no endpoint {path}")),
    }
}

fn admits(route: &Route, params: &Params, caller: &Caller) -> bool {
    let is_issuer_accepted = match (&route.issuers, &caller.issuer) {
        (Some(issuers), Some(issuer)) => issuers.contains(issuer),
        (Some(_), None) | (None, _) => true,
    };
    let principal = Principal {
        user_id: caller.user.as_deref().unwrap_or_default(),
        roles: &caller.roles,
        scopes: &caller.scopes,
        claims: &caller.claims,
    };
    is_issuer_accepted && permits(&route.access, principal, params)
}
