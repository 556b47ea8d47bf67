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
    /// Whether the caller has a token: at least one field is set.
    fn has_token(&self) -> bool {
        self.user.is_some()
            || self.issuer.is_some()
            || !(self.roles.is_empty() && self.scopes.is_empty() && self.claims.is_empty())
    }
}

/// A decision about one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Status of a refusal; 200 if the request is forwarded or answered by the gateway itself.
    pub(crate) status: u16,
    /// The route and what matters about it, one line each.
    pub(crate) context: Vec<String>,
    /// The decision in words.
    pub(crate) verdict: String,
}

const PERMITTED: u16 = 200;

impl Decision {
    /// Decides about a request.
    pub(crate) fn of(policy: &Policy, method: &str, path: &str, caller: &Caller) -> Self {
        match find(policy, method, path) {
            Ok(found) => found.admit(caller),
            Err(decision) => decision,
        }
    }

    fn new(status: u16, verdict: impl Into<String>) -> Self {
        Self { status, context: Vec::new(), verdict: verdict.into() }
    }

    pub(crate) fn into_output(self) -> Output {
        let is_permitted = self.status == PERMITTED;
        let verdict = match (is_permitted, self.verdict) {
            (true, verdict) => verdict,
            (false, verdict) => format!("{}{verdict}", self.status),
        };
        let lines: Vec<String> = self.context.into_iter().chain((!verdict.is_empty()).then_some(verdict)).collect();
        Output { out: lines.join("\n"), code: if is_permitted { 0 } else { EXIT_REFUSED }, ..Output::default() }
    }
}

/// The route that a request matches.
struct Found<'a> {
    route: &'a Route,
    params: Params,
    context: Vec<String>,
}

fn find<'a>(policy: &'a Policy, method: &str, path: &str) -> Result<Found<'a>, Decision> {
    let target = Target::parse(path).map_err(|error| match error {
        BadTarget::TooLong => Decision::new(414, ": the path is too long"),
        BadTarget::Ambiguous => Decision::new(400, ": the path has more than one reading"),
    })?;
    if config::is_own_path(target.path()) {
        return Err(Decision::new(PERMITTED, "the gateway's own; see the README"));
    }
    let table = Table::build(policy).map_err(|_| Decision::new(500, ": two routes collide"))?;
    let found = table.find(method, &target).map_err(|miss| match miss {
        Miss::Ambiguous => Decision::new(
            400,
            ": services read this path differently; encoded_path = \"forward\" at the route lets it through, and \
             variants = \"refuse\" at another one may refuse it",
        ),
        Miss::Path => Decision::new(404, format!(": no route names {}", target.path())),
        Miss::Method { allow, .. } => Decision::new(405, format!(": {} takes {allow}", target.path())),
    })?;
    let route = policy.routes.get(found.route).ok_or_else(|| Decision::new(404, ""))?;
    let mut context = vec![format!(
        "{method} {} is {} at {}; may enter: {}",
        target.path(),
        route.path,
        route.upstream,
        access::describe(&route.access)
    )];
    let others: Vec<&str> = overlap::find(policy)
        .into_iter()
        .filter(|(winner, _)| *winner == route.path)
        .flat_map(|(_, others)| others)
        .filter(|other| overlap::matches(other, target.path()))
        .collect();
    if !others.is_empty() {
        context.push(format!("({} wins over {}, which match, too)", route.path, others.join(", ")));
    }
    Ok(Found { route, params: found.params, context })
}

impl Found<'_> {
    fn admit(mut self, caller: &Caller) -> Decision {
        let (status, verdict) = self.judge(caller);
        Decision { status, context: self.context, verdict: verdict.to_owned() }
    }

    fn judge(&mut self, caller: &Caller) -> (u16, &'static str) {
        if self.route.access == Access::Public {
            return (PERMITTED, "");
        }
        if !caller.has_token() {
            return (401, " without a token; --user, --roles, --scopes, --claim and --issuer say who calls");
        }
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
        if !is_issuer_accepted || !permits(&self.route.access, principal, &self.params) {
            return (403, ": not this caller");
        }
        (PERMITTED, "yes")
    }
}
