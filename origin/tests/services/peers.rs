//! Connections of one peer to the running service. Each address of 127.0.0.0/8 is the machine's
//! own on Linux, and stands for a peer here.

use std::{net::IpAddr, time::Instant};

use portcullis_origin::limits;
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    app::{App, Databases},
    crash::{Place, until_ready},
    flood::{PATIENCE, until},
};

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
async fn one_peer_has_half_of_the_connections_and_another_is_served_meanwhile() {
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
    let count = |streams: &[TcpStream]| streams.iter().filter(|stream| is_open(stream)).count();
    until("the peer has more than its half", || count(&streams) <= limits::PEER_CONNECTIONS).await;
    assert!(!is_served("127.0.0.2", &place).await, "the peer has its half");
    assert!(is_served("127.0.0.3", &place).await, "another peer is served");
    assert_eq!(count(&streams), limits::PEER_CONNECTIONS, "half of all, meanwhile");
    assert!(begun.elapsed() < limits::HEAD_TIME, "too slow to tell");

    drop(streams);
    let deadline = Instant::now() + PATIENCE;
    while !is_served("127.0.0.2", &place).await {
        assert!(Instant::now() < deadline, "places are given back");
    }
}
