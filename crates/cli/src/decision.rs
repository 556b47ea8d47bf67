//! What a policy decides about a request, in words.

use portcullis_policy::{
    Access, ClaimPath, Destination, Endpoint, Policy, Principal, Refusal, Table, TableError, Target, authorize,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{access, output::Output, patterns::Patterns};

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

/// A decision about one request.
pub(crate) struct Decision {
    /// `None` for a request that is forwarded, or answered by the gateway itself.
    pub(crate) refusal: Option<StatusCode>,
    /// The route and what matters about it, one line each.
    pub(crate) context: Vec<String>,
    /// The decision in words.
    pub(crate) verdict: String,
}

impl Decision {
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

/// Decides about requests by one policy.
pub(crate) struct Decider<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) patterns: Patterns<'a>,
    table: Table,
}

impl<'a> Decider<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Result<Self, TableError> {
        Ok(Self { policy, patterns: Patterns::of(policy), table: Table::build(policy)? })
    }

    /// Decides about a request of a caller with a token, of one without, or of one whose token is refused.
    pub(crate) fn decide(
        &self,
        method: &str,
        path: &str,
        caller: Result<Option<TokenCaller<'_>>, StatusCode>,
    ) -> Decision {
        let mut context = Vec::new();
        let (refusal, verdict) = match self.judge(method, path, caller, &mut context) {
            Ok(verdict) => (None, verdict.to_owned()),
            Err((refusal, reason)) => (Some(refusal), reason),
        };
        Decision { refusal, context, verdict }
    }

    fn judge(
        &self,
        method: &str,
        path: &str,
        caller: Result<Option<TokenCaller<'_>>, StatusCode>,
        context: &mut Vec<String>,
    ) -> Result<&'static str, (StatusCode, String)> {
        let target = Target::parse(path).map_err(|bad| refuse(&bad.into(), path))?;
        let path = target.path();
        let found = match Destination::find(&self.table, method, &target).map_err(|miss| refuse(&miss.into(), path))? {
            Destination::Route(found) => found,
            Destination::Endpoint => {
                return match Endpoint::find(self.policy, method, path).map_err(|refusal| refuse(&refusal, path))? {
                    Endpoint::Push => {
                        let (refusal, _) = refuse(&Refusal::CredentialsMissing, path);
                        Err((refusal, ": a push needs a service token of its issuer".to_owned()))
                    }
                    // Settings such as `METRICS_TOKEN` are not known here.
                    Endpoint::Health | Endpoint::Ready | Endpoint::Status | Endpoint::Metrics => {
                        Ok("the gateway's own; see docs/operations.md")
                    }
                };
            }
        };
        let route = self.policy.routes.get(found.route).ok_or_else(|| refuse(&Refusal::RouteUnknown, path))?;
        let pattern = route.path.as_str();
        let who = access::describe(&route.access);
        context.push(format!("{method} {path} is {pattern} at {}; may enter: {who}", route.upstream));
        let mut others = self.patterns.matching(path);
        others.retain(|other| *other != pattern);
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
        authorize(route, &found.params, issuer, principal).map_err(|refusal| refuse(&refusal, path))?;
        Ok("yes")
    }
}

/// Returns status and code of a refusal, and the reason in words.
fn refuse(refusal: &Refusal, path: &str) -> (StatusCode, String) {
    let (status, code, _) = refusal.wording();
    let reason = match refusal {
        Refusal::TargetTooLong => ": the path is too long".to_owned(),
        Refusal::TargetAmbiguous => {
            ": the path has more than one reading; encoded_path = \"forward\" at the route lets \
                                     some such paths through, and variants = \"refuse\" at another one may refuse them"
                .to_owned()
        }
        Refusal::RouteUnknown => format!(": no route names {path}"),
        Refusal::MethodNotAllowed { allow } => format!(": {path} takes {allow}"),
        Refusal::CredentialsMissing => {
            " without a token; --user, --roles, --scopes, --claim and --issuer say who calls".to_owned()
        }
        Refusal::PermissionMissing => ": not this caller".to_owned(),
    };
    ((status, code), reason)
}
