//! A service behind the gateway that takes the user from the gateway's assertion only.
//!
//! `ASSERTION_KEYS_SHOP=… PORT=8090 cargo run -p portcullis-client --example axum_origin
//! --features axum`, with the gateway's secret for the upstream `shop`.

#![allow(clippy::print_stdout, reason = "an example talks")]

use axum::{
    Router,
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::get,
};
use portcullis_client::{
    assertion::{AssertedUser, AssertionKeys},
    extract::{Gate, GateRefusal, require_assertion},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys = std::env::var("ASSERTION_KEYS_SHOP").map_err(|_| "ASSERTION_KEYS_SHOP is not set")?;
    let keys = AssertionKeys::parse(&keys).map_err(|_| "ASSERTION_KEYS_SHOP is not kid:base64url-of-32-bytes")?;
    let port: u16 = std::env::var("PORT").ok().and_then(|text| text.parse().ok()).unwrap_or(8090);
    let app = Router::new()
        .route("/orders", get(list_orders))
        .route("/prices", get(list_prices))
        .route("/stock", get(list_stock))
        .layer(from_fn_with_state(Gate::new("shop", keys), require_assertion));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Requires a user; 401 without one.
async fn list_orders(user: AssertedUser) -> String {
    format!("orders of {}", user.id)
}

/// Accepts a user on a public route.
async fn list_prices(user: Option<AssertedUser>) -> &'static str {
    if user.is_some_and(|user| user.has_role("dealer")) { "wholesale" } else { "retail" }
}

/// Answers a refusal in the service's own format.
async fn list_stock(user: Result<AssertedUser, GateRefusal>) -> Response {
    match user {
        Ok(user) => format!("stock for {}", user.id).into_response(),
        Err(GateRefusal::NoUser) => "stock is for customers; please log in".into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
