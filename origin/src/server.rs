//! Listening, and stopping without losing a request.

use std::{io, net::SocketAddr, sync::Arc};

use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::limits;

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

/// Answers each request with what `app` is then, until `stop` turns true, then lets
/// requests under way finish, for a bounded time.
pub async fn serve(bound: Bound, app: watch::Receiver<Router>, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(limits::CONNECTIONS));
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
        let Ok((stream, _peer)) = accepted else {
            // Out of file descriptors, most likely: give the others time to end.
            tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits::HEAD_TIME);
        let app = app.clone();
        // A connection that is kept sees the change, too.
        let service = service_fn(move |request| {
            let now = app.borrow().clone();
            TowerToHyperService::new(now).call(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A broken connection is the client's business.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(bound.listener);
    let _ = tokio::time::timeout(limits::DRAIN_TIME, graceful.shutdown()).await;
}
