//! Registers, logs in, validates the token, and logs out.
//!
//! `npm start` in one terminal, then
//! `cargo run -p portcullis-client --example login -- ada@example.com 'a long password'`.

#![allow(clippy::print_stdout, reason = "an example talks")]

use portcullis_client::{
    AuthClient as _, ClientError, HttpAuthClient, Secret,
    account::{Credentials, Registration},
    error::ErrorKind,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(email), Some(password)) = (arguments.next(), arguments.next()) else {
        return Err("usage: login <e-mail> <password> [base URL]".into());
    };
    let base_url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:8787".to_owned());
    let auth = HttpAuthClient::builder(&base_url).user_agent("login-example/1.0").build()?;
    let password = Secret::new(password);

    match auth.register(&Registration::new(&email, password.clone())).await {
        Ok(user) => println!("made the account {}", user.id),
        Err(error) if error.kind() == ErrorKind::Conflict => println!("the account is there already"),
        Err(error) => return Err(explain(&error).into()),
    }
    let tokens = auth.login(&Credentials::new(&email, password)).await.map_err(|error| explain(&error))?;
    println!("logged in for {} s", tokens.expires_in);

    let validation = auth.validate(&tokens.access_token).await?;
    println!("the token is {}'s until {}", validation.user.email, validation.expires_at);

    auth.logout(&tokens.access_token, Some(&tokens.refresh_token)).await?;
    println!("logged out");
    Ok(())
}

fn explain(error: &ClientError) -> String {
    if error.kind() == ErrorKind::Unavailable {
        format!("{error}; is the gateway up? `npm start`")
    } else {
        error.to_string()
    }
}
