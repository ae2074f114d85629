//! Outgoing requests: the guest's go to the C side, its answers come back. One hook serves 0.2 and 0.3.
use std::collections::HashMap;
use std::ffi::c_int;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::call::{Queue, QueueBody, with_fields};
use super::ffi::{EgressOps, Head, Str};
use super::instance::{Shared, Wake};
use super::{Template, lock};

const CHUNK_BYTES: usize = 64 << 10; // of one write to a body; what is buffered is a few of these

type Response = http::Response<WasiBody>;
type HeadReceiver = oneshot::Receiver<Result<Response, Error>>;
type SendFuture =
    dyn Future<Output = Result<(Response, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>> + Send;

/// The outgoing requests of a component, by number.
#[derive(Default)]
pub struct Hub {
    next: AtomicU64,
    calls: Mutex<HashMap<u64, Arc<EgressCall>>>,
}

impl Hub {
    pub fn get(&self, id: u64) -> Option<Arc<EgressCall>> {
        lock(&self.calls).get(&id).cloned()
    }

    /// The C side is done with it.
    pub fn take(&self, id: u64) -> Option<Arc<EgressCall>> {
        lock(&self.calls).remove(&id)
    }
}

pub struct EgressCall {
    id: u64,
    ops: *const EgressOps,
    template: Arc<Template>,
    head: Mutex<Option<oneshot::Sender<Result<Response, Error>>>>,
    answer: Arc<Queue>,
    guard: Weak<Guard>,
    abandoned: AtomicBool, // the guest waits for nothing any more
    over: AtomicBool,      // the C side knows it, or said so
    pause: Mutex<(bool, Option<Waker>)>,
}

// SAFETY: the operations are called on the component's thread only; the rest is behind a mutex or atomic.
unsafe impl Send for EgressCall {}
// SAFETY: as above.
unsafe impl Sync for EgressCall {}

/// Held by whoever on the guest's side still waits for head or body.
struct Guard {
    call: Weak<EgressCall>,
    wake: Arc<Wake>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(call) = self.call.upgrade() {
            call.abandoned.store(true, Ordering::SeqCst);
            self.wake.wake(); // this may be the timer's thread: the instance's next poll tells the C side
        }
    }
}

fn error_of(code: c_int, after_head: bool) -> Error {
    match code {
        1 => Error::HttpRequestDenied,
        2 => Error::DnsError { rcode: None, info_code: None },
        3 => Error::ConnectionRefused,
        4 if after_head => Error::ConnectionReadTimeout,
        4 => Error::ConnectionTimeout,
        5 => Error::TlsProtocolError,
        6 => Error::ConnectionTerminated,
        7 => Error::HttpProtocolError,
        8 => Error::HttpResponseBodySize(None),
        _ => Error::InternalError(None),
    }
}

impl EgressCall {
    fn ops(&self) -> &EgressOps {
        // SAFETY: the operations outlive the component.
        unsafe { &*self.ops }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst) || self.abandoned.load(Ordering::SeqCst)
    }

    pub fn set_head(&self, status: u32, fields: HeaderMap) {
        let (Some(sender), Some(guard)) = (lock(&self.head).take(), self.guard.upgrade()) else {
            return;
        };
        let body = QueueBody { queue: self.answer.clone(), _keep: guard }.boxed_unsync();
        let mut response = http::Response::new(body);
        *response.status_mut() = u16::try_from(status)
            .ok()
            .and_then(|s| http::StatusCode::from_u16(s).ok())
            .unwrap_or(http::StatusCode::BAD_GATEWAY);
        *response.headers_mut() = fields;
        let _ = sender.send(Ok(response));
    }

    pub fn push(&self, bytes: Bytes) {
        self.answer.push(bytes);
    }

    pub fn credit(&self) {
        let waker = {
            let mut pause = lock(&self.pause);
            pause.0 = false;
            pause.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The C side has ended it, well or with an error.
    pub fn end(&self, code: c_int, trailers: HeaderMap) {
        self.over.store(true, Ordering::SeqCst);
        let sender = lock(&self.head).take();
        match (sender, code) {
            (Some(sender), 0) => drop(sender.send(Err(Error::HttpResponseIncomplete))),
            (Some(sender), code) => drop(sender.send(Err(error_of(code, false)))),
            (None, 0) => self.answer.end(Ok(()), Some(trailers)),
            (None, code) => self.answer.end(Err(error_of(code, true)), None),
        }
        self.credit(); // lets the request's body see that it is over
    }

    /// The guest made an error of its own request body.
    fn fail(&self, error: Error) {
        if let Some(sender) = lock(&self.head).take() {
            let _ = sender.send(Err(error));
        }
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// Tells the C side what the guest did; false when nothing is left to tell.
    pub fn flush(&self) -> bool {
        if self.over.load(Ordering::SeqCst) {
            return false;
        }
        if self.abandoned.load(Ordering::SeqCst) {
            self.cancel();
            return false;
        }
        if let Some((taken, _)) = self.answer.take_taken()
            && let Some(consumed) = self.ops().consumed
        {
            // SAFETY: the contract of `wh_component_egress`.
            unsafe { consumed(self.ops().user, self.id, taken) };
        }
        true
    }

    pub fn cancel(&self) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        drop(self.template.hub.take(self.id));
        // SAFETY: as above.
        unsafe { (self.ops().cancel)(self.ops().user, self.id) };
    }

    async fn wait_for_credit(&self) {
        poll_fn(|cx| {
            let mut pause = lock(&self.pause);
            if !pause.0 || self.is_over() {
                return Poll::Ready(());
            }
            pause.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn send_body(&self, bytes: &[u8]) {
        lock(&self.pause).0 = true; // a credit inside the callback must not be lost
        // SAFETY: as above; the bytes live for the call.
        if unsafe { (self.ops().body)(self.ops().user, self.id, bytes.as_ptr(), bytes.len()) } {
            lock(&self.pause).0 = false;
        }
    }

    /// Carries the request's body to the C side.
    pub async fn pump(self: Arc<Self>, mut body: WasiBody) {
        let mut trailers = None;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if self.is_over() {
                return;
            }
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) if data.is_empty() => {}
                Ok(Ok(data)) => {
                    self.send_body(&data);
                    self.wait_for_credit().await;
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
        }
        if !self.is_over() {
            with_fields(trailers.as_ref(), |fields, n| {
                // SAFETY: as above; the fields live for the call.
                unsafe { (self.ops().body_end)(self.ops().user, self.id, fields, n) };
            });
        }
    }
}

/// What wasi:http asks of its host.
pub struct Hooks {
    template: Arc<Template>,
    shared: Arc<Shared>,
}

fn nanoseconds(time: Option<Duration>) -> i64 {
    time.map_or(0, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX).max(1))
}

fn body_bytes(request: &http::Request<WasiBody>) -> i64 {
    if request.body().is_end_stream() {
        return 0;
    }
    let length = request.headers().get(http::header::CONTENT_LENGTH);
    length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(-1)
}

impl Hooks {
    pub fn new(template: Arc<Template>, shared: Arc<Shared>) -> Self {
        Hooks { template, shared }
    }

    /// Asks the C side to begin; its answer is 0 or why not.
    fn begin(
        &self,
        ops: &EgressOps,
        id: u64,
        request: &http::Request<WasiBody>,
        options: RequestOptions,
    ) -> c_int {
        let uri = request.uri();
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        with_fields(Some(request.headers()), |fields, n_fields| {
            let head = Head {
                method: Str::of(request.method().as_str().as_bytes()),
                scheme: Str::of(uri.scheme_str().unwrap_or("https").as_bytes()),
                authority: Str::of(uri.authority().map_or("", |a| a.as_str()).as_bytes()),
                path_query: Str::of(path.as_bytes()),
                fields,
                n_fields,
                body_bytes: body_bytes(request),
            };
            // SAFETY: the contract of `wh_component_egress`; everything lives for the call.
            unsafe {
                (ops.begin)(
                    ops.user,
                    id,
                    &raw const head,
                    nanoseconds(options.connect_timeout),
                    nanoseconds(options.first_byte_timeout),
                    nanoseconds(options.between_bytes_timeout),
                )
            }
        })
    }

    fn start(
        &self,
        request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<(HeadReceiver, Arc<Guard>), Error> {
        let ops = self.template.config().egress;
        // SAFETY: null, or valid as long as the component.
        let Some(ops_ref) = (unsafe { ops.as_ref() }) else { return Err(Error::HttpRequestDenied) };
        let hub = &self.template.hub;
        let id = hub.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        let mut guard = None;
        let call = Arc::new_cyclic(|weak| {
            let held = Arc::new(Guard { call: weak.clone(), wake: self.shared.wake.clone() });
            guard = Some(held.clone());
            EgressCall {
                id,
                ops,
                template: self.template.clone(),
                head: Mutex::new(Some(sender)),
                answer: Arc::default(),
                guard: Arc::downgrade(&held),
                abandoned: AtomicBool::new(false),
                over: AtomicBool::new(false),
                pause: Mutex::default(),
            }
        });
        lock(&hub.calls).insert(id, call.clone());
        match self.begin(ops_ref, id, &request, options) {
            0 => {}
            code => {
                call.over.store(true, Ordering::SeqCst);
                drop(hub.take(id));
                return Err(error_of(code, false));
            }
        }
        lock(&self.shared.egress).push(call.clone());
        self.shared.start(Box::pin(call.pump(request.into_body())));
        Ok((receiver, guard.expect("made above")))
    }
}

impl WasiHttpHooks for Hooks {
    fn set_host_header(&mut self) -> bool {
        false // the C side makes it of the authority
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<SendFuture> {
        // Here is the component's thread; the future may be polled on the timer's and only waits.
        let started = self.start(request, options.unwrap_or_default());
        Box::new(async move {
            let (receiver, guard) = started?;
            let response = receiver.await.unwrap_or(Err(Error::ConnectionTerminated))?;
            drop(guard); // the answer's body holds its own
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}
