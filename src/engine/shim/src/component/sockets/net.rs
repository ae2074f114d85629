//! What a guest asks of the network, as tickets: a question goes to the C side with a token, and its answer
//! finds the ticket by that token. A ticket that is dropped first takes its question back.
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::mem::{self, size_of};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::stream::Outgoing;

/// A positive errno.
pub type Errno = c_int;

/// Sockets that the guests of one component may hold. netd has a limit of its own, and so has the process.
pub const SOCKETS_MAX: u32 = 1024;
/// Addresses that one answer may carry.
pub const ADDRESSES_MAX: usize = 64;

#[repr(C)]
pub struct WhStr {
    p: *const c_char,
    n: usize,
}

type AskAddress =
    unsafe extern "C" fn(*mut c_void, u64, *const libc::sockaddr, libc::socklen_t, c_int) -> c_int;

/// `wh_component_net` of `engine/component.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WhComponentNet {
    user: *mut c_void,
    connect:
        Option<unsafe extern "C" fn(*mut c_void, u64, *const libc::sockaddr, libc::socklen_t, bool) -> c_int>,
    listen: Option<AskAddress>,
    resolve: Option<unsafe extern "C" fn(*mut c_void, u64, WhStr) -> c_int>,
    watch: Option<unsafe extern "C" fn(*mut c_void, u64, c_int, bool, bool) -> c_int>,
    cancel: Option<unsafe extern "C" fn(*mut c_void, u64)>,
}

struct Callbacks(WhComponentNet);
// SAFETY: the C side promises that everything of a component happens on one thread.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

/// A lock that is never contended, since one thread owns a component; a panic elsewhere must not spread.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
pub struct Answer {
    pub rc: c_int,
    pub fd: Option<OwnedFd>,
    pub addresses: Vec<SocketAddr>,
}

#[derive(Default)]
struct Cell {
    answer: Option<Answer>,
    waker: Option<Waker>,
    drain: Option<Weak<Mutex<Outgoing>>>, // has bytes that leave without the guest's help
}

struct Waiting {
    next: u64,
    cells: HashMap<u64, Arc<Mutex<Cell>>>,
}

/// The network of one component.
pub struct Net {
    callbacks: Option<Callbacks>,
    waiting: Mutex<Waiting>,
    sockets: AtomicU32,
}

impl Net {
    /// # Safety
    /// `callbacks` is null (everything is denied) or outlives the result, which stays on one thread.
    pub unsafe fn new(callbacks: *const WhComponentNet) -> Arc<Net> {
        // SAFETY: promised by the caller.
        let callbacks = unsafe { callbacks.as_ref() }.map(|c| Callbacks(*c));
        let waiting = Mutex::new(Waiting { next: 1, cells: HashMap::new() });
        Arc::new(Net { callbacks, waiting, sockets: AtomicU32::new(0) })
    }

    /// `wh_component_net_answer`. Takes over `fd`.
    ///
    /// # Safety
    /// `fd` is negative or an open descriptor that nobody else owns; `addresses` points to `n` addresses.
    pub unsafe fn answer(
        &self,
        token: u64,
        rc: c_int,
        fd: RawFd,
        addresses: *const libc::sockaddr_storage,
        n: usize,
    ) {
        // SAFETY: promised by the caller.
        let fd = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) });
        let addresses = if addresses.is_null() {
            Vec::new()
        } else {
            // SAFETY: promised by the caller.
            let all = unsafe { std::slice::from_raw_parts(addresses, n.min(ADDRESSES_MAX)) };
            all.iter().filter_map(from_sockaddr).collect()
        };
        let Some(cell) = lock(&self.waiting).cells.remove(&token) else { return };
        let (waker, drain) = {
            let mut cell = lock(&cell);
            cell.answer = Some(Answer { rc, fd, addresses });
            (cell.waker.take(), cell.drain.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        // Whoever holds the lock is inside `watch`, and looks at the ticket when that returns.
        if let Some(outgoing) = drain.and_then(|weak| weak.upgrade())
            && let Ok(mut outgoing) = outgoing.try_lock()
        {
            outgoing.drain();
        }
    }

    fn ask(
        self: &Arc<Self>,
        drain: Option<Weak<Mutex<Outgoing>>>,
        question: impl FnOnce(&WhComponentNet, u64) -> c_int,
    ) -> Result<Ticket, Errno> {
        let Some(Callbacks(callbacks)) = &self.callbacks else { return Err(libc::EACCES) };
        let cell = Arc::new(Mutex::new(Cell { drain, ..Cell::default() }));
        let token = {
            let mut waiting = lock(&self.waiting);
            let token = waiting.next;
            waiting.next += 1;
            waiting.cells.insert(token, cell.clone());
            token
        };
        let rc = question(callbacks, token);
        if rc < 0 {
            lock(&self.waiting).cells.remove(&token);
            return Err(-rc);
        }
        Ok(Ticket { net: self.clone(), token, cell })
    }

    /// Asks for a connected socket.
    pub fn connect(self: &Arc<Self>, peer: SocketAddr, datagrams: bool) -> Result<Ticket, Errno> {
        self.has_room()?;
        let (storage, n) = to_sockaddr(&peer);
        self.ask(None, |c, token| match c.connect {
            // SAFETY: the address is valid during the call.
            Some(connect) => unsafe { connect(c.user, token, (&raw const storage).cast(), n, datagrams) },
            None => -libc::EACCES,
        })
    }

    /// Asks for a listening socket.
    pub fn listen(self: &Arc<Self>, local: SocketAddr, backlog: c_int) -> Result<Ticket, Errno> {
        self.has_room()?;
        let (storage, n) = to_sockaddr(&local);
        self.ask(None, |c, token| match c.listen {
            // SAFETY: the address is valid during the call.
            Some(listen) => unsafe { listen(c.user, token, (&raw const storage).cast(), n, backlog) },
            None => -libc::EACCES,
        })
    }

    /// Asks for the addresses of a name.
    pub fn resolve(self: &Arc<Self>, name: &str) -> Result<Ticket, Errno> {
        self.ask(None, |c, token| match c.resolve {
            // SAFETY: the name is valid during the call.
            Some(resolve) => unsafe {
                resolve(c.user, token, WhStr { p: name.as_ptr().cast(), n: name.len() })
            },
            None => -libc::EACCES,
        })
    }

    /// Asks when `fd` is ready. With `drain`, the answer goes on writing by itself.
    fn watch(
        self: &Arc<Self>,
        fd: RawFd,
        write: bool,
        drain: Option<Weak<Mutex<Outgoing>>>,
    ) -> Result<Ticket, Errno> {
        self.ask(drain, |c, token| match c.watch {
            // SAFETY: the descriptor is open for as long as the ticket is, see `Socket`.
            Some(watch) => unsafe { watch(c.user, token, fd, !write, write) },
            None => -libc::EACCES,
        })
    }

    fn has_room(&self) -> Result<(), Errno> {
        if self.sockets.load(Ordering::Relaxed) < SOCKETS_MAX { Ok(()) } else { Err(libc::EMFILE) }
    }
}

/// A question that was asked.
pub struct Ticket {
    net: Arc<Net>,
    token: u64,
    cell: Arc<Mutex<Cell>>,
}

impl Ticket {
    pub fn answered(&self) -> bool {
        lock(&self.cell).answer.is_some()
    }

    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut cell = lock(&self.cell);
        if cell.answer.is_some() {
            return Poll::Ready(());
        }
        cell.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The answer, once it is there.
    pub fn take(&self) -> Option<Result<Answer, Errno>> {
        let answer = lock(&self.cell).answer.take()?;
        Some(if answer.rc < 0 { Err(-answer.rc) } else { Ok(answer) })
    }

    /// The socket of an answer that must carry one.
    pub fn take_socket(&self) -> Option<Result<Arc<Socket>, Errno>> {
        Some(match self.take()? {
            Ok(Answer { fd: Some(fd), .. }) => Ok(Socket::new(&self.net, fd)),
            Ok(_) => Err(libc::EIO),
            Err(errno) => Err(errno),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let open = lock(&self.net.waiting).cells.remove(&self.token).is_some();
        if open
            && let Some(Callbacks(c)) = &self.net.callbacks
            && let Some(cancel) = c.cancel
        {
            // SAFETY: the callbacks outlive the component.
            unsafe { cancel(c.user, self.token) };
        }
    }
}

/// A descriptor from the C side. Whoever watches it holds a reference beside the ticket, so that a number is
/// never reused while it is watched.
pub struct Socket {
    net: Arc<Net>,
    fd: OwnedFd,
}

impl Socket {
    fn new(net: &Arc<Net>, fd: OwnedFd) -> Arc<Socket> {
        net.sockets.fetch_add(1, Ordering::Relaxed);
        Arc::new(Socket { net: net.clone(), fd })
    }

    pub fn watch_read(&self) -> Result<Ticket, Errno> {
        self.net.watch(self.fd.as_raw_fd(), false, None)
    }

    pub fn watch_write(&self, drain: Option<Weak<Mutex<Outgoing>>>) -> Result<Ticket, Errno> {
        self.net.watch(self.fd.as_raw_fd(), true, drain)
    }

    fn checked(n: isize) -> Result<usize, Errno> {
        usize::try_from(n).map_err(|_| errno())
    }

    pub fn recv(&self, buf: &mut [u8], flags: c_int) -> Result<usize, Errno> {
        let flags = flags | libc::MSG_DONTWAIT;
        loop {
            // SAFETY: the buffer is valid for its length.
            let n = unsafe { libc::recv(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) };
            match Self::checked(n) {
                Err(libc::EINTR) => (),
                other => return other,
            }
        }
    }

    pub fn send(&self, data: &[u8]) -> Result<usize, Errno> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        loop {
            // SAFETY: the buffer is valid for its length.
            let n = unsafe { libc::send(self.fd.as_raw_fd(), data.as_ptr().cast(), data.len(), flags) };
            match Self::checked(n) {
                Err(libc::EINTR) => (),
                other => return other,
            }
        }
    }

    pub fn accept(&self) -> Result<Arc<Socket>, Errno> {
        self.net.has_room()?;
        loop {
            // SAFETY: no address is asked for.
            let fd = unsafe {
                libc::accept4(
                    self.fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                )
            };
            if fd >= 0 {
                // SAFETY: a new descriptor that nobody else knows.
                return Ok(Socket::new(&self.net, unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            let errno = errno();
            // A connection that ended in the queue is no reason to tell the guest of an error.
            if errno != libc::EINTR && errno != libc::ECONNABORTED {
                return Err(errno);
            }
        }
    }

    pub fn shutdown(&self, how: c_int) {
        // SAFETY: a plain call. That the peer is gone already is no error to the guest.
        unsafe { libc::shutdown(self.fd.as_raw_fd(), how) };
    }

    pub fn address(&self, peer: bool) -> Result<SocketAddr, Errno> {
        // SAFETY: all zeroes is a valid sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut n = socklen::<libc::sockaddr_storage>();
        let (fd, at) = (self.fd.as_raw_fd(), (&raw mut storage).cast());
        // SAFETY: the storage is as large as said.
        let rc = unsafe {
            if peer { libc::getpeername(fd, at, &mut n) } else { libc::getsockname(fd, at, &mut n) }
        };
        if rc != 0 {
            return Err(errno());
        }
        from_sockaddr(&storage).ok_or(libc::EAFNOSUPPORT)
    }

    pub fn option(&self, level: c_int, name: c_int) -> Result<c_int, Errno> {
        let (mut value, mut n): (c_int, _) = (0, socklen::<c_int>());
        // SAFETY: an int, as each of the options that are asked for.
        let rc =
            unsafe { libc::getsockopt(self.fd.as_raw_fd(), level, name, (&raw mut value).cast(), &mut n) };
        if rc == 0 { Ok(value) } else { Err(errno()) }
    }

    pub fn set_option(&self, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
        // SAFETY: an int, as each of the options that are set.
        let rc = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, name, (&raw const value).cast(), socklen::<c_int>())
        };
        if rc == 0 { Ok(()) } else { Err(errno()) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t // a few bytes
}

fn to_sockaddr(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            let at = (&raw mut storage).cast::<libc::sockaddr_in>();
            // SAFETY: a sockaddr_storage has room and alignment for every address.
            unsafe {
                (*at).sin_family = libc::AF_INET as libc::sa_family_t;
                (*at).sin_port = v4.port().to_be();
                (*at).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            }
            (storage, socklen::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            let at = (&raw mut storage).cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            unsafe {
                (*at).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*at).sin6_port = v6.port().to_be();
                (*at).sin6_flowinfo = v6.flowinfo();
                (*at).sin6_addr.s6_addr = v6.ip().octets();
                (*at).sin6_scope_id = v6.scope_id();
            }
            (storage, socklen::<libc::sockaddr_in6>())
        }
    }
}

fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it holds, and every address fits in a sockaddr_storage.
            let at = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = at.sin_addr.s_addr.to_ne_bytes();
            Some(SocketAddrV4::new(ip.into(), u16::from_be(at.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let at = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(at.sin6_addr.s6_addr);
            let port = u16::from_be(at.sin6_port);
            Some(SocketAddrV6::new(ip, port, at.sin6_flowinfo, at.sin6_scope_id).into())
        }
        _ => None,
    }
}
