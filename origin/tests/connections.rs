//! Connections of a loopback peer, which is a proxy or a tunnel that carries all callers. The limit of
//! other peers is tested in `origin/src/peers.rs`.

use std::{net::IpAddr, time::Instant};

use portcullis_origin::limits;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{App, Databases, Deployment, until_ready};

/// Opens a connection from a loopback address.
async fn connect(from: &str, place: &Deployment) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(place.auth).await.unwrap()
}

/// Returns whether the service keeps an idle connection open.
fn is_open(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Returns whether a new connection from an address is served.
async fn is_served(from: &str, place: &Deployment) -> bool {
    let client = reqwest::Client::builder().no_proxy().local_address(from.parse::<IpAddr>().unwrap()).build().unwrap();
    client.get(format!("http://{}/health", place.auth)).send().await.is_ok_and(|answer| answer.status() == 200)
}

// The service is a process of its own because each end of a connection takes a file descriptor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_proxy_may_have_more_than_half_of_the_connections() {
    const BEYOND: usize = 20;
    let databases = Databases::make().await;
    let place = Deployment::of(&databases);
    let app = App::connect(databases, place.auth, place.users);
    let mut service = place.start("auth");
    until_ready(&app, &place, &mut service).await;

    // Within the time limit of a request's head, no other reason closes a connection.
    let begun = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..limits::PEER_CONNECTIONS + BEYOND {
        streams.push(connect("127.0.0.2", &place).await);
    }
    assert!(is_served("127.0.0.2", &place).await, "the next connection is served");
    assert!(streams.iter().all(is_open), "and all others are kept");
    assert!(begun.elapsed() < limits::HEAD_TIME, "too slow to tell");
}
