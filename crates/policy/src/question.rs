//! Questions to authorizers (AuthZEN Authorization API 1.0, section 6.1), with the mapping of AuthZEN's profile for API
//! gateways: the caller is the subject, the method the action, and the route's pattern the resource.

use portcullis_token::object;
use serde_json::{Map, Value};

use crate::{
    access::{Circumstances, Principal},
    model::Route,
};

/// Returns the question whether a principal, whose token has this `iss`, may enter a route with a request. `path` is
/// canonical. It holds no token, query or header, and equal questions have equal texts. `None` if a claim's value is not
/// kept with the token (an object stands for it): without it, a rule that forbids by it would permit.
pub fn question(
    (route, method, path): (&Route, &str, &str),
    request: &Circumstances<'_>,
    issuer: &str,
    principal: Principal<'_>,
) -> Option<String> {
    // Inserted one by one, because the code that collects a map would be large.
    let (mut claims, mut params, mut context) = (Map::new(), Map::new(), Map::new());
    for (path, value) in principal.claims {
        let (name, outer) = path.split_last().filter(|_| !value.is_object())?;
        // At its place in the token, so that `["a", "b"]` is not `"a/b"`.
        let mut place = &mut claims;
        for name in outer {
            if !place.contains_key(name) {
                place.insert(name.clone(), Map::new().into());
            }
            place = place.get_mut(name)?.as_object_mut()?;
        }
        place.insert(name.clone(), value.clone());
    }
    for (name, value) in request.params {
        params.insert(name.clone(), Value::from(value.as_str()));
    }
    if let Some(address) = request.address {
        context.insert("ip".to_owned(), address.to_canonical().to_string().into());
    }
    let properties = object([
        ("issuer", issuer.into()),
        ("roles", principal.roles.into()),
        ("scopes", principal.scopes.into()),
        ("claims", claims.into()),
    ]);
    let typed = |name: &str, id: &str, properties| {
        object([("type", name.into()), ("id", id.into()), ("properties", properties)])
    };
    let resource = object([("path", path.into()), ("params", params.into())]);
    let question = object([
        ("subject", typed("identity", principal.user_id, properties)),
        ("action", object([("name", method.into())])),
        ("resource", typed("route", &route.path, resource)),
        ("context", context.into()),
    ]);
    Some(question.to_string())
}
