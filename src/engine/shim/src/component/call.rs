//! One request: its body on the way in, its answer on the way out.
use std::collections::VecDeque;
use std::ffi::c_void;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use wasmtime_wasi_http::{Error, WasiBody};

use super::ffi::{Callbacks, END_TRAP, Field, Outcome, Str, TRAP_HOST};
use super::instance::Shared;
use super::lock;

/// Bytes on their way to the guest. Both sides are on the component's thread; the mutex is what the body's
/// `Send` asks for.
#[derive(Default)]
pub struct Queue {
    inner: Mutex<QueueInner>,
}

#[derive(Default)]
struct QueueInner {
    chunks: VecDeque<Bytes>,
    queued: usize,
    taken: usize, // since the C side was told
    trailers: Option<HeaderMap>,
    end: Option<Result<(), Error>>,
    waker: Option<Waker>,
}

impl Queue {
    /// Returns how much waits now.
    pub fn push(&self, bytes: Bytes) -> usize {
        let (queued, waker) = {
            let mut q = lock(&self.inner);
            if q.end.is_some() || bytes.is_empty() {
                return q.queued;
            }
            q.queued += bytes.len();
            q.chunks.push_back(bytes);
            (q.queued, q.waker.take())
        };
        wake(waker);
        queued
    }

    /// No more comes. The first end counts; what came before it is read first, an error behind it.
    pub fn end(&self, result: Result<(), Error>, trailers: Option<HeaderMap>) {
        let waker = {
            let mut q = lock(&self.inner);
            if q.end.is_some() {
                return;
            }
            q.end = Some(result);
            q.trailers = trailers.filter(|t| !t.is_empty());
            q.waker.take()
        };
        wake(waker);
    }

    /// What the guest took since the last time, and what still waits.
    pub fn take_taken(&self) -> Option<(usize, usize)> {
        let mut q = lock(&self.inner);
        let taken = std::mem::take(&mut q.taken);
        (taken > 0).then_some((taken, q.queued))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut q = lock(&self.inner);
        if let Some(chunk) = q.chunks.pop_front() {
            q.queued -= chunk.len();
            q.taken += chunk.len();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match q.end.take() {
            None => {
                q.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(result) => {
                q.end = Some(Ok(()));
                match (result, q.trailers.take()) {
                    (Err(error), _) => Poll::Ready(Some(Err(error))),
                    (Ok(()), Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    (Ok(()), None) => Poll::Ready(None),
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let q = lock(&self.inner);
        q.chunks.is_empty() && q.trailers.is_none() && matches!(q.end, Some(Ok(())))
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The guest's end of a queue. `T` is kept alive with it.
pub struct QueueBody<T> {
    pub queue: Arc<Queue>,
    pub _keep: T,
}

impl<T: Unpin> Body for QueueBody<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.queue.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_over()
    }
}

/// A header map's fields as C sees them.
pub fn with_fields<R>(map: Option<&HeaderMap>, then: impl FnOnce(*const Field, usize) -> R) -> R {
    let fields: Vec<Field> = map
        .into_iter()
        .flatten()
        .map(|(name, value)| Field {
            name: Str::of(name.as_str().as_bytes()),
            value: Str::of(value.as_bytes()),
        })
        .collect();
    then(fields.as_ptr(), fields.len())
}

/// The map of C's fields; what is no valid field is left out, as its header promises that there is none.
///
/// # Safety
/// `fields` points to `n` valid fields.
pub unsafe fn header_map(fields: *const Field, n: usize) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(n);
    for i in 0..n {
        // SAFETY: promised by the caller.
        let (name, value) = unsafe {
            let field = *fields.add(i);
            (field.name.bytes(), field.value.bytes())
        };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub struct Call {
    user: *mut c_void,
    callbacks: *const Callbacks,
    pub body: Arc<Queue>,
    pub shared: Weak<Shared>, // of its instance
    inner: Mutex<CallInner>,
}

#[derive(Default)]
struct CallInner {
    head: bool,   // the answer's head is out
    paused: bool, // the C side asked for a pause
    gone: bool,   // ended or aborted: no callback any more
    waker: Option<Waker>,
}

// SAFETY: a call is used on the component's thread only; what crosses is behind a mutex.
unsafe impl Send for Call {}
// SAFETY: as above.
unsafe impl Sync for Call {}

impl Call {
    pub fn new(user: *mut c_void, callbacks: *const Callbacks, shared: Weak<Shared>) -> Arc<Self> {
        Arc::new(Call { user, callbacks, body: Arc::default(), shared, inner: Mutex::default() })
    }

    fn callbacks(&self) -> &Callbacks {
        // SAFETY: the configuration outlives the component, and the component its calls.
        unsafe { &*self.callbacks }
    }

    pub fn is_gone(&self) -> bool {
        lock(&self.inner).gone
    }

    /// After on_body said false.
    pub fn credit(&self) {
        let waker = {
            let mut inner = lock(&self.inner);
            inner.paused = false;
            inner.waker.take()
        };
        wake(waker);
    }

    /// No callback after this.
    pub fn abort(&self) {
        let waker = {
            let mut inner = lock(&self.inner);
            inner.gone = true;
            inner.waker.take()
        };
        self.body.end(Err(Error::ConnectionTerminated), None);
        wake(waker);
    }

    /// Tells what the guest took of the request's body.
    pub fn tell_taken(&self) {
        let Some((_, queued)) = self.body.take_taken() else { return };
        if self.is_gone() {
            return;
        }
        if let Some(on_taken) = self.callbacks().on_taken {
            // SAFETY: the contract of `wh_component_callbacks`.
            unsafe { on_taken(self.user, queued) };
        }
    }

    fn send_head(&self, parts: &http::response::Parts) {
        lock(&self.inner).head = true;
        with_fields(Some(&parts.headers), |fields, n| {
            // SAFETY: as above; the fields live for the call.
            unsafe { (self.callbacks().on_head)(self.user, parts.status.as_u16().into(), fields, n) };
        });
    }

    fn send_body(&self, bytes: &[u8]) {
        lock(&self.inner).paused = true; // a credit inside the callback must not be lost
        // SAFETY: as above; the bytes live for the call.
        if unsafe { (self.callbacks().on_body)(self.user, bytes.as_ptr(), bytes.len()) } {
            lock(&self.inner).paused = false;
        }
    }

    /// The last callback; later ones are dropped.
    pub fn end(&self, outcome: &Outcome, trailers: Option<&HeaderMap>) {
        if std::mem::replace(&mut lock(&self.inner).gone, true) {
            return;
        }
        self.body.end(Err(Error::ConnectionTerminated), None);
        with_fields(trailers, |fields, n| {
            // SAFETY: as above.
            unsafe { (self.callbacks().on_end)(self.user, outcome, fields, n) };
        });
        if let Some(shared) = self.shared.upgrade() {
            shared.forget(self);
        }
    }

    /// The guest chose an error instead of an answer, or none at all.
    pub fn end_without_answer(&self, why: &str) {
        let mut outcome = Outcome::ok();
        outcome.say(why);
        self.end(&outcome, None);
    }

    /// The answer's head is out, and its body will not become whole.
    fn end_broken(&self, why: &str) {
        let mut outcome = Outcome { end: END_TRAP, trap: TRAP_HOST, ..Outcome::ok() };
        outcome.say(&format!("the body of the answer broke off: {why}"));
        self.end(&outcome, None);
    }

    /// Waits until the C side wants more; false when it wants nothing any more.
    async fn wait_for_credit(&self) -> bool {
        poll_fn(|cx| {
            let mut inner = lock(&self.inner);
            if inner.gone {
                return Poll::Ready(false);
            }
            if !inner.paused {
                return Poll::Ready(true);
            }
            inner.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn next_frame(&self, body: &mut WasiBody) -> Option<Option<Result<Frame<Bytes>, Error>>> {
        poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(Some(frame));
            }
            let mut inner = lock(&self.inner);
            if inner.gone {
                return Poll::Ready(None);
            }
            inner.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Carries the answer over, and ends the call. The body is dropped at the end, or when the client is gone:
    /// a guest that writes on sees a closed stream.
    pub async fn respond(&self, response: http::Response<WasiBody>) {
        let (parts, mut body) = response.into_parts();
        if self.is_gone() {
            return;
        }
        self.send_head(&parts);
        let mut trailers = None;
        let mut left = content_length(&parts.headers);
        loop {
            if !self.wait_for_credit().await {
                return;
            }
            match self.next_frame(&mut body).await {
                None => return,
                Some(None) => break,
                Some(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        if let Some(left) = &mut left {
                            match left.checked_sub(data.len() as u64) {
                                Some(rest) => *left = rest,
                                None => return self.end_broken("it is longer than its content-length"),
                            }
                        }
                        self.send_body(&data);
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Some(Some(Err(error))) => return self.end_broken(&error.to_string()),
            }
        }
        self.end(&Outcome::ok(), trailers.as_ref());
    }
}
