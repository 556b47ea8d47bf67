//! What a policy decides about a request, and by which rule.

use portcullis_policy::{
    config::{self, Access, ClaimPath, Policy, Route},
    route::{BadTarget, Miss, Params, Principal, Table, Target, permits},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{EXIT_REFUSED, Output, access, overlap};

/// Who calls, as a verified token would say it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Caller {
    /// User id.
    pub user: Option<String>,
    /// Role names.
    pub roles: Vec<String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// Claims by path.
    pub claims: Vec<(ClaimPath, Value)>,
    /// Name of the token's issuer; `None` stands for any that the route accepts.
    pub issuer: Option<String>,
}

impl Caller {
    /// Whether any field is set.
    pub(crate) fn is_described(&self) -> bool {
        self.user.is_some()
            || self.issuer.is_some()
            || !(self.roles.is_empty() && self.scopes.is_empty() && self.claims.is_empty())
    }
}

/// Status of a request that is forwarded, or answered by the gateway itself.
pub(crate) const PERMITTED: u16 = 200;

/// A decision about one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// [`PERMITTED`], or the status of the refusal.
    pub(crate) status: u16,
    /// The code of the refusal in the response and the log.
    pub(crate) code: Option<&'static str>,
    /// The route and what matters about it, one line each.
    pub(crate) context: Vec<String>,
    /// The decision in words.
    pub(crate) verdict: String,
}

impl Decision {
    /// Decides about a request of a caller with a token, or of one without.
    pub(crate) fn of(policy: &Policy, method: &str, path: &str, caller: Option<&Caller>) -> Self {
        match Found::new(policy, method, path) {
            Ok(found) => found.admit(caller),
            Err(decision) => decision,
        }
    }

    fn refuse(status: u16, code: &'static str, verdict: impl Into<String>) -> Self {
        Self { status, code: Some(code), context: Vec::new(), verdict: verdict.into() }
    }

    fn permit(verdict: impl Into<String>) -> Self {
        Self { status: PERMITTED, code: None, context: Vec::new(), verdict: verdict.into() }
    }

    pub(crate) fn into_output(self) -> Output {
        let is_permitted = self.code.is_none();
        let verdict = if is_permitted { self.verdict } else { format!("{}{}", self.status, self.verdict) };
        let lines: Vec<String> = self.context.into_iter().chain((!verdict.is_empty()).then_some(verdict)).collect();
        Output { out: lines.join("\n"), code: if is_permitted { 0 } else { EXIT_REFUSED }, ..Output::default() }
    }
}

/// The route that a request matches.
pub(crate) struct Found<'a> {
    pub(crate) route: &'a Route,
    params: Params,
    context: Vec<String>,
}

/// Decides about one of the gateway's own endpoints. Settings such as `METRICS_TOKEN` are not known here.
fn decide_endpoint(policy: &Policy, method: &str, target: &Target) -> Decision {
    let is_read = matches!(method, "GET" | "HEAD");
    let takes_pushes = policy.issuers.iter().any(|issuer| issuer.revocations_from.is_some());
    let not_allowed = |allow| Decision::refuse(405, "method_not_allowed", format!(": {} takes {allow}", target.path()));
    match target.path() {
        _ if !target.is_plain() => Decision::refuse(400, "path_ambiguous", ": the path has more than one reading"),
        "/health" | "/ready" | "/status" | "/metrics" if is_read => {
            Decision::permit("the gateway's own; see docs/operations.md")
        }
        "/health" | "/ready" | "/status" => not_allowed("GET, HEAD"),
        config::PUSH_PATH if takes_pushes && method == "POST" => {
            Decision::refuse(401, "credentials_missing", ": a push needs a service token of its issuer")
        }
        config::PUSH_PATH if takes_pushes => not_allowed("POST"),
        path => Decision::refuse(404, "route_unknown", format!(": no endpoint {path}")),
    }
}

impl<'a> Found<'a> {
    /// # Errors
    /// The decision, where it does not depend on the caller.
    pub(crate) fn new(policy: &'a Policy, method: &str, path: &str) -> Result<Self, Decision> {
        let target = Target::parse(path).map_err(|error| match error {
            BadTarget::TooLong => Decision::refuse(414, "path_too_long", ": the path is too long"),
            BadTarget::Ambiguous => Decision::refuse(400, "path_ambiguous", ": the path has more than one reading"),
        })?;
        if config::is_own_path(target.path()) {
            return Err(decide_endpoint(policy, method, &target));
        }
        let unknown = || Decision::refuse(404, "route_unknown", format!(": no route names {}", target.path()));
        let table = Table::build(policy).map_err(|_| unknown())?;
        let found = table.find(method, &target).map_err(|miss| match miss {
            Miss::Ambiguous => Decision::refuse(
                400,
                "path_ambiguous",
                ": services read this path differently; encoded_path = \"forward\" at the route lets it through, and \
                 variants = \"refuse\" at another one may refuse it",
            ),
            Miss::Path => unknown(),
            Miss::Method { allow, .. } => {
                Decision::refuse(405, "method_not_allowed", format!(": {} takes {allow}", target.path()))
            }
        })?;
        let route = policy.routes.get(found.route).ok_or_else(unknown)?;
        let mut context = vec![format!(
            "{method} {} is {} at {}; may enter: {}",
            target.path(),
            route.path,
            route.upstream,
            access::describe(&route.access)
        )];
        let others = overlap::outranked_by(policy, &route.path);
        let others: Vec<&str> = others.into_iter().filter(|other| overlap::matches(other, target.path())).collect();
        if !others.is_empty() {
            context.push(format!("({} wins over {}, which match, too)", route.path, others.join(", ")));
        }
        Ok(Self { route, params: found.params, context })
    }

    /// Decides about the caller.
    pub(crate) fn admit(mut self, caller: Option<&Caller>) -> Decision {
        if self.route.access == Access::Public {
            return Decision { context: self.context, ..Decision::permit("") };
        }
        let Some(caller) = caller else {
            let verdict = " without a token; --user, --roles, --scopes, --claim and --issuer say who calls";
            return Decision { context: self.context, ..Decision::refuse(401, "credentials_missing", verdict) };
        };
        let is_issuer_accepted = match (&self.route.issuers, &caller.issuer) {
            (Some(issuers), Some(issuer)) => issuers.contains(issuer),
            (Some(issuers), None) => {
                self.context.push(format!("(as a token of {})", issuers.join(" or ")));
                true
            }
            (None, _) => true,
        };
        let principal = Principal {
            user_id: caller.user.as_deref().unwrap_or_default(),
            roles: &caller.roles,
            scopes: &caller.scopes,
            claims: &caller.claims,
        };
        let decision = if is_issuer_accepted && permits(&self.route.access, principal, &self.params) {
            Decision::permit("yes")
        } else {
            Decision::refuse(403, "rights_missing", ": not this caller")
        };
        Decision { context: self.context, ..decision }
    }
}
