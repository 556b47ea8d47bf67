//! An example of a test with a mock: a function that registers a user, generic over [`AuthClient`].

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, which is its purpose"
)]

use std::time::Duration;

use portcullis_client::{
    AuthClient, ClientError, ProfileFields, Secret,
    account::{Registration, User},
    error::{ErrorKind, FieldError, Refusal},
    mock::MockAuthClient,
    request::Method,
};
use serde_json::{Value, json};

const REGISTER: &str = "/api/v1/auth/register";
const PASSWORD: &str = "correct horse battery staple";

/// The message of a program to a user who registers.
#[derive(Debug, PartialEq, Eq)]
enum SignUp {
    Registered(User),
    AddressTaken,
    Invalid(Vec<FieldError>),
    RetryAfter(Duration),
}

/// The function under test, which depends on the trait only.
async fn sign_up<A: AuthClient>(auth: &A, registration: &Registration) -> Result<SignUp, ClientError> {
    let error = match auth.register(registration).await {
        Ok(user) => return Ok(SignUp::Registered(user)),
        Err(error) => error,
    };
    if error.code() == "email_taken" {
        return Ok(SignUp::AddressTaken);
    }
    if error.kind() == ErrorKind::Invalid {
        return Ok(SignUp::Invalid(error.fields().to_vec()));
    }
    // The service or the client's circuit breaker says when to try again.
    error.retry_after().map(SignUp::RetryAfter).ok_or(error)
}

fn ada() -> Registration {
    let profile = ProfileFields { first_name: "Ada".to_owned(), ..ProfileFields::default() };
    Registration::new("ada@example.com", Secret::new(PASSWORD.to_owned())).with_profile(profile)
}

fn document() -> Value {
    json!({
        "id": "0190b2a4-0000-7000-8000-000000000001", "email": "ada@example.com",
        "first_name": "Ada", "last_name": "Lovelace", "roles": ["user"],
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    })
}

fn service() -> MockAuthClient {
    let body = json!({ "user": document(), "message": "Registration successful" });
    MockAuthClient::default().answer(Method::POST, REGISTER, 201, &body)
}

#[tokio::test]
async fn a_new_address_gets_an_account() {
    let auth = service();
    let SignUp::Registered(user) = sign_up(&auth, &ada()).await.unwrap() else { panic!("the address is free") };
    assert_eq!((user.email.as_str(), user.profile.first_name.as_str()), ("ada@example.com", "Ada"));
    assert_eq!(user.roles, ["user"]);
    assert_eq!(auth.calls(), [(Method::POST, REGISTER)]);
}

#[tokio::test]
async fn a_repeated_registration_has_the_same_body_and_key() {
    let registration = ada();
    let key = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = key.clone();
    let auth = MockAuthClient::default().on(Method::POST, REGISTER, move |request| {
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let sent = ["email", "password", "first_name"].map(|field| body[field].as_str().unwrap());
        assert_eq!(sent, ["ada@example.com", PASSWORD, "Ada"]);
        seen.lock().unwrap().push(request.idempotency_key().unwrap());
        Err(ClientError::Timeout)
    });
    for _ in 0..2 {
        assert_eq!(sign_up(&auth, &registration).await, Err(ClientError::Timeout));
    }
    let kept = registration.with_idempotency_key(uuid::Uuid::nil());
    assert_eq!(sign_up(&auth, &kept).await, Err(ClientError::Timeout), "a key that was kept in a file");
    let keys = key.lock().unwrap().clone();
    assert_eq!((keys.len(), keys[0]), (3, keys[1]));
    assert_eq!(keys[2], uuid::Uuid::nil());
}

#[tokio::test]
async fn a_taken_address_is_an_outcome_of_its_own() {
    let auth = MockAuthClient::default().refuse(Method::POST, REGISTER, 409, "email_taken");
    assert_eq!(sign_up(&auth, &ada()).await, Ok(SignUp::AddressTaken));
}

#[tokio::test]
async fn an_unavailable_service_says_when_to_retry() {
    let mut refusal = Refusal::new(503, "unavailable");
    refusal.retry_after = Some(Duration::from_secs(7));
    let auth = MockAuthClient::default().fail(Method::POST, REGISTER, refusal.into());
    assert_eq!(sign_up(&auth, &ada()).await, Ok(SignUp::RetryAfter(Duration::from_secs(7))));

    let breaker = ClientError::BreakerOpen { retry_after: Duration::from_secs(60) };
    let auth = MockAuthClient::default().fail(Method::POST, REGISTER, breaker);
    assert_eq!(sign_up(&auth, &ada()).await, Ok(SignUp::RetryAfter(Duration::from_secs(60))));

    let auth = MockAuthClient::default().fail(Method::POST, REGISTER, ClientError::Unreachable);
    assert_eq!(sign_up(&auth, &ada()).await, Err(ClientError::Unreachable), "without a time");
}

#[tokio::test]
async fn invalid_fields_are_named_with_their_rules() {
    let field = |field: &str, message: &str| FieldError { field: field.to_owned(), message: message.to_owned() };
    let fields = vec![field("email", "must be an e-mail address"), field("password", "must have 8 to 128 characters")];
    let mut refusal = Refusal::new(422, "fields_invalid");
    refusal.fields.clone_from(&fields);
    let auth = MockAuthClient::default().fail(Method::POST, REGISTER, refusal.into());
    let registration = Registration::new("ada", Secret::new("short".to_owned()));
    assert_eq!(sign_up(&auth, &registration).await, Ok(SignUp::Invalid(fields)));
}

#[tokio::test]
async fn other_refusals_stay_errors() {
    for auth in [
        MockAuthClient::default(),
        MockAuthClient::default().answer(Method::POST, REGISTER, 201, &json!({ "user": {} })),
        MockAuthClient::default().refuse(Method::POST, REGISTER, 409, "something_else"),
    ] {
        assert!(sign_up(&auth, &ada()).await.is_err(), "{auth:?}");
    }
}

#[tokio::test]
async fn nothing_printed_contains_the_password() {
    let (auth, registration) = (service(), ada());
    let outcome = sign_up(&auth, &registration).await;
    let failing = MockAuthClient::default().refuse(Method::POST, REGISTER, 409, "other");
    let error = sign_up(&failing, &registration).await.unwrap_err();
    let printed = format!("{auth:?} {failing:?} {registration:?} {outcome:?} {error:?} {error}");
    assert!(printed.contains(REGISTER), "the mock prints what was asked: {printed}");
    for word in PASSWORD.split(' ') {
        assert!(!printed.contains(word), "{word}: {printed}");
    }
}
