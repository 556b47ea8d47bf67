//! Listening, and stopping without losing a request.

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

/// A port that is bound, before anything is answered on it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Binds a port.
///
/// # Errors
/// The system's, such as that the port is taken.
pub async fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, addr })
}

/// Answers each request with what `app` is then, in TLS if there are configurations for it,
/// until `stop` turns true, then lets requests under way finish, for a bounded time.
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
            // Out of file descriptors, most likely: give the others time to end.
            tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        // One that has too many is closed at once, and takes no slot from others.
        let Some(place) = peers.enter(peer.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let (app, watcher) = (app.clone(), graceful.watcher());
        // The newest certificate is that of the moment at which somebody comes.
        let acceptor = tls.as_ref().map(|configs| TlsAcceptor::from(Arc::clone(&configs.borrow())));
        let stop = stop.clone();
        // The handshake, too, is the connection's own: whoever dawdles there holds up
        // nobody but themselves.
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, Peer(peer), app, watcher).await,
                Some(acceptor) => {
                    if let Some(stream) = shake_hands(acceptor, stream, stop).await {
                        converse(stream, Peer(peer), app, watcher).await;
                    }
                }
            }
            drop((slot, place));
        });
    }
    drop(bound.listener);
    let _ = tokio::time::timeout(limits::DRAIN_TIME, graceful.shutdown()).await;
}

/// The handshake; nothing when it fails, takes too long, or `stop` turns true: no request
/// is lost before there is one.
async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    tokio::select! {
        shaken = tokio::time::timeout(limits::HANDSHAKE_TIME, acceptor.accept(stream)) => shaken.ok()?.ok(),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

/// Answers one connection's requests.
async fn converse<S>(stream: S, peer: Peer, app: watch::Receiver<Router>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::HEAD_TIME);
    // A connection that is kept sees the change, too.
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        let now = app.borrow().clone();
        TowerToHyperService::new(now).call(request)
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits::WRITE_TIME));
    // A broken connection is the client's business.
    let _ = watcher.watch(http.serve_connection(TokioIo::new(Box::pin(stream)), service)).await;
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A connection to answers of 1 MiB, over a pipe of 1 KiB, and the task that serves it.
    fn connect() -> (tokio::io::DuplexStream, tokio::task::JoinHandle<()>, watch::Sender<Router>) {
        let app = Router::new().route("/", get(|| async { Body::from(vec![0_u8; 1 << 20]) }));
        let (sender, app) = watch::channel(app);
        let (client, server) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move {
            converse(server, Peer(([127, 0, 0, 1], 9).into()), app, GracefulShutdown::new().watcher()).await;
        });
        (client, serving, sender)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_of_its_answer_is_let_go() {
        let (mut client, serving, _app) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let begun = tokio::time::Instant::now();
        // Time leaps to the next timer whenever nothing else is to be done.
        tokio::time::timeout(limits::WRITE_TIME * 10, serving).await.unwrap().unwrap();
        assert_eq!(begun.elapsed().as_secs(), limits::WRITE_TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_given_all_of_it() {
        let (mut client, _serving, _app) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (mut read, mut buffer) = (0, vec![0; 64 * 1024]);
        while read < 1 << 20 {
            tokio::time::sleep(limits::WRITE_TIME / 2).await;
            read += client.read(&mut buffer).await.unwrap();
        }
    }
}
