//! Components: wasi:http services and wasi:cli commands behind `engine/component.h`, whose comments are the contract of
//! what is exported here.
//!
//! The C side owns sockets, HTTP and the loop. An instance is a future that `wh_component_poll` polls on the
//! component's thread; tokio is there for its timer and as the context that wasmtime-wasi wants, with one thread and
//! no descriptor.
mod call;
mod egress;
mod ffi;
mod instance;
mod outcome;
mod sockets;
mod state;

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fmt, slice};

use bytes::Bytes;
use http_body_util::BodyExt;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime_c_api::wasm_engine_t;
use wasmtime_wasi_http::WasiBody;

use call::{Call, QueueBody, header_map};
use egress::Hub;
use ffi::{Config, Dir, Field, Head, Outcome, Str};
use instance::{Instance, PollResult};
use sockets::Net;
use state::State;

use crate::{WhShimMessage, tell};

/// The guest computed longer than it may without a wait.
#[derive(Debug)]
struct Deadline;

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Deadline {}

/// `wh_component_kind`
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
pub enum Kind {
    Command = 1,
    HttpP2,
    HttpP3,
}

/// A compiled file mapped by ourselves.
struct Mapping(NonNull<[u8]>);

// SAFETY: nobody writes to the mapping.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `map` made, and no code of it is left: the template drops it last.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.0.len()) };
    }
}

/// `wh_component`: a component with its imports resolved.
pub struct Template {
    engine: Engine,
    pre: InstancePre<State>,
    entry: ComponentExportIndex,
    kind: Kind,
    epochs: bool,
    net: Arc<Net>,
    hub: Hub,
    args: Vec<String>,
    env: Vec<(String, String)>,
    config: *const Config,
    _mapping: Option<Mapping>,
}

// SAFETY: the configuration is read only and used on the component's thread.
unsafe impl Send for Template {}
// SAFETY: as above.
unsafe impl Sync for Template {}

impl Template {
    fn config(&self) -> &Config {
        // SAFETY: it outlives the component, as the header asks.
        unsafe { &*self.config }
    }

    fn dirs(&self) -> &[Dir] {
        let config = self.config();
        if config.n_dirs == 0 {
            return &[];
        }
        // SAFETY: as above.
        unsafe { slice::from_raw_parts(config.dirs, config.n_dirs) }
    }

    fn calls_at_once(&self) -> usize {
        match self.config().calls_at_once {
            0 => 16,
            n => n as usize,
        }
    }
}

/// A panic elsewhere must not spread: what the mutexes guard is whole at any moment.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The timer and the context of wasmtime-wasi: one thread that sleeps, no descriptor.
fn runtime() -> &'static tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(2)
            .thread_stack_size(256 << 10)
            .build()
            .expect("a timer");
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("timer".to_owned())
            .stack_size(256 << 10)
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .expect("a thread for the timer");
        handle
    })
}

fn add_to_linker(l: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(l)?;
    wasmtime_wasi::p3::add_to_linker(l)?;
    l.allow_shadowing(true); // ours instead of the crate's
    sockets::add_to_linker(l)?;
    l.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    wasmtime_wasi_http::p3::add_to_linker(l)
}

fn map(fd: &OwnedFd) -> io::Result<Mapping> {
    // SAFETY: a stat buffer may be all zero.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the buffer writable.
    if unsafe { libc::fstat(fd.as_raw_fd(), &raw mut st) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let n = usize::try_from(st.st_size).map_err(io::Error::other)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new private mapping.
    let p = unsafe { libc::mmap(std::ptr::null_mut(), n, prot, libc::MAP_PRIVATE, fd.as_raw_fd(), 0) };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(p.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at 0"))?;
    Ok(Mapping(NonNull::slice_from_raw_parts(start, n)))
}

/// The engine loads components by path only. A sandbox may have none: then the file is mapped here, and the engine copies
/// its initial memory once.
///
/// # Safety
/// The file's content is trusted.
unsafe fn load_code(engine: &Engine, fd: &OwnedFd) -> wasmtime::Result<(Component, Option<Mapping>)> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    if File::open(&path).is_ok() {
        // SAFETY: promised by the caller.
        return Ok((unsafe { Component::deserialize_file(engine, &path)? }, None));
    }
    let mapping = map(fd)?;
    // SAFETY: as above; the mapping outlives the component in the template.
    let component = unsafe { Component::deserialize_raw(engine, mapping.0)? };
    Ok((component, Some(mapping)))
}

/// What the component is for, by its exports; versions match as semantic versioning has it.
fn find_entry(component: &Component) -> Option<(Kind, ComponentExportIndex)> {
    let known = [
        (Kind::HttpP3, "wasi:http/handler@0.3.0", "handle"),
        (Kind::HttpP2, "wasi:http/incoming-handler@0.2.0", "handle"),
        (Kind::Command, "wasi:cli/run@0.3.0", "run"),
        (Kind::Command, "wasi:cli/run@0.2.0", "run"),
    ];
    known.iter().find_map(|(kind, interface, function)| {
        let instance = component.get_export_index(None, interface)?;
        Some((*kind, component.get_export_index(Some(&instance), function)?))
    })
}

type Failure = (c_int, String);

/// # Safety
/// As of `wh_component_load`.
unsafe fn load(
    engine: &Engine,
    fd: OwnedFd,
    config: *const Config,
    epochs: bool,
) -> Result<Template, Failure> {
    let bad = |code: c_int| move |error: wasmtime::Error| (-code, format!("{error:#}"));
    // SAFETY: promised by the caller.
    let (component, mapping) = unsafe { load_code(engine, &fd) }.map_err(bad(libc::EBADMSG))?;
    let (kind, entry) = find_entry(&component).ok_or_else(|| {
        let text =
            "it exports neither wasi:http/handler@0.3, wasi:http/incoming-handler@0.2 nor wasi:cli/run.";
        (-libc::ENOEXEC, text.to_owned())
    })?;
    let mut linker = Linker::new(engine);
    add_to_linker(&mut linker).map_err(bad(libc::EINVAL))?;
    let pre = linker.instantiate_pre(&component).map_err(bad(libc::ENOENT))?;
    // SAFETY: the configuration is valid and outlives the component.
    let net = unsafe { Net::new((*config).net) };
    // SAFETY: as above.
    let (args, env) = unsafe { (state::strings((*config).args), state::strings((*config).env)) };
    let env = env.iter().map(|line| line.split_once('=').unwrap_or((line, "")));
    Ok(Template {
        engine: engine.clone(),
        pre,
        entry,
        kind,
        epochs,
        net,
        hub: Hub::default(),
        args,
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        config,
        _mapping: mapping,
    })
}

/// Runs `body`; a panic becomes `otherwise`.
fn caught<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

unsafe extern "C" {
    fn wh_fail_(err: *mut c_void, code: c_int, format: *const c_char, ...);
}

fn fail(err: *mut c_void, code: c_int, text: &str) -> c_int {
    let text = CString::new(text.replace('\0', "?")).unwrap_or_default();
    // SAFETY: null or a wh_err; the format takes one string.
    unsafe { wh_fail_(err, code, c"%s".as_ptr(), text.as_ptr()) };
    code
}

/// # Safety
/// `engine` is live, `fd` the caller's to give, an authenticated file; `config` outlives the component.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_shim_component_load(
    engine: *const wasm_engine_t,
    fd: c_int,
    config: *const Config,
    epochs: bool,
    ret: *mut *const Template,
    message: *const WhShimMessage,
) -> c_int {
    caught(-libc::EFAULT, || {
        // SAFETY: as above; the layout of the engine is asserted in lib.rs.
        unsafe {
            let fd = OwnedFd::from_raw_fd(fd);
            match load(&*engine.cast::<Engine>(), fd, config, epochs) {
                Ok(template) => {
                    *ret = Arc::into_raw(Arc::new(template));
                    0
                }
                Err((code, text)) => {
                    tell(message, &text);
                    code
                }
            }
        }
    })
}

/// # Safety
/// Null, or what `wh_component_load` gave, with no instance left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_free(component: *const Template) {
    if !component.is_null() {
        // SAFETY: as above.
        caught((), || drop(unsafe { Arc::from_raw(component) }));
    }
}

/// # Safety
/// `component` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_kind_of(component: *const Template) -> c_int {
    // SAFETY: as above.
    unsafe { (*component).kind as c_int }
}

/// # Safety
/// `component` is live; `err` is null or a wh_err.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_warm(component: *const Template, err: *mut c_void) -> c_int {
    let _ = component;
    let started = caught(false, || {
        let _context = runtime().enter();
        Engine::tls_eager_initialize();
        true
    });
    if started { 0 } else { fail(err, -libc::EAGAIN, "start the timer of components: no thread for it.") }
}

/// # Safety
/// `component` is live until the instance is freed; `ret` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_instance_new(
    component: *const Template,
    user: *mut c_void,
    ret: *mut *mut Instance,
    err: *mut c_void,
) -> c_int {
    let made = caught(None, || {
        // SAFETY: as above; the instance holds its own reference.
        let template = unsafe {
            Arc::increment_strong_count(component);
            Arc::from_raw(component)
        };
        Some(Box::into_raw(Box::new(Instance::new(&template, user))))
    });
    let Some(instance) = made else { return fail(err, -libc::ENOMEM, "make an instance of the component") };
    // SAFETY: as above.
    unsafe { *ret = instance };
    0
}

/// # Safety
/// Null, or a live instance.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_instance_free(instance: *mut Instance) {
    if !instance.is_null() {
        // SAFETY: as above.
        caught((), || drop(unsafe { Box::from_raw(instance) }));
    }
}

/// # Safety
/// `instance` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_instance_free_slot(instance: *const Instance) -> bool {
    // SAFETY: as above.
    unsafe { (*instance).has_free_slot() }
}

/// # Safety
/// `instance` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_instance_calls(instance: *const Instance) -> u32 {
    // SAFETY: as above.
    unsafe { (*instance).begun() }
}

/// # Safety
/// `instance` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_instance_memory(instance: *const Instance) -> u64 {
    // SAFETY: as above.
    unsafe { (*instance).memory() }
}

/// # Safety
/// `head` is what `wh_component_head` says.
unsafe fn make_request(head: &Head, call: &Arc<Call>) -> Result<http::Request<WasiBody>, http::Error> {
    // SAFETY: as above.
    let (method, scheme, authority, path, headers) = unsafe {
        (
            head.method.bytes(),
            head.scheme.bytes(),
            head.authority.bytes(),
            head.path_query.bytes(),
            header_map(head.fields, head.n_fields),
        )
    };
    let authority: &[u8] = if authority.is_empty() { b"localhost" } else { authority };
    let uri = http::Uri::builder()
        .scheme(if scheme.is_empty() { b"http" } else { scheme })
        .authority(authority)
        .path_and_query(path)
        .build()?;
    if head.body_bytes == 0 {
        call.body.end(Ok(()), None);
    }
    let body = QueueBody { queue: call.body.clone(), _keep: () }.boxed_unsync();
    let mut request = http::Request::builder().method(method).uri(uri).body(body)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// # Safety
/// `instance` is live, `head` valid for the call, `ret` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_begin(
    instance: *const Instance,
    head: *const Head,
    user: *mut c_void,
    ret: *mut *const Call,
    err: *mut c_void,
) -> c_int {
    caught(-libc::EFAULT, || {
        // SAFETY: as above.
        let (instance, head) = unsafe { (&*instance, &*head) };
        let call = instance.new_call(user);
        // SAFETY: as above.
        match unsafe { make_request(head, &call) } {
            Ok(_) if instance.is_dead() => fail(err, -libc::EPIPE, "the instance has ended."),
            Ok(request) => {
                instance.begin(&call, request);
                // SAFETY: as above; the instance keeps the call until its end.
                unsafe { *ret = Arc::as_ptr(&call) };
                0
            }
            Err(error) => {
                fail(err, -libc::EINVAL, &format!("the request's head cannot be handed on: {error}"))
            }
        }
    })
}

/// # Safety
/// `call` is open; `p` points to `n` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_push(call: *const Call, p: *const u8, n: usize) -> usize {
    // SAFETY: as above.
    caught(0, || unsafe { (*call).body.push(Bytes::copy_from_slice(Str { p, n }.bytes())) })
}

/// # Safety
/// `call` is open; `trailers` points to `n` fields.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_push_end(call: *const Call, trailers: *const Field, n: usize) {
    // SAFETY: as above.
    caught((), || unsafe { (*call).body.end(Ok(()), Some(header_map(trailers, n))) });
}

/// # Safety
/// `call` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_credit(call: *const Call) {
    // SAFETY: as above.
    caught((), || unsafe { (*call).credit() });
}

/// # Safety
/// `call` is open; it is gone after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_abort(call: *const Call) {
    caught((), || {
        // SAFETY: as above; the instance holds a reference until `abort` gives that back.
        let call = unsafe {
            Arc::increment_strong_count(call);
            Arc::from_raw(call)
        };
        instance::abort(&call);
    });
}

/// # Safety
/// `instance` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_poll(instance: *const Instance) -> c_int {
    // SAFETY: as above.
    match caught(PollResult::Dead, || unsafe { (*instance).poll() }) {
        PollResult::Idle => 0,
        PollResult::Pending => 1,
        PollResult::Dead => 2,
    }
}

/// # Safety
/// `instance` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_run(instance: *const Instance, err: *mut c_void) -> c_int {
    // SAFETY: as above.
    let instance = unsafe { &*instance };
    if !instance.is_command() {
        return fail(err, -libc::EINVAL, "the component answers HTTP requests and is no command.");
    }
    caught((), || instance.run());
    0
}

/// # Safety
/// `instance` is live, `ret` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_outcome(instance: *const Instance, ret: *mut Outcome) {
    // SAFETY: as above.
    caught((), || unsafe { ret.write((*instance).outcome()) });
}

/// # Safety
/// `component` is live; `fd` is -1 or the engine's from now on; `addresses` points to `n` addresses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_net_answer(
    component: *const Template,
    token: u64,
    rc: c_int,
    fd: c_int,
    addresses: *const libc::sockaddr_storage,
    n: usize,
) {
    caught((), || {
        // SAFETY: as above.
        unsafe { (*component).net.answer(token, rc, fd, addresses, n) };
    });
}

/// # Safety
/// `component` is live; `fields` points to `n` fields.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_egress_head(
    component: *const Template,
    id: u64,
    status: u32,
    fields: *const Field,
    n: usize,
) {
    caught((), || {
        // SAFETY: as above.
        let (call, fields) = unsafe { ((*component).hub.get(id), header_map(fields, n)) };
        if let Some(call) = call {
            call.set_head(status, fields);
        }
    });
}

/// # Safety
/// `component` is live; `p` points to `n` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_egress_body(
    component: *const Template,
    id: u64,
    p: *const u8,
    n: usize,
) {
    caught((), || {
        // SAFETY: as above.
        let (call, bytes) = unsafe { ((*component).hub.get(id), Str { p, n }.bytes()) };
        if let Some(call) = call {
            call.push(Bytes::copy_from_slice(bytes));
        }
    });
}

/// # Safety
/// `component` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_egress_credit(component: *const Template, id: u64) {
    caught((), || {
        // SAFETY: as above.
        if let Some(call) = unsafe { (*component).hub.get(id) } {
            call.credit();
        }
    });
}

/// # Safety
/// `component` is live; `trailers` points to `n` fields.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_component_egress_end(
    component: *const Template,
    id: u64,
    error: c_int,
    trailers: *const Field,
    n: usize,
) {
    caught((), || {
        // SAFETY: as above.
        let (call, trailers) = unsafe { ((*component).hub.take(id), header_map(trailers, n)) };
        if let Some(call) = call {
            call.end(error, trailers);
        }
    });
}
