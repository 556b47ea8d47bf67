//! A PostgreSQL server whose connections die silently: no bytes arrive, and no end is signalled. A proxy
//! between service and server causes this.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{App, PushReceiver, Service};

/// Forwards bytes between clients and a server, until it is told to discard those of the current
/// connections.
#[derive(Clone)]
struct Proxy {
    /// Connections with a smaller number are dead.
    dead_below: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
    port: u16,
}

impl Proxy {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { dead_below: Arc::default(), opened: Arc::default(), port };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let number = accepting.opened.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(&to).await.unwrap();
                let (client_in, client_out) = client.into_split();
                let (server_in, server_out) = server.into_split();
                tokio::spawn(forward(client_in, server_out, true, number, Arc::clone(&accepting.dead_below)));
                tokio::spawn(forward(server_in, client_out, false, number, Arc::clone(&accepting.dead_below)));
            }
        });
        proxy
    }

    /// Discards the bytes of each open connection, from its next statement on.
    fn swallow(&self) {
        self.dead_below.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn forward(
    from: tokio::net::tcp::OwnedReadHalf,
    to: tokio::net::tcp::OwnedWriteHalf,
    from_client: bool,
    number: u64,
    dead_below: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        from.readable().await.unwrap();
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                // Parse or Bind starts a statement; a mere Sync is a ping.
                let is_statement = from_client && matches!(buffer[0], b'P' | b'B');
                if is_statement && number < dead_below.load(Ordering::SeqCst) {
                    // Neither forwarded nor closed, as behind a firewall that lost its state.
                    std::future::pending::<()>().await;
                }
                let mut rest = &buffer[..count];
                while !rest.is_empty() {
                    to.writable().await.unwrap();
                    match to.try_write(rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => return,
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Returns host and port of a database's URL.
fn authority(url: &str) -> String {
    let rest = url.split_once('@').unwrap().1;
    rest.split_once('/').unwrap().0.to_owned()
}

/// Starts services whose databases are behind a proxy; `None` on SQLite.
async fn start(gateway: &PushReceiver) -> Option<(App, Proxy)> {
    let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
        eprintln!("skipped: SQLite has no connection that could die");
        return None;
    };
    let to = authority(&server);
    let proxy = Proxy::start(to.clone()).await;
    let through = format!("127.0.0.1:{}", proxy.port);
    let swap = |url: Option<String>| url.map(|url| url.replace(&to, &through));
    let app = App::start_with(&gateway.url, |mut settings| {
        settings.auth_database_url = swap(settings.auth_database_url);
        settings.users_database_url = swap(settings.users_database_url);
        settings
    })
    .await;
    Some((app, proxy))
}

#[tokio::test]
async fn revocations_are_pushed_after_connections_died_during_a_statement() {
    let gateway = PushReceiver::start().await;
    let Some((mut app, proxy)) = start(&gateway).await else { return };
    let ada = app.person("ada@example.com").await;
    proxy.swallow();
    // Each background task has run once.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let logout = app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None);
        // Not longer than the gateway waits.
        if tokio::time::timeout(Duration::from_secs(5), logout).await.is_ok_and(|reply| reply.status == 200) {
            break;
        }
        assert!(Instant::now() < deadline, "no logout");
    }
    gateway.until_received(1).await;
    app.stop().await;
}

#[tokio::test]
async fn a_service_whose_connections_died_silently_is_ready_again_and_stops_in_time() {
    let gateway = PushReceiver::start().await;
    let Some((mut app, proxy)) = start(&gateway).await else { return };
    app.person("ada@example.com").await;
    proxy.swallow();
    let deadline = Instant::now() + Duration::from_secs(40);
    for service in [Service::Auth, Service::Users] {
        while app.send_raw(app.http.get(app.url(service, "/ready"))).await.status != 200 {
            assert!(Instant::now() < deadline, "{service:?} is not ready");
        }
    }
    proxy.swallow();
    // A request waits for a statement that never ends.
    let _ = tokio::time::timeout(Duration::from_millis(500), app.login("ada@example.com")).await;
    let begun = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), app.stop()).await.expect("stopped within 20 s");
    eprintln!("stopped after {:?}", begun.elapsed());
}
