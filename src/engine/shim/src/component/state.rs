//! What a store holds: WASI, HTTP, limits, and the way to the C side.
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::egress::Hooks;
use super::ffi::WriteFn;
use super::instance::Shared;
use super::sockets::{Net, Sockets, SocketsView};
use super::{Deadline, Template, runtime};

const MEMORY_BYTES_MAX: u64 = 4 << 30;
const TABLE_ELEMS_MAX: u64 = 1_000_000;
const HANDLES_MAX: usize = 10_000; // streams, fields, files ... that a guest may hold; one more is a trap
const WRITE_BYTES: usize = 64 << 10; // of one write to a standard stream

pub struct State {
    pub wasi: WasiCtx,
    pub table: ResourceTable,
    /// What `sockets.rs` works with.
    pub net: Arc<Net>,
    /// The code has deadlines.
    pub epochs: bool,
    http: WasiHttpCtx,
    hooks: Hooks,
    limits: Limits,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl SocketsView for State {
    fn sockets(&mut self) -> Sockets<'_> {
        Sockets { table: &mut self.table, net: &self.net }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Counts all memories and all tables of a store together.
struct Limits {
    memory_max: u64,
    tables_max: u64,
    tables: u64,
    shared: Arc<Shared>,
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if max.is_some_and(|m| desired > m) {
            return Ok(false); // the module's own limit
        }
        let used = self.shared.memory.load(Ordering::Relaxed);
        let wanted = used.saturating_add((desired as u64).saturating_sub(current as u64));
        if wanted > self.memory_max {
            self.shared.refused.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        self.shared.memory.store(wanted, Ordering::Relaxed);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.shared.refused.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if max.is_some_and(|m| desired > m) {
            return Ok(false);
        }
        let wanted = self.tables.saturating_add((desired as u64).saturating_sub(current as u64));
        if wanted > self.tables_max {
            self.shared.refused.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        self.tables = wanted;
        Ok(true)
    }
}

/// Standard output or error: to the C side, or straight to the descriptor.
#[derive(Clone)]
struct Output {
    stream: c_int,
    write: Option<WriteFn>,
    user: *mut c_void,
}

// SAFETY: used by the store that holds it, which is polled on the component's thread only.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(write) = self.write else { return self.put_directly(bytes) };
        // SAFETY: the contract of `wh_component_config`.
        let rc = unsafe { write(self.user, self.stream, bytes.as_ptr(), bytes.len()) };
        if rc < 0 { Err(io::Error::from_raw_os_error(-rc)) } else { Ok(()) }
    }

    fn put_directly(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // SAFETY: the slice is valid for its length.
            let n = unsafe { libc::write(self.stream, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(n) {
                Ok(n) => bytes = &bytes[n..],
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        // SAFETY: asks about a number.
        self.write.is_none() && unsafe { libc::isatty(self.stream) } == 1
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(e.into()),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = bytes.len().min(WRITE_BYTES);
        Poll::Ready(self.put(&bytes[..n]).map(|()| n))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input. It may be a pipe that stays empty for long: a thread of the timer's runtime reads it.
struct Input {
    fd: c_int,
    pending: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

fn read_blocking(fd: c_int, n: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; n];
    loop {
        // SAFETY: the vector has n writable bytes.
        let got = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), n) };
        if let Ok(got) = usize::try_from(got) {
            bytes.truncate(got);
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (fd, n) = (self.fd, out.remaining().min(WRITE_BYTES));
        let pending =
            self.pending.get_or_insert_with(|| runtime().spawn_blocking(move || read_blocking(fd, n)));
        let done = ready!(Pin::new(pending).poll(cx));
        self.pending = None;
        let bytes = done.map_err(io::Error::other)??;
        // The next reader may want less than the one that asked.
        let n = bytes.len().min(out.remaining());
        out.put_slice(&bytes[..n]);
        Poll::Ready(Ok(()))
    }
}

/// The strings of a NULL-terminated array.
///
/// # Safety
/// `list` is null or a NULL-terminated array of C strings.
pub unsafe fn strings(list: *const *const c_char) -> Vec<String> {
    let mut out = Vec::new();
    if list.is_null() {
        return out;
    }
    for i in 0.. {
        // SAFETY: the array ends with a null, which ends this loop.
        let text = unsafe { *list.add(i) };
        if text.is_null() {
            break;
        }
        // SAFETY: a C string.
        out.push(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
    }
    out
}

/// The crate opens directories by path only, and the process may have no path to them: so the working directory
/// moves there for the moment.
fn add_dirs(wasi: &mut wasmtime_wasi::WasiCtxBuilder, template: &Template) -> wasmtime::Result<()> {
    for dir in template.dirs() {
        // SAFETY: the descriptor is the caller's and stays open.
        if unsafe { libc::fchdir(dir.fd) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        let perms = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        // SAFETY: a C string of the configuration.
        let path = unsafe { CStr::from_ptr(dir.guest_path) }.to_string_lossy();
        wasi.preopened_dir(".", path, perms)?;
    }
    Ok(())
}

fn make_wasi(template: &Template) -> wasmtime::Result<WasiCtx> {
    let config = template.config();
    let mut wasi = WasiCtx::builder();
    wasi.allow_blocking_current_thread(true);
    wasi.args(&template.args);
    wasi.envs(&template.env);
    if config.stdin_fd >= 0 {
        wasi.stdin(AsyncStdinStream::new(Input { fd: config.stdin_fd, pending: None }));
    }
    wasi.stdout(Output { stream: 1, write: config.write, user: config.write_user });
    wasi.stderr(Output { stream: 2, write: config.write, user: config.write_user });
    add_dirs(&mut wasi, template)?;
    Ok(wasi.build())
}

pub fn new_store(template: &Arc<Template>, shared: &Arc<Shared>) -> wasmtime::Result<Store<State>> {
    let limits = &template.config().limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES_MAX);
    let state = State {
        wasi: make_wasi(template)?,
        table,
        net: template.net.clone(),
        epochs: template.epochs,
        http: WasiHttpCtx::new(),
        hooks: Hooks::new(template.clone(), shared.clone()),
        limits: Limits {
            memory_max: if limits.memory_bytes_max > 0 { limits.memory_bytes_max } else { MEMORY_BYTES_MAX },
            tables_max: if limits.table_elems_max > 0 {
                limits.table_elems_max.into()
            } else {
                TABLE_ELEMS_MAX
            },
            tables: 0,
            shared: shared.clone(),
        },
    };
    let mut store = Store::new(&template.engine, state);
    store.limiter(|state| &mut state.limits);
    if template.epochs {
        watch_the_clock(&mut store, template.config().deadline_ticks, shared.clone());
    }
    Ok(store)
}

/// Every tick a guest that computes makes room for others; past its deadline without a wait it ends.
fn watch_the_clock(store: &mut Store<State>, deadline: u32, shared: Arc<Shared>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let ticks = shared.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        if deadline > 0 && ticks >= deadline {
            return Err(Deadline.into());
        }
        shared.yielded.store(true, Ordering::Relaxed);
        Ok(UpdateDeadline::Yield(1))
    });
}
