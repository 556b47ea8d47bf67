//! Listeners, and a shutdown that completes requests in progress.

use std::{io, net::SocketAddr, sync::Arc};

use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{http::Peer, limits, peers::Peers, tls::Configs};

/// A bound port that does not accept connections yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// Local address.
    pub addr: SocketAddr,
}

/// Binds a port.
///
/// # Errors
/// The error of the system, such as that the port is taken.
pub async fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, addr })
}

/// Serves requests with the current `app`, over TLS if there is a configuration, until `stop` is true.
/// Then completes requests in progress, within [`limits::DRAIN_TIME`].
pub async fn serve(bound: Bound, app: watch::Receiver<Router>, tls: Option<Configs>, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let peers = Peers::new(limits::PEER_CONNECTIONS);
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, bound.listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, peer)) = accepted else {
            // The usual cause is a lack of file descriptors.
            tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        // A peer with too many connections is disconnected at once and takes no slot from others.
        let Some(place) = peers.enter(peer.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let (app, watcher) = (app.clone(), graceful.watcher());
        // Each connection uses the newest certificate.
        let acceptor = tls.as_ref().map(|configs| TlsAcceptor::from(Arc::clone(&configs.borrow())));
        let stop = stop.clone();
        // The handshake runs in the connection's own task, so a slow client delays no other.
        tokio::spawn(async move {
            match acceptor {
                None => serve_connection(stream, Peer(peer), app, watcher).await,
                Some(acceptor) => {
                    if let Some(stream) = handshake(acceptor, stream, stop).await {
                        serve_connection(stream, Peer(peer), app, watcher).await;
                    }
                }
            }
            drop((slot, place));
        });
    }
    drop(bound.listener);
    let _ = tokio::time::timeout(limits::DRAIN_TIME, graceful.shutdown()).await;
}

/// Performs the handshake. `None` if it fails, takes too long, or `stop` is true: before the handshake
/// there is no request to complete.
async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    tokio::select! {
        shaken = tokio::time::timeout(limits::HANDSHAKE_TIME, acceptor.accept(stream)) => shaken.ok()?.ok(),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// Serves the requests of one connection.
async fn serve_connection<S>(stream: S, peer: Peer, app: watch::Receiver<Router>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::HEAD_TIME);
    // Read for each request, so that a kept connection uses a new app.
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        let now = app.borrow().clone();
        TowerToHyperService::new(now).call(request)
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits::WRITE_TIME));
    // A broken connection is the client's problem.
    let _ = watcher.watch(http.serve_connection(TokioIo::new(Box::pin(stream)), service)).await;
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A connection to a server of 1 MiB answers, through a pipe of 1 KiB, and the server's task.
    fn connect() -> (tokio::io::DuplexStream, tokio::task::JoinHandle<()>, watch::Sender<Router>) {
        let app = Router::new().route("/", get(|| async { Body::from(vec![0_u8; 1 << 20]) }));
        let (sender, app) = watch::channel(app);
        let (client, server) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move {
            serve_connection(server, Peer(([127, 0, 0, 1], 9).into()), app, GracefulShutdown::new().watcher()).await;
        });
        (client, serving, sender)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_disconnected() {
        let (mut client, serving, _app) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let begun = tokio::time::Instant::now();
        // Paused time advances to the next timer when no task can run.
        tokio::time::timeout(limits::WRITE_TIME * 10, serving).await.unwrap().unwrap();
        assert_eq!(begun.elapsed().as_secs(), limits::WRITE_TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_the_whole_answer() {
        let (mut client, _serving, _app) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (mut read, mut buffer) = (0, vec![0; 64 * 1024]);
        while read < 1 << 20 {
            tokio::time::sleep(limits::WRITE_TIME / 2).await;
            read += client.read(&mut buffer).await.unwrap();
        }
    }
}
