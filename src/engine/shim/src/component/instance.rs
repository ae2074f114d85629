//! One store and the future that drives it, polled on the component's thread.
use std::cell::RefCell;
use std::ffi::c_void;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{self, Context, Poll, Waker};

use futures::stream::{FuturesUnordered, StreamExt};
use wasmtime::component::{Accessor, Resource, TypedFunc};
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi_http::p2::bindings::http::types as p2_types;
use wasmtime_wasi_http::p3::bindings::http::types as p3_types;
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

use super::call::Call;
use super::egress::EgressCall;
use super::ffi::{Callbacks, END_EXIT, Outcome};
use super::state::{State, new_store};
use super::{Kind, Template, lock, outcome, runtime};

const TURNS_MAX: usize = 16; // polls in a row before others get their turn

const QUIET: u8 = 0; // the next wake calls the C side
const POLLING: u8 = 1;
const WOKEN: u8 = 2; // during the poll
const TOLD: u8 = 3; // the C side knows

/// Turns a wake from anywhere into at most one callback per poll.
pub struct Wake {
    state: AtomicU8,
    /// The C side, until the instance is freed: a callback under way finishes first.
    target: Mutex<Option<Target>>,
}

struct Target {
    user: *mut c_void,
    callbacks: *const Callbacks,
}

// SAFETY: `wake` of the callbacks may come from any thread.
unsafe impl Send for Target {}

impl Wake {
    pub fn wake(&self) {
        loop {
            let (from, to) = match self.state.load(Ordering::SeqCst) {
                QUIET => (QUIET, TOLD),
                POLLING => (POLLING, WOKEN),
                _ => return,
            };
            if self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                if to == TOLD {
                    self.tell();
                }
                return;
            }
        }
    }

    fn tell(&self) {
        if let Some(target) = &*lock(&self.target) {
            // SAFETY: the callbacks outlive the component; the target is gone once the instance is.
            unsafe { ((*target.callbacks).wake)(target.user) };
        }
    }

    fn begin(&self) {
        self.state.store(POLLING, Ordering::SeqCst);
    }

    /// Whether something can go on already.
    fn end(&self) -> bool {
        self.state.compare_exchange(POLLING, QUIET, Ordering::SeqCst, Ordering::SeqCst).is_err()
    }

    fn again(&self) {
        self.state.store(TOLD, Ordering::SeqCst);
        self.tell();
    }
}

impl task::Wake for Wake {
    fn wake(self: Arc<Self>) {
        Wake::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Wake::wake(self);
    }
}

enum Job {
    Call(Arc<Call>, Box<http::Request<WasiBody>>),
    Run,
}

/// Carries a body from the guest to the C side. A guest of 0.2 that waits for room in a body holds its store, and with it
/// everything that the driver polls inside: so pumps are polled beside the driver.
type Pump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the driver and the C face of an instance have in common.
pub struct Shared {
    pub wake: Arc<Wake>,
    pub memory: AtomicU64,
    pub refused: AtomicBool,
    pub ticks: AtomicU32,    // since the guest last waited
    pub yielded: AtomicBool, // in this poll, because of a tick
    pub egress: Mutex<Vec<Arc<EgressCall>>>,
    jobs: Mutex<(Vec<Job>, Option<Waker>)>,
    pumps: Mutex<Vec<Pump>>, // new ones
    calls: Mutex<Vec<Arc<Call>>>,
    begun: AtomicU32,
    accepts: AtomicBool,
    busy: AtomicBool, // work goes on besides open calls
    spent: AtomicBool,
    outcome: Mutex<Outcome>,
}

impl Shared {
    fn submit(&self, job: Job) {
        let waker = {
            let mut jobs = lock(&self.jobs);
            jobs.0.push(job);
            jobs.1.take()
        };
        match waker {
            Some(waker) => waker.wake(),
            None => self.wake.wake(),
        }
    }

    fn take_jobs(&self, cx: &Context<'_>) -> Vec<Job> {
        let mut jobs = lock(&self.jobs);
        if !jobs.1.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            jobs.1 = Some(cx.waker().clone());
        }
        std::mem::take(&mut jobs.0)
    }

    /// Called in the poll; the pump runs behind the driver.
    pub fn start(&self, pump: Pump) {
        lock(&self.pumps).push(pump);
    }

    pub fn forget(&self, call: *const Call) {
        let mut calls = lock(&self.calls);
        if let Some(at) = calls.iter().position(|c| Arc::as_ptr(c) == call) {
            calls.swap_remove(at);
        }
    }

    fn answer(&self, call: Arc<Call>, response: http::Response<WasiBody>) {
        self.start(Box::pin(async move { call.respond(response).await }));
    }

    /// Tells the C side what was taken of the bodies.
    fn flush(&self) {
        let calls: Vec<_> = lock(&self.calls).clone();
        for call in calls {
            call.tell_taken();
        }
        let egress = std::mem::take(&mut *lock(&self.egress));
        if egress.is_empty() {
            return;
        }
        let mut kept: Vec<_> = egress.into_iter().filter(|call| call.flush()).collect();
        let mut now = lock(&self.egress);
        kept.append(&mut now);
        *now = kept;
    }
}

/// Ends with the store, which has what the guest wrote before its end.
type Driver = Pin<Box<dyn Future<Output = (Option<Store<State>>, wasmtime::Result<()>)>>>;

pub struct Instance {
    template: Arc<Template>,
    shared: Arc<Shared>,
    waker: Waker,
    driver: RefCell<Option<Driver>>, // None: dead
    pumps: RefCell<FuturesUnordered<Pump>>,
}

#[derive(PartialEq)]
pub enum PollResult {
    Idle,
    Pending,
    Dead,
}

impl Instance {
    pub fn new(template: &Arc<Template>, user: *mut c_void) -> Self {
        let target = Target { user, callbacks: template.config().callbacks };
        let wake = Arc::new(Wake { state: AtomicU8::new(QUIET), target: Mutex::new(Some(target)) });
        let shared = Arc::new(Shared {
            wake: wake.clone(),
            memory: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            ticks: AtomicU32::new(0),
            yielded: AtomicBool::new(false),
            egress: Mutex::default(),
            jobs: Mutex::default(),
            pumps: Mutex::default(),
            calls: Mutex::default(),
            begun: AtomicU32::new(0),
            accepts: AtomicBool::new(true),
            busy: AtomicBool::new(false),
            spent: AtomicBool::new(false),
            outcome: Mutex::new(Outcome::ok()),
        });
        let driver = drive(template.clone(), shared.clone());
        Instance {
            template: template.clone(),
            shared,
            waker: wake.into(),
            driver: RefCell::new(Some(Box::pin(driver))),
            pumps: RefCell::new(FuturesUnordered::new()),
        }
    }

    pub fn has_free_slot(&self) -> bool {
        let open = lock(&self.shared.calls).len();
        let room = match self.template.kind {
            Kind::HttpP3 => open < self.template.calls_at_once(),
            _ => open == 0 && !self.shared.busy.load(Ordering::Relaxed),
        };
        !self.is_dead()
            && room
            && self.shared.accepts.load(Ordering::Relaxed)
            && !self.shared.spent.load(Ordering::Relaxed)
    }

    pub fn begun(&self) -> u32 {
        self.shared.begun.load(Ordering::Relaxed)
    }

    pub fn memory(&self) -> u64 {
        self.shared.memory.load(Ordering::Relaxed)
    }

    pub fn outcome(&self) -> Outcome {
        lock(&self.shared.outcome).clone()
    }

    pub fn begin(&self, call: &Arc<Call>, request: http::Request<WasiBody>) {
        self.shared.begun.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.calls).push(call.clone());
        self.shared.submit(Job::Call(call.clone(), Box::new(request)));
    }

    pub fn run(&self) {
        self.shared.begun.fetch_add(1, Ordering::Relaxed);
        self.shared.busy.store(true, Ordering::Relaxed);
        self.shared.submit(Job::Run);
    }

    pub fn is_dead(&self) -> bool {
        self.driver.try_borrow().is_ok_and(|driver| driver.is_none())
    }

    pub fn is_command(&self) -> bool {
        self.template.kind == Kind::Command
    }

    pub fn new_call(&self, user: *mut c_void) -> Arc<Call> {
        Call::new(user, self.template.config().callbacks, Arc::downgrade(&self.shared))
    }

    fn poll_pumps(&self, cx: &mut Context<'_>) {
        let mut pumps = self.pumps.borrow_mut();
        pumps.extend(std::mem::take(&mut *lock(&self.shared.pumps)));
        while let Poll::Ready(Some(())) = pumps.poll_next_unpin(cx) {}
    }

    pub fn poll(&self) -> PollResult {
        let Ok(mut slot) = self.driver.try_borrow_mut() else { return PollResult::Pending };
        let Some(driver) = slot.as_mut() else { return PollResult::Dead };
        let _context = runtime().enter();
        let mut cx = Context::from_waker(&self.waker);
        for turn in 1.. {
            self.shared.wake.begin();
            self.shared.yielded.store(false, Ordering::Relaxed);
            let polled = catch_unwind(AssertUnwindSafe(|| driver.as_mut().poll(&mut cx)));
            let ended = match polled {
                Ok(Poll::Pending) => None,
                Ok(Poll::Ready((store, Ok(())))) => Some((store, Outcome::ok())),
                Ok(Poll::Ready((store, Err(error)))) => {
                    Some((store, outcome::of(&error, &self.shared.refused)))
                }
                Err(_) => Some((None, outcome::of_panic())),
            };
            if !matches!(ended, Some((None, _))) {
                self.poll_pumps(&mut cx); // also at the end, while the store lives: an answer that is whole goes out
            }
            if let Some((store, outcome)) = ended {
                let dead = slot.take();
                self.die(dead, store, &outcome);
                return PollResult::Dead;
            }
            self.shared.flush();
            let yielded = self.shared.yielded.load(Ordering::Relaxed);
            if !yielded {
                self.shared.ticks.store(0, Ordering::Relaxed);
            }
            if !self.shared.wake.end() {
                break;
            }
            if yielded || turn >= TURNS_MAX {
                self.shared.wake.again();
                return PollResult::Pending;
            }
        }
        let open = !lock(&self.shared.calls).is_empty() || !self.pumps.borrow().is_empty();
        if open || self.shared.busy.load(Ordering::Relaxed) { PollResult::Pending } else { PollResult::Idle }
    }

    fn die(&self, driver: Option<Driver>, store: Option<Store<State>>, outcome: &Outcome) {
        self.shared.wake.begin(); // nothing more to tell: it stays so
        *lock(&self.shared.outcome) = outcome.clone();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
        self.drop_driver(driver);
        let calls = std::mem::take(&mut *lock(&self.shared.calls));
        for call in calls {
            call.end(outcome, None);
        }
    }

    fn drop_driver(&self, driver: Option<Driver>) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(driver)));
        lock(&self.shared.pumps).clear();
        self.pumps.take().clear();
        for call in std::mem::take(&mut *lock(&self.shared.egress)) {
            call.cancel();
        }
        lock(&self.shared.jobs).0.clear();
    }
}

/// The client of this call is gone: so is the call, and the instance takes no other.
pub fn abort(call: &Arc<Call>) {
    call.abort();
    if let Some(shared) = call.shared.upgrade() {
        shared.spent.store(true, Ordering::Relaxed);
        shared.forget(Arc::as_ptr(call));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _context = runtime().enter();
        for call in std::mem::take(&mut *lock(&self.shared.calls)) {
            call.abort();
        }
        let driver = self.driver.get_mut().take();
        self.drop_driver(driver);
        *lock(&self.shared.wake.target) = None;
    }
}

/// The functions of an instance that are called.
enum Guest {
    P2(TypedFunc<(Resource<p2_types::IncomingRequest>, Resource<p2_types::ResponseOutparam>), ()>),
    P3(TypedFunc<(Resource<p3_types::Request>,), P3Result>),
    Command(TypedFunc<(), (Result<(), ()>,)>),
}

async fn drive(template: Arc<Template>, shared: Arc<Shared>) -> (Option<Store<State>>, wasmtime::Result<()>) {
    match new_store(&template, &shared) {
        Ok(mut store) => {
            let result = run(&mut store, &template, &shared).await;
            (Some(store), result)
        }
        Err(error) => (None, Err(error)),
    }
}

async fn run(store: &mut Store<State>, template: &Template, shared: &Arc<Shared>) -> wasmtime::Result<()> {
    let instance = template.pre.instantiate_async(&mut *store).await?;
    let index = template.entry;
    let guest = match template.kind {
        Kind::HttpP2 => Guest::P2(instance.get_typed_func(&mut *store, index)?),
        Kind::HttpP3 => Guest::P3(instance.get_typed_func(&mut *store, index)?),
        Kind::Command => Guest::Command(instance.get_typed_func(&mut *store, index)?),
    };
    store.run_concurrent(async |accessor| serve(accessor, &guest, shared).await).await?
}

/// Runs what is asked for, until something ends the instance.
async fn serve(accessor: &Accessor<State>, guest: &Guest, shared: &Arc<Shared>) -> wasmtime::Result<()> {
    let mut running = FuturesUnordered::new();
    let func = match guest {
        Guest::P2(f) => *f.func(),
        Guest::P3(f) => *f.func(),
        Guest::Command(f) => *f.func(),
    };
    poll_fn(|cx| {
        loop {
            for job in shared.take_jobs(cx) {
                running.push(handle(accessor, guest, shared, job));
            }
            match running.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(()))) => continue,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => {}
            }
            let accepts = accessor.poll_ready_for_concurrent_call(func, cx).is_ready();
            shared.accepts.store(accepts, Ordering::Relaxed);
            let busy = !running.is_empty() || accessor.poll_no_interesting_tasks(cx).is_pending();
            shared.busy.store(busy, Ordering::Relaxed);
            return Poll::Pending;
        }
    })
    .await
}

async fn handle(
    accessor: &Accessor<State>,
    guest: &Guest,
    shared: &Arc<Shared>,
    job: Job,
) -> wasmtime::Result<()> {
    accessor.with(|mut store| {
        // Ticks while nothing ran do not count.
        if store.data_mut().epochs {
            store.as_context_mut().set_epoch_deadline(1);
        }
    });
    match (job, guest) {
        (Job::Call(call, request), Guest::P2(func)) => {
            handle_p2(accessor, func, shared, &call, *request).await
        }
        (Job::Call(call, request), Guest::P3(func)) => {
            handle_p3(accessor, func, shared, &call, *request).await
        }
        (Job::Call(call, _), Guest::Command(_)) => {
            call.end_without_answer("a command answers no requests");
            Ok(())
        }
        (Job::Run, Guest::Command(func)) => {
            let (result,) = func.call_concurrent(accessor, ()).await?;
            let mut outcome = Outcome::ok();
            if result.is_err() {
                outcome.end = END_EXIT;
                outcome.exit_code = 1;
            }
            *lock(&shared.outcome) = outcome;
            Ok(())
        }
        (Job::Run, _) => Ok(()),
    }
}

fn scheme_of(request: &http::Request<WasiBody>) -> p2_types::Scheme {
    match request.uri().scheme_str() {
        Some("https") => p2_types::Scheme::Https,
        _ => p2_types::Scheme::Http,
    }
}

type P2Arguments = (Resource<p2_types::IncomingRequest>, Resource<p2_types::ResponseOutparam>);

async fn handle_p2(
    accessor: &Accessor<State>,
    func: &TypedFunc<P2Arguments, ()>,
    shared: &Arc<Shared>,
    call: &Arc<Call>,
    request: http::Request<WasiBody>,
) -> wasmtime::Result<()> {
    let answered = Arc::new(AtomicBool::new(false));
    let started = accessor.with(|mut store| -> wasmtime::Result<_> {
        let scheme = scheme_of(&request);
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(scheme, request)?;
        let (shared, call, answered) = (shared.clone(), call.clone(), answered.clone());
        let out = http.new_response_outparam_from_callback(move |value| {
            answered.store(true, Ordering::Relaxed);
            match value {
                Ok(response) => shared.answer(call, response),
                Err(code) => call.end_without_answer(&format!("the guest answered with an error: {code:?}")),
            }
        })?;
        func.start_call_concurrent(store.as_context_mut(), (request, out))
    })?;
    func.finish_call_concurrent(accessor, started).await?;
    if !answered.load(Ordering::Relaxed) {
        call.end_without_answer("the guest returned without an answer");
    }
    Ok(())
}

type Sent = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

type P3Result = (Result<Resource<p3_types::Response>, p3_types::ErrorCode>,);

async fn handle_p3(
    accessor: &Accessor<State>,
    func: &TypedFunc<(Resource<p3_types::Request>,), P3Result>,
    shared: &Arc<Shared>,
    call: &Arc<Call>,
    request: http::Request<WasiBody>,
) -> wasmtime::Result<()> {
    let (started, sent) = accessor.with(|mut store| -> wasmtime::Result<_> {
        // As a trait object, or the future would keep the store borrowed.
        let sent: Sent;
        let request = {
            let http = store.data_mut().http();
            let (request, future) = wasmtime_wasi_http::p3::Request::from_http(http.hooks, request);
            sent = Box::pin(future);
            http.table.push(request)?
        };
        Ok((func.start_call_concurrent(store.as_context_mut(), (request,))?, sent))
    })?;
    let (result,) = func.finish_call_concurrent(accessor, started).await?;
    match result {
        Ok(response) => {
            let response = accessor.with(|mut store| {
                let response = store.data_mut().http().table.delete(response)?;
                response.into_http(store.as_context_mut(), sent)
            })?;
            shared.answer(call.clone(), response);
        }
        Err(code) => call.end_without_answer(&format!("the guest answered with an error: {code:?}")),
    }
    Ok(())
}
