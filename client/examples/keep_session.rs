//! A program that logs in once and resumes its session at each run, also in concurrent processes.
//!
//! `cargo run -p portcullis-client --example keep_session -- ada@example.com` reads the
//! password from the variable PASSWORD at its first run only.

#![allow(clippy::print_stdout, reason = "an example talks")]

use std::sync::Arc;

use portcullis_client::{
    AuthenticatedClient, ClientError, HttpAuthClient, Secret,
    account::Credentials,
    request::{ApiRequest, Method},
    session::FileStore,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let email = arguments.next().ok_or("usage: keep_session <e-mail> [base URL]")?;
    let base_url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let auth = Arc::new(HttpAuthClient::new(&base_url)?);
    let store = Arc::new(FileStore::new(std::env::temp_dir().join("portcullis-example-session.json")));

    let session = match AuthenticatedClient::resume(auth.clone(), store.clone()).await {
        Ok(session) => session,
        Err(ClientError::LoggedOut) => {
            let password = Secret::new(std::env::var("PASSWORD").map_err(|_| "set PASSWORD for the first login")?);
            AuthenticatedClient::login(auth, store, &Credentials::new(&email, password)).await?
        }
        Err(error) => return Err(error.into()),
    };

    let me = session.me().await?;
    println!("{} has the roles {:?}", me.email, me.roles);

    // Any route of the gateway, with the session's token.
    let request = ApiRequest::new(Method::GET, "/api/v1/users/{id}").with_segment(&me.id.to_string());
    let profile: serde_json::Value = session.send(request).await?.json()?;
    println!("{profile:#}");
    Ok(())
}
