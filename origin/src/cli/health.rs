//! `health`: asks services on this machine whether they are ready.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use portcullis_origin::{boot::StartError, settings::Settings};
use serde_json::json;

use super::{output::Output, serve::Service};

/// Time for one answer. A service that needs longer is not ready.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn health(service: Service, settings: &Settings, output: Output) -> Result<(), StartError> {
    let scheme = if settings.tls_files()?.is_some() { "https" } else { "http" };
    let failed = |error: reqwest::Error| StartError::Other(format!("the services cannot be asked: {error}"));
    // The certificate names the service's public name, and the connection does not leave this machine.
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).tls_danger_accept_invalid_certs(true).build();
    let client = client.map_err(failed)?;
    let mut ready = Vec::new();
    for (is_asked, name, port) in [
        (matches!(service, Service::Auth | Service::All), "auth", settings.auth_port),
        (matches!(service, Service::Users | Service::All), "users", settings.users_port),
    ] {
        if !is_asked {
            continue;
        }
        let address = SocketAddr::new(local(settings.bind), port);
        let answer = client.get(format!("{scheme}://{address}/ready")).send().await;
        let status =
            answer.map_err(|_| StartError::Other(format!("the {name} service does not answer at {address}")))?;
        if !status.status().is_success() {
            return Err(StartError::Other(format!("the {name} service at {address} is not ready")));
        }
        ready.push(name);
    }
    output.print(&format!("ready: {}", ready.join(", ")), &json!({ "ready": ready }))
}

/// Returns the address at which a service that listens on `bind` is reached from this machine.
fn local(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => bind,
    }
}
