//! Security events of issuers, which revoke tokens of theirs: logout tokens (OpenID Connect Back-Channel Logout 1.0) and
//! events of the Shared Signals Framework (RFC 8935). What an event must be is in [`portcullis_token::EventPolicy`].

use std::rc::Rc;

use super::{
    answer::Answer, denial::Denial, event_receiver::EventReceiver, exchange::Exchange, gateway::Gateway,
    issuer::Issuer, limits, log::Received, ports::Ports, wire::Fault,
};
use portcullis_policy::{Refusal, event_token};
use portcullis_token::{self as token, EventFault, EventForm, SecurityEvent, TokenError, revocation::RevocationKeys};

impl Gateway {
    /// Receives an event of the issuer with this index, and revokes what it says.
    pub(super) async fn answer_event<P: Ports>(
        &self,
        (form, index): (EventForm, usize),
        exchange: &mut Exchange<'_>,
        ports: &P,
    ) -> Result<Answer, Denial> {
        let issuer = self.authenticator.issuers.get(index).ok_or(Refusal::RouteUnknown)?;
        let receiver = issuer.receivers.iter().find(|known| known.form() == form).ok_or(Refusal::RouteUnknown)?;
        let event_type = if form == EventForm::Logout { "gateway.logout" } else { "gateway.security_event" };
        exchange.received = Some(Received { event_type, result: None });
        let received = self.receive(receiver, issuer, exchange, ports).await;
        let result = received.as_ref().map_or_else(Denial::code, |event| event.result.name());
        let (name, form_name) = (&issuer.name, form.name());
        self.metrics.count(format_args!(
            "gateway_security_events_total{{issuer=\"{name}\",form=\"{form_name}\",result=\"{result}\"}}"
        ));
        exchange.received = Some(Received { event_type, result: Some(received?.result.name()) });
        receiver.last_at.set(Some(ports.now()));
        let status = if form == EventForm::Logout { 200 } else { 202 };
        Ok(Answer::empty(status, &exchange.ids.request_id))
    }

    async fn receive<P: Ports>(
        &self,
        receiver: &EventReceiver,
        issuer: &Rc<Issuer>,
        exchange: &mut Exchange<'_>,
        ports: &P,
    ) -> Result<SecurityEvent, Denial> {
        receiver.check_sender(exchange.head)?;
        let body = ports.read_body(limits::EVENT_BYTES).await.map_err(Denial::of_body)?;
        let text = event_token(receiver.form(), exchange.head.header("content-type"), &body);
        let text = text.ok_or_else(|| receiver.refuse(EventFault::Request))?;
        let verified = self.verify_event(&text, receiver, issuer, &mut exchange.key_source, ports).await;
        let event = verified.map_err(|denial| {
            if let Denial::Token(error) = denial {
                return receiver.refuse(error);
            }
            // Its signing key was revoked.
            if denial == Denial::TokenRevoked { receiver.refuse(TokenError::UnknownKey) } else { denial }
        })?;
        self.revocations.revoke_all(&event.entries, ports).await?;
        Ok(event)
    }

    async fn verify_event<P: Ports>(
        &self,
        text: &str,
        receiver: &EventReceiver,
        issuer: &Rc<Issuer>,
        source: &mut Option<&'static str>,
        ports: &P,
    ) -> Result<SecurityEvent, Denial> {
        let policy = &receiver.policy;
        let unverified = token::parse(text)?;
        let named = unverified.unverified_issuer()?;
        let origin = policy.as_token_policy().match_issuer(named).ok_or(TokenError::UnknownIssuer)?;
        let algorithm = unverified.select_event_algorithm(policy)?;
        let (key, outcome) = issuer.check_signature(&unverified, (algorithm, origin), source, ports).await?;
        let event = unverified.admit_event(outcome, policy, ports.now()).map_err(|error| receiver.refuse(error))?;
        // The log and not the copy, as for pushes. Pushes alone revoke keys.
        let kid = key.kid.as_deref().filter(|_| issuer.pusher.is_some());
        let signer = kid.map(|kid| RevocationKeys::of_signer(&policy.subject_issuer, kid));
        self.revocations.check_log(signer.as_ref(), ports).await?;
        Ok(event)
    }
}

impl Denial {
    /// Returns the denial of a body of one of the gateway's endpoints.
    pub(super) fn of_body(fault: Fault) -> Self {
        if fault == Fault::TooLarge {
            return Self::BodyTooLarge;
        }
        if fault == Fault::BodySlow { Self::BodyTooSlow } else { Self::ClientGone }
    }
}
