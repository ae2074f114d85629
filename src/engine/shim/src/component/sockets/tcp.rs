//! A TCP socket as a guest knows it, which has no descriptor before it is connected or listens: those come
//! from the C side, already so. Both versions of wasi:sockets stand on this.
use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::net::{Errno, Net, Socket, Ticket};
use super::stream::{Duplex, Readable};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: &SocketAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn any(self) -> SocketAddr {
        match self {
            Family::V4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Family::V6 => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        }
    }

    fn checked(self, address: &SocketAddr) -> Result<(), Errno> {
        let mapped = matches!(address.ip(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if Family::of(address) != self || mapped { Err(libc::EINVAL) } else { Ok(()) }
    }

    /// What a socket may be bound to: an address of this family that names one host, or any.
    pub fn check_local(self, address: &SocketAddr) -> Result<(), Errno> {
        self.checked(address)?;
        if address.ip().is_multicast() || address.ip() == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(libc::EINVAL);
        }
        Ok(())
    }

    /// What a socket may be connected to: as above, but one host and one port.
    pub fn check_peer(self, address: &SocketAddr) -> Result<(), Errno> {
        self.check_local(address)?;
        if address.ip().is_unspecified() || address.port() == 0 {
            return Err(libc::EINVAL);
        }
        Ok(())
    }
}

/// The options that a guest may set; kept until there is a descriptor to set them on. A hop limit is not
/// among them: it is the node's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opt {
    KeepAlive,
    KeepIdle,
    KeepInterval,
    KeepCount,
    ReceiveBuffer,
    SendBuffer,
}

const OPTS: [Opt; 6] =
    [Opt::KeepAlive, Opt::KeepIdle, Opt::KeepInterval, Opt::KeepCount, Opt::ReceiveBuffer, Opt::SendBuffer];
const OPT_MOST: [c_int; 6] = [1, 32767, 32767, 127, 8 << 20, 8 << 20]; // Linux's own, and ours for buffers
const OPT_DEFAULTS: [c_int; 6] = [0, 7200, 75, 9, 128 << 10, 64 << 10];
const NANOSECONDS: u64 = 1_000_000_000;

impl Opt {
    fn place(self) -> (c_int, c_int) {
        match self {
            Opt::KeepAlive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            Opt::KeepIdle => (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
            Opt::KeepInterval => (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
            Opt::KeepCount => (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
            Opt::ReceiveBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
            Opt::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
        }
    }

    fn buffer(self) -> bool {
        matches!(self, Opt::ReceiveBuffer | Opt::SendBuffer)
    }
}

/// The wishes of a guest about one socket, in the kernel's units.
#[derive(Default, Clone, Copy)]
pub struct Options([Option<c_int>; 6]);

impl Options {
    pub fn get(&self, socket: Option<&Socket>, opt: Opt) -> Result<u64, Errno> {
        let value = match (self.0[opt as usize], socket) {
            (Some(wish), _) => wish,
            (None, None) => OPT_DEFAULTS[opt as usize],
            (None, Some(socket)) => {
                let (level, name) = opt.place();
                let value = socket.option(level, name)?;
                if opt.buffer() { value / 2 } else { value } // the kernel doubles what it is told
            }
        };
        Ok(u64::try_from(value).unwrap_or(0))
    }

    /// Values are at least 1 and silently cut to what the system takes, as wasi:sockets asks for.
    pub fn set(&mut self, socket: Option<&Socket>, opt: Opt, value: u64) -> Result<(), Errno> {
        if value == 0 && opt != Opt::KeepAlive {
            return Err(libc::EINVAL);
        }
        let most = OPT_MOST[opt as usize];
        let value = c_int::try_from(value).unwrap_or(most).min(most);
        if let Some(socket) = socket {
            let (level, name) = opt.place();
            socket.set_option(level, name, value)?;
        }
        self.0[opt as usize] = Some(value);
        Ok(())
    }

    pub fn get_time(&self, socket: Option<&Socket>, opt: Opt) -> Result<u64, Errno> {
        Ok(self.get(socket, opt)?.saturating_mul(NANOSECONDS))
    }

    pub fn set_time(&mut self, socket: Option<&Socket>, opt: Opt, ns: u64) -> Result<(), Errno> {
        self.set(socket, opt, ns.div_ceil(NANOSECONDS))
    }

    pub fn apply(&self, socket: &Socket, only_buffers: bool) {
        for opt in OPTS {
            if let Some(value) = self.0[opt as usize]
                && (opt.buffer() || !only_buffers)
            {
                let (level, name) = opt.place();
                let _ = socket.set_option(level, name, value); // a wish; what is set can be asked for
            }
        }
    }
}

enum State {
    Unbound,
    Bound(SocketAddr),
    Connecting(Ticket),
    Connected(Duplex),
    Starting(Ticket), // to listen
    Listening(Readable),
    Failed,
}

pub struct Tcp {
    net: Arc<Net>,
    family: Family,
    state: State,
    options: Options,
    backlog: c_int,
}

const BACKLOG_MAX: u64 = 4096;

impl Tcp {
    pub fn new(net: Arc<Net>, family: Family) -> Tcp {
        Tcp { net, family, state: State::Unbound, options: Options::default(), backlog: 128 }
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// Only noted: whether it can be had is known when the socket listens.
    pub fn bind(&mut self, local: SocketAddr) -> Result<(), Errno> {
        let State::Unbound = self.state else { return Err(libc::EISCONN) };
        self.family.check_local(&local)?;
        self.state = State::Bound(local);
        Ok(())
    }

    pub fn is_bound(&self) -> bool {
        matches!(self.state, State::Bound(_))
    }

    pub fn start_connect(&mut self, peer: SocketAddr) -> Result<(), Errno> {
        match self.state {
            State::Unbound => (),
            // The port of an outgoing connection is the system's choice.
            State::Bound(local) if local.port() == 0 => (),
            State::Bound(_) => return Err(libc::EOPNOTSUPP),
            _ => return Err(libc::EISCONN),
        }
        self.family.check_peer(&peer)?;
        self.state = State::Connecting(self.net.connect(peer, false)?);
        Ok(())
    }

    /// Pending, or the connection's first and only pair of directions.
    pub fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<Result<&Duplex, Errno>> {
        let State::Connecting(ticket) = &self.state else { return Poll::Ready(Err(libc::EALREADY)) };
        if ticket.poll(cx).is_pending() {
            return Poll::Pending;
        }
        match ticket.take_socket() {
            Some(Ok(socket)) => {
                self.options.apply(&socket, false);
                self.state = State::Connected(Duplex::new(socket));
            }
            Some(Err(errno)) => {
                self.state = State::Failed;
                return Poll::Ready(Err(errno));
            }
            None => return Poll::Ready(Err(libc::EIO)),
        }
        Poll::Ready(self.duplex())
    }

    pub fn start_listen(&mut self) -> Result<(), Errno> {
        let local = match self.state {
            State::Unbound => self.family.any(),
            State::Bound(local) => local,
            _ => return Err(libc::EISCONN),
        };
        self.state = State::Starting(self.net.listen(local, self.backlog)?);
        Ok(())
    }

    pub fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        let State::Starting(ticket) = &self.state else { return Poll::Ready(Err(libc::EALREADY)) };
        if ticket.poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(match ticket.take_socket() {
            Some(Ok(socket)) => {
                self.options.apply(&socket, true);
                self.state = State::Listening(Readable::new(socket));
                Ok(())
            }
            Some(Err(errno)) => {
                self.state = State::Failed;
                Err(errno)
            }
            None => Err(libc::EIO),
        })
    }

    /// The next connection; EAGAIN: none there now.
    pub fn accept(&mut self) -> Result<Tcp, Errno> {
        let State::Listening(readable) = &mut self.state else { return Err(libc::EISCONN) };
        let socket = readable.socket().accept()?;
        self.options.apply(&socket, false);
        let mut tcp = Tcp::new(self.net.clone(), self.family);
        tcp.options = self.options;
        tcp.state = State::Connected(Duplex::new(socket));
        Ok(tcp)
    }

    /// Ready when what was started has an answer, or when a listener may have a connection.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Connecting(ticket) | State::Starting(ticket) => ticket.poll(cx),
            State::Listening(readable) => readable.poll_once(cx),
            _ => Poll::Ready(()),
        }
    }

    pub fn duplex(&self) -> Result<&Duplex, Errno> {
        match &self.state {
            State::Connected(duplex) => Ok(duplex),
            _ => Err(libc::ENOTCONN),
        }
    }

    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    fn socket(&self) -> Option<&Socket> {
        match &self.state {
            State::Connected(duplex) => Some(&duplex.socket),
            State::Listening(readable) => Some(readable.socket()),
            _ => None,
        }
    }

    pub fn local_address(&self) -> Result<SocketAddr, Errno> {
        match (&self.state, self.socket()) {
            (State::Bound(local), _) => Ok(*local),
            (_, Some(socket)) => socket.address(false),
            _ => Err(libc::ENOTCONN),
        }
    }

    pub fn remote_address(&self) -> Result<SocketAddr, Errno> {
        self.duplex()?.socket.address(true)
    }

    pub fn set_backlog(&mut self, value: u64) -> Result<(), Errno> {
        match self.state {
            _ if value == 0 => Err(libc::EINVAL),
            State::Unbound | State::Bound(_) => {
                self.backlog = value.min(BACKLOG_MAX) as c_int; // fits, by the line before
                Ok(())
            }
            State::Listening(_) | State::Starting(_) => Err(libc::EOPNOTSUPP),
            _ => Err(libc::EISCONN),
        }
    }

    pub fn option(&self, opt: Opt) -> Result<u64, Errno> {
        self.options.get(self.socket(), opt)
    }

    pub fn option_time(&self, opt: Opt) -> Result<u64, Errno> {
        self.options.get_time(self.socket(), opt)
    }

    /// A listener's wishes are for what it accepts later.
    fn option_target(&self) -> Option<&Socket> {
        self.duplex().ok().map(|duplex| &*duplex.socket)
    }

    pub fn set_option(&mut self, opt: Opt, value: u64) -> Result<(), Errno> {
        let mut options = self.options;
        options.set(self.option_target(), opt, value)?;
        self.options = options;
        Ok(())
    }

    pub fn set_option_time(&mut self, opt: Opt, ns: u64) -> Result<(), Errno> {
        let mut options = self.options;
        options.set_time(self.option_target(), opt, ns)?;
        self.options = options;
        Ok(())
    }
}
