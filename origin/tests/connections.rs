//! Connections of a peer on loopback to the running service: a proxy or a tunnel, through which
//! all callers come. The bound of other peers has its tests in `peers.rs`.

use std::{net::IpAddr, time::Instant};

use portcullis_origin::limits;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{App, Databases, Place, until_ready};

/// A connection from a loopback address.
async fn connect(from: &str, place: &Place) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
    socket.connect(place.auth).await.unwrap()
}

/// Whether the service holds a connection on which nothing was asked.
fn is_open(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Whether a new connection from an address is served.
async fn is_served(from: &str, place: &Place) -> bool {
    let client = reqwest::Client::builder().no_proxy().local_address(from.parse::<IpAddr>().unwrap()).build().unwrap();
    client.get(format!("http://{}/health", place.auth)).send().await.is_ok_and(|answer| answer.status() == 200)
}

// The service is a process of its own because each end of a connection takes a file descriptor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_proxy_may_have_more_than_half_of_the_connections() {
    const BEYOND: usize = 20;
    let databases = Databases::make().await;
    let place = Place::of(&databases);
    let app = App::before(databases, place.auth, place.users);
    let mut service = place.start("auth");
    until_ready(&app, &place, &mut service).await;

    // Below the time for a request's head no other reason closes a connection.
    let begun = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..limits::PEER_CONNECTIONS + BEYOND {
        streams.push(connect("127.0.0.2", &place).await);
    }
    assert!(is_served("127.0.0.2", &place).await, "the next connection is served");
    assert!(streams.iter().all(is_open), "and all others are kept");
    assert!(begun.elapsed() < limits::HEAD_TIME, "too slow to tell");
}
