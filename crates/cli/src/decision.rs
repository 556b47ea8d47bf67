//! What a policy decides about a request, in words.

use std::net::IpAddr;

use portcullis_policy::{
    Access, Circumstances, ClaimPath, Destination, Endpoint, Policy, Principal, Refusal, Table, TableError, Target,
    authorize, question,
};
use portcullis_token::UnixMillis;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    access,
    overlap::{Overlaps, meets},
};

/// Who calls, as a verified token would say it. Without any field, a caller without a token.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Caller {
    pub(crate) user: Option<String>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) claims: Option<Vec<(ClaimPath, Value)>>,
    pub(crate) issuer: Option<String>,
}

/// What the platform knows of a request, and its host.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Origin {
    pub(crate) country: Option<String>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) host: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) now_ms: u64,
}

/// The principal of a token, and the name of its issuer; `None` stands for any that the route accepts.
pub(crate) type TokenCaller<'a> = (Principal<'a>, Option<&'a str>);

impl Caller {
    /// Returns the caller, if it has a token.
    pub(crate) fn with_token(&self) -> Option<TokenCaller<'_>> {
        let principal = Principal {
            user_id: self.user.as_deref().unwrap_or_default(),
            roles: self.roles.as_deref().unwrap_or_default(),
            scopes: self.scopes.as_deref().unwrap_or_default(),
            claims: self.claims.as_deref().unwrap_or_default(),
        };
        (*self != Self::default()).then_some((principal, self.issuer.as_deref()))
    }
}

/// Status and code of a refusal, as in the response and the log.
pub(crate) type StatusCode = (u16, &'static str);

/// The decision about a request in words, and for a refusal its status and code. A request that is
/// not refused is forwarded, or answered by the gateway itself.
pub(crate) type Verdict = Result<&'static str, (StatusCode, String)>;

/// Decides about requests by one policy.
pub(crate) struct Decider<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) overlaps: Overlaps<'a>,
    pub(crate) table: Table,
}

impl<'a> Decider<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Result<Self, TableError> {
        Ok(Self { policy, overlaps: Overlaps::of(policy), table: Table::build(policy)? })
    }

    /// Decides about a request of a caller with a token, of one without, or of one whose token is
    /// refused. Appends to `context` the route and what matters about it, one line each.
    pub(crate) fn decide(
        &self,
        method: &str,
        path: &str,
        caller: Result<Option<TokenCaller<'_>>, StatusCode>,
        origin: &Origin,
        context: &mut Vec<String>,
    ) -> Verdict {
        let target = Target::parse(path).map_err(|bad| refuse(&bad.into(), path))?;
        let path = target.path();
        let destination = Destination::find(&self.table, method, &target);
        let Destination::Route(found) = destination.map_err(|miss| refuse(&miss.into(), path))? else {
            let endpoint = Endpoint::find(self.policy, method, path).map_err(|refusal| refuse(&refusal, path))?;
            if matches!(endpoint, Endpoint::Push | Endpoint::ApiKeys) {
                let (refusal, _) = refuse(&Refusal::CredentialsMissing, path);
                return Err((refusal, ": a push needs a service token of its issuer".to_owned()));
            }
            if let Endpoint::Metadata(resource) = endpoint {
                let takes_proofs = self.policy.resource_proofs().get(resource).copied().unwrap_or_default();
                let resource = self.policy.resources.get(resource);
                context.extend(
                    resource
                        .zip(self.policy.public_url.as_ref())
                        .map(|(resource, url)| format!("{:#}", resource.metadata(url, takes_proofs))),
                );
            }
            // Settings such as `METRICS_TOKEN` are not known here.
            return Ok("the gateway's own; see docs/operations.md");
        };
        let route = self.policy.routes.get(found.route).ok_or_else(|| refuse(&Refusal::RouteUnknown, path))?;
        let pattern = route.path.as_str();
        let who = access::describe(&route.access);
        context.push(format!("{method} {path} is {pattern} at {}; may enter: {who}", route.upstream));
        let outranked = self.overlaps.outranked_by(pattern).into_iter();
        let others: Vec<&str> = outranked.filter(|other| meets(path, other)).collect();
        if !others.is_empty() {
            context.push(format!("({pattern} wins over {}, which match, too)", others.join(", ")));
        }
        if route.access == Access::Public {
            return Ok("");
        }
        let Some((principal, issuer)) = caller.map_err(|refusal| (refusal, String::new()))? else {
            return Err(refuse(&Refusal::CredentialsMissing, path));
        };
        let accepted = route.issuers.as_deref().unwrap_or_default();
        if issuer.is_none() && !accepted.is_empty() {
            context.push(format!("(as a token of {})", accepted.join(" or ")));
        }
        let issuer = issuer.or(accepted.first().map(String::as_str)).unwrap_or_default();
        let leeway_s = self.policy.issuers.iter().find(|known| known.name == issuer).map(|known| known.leeway_s);
        let request = Circumstances {
            params: &found.params,
            host: origin.host.as_deref().unwrap_or_default(),
            address: origin.address,
            country: &|| origin.country.clone(),
            now: UnixMillis(origin.now_ms),
            leeway_s: leeway_s.unwrap_or_default(),
        };
        authorize(route, &request, issuer, principal).map_err(|refusal| refuse(&refusal, path))?;
        context.extend(route.authorizer.as_ref().map(|name| {
            let iss = self.policy.issuers.iter().find(|known| known.name == issuer).map(|known| known.issuer.as_str());
            let question = question((route, method, path), &request, iss.unwrap_or_default(), principal);
            question.map_or_else(
                || format!("(the authorizer {name} cannot be asked, because a claim has a value that is not kept)"),
                |question| format!("(then the authorizer {name} decides: {question})"),
            )
        }));
        Ok("yes")
    }
}

/// Returns status and code of a refusal, and the reason in words.
fn refuse(refusal: &Refusal, path: &str) -> (StatusCode, String) {
    let (status, code, _) = refusal.wording();
    let reason = match refusal {
        Refusal::TargetTooLong => ": the path is too long".to_owned(),
        Refusal::TargetAmbiguous => ": the path has more than one reading; a route may take it with encoded_path = \
                                     \"forward\", unless variants = \"refuse\" at another one refuses it"
            .to_owned(),
        Refusal::RouteUnknown => format!(": no route names {path}"),
        Refusal::MethodNotAllowed { allow } => format!(": {path} takes {allow}"),
        Refusal::CredentialsMissing => {
            " without a token; --user, --roles, --scopes, --claim and --issuer say who calls".to_owned()
        }
        Refusal::PermissionMissing { scopes } if scopes.is_empty() => ": not this caller".to_owned(),
        Refusal::PermissionMissing { scopes } => format!(": not this caller; it would need the scopes: {scopes}"),
        Refusal::LoginInsufficient { step_up } => {
            let age = step_up.max_age_s.map(|seconds| format!("at most {seconds} s ago (auth_time)"));
            let class = Some(&step_up.acr_values).filter(|values| !values.is_empty());
            let needs: Vec<String> = age.into_iter().chain(class.map(|values| format!("of acr {values}"))).collect();
            format!(": the caller needs a login {}", needs.join(", "))
        }
    };
    ((status, code), reason)
}
