//! Reads the rest of a request's body after an early answer.
//!
//! Closing a connection with an unread body resets it, and the answer on its way may be lost: the
//! gateway would see a broken service instead of a 401.

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

/// The outermost middleware: reads and discards the rest of the body once the answer is known, within
/// [`limits::DRAIN_WAIT`] and [`limits::DRAIN_BYTES`].
pub async fn read_to_end(request: Request, next: Next) -> Response {
    // A client that sends `Expect: 100-continue` has not sent the body yet.
    if request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let rest = Arc::new(Mutex::new(None));
    let request = request.map(|body| Body::new(ReturnedBody { body, rest: Arc::clone(&rest) }));
    let response = next.run(request).await;
    let body = rest.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = body {
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

/// A body that is returned through `rest` when it is dropped before its end.
struct ReturnedBody {
    body: Body,
    rest: Arc<Mutex<Option<Body>>>,
}

impl HttpBody for ReturnedBody {
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

impl Drop for ReturnedBody {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let body = std::mem::take(&mut self.body);
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
