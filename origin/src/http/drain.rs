//! Reads requests to their end, whoever answered them before it.
//!
//! A connection that is closed with a body unread is reset, and what is on its way to the
//! other side, the answer among it, may be lost: the gateway would see a broken service
//! instead of a 401.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt as _;

use crate::limits;

/// The outermost layer: after the answer is known, what is left of the request's body is
/// read and thrown away, within bounds.
pub async fn read_to_end(request: Request, next: Next) -> Response {
    // Who asks before it sends has nothing on its way.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let left = Arc::new(Mutex::new(None));
    let request = request.map(|body| Body::new(Lent { body, left: Arc::clone(&left) }));
    let response = next.run(request).await;
    let body = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = body {
        // What takes longer or is larger is an attack or is lost anyway.
        let _ = tokio::time::timeout(limits::DRAIN_WAIT, drain(body)).await;
    }
    response
}

async fn drain(mut body: Body) {
    let mut size = 0_usize;
    while let Some(Ok(frame)) = body.frame().await {
        size = size.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if size > limits::DRAIN_BYTES {
            return;
        }
    }
}

/// A body that comes back when whoever had it is done with it.
struct Lent {
    body: Body,
    left: Arc<Mutex<Option<Body>>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let body = std::mem::take(&mut self.body);
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
