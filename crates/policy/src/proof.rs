//! Sender-constrained tokens: what a route asks of its clients.

use crate::{
    access::Access,
    model::{Issuer, Policy, Proof, Route},
    named::find,
};

impl Policy {
    /// Returns whether a route or an issuer asks for proofs.
    pub fn has_proofs(&self) -> bool {
        self.issuers.iter().any(|issuer| issuer.proof.is_some())
            || self.routes.iter().any(|route| route.proof.is_some())
    }

    /// Returns the least and the most that a route asks of the tokens of its issuers; the stricter option of route and
    /// issuer counts.
    pub fn proofs_of(&self, route: &Route) -> (Option<Proof>, Option<Proof>) {
        if route.access == Access::Public {
            return (None, None);
        }
        let of_issuer = |issuer: &Issuer| issuer.proof.max(route.proof);
        let range = |proofs: &mut dyn Iterator<Item = Option<Proof>>| {
            let first = proofs.next().unwrap_or(route.proof);
            proofs.fold((first, first), |(least, most), proof| (least.min(proof), most.max(proof)))
        };
        match &route.issuers {
            None => range(&mut self.issuers.iter().map(of_issuer)),
            Some(names) => range(&mut names.iter().filter_map(|name| find(&self.issuers, name)).map(of_issuer)),
        }
    }
}
