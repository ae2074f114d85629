//! wasi:sockets 0.2.
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::vec;

use bytes::Bytes;
use wasmtime::component::{Linker, Resource, ResourceTableError};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream, OutputStream, Pollable, StreamError,
    StreamResult, subscribe,
};

use super::net::{Errno, Ticket, lock};
use super::stream::{Duplex, Incoming, Outgoing, PIECE_MAX};
pub use super::tcp::Tcp;
use super::tcp::{Family, Opt};
use super::udp::{DATAGRAM_MAX, Peer, Udp};
use super::{HasSockets, Sockets, SocketsView, addresses, literal, valid_name};

mod generated {
    wasmtime::component::bindgen!({
        path: "wit/sockets2",
        world: "wasi:sockets/host",
        imports: { default: trappable },
        require_store_data_send: true,
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:sockets/network.network": super::Network,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::Lookup,
            "wasi:sockets/tcp.tcp-socket": super::Tcp,
            "wasi:sockets/udp.udp-socket": super::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": super::DatagramsIn,
            "wasi:sockets/udp.outgoing-datagram-stream": super::DatagramsOut,
        },
        trappable_error_type: {
            "wasi:sockets/network.error-code" => super::Fault,
        },
    });
}
use generated::wasi::sockets::{
    instance_network, ip_name_lookup, network, tcp, tcp_create_socket, udp, udp_create_socket,
};
use network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};

addresses!(crate::component::sockets::p2::generated::wasi::sockets::network);

/// The guest's right to the network; there is one, and the C side decides what it is worth.
pub struct Network;

/// An error of the guest's, or of ours.
#[derive(Debug)]
pub enum Fault {
    Errno(Errno),
    Code(ErrorCode),
    Trap(wasmtime::Error),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault::Errno(errno)
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        Fault::Code(code)
    }
}

impl From<ResourceTableError> for Fault {
    fn from(error: ResourceTableError) -> Self {
        Fault::Trap(error.into())
    }
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Fault::Trap(error)
    }
}

fn code_of(errno: Errno) -> ErrorCode {
    match errno {
        libc::EACCES | libc::EPERM => ErrorCode::AccessDenied,
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => ErrorCode::NotSupported,
        libc::EINVAL => ErrorCode::InvalidArgument,
        libc::ENOMEM | libc::ENOBUFS => ErrorCode::OutOfMemory,
        libc::ETIMEDOUT => ErrorCode::Timeout,
        libc::EALREADY => ErrorCode::NotInProgress,
        libc::EAGAIN => ErrorCode::WouldBlock,
        libc::EISCONN | libc::ENOTCONN | libc::EDESTADDRREQ => ErrorCode::InvalidState,
        libc::EMFILE | libc::ENFILE => ErrorCode::NewSocketLimit,
        libc::EADDRNOTAVAIL => ErrorCode::AddressNotBindable,
        libc::EADDRINUSE => ErrorCode::AddressInUse,
        libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETUNREACH | libc::ENETDOWN => {
            ErrorCode::RemoteUnreachable
        }
        libc::ECONNREFUSED => ErrorCode::ConnectionRefused,
        libc::ECONNRESET | libc::EPIPE => ErrorCode::ConnectionReset,
        libc::ECONNABORTED => ErrorCode::ConnectionAborted,
        libc::EMSGSIZE => ErrorCode::DatagramTooLarge,
        _ => ErrorCode::Unknown,
    }
}

fn no_waker() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What is there now; the guest asks again when its pollable says so.
fn now<T>(poll: Poll<Result<T, Errno>>) -> Result<T, Fault> {
    match poll {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => Err(ErrorCode::WouldBlock.into()),
    }
}

// ---- streams of TCP ----

struct TcpIn(Arc<Mutex<Incoming>>);
struct TcpOut(Arc<Mutex<Outgoing>>);

fn stream_error(errno: Errno) -> StreamError {
    match errno {
        libc::EPIPE | libc::ECONNRESET => StreamError::Closed,
        errno => StreamError::LastOperationFailed(std::io::Error::from_raw_os_error(errno).into()),
    }
}

#[async_trait::async_trait]
impl Pollable for TcpIn {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll_ready(cx)).await;
    }
}

#[async_trait::async_trait]
impl InputStream for TcpIn {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut incoming = lock(&self.0);
        if incoming.ended() {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; size.min(PIECE_MAX)];
        match incoming.read(&mut bytes) {
            Ok(0) => Err(StreamError::Closed),
            Ok(n) => {
                bytes.truncate(n);
                Ok(bytes.into())
            }
            Err(libc::EAGAIN) => Ok(Bytes::new()),
            Err(errno) => Err(stream_error(errno)),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for TcpOut {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll_ready(cx)).await;
    }
}

#[async_trait::async_trait]
impl OutputStream for TcpOut {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(&self.0).write(&bytes).map_err(stream_error)
    }

    /// What waits leaves by itself; the next `check_write` is 0 until it has.
    fn flush(&mut self) -> StreamResult<()> {
        match lock(&self.0).error() {
            Some(errno) => Err(stream_error(errno)),
            None => Ok(()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        lock(&self.0).room().map_err(stream_error)
    }
}

// ---- what a guest waits for ----

#[async_trait::async_trait]
impl Pollable for Tcp {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

/// The addresses of a name, as they come.
pub struct Lookup {
    ticket: Option<Ticket>,
    found: vec::IntoIter<IpAddr>,
}

#[async_trait::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Some(ticket) = &self.ticket {
            poll_fn(|cx| ticket.poll(cx)).await;
        }
    }
}

/// The socket itself is ready at any time: binding is only noted.
pub struct UdpSocket {
    udp: Udp,
    peer: Option<Arc<Mutex<Peer>>>,
}

#[async_trait::async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {}
}

pub struct DatagramsIn(Arc<Mutex<Peer>>);
pub struct DatagramsOut {
    peer: Arc<Mutex<Peer>>,
    blocked: bool,
}

#[async_trait::async_trait]
impl Pollable for DatagramsIn {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.0).poll_receive(cx)).await;
    }
}

#[async_trait::async_trait]
impl Pollable for DatagramsOut {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(&self.peer).poll_send(cx, self.blocked)).await;
        self.blocked = false;
    }
}

// ---- the interfaces ----

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl Sockets<'_> {
    /// The streams of a connection are children of nobody: they outlive the socket resource, as its descriptor does.
    fn push_streams(
        &mut self,
        incoming: Arc<Mutex<Incoming>>,
        outgoing: Arc<Mutex<Outgoing>>,
    ) -> Result<Streams, Fault> {
        let input: DynInputStream = Box::new(TcpIn(incoming));
        let output: DynOutputStream = Box::new(TcpOut(outgoing));
        Ok((self.table.push(input)?, self.table.push(output)?))
    }
}

fn directions(duplex: &Duplex) -> (Arc<Mutex<Incoming>>, Arc<Mutex<Outgoing>>) {
    (duplex.incoming.clone(), duplex.outgoing.clone())
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, fault: Fault) -> wasmtime::Result<ErrorCode> {
        match fault {
            Fault::Errno(errno) => Ok(code_of(errno)),
            Fault::Code(code) => Ok(code),
            Fault::Trap(error) => Err(error),
        }
    }
}

impl network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, this: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl instance_network::Host for Sockets<'_> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

impl ip_name_lookup::Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Lookup>, Fault> {
        self.table.get(&network)?;
        if let Some(ip) = literal(&name) {
            return Ok(self.table.push(Lookup { ticket: None, found: vec![ip].into_iter() })?);
        }
        if !valid_name(&name) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let ticket = self.net.resolve(&name).map_err(lookup_error)?;
        Ok(self.table.push(Lookup { ticket: Some(ticket), found: Vec::new().into_iter() })?)
    }
}

fn lookup_error(errno: Errno) -> Fault {
    match errno {
        libc::ENOENT => ErrorCode::NameUnresolvable.into(),
        libc::EAGAIN | libc::ETIMEDOUT => ErrorCode::TemporaryResolverFailure.into(),
        libc::EACCES | libc::EPERM => ErrorCode::AccessDenied.into(),
        _ => ErrorCode::PermanentResolverFailure.into(),
    }
}

impl ip_name_lookup::HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(&mut self, this: Resource<Lookup>) -> Result<Option<IpAddress>, Fault> {
        let lookup = self.table.get_mut(&this)?;
        if let Some(ticket) = &lookup.ticket {
            if !ticket.answered() {
                return Err(ErrorCode::WouldBlock.into());
            }
            let answer = ticket.take();
            lookup.ticket = None;
            let found = answer.unwrap_or(Err(libc::EIO)).map_err(lookup_error)?.addresses;
            lookup.found = found.iter().map(SocketAddr::ip).collect::<Vec<_>>().into_iter();
        }
        Ok(lookup.found.next().map(IpAddress::from))
    }

    fn subscribe(&mut self, this: Resource<Lookup>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Lookup>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<Tcp>, Fault> {
        Ok(self.table.push(Tcp::new(self.net.clone(), family.into()))?)
    }
}

impl tcp::Host for Sockets<'_> {}

impl tcp::HostTcpSocket for Sockets<'_> {
    fn start_bind(
        &mut self,
        this: Resource<Tcp>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Result<(), Fault> {
        self.table.get(&network)?;
        Ok(self.table.get_mut(&this)?.bind(local.into())?)
    }

    fn finish_bind(&mut self, this: Resource<Tcp>) -> Result<(), Fault> {
        if self.table.get(&this)?.is_bound() { Ok(()) } else { Err(ErrorCode::NotInProgress.into()) }
    }

    fn start_connect(
        &mut self,
        this: Resource<Tcp>,
        network: Resource<Network>,
        peer: IpSocketAddress,
    ) -> Result<(), Fault> {
        self.table.get(&network)?;
        Ok(self.table.get_mut(&this)?.start_connect(peer.into())?)
    }

    fn finish_connect(&mut self, this: Resource<Tcp>) -> Result<Streams, Fault> {
        let tcp = self.table.get_mut(&this)?;
        let (incoming, outgoing) = directions(now(tcp.poll_connect(&mut no_waker()))?);
        self.push_streams(incoming, outgoing)
    }

    fn start_listen(&mut self, this: Resource<Tcp>) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.start_listen()?)
    }

    fn finish_listen(&mut self, this: Resource<Tcp>) -> Result<(), Fault> {
        now(self.table.get_mut(&this)?.poll_listen(&mut no_waker()))
    }

    fn accept(
        &mut self,
        this: Resource<Tcp>,
    ) -> Result<(Resource<Tcp>, Resource<DynInputStream>, Resource<DynOutputStream>), Fault> {
        let accepted = self.table.get_mut(&this)?.accept()?;
        let (incoming, outgoing) = directions(accepted.duplex()?);
        let socket = self.table.push(accepted)?;
        let (input, output) = self.push_streams(incoming, outgoing)?;
        Ok((socket, input, output))
    }

    fn local_address(&mut self, this: Resource<Tcp>) -> Result<IpSocketAddress, Fault> {
        Ok(self.table.get(&this)?.local_address()?.into())
    }

    fn remote_address(&mut self, this: Resource<Tcp>) -> Result<IpSocketAddress, Fault> {
        Ok(self.table.get(&this)?.remote_address()?.into())
    }

    fn is_listening(&mut self, this: Resource<Tcp>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&this)?.is_listening())
    }

    fn address_family(&mut self, this: Resource<Tcp>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family().into())
    }

    fn set_listen_backlog_size(&mut self, this: Resource<Tcp>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_backlog(value)?)
    }

    fn keep_alive_enabled(&mut self, this: Resource<Tcp>) -> Result<bool, Fault> {
        Ok(self.table.get(&this)?.option(Opt::KeepAlive)? != 0)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<Tcp>, value: bool) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option(Opt::KeepAlive, value.into())?)
    }

    fn keep_alive_idle_time(&mut self, this: Resource<Tcp>) -> Result<u64, Fault> {
        Ok(self.table.get(&this)?.option_time(Opt::KeepIdle)?)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<Tcp>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option_time(Opt::KeepIdle, value)?)
    }

    fn keep_alive_interval(&mut self, this: Resource<Tcp>) -> Result<u64, Fault> {
        Ok(self.table.get(&this)?.option_time(Opt::KeepInterval)?)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<Tcp>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option_time(Opt::KeepInterval, value)?)
    }

    fn keep_alive_count(&mut self, this: Resource<Tcp>) -> Result<u32, Fault> {
        Ok(u32::try_from(self.table.get(&this)?.option(Opt::KeepCount)?).unwrap_or(u32::MAX))
    }

    fn set_keep_alive_count(&mut self, this: Resource<Tcp>, value: u32) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option(Opt::KeepCount, value.into())?)
    }

    fn hop_limit(&mut self, this: Resource<Tcp>) -> Result<u8, Fault> {
        self.table.get(&this)?;
        Err(ErrorCode::NotSupported.into()) // it is the node's
    }

    fn set_hop_limit(&mut self, this: Resource<Tcp>, _value: u8) -> Result<(), Fault> {
        self.table.get(&this)?;
        Err(ErrorCode::NotSupported.into())
    }

    fn receive_buffer_size(&mut self, this: Resource<Tcp>) -> Result<u64, Fault> {
        Ok(self.table.get(&this)?.option(Opt::ReceiveBuffer)?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<Tcp>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option(Opt::ReceiveBuffer, value)?)
    }

    fn send_buffer_size(&mut self, this: Resource<Tcp>) -> Result<u64, Fault> {
        Ok(self.table.get(&this)?.option(Opt::SendBuffer)?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<Tcp>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option(Opt::SendBuffer, value)?)
    }

    fn subscribe(&mut self, this: Resource<Tcp>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Resource<Tcp>, how: tcp::ShutdownType) -> Result<(), Fault> {
        let how = match how {
            tcp::ShutdownType::Receive => libc::SHUT_RD,
            tcp::ShutdownType::Send => libc::SHUT_WR,
            tcp::ShutdownType::Both => libc::SHUT_RDWR,
        };
        self.table.get(&this)?.duplex()?.shutdown(how);
        Ok(())
    }

    fn drop(&mut self, this: Resource<Tcp>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp_create_socket::Host for Sockets<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<UdpSocket>, Fault> {
        let family: Family = family.into();
        Ok(self.table.push(UdpSocket { udp: Udp::new(self.net.clone(), family), peer: None })?)
    }
}

impl udp::Host for Sockets<'_> {}

impl UdpSocket {
    fn option(&self, opt: Opt) -> Result<u64, Errno> {
        match &self.peer {
            Some(peer) => self.udp.option(Some(&mut lock(peer)), opt),
            None => self.udp.option(None, opt),
        }
    }

    fn set_option(&mut self, opt: Opt, value: u64) -> Result<(), Errno> {
        match &self.peer {
            Some(peer) => self.udp.set_option(Some(&mut lock(peer)), opt, value),
            None => self.udp.set_option(None, opt, value),
        }
    }
}

impl udp::HostUdpSocket for Sockets<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Result<(), Fault> {
        self.table.get(&network)?;
        Ok(self.table.get_mut(&this)?.udp.bind(local.into())?)
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> Result<(), Fault> {
        match self.table.get(&this)?.udp.local {
            Some(_) => Ok(()),
            None => Err(ErrorCode::NotInProgress.into()),
        }
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        peer: Option<IpSocketAddress>,
    ) -> Result<(Resource<DatagramsIn>, Resource<DatagramsOut>), Fault> {
        let socket = self.table.get_mut(&this)?;
        let peer = Arc::new(Mutex::new(socket.udp.peer(peer.map(SocketAddr::from))?));
        socket.peer = Some(peer.clone());
        let incoming = self.table.push(DatagramsIn(peer.clone()))?;
        let outgoing = self.table.push(DatagramsOut { peer, blocked: false })?;
        Ok((incoming, outgoing))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress, Fault> {
        let socket = self.table.get(&this)?;
        let address = match &socket.peer {
            Some(peer) => socket.udp.local_address(Some(&mut lock(peer))),
            None => socket.udp.local_address(None),
        };
        Ok(address?.into())
    }

    fn remote_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress, Fault> {
        let address = self.table.get(&this)?.peer.as_ref().and_then(|peer| lock(peer).address);
        address.map(IpSocketAddress::from).ok_or(Fault::Code(ErrorCode::InvalidState))
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.udp.family.into())
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> Result<u8, Fault> {
        self.table.get(&this)?;
        Err(ErrorCode::NotSupported.into())
    }

    fn set_unicast_hop_limit(&mut self, this: Resource<UdpSocket>, _value: u8) -> Result<(), Fault> {
        self.table.get(&this)?;
        Err(ErrorCode::NotSupported.into())
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64, Fault> {
        Ok(self.table.get(&this)?.option(Opt::ReceiveBuffer)?)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option(Opt::ReceiveBuffer, value)?)
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64, Fault> {
        Ok(self.table.get(&this)?.option(Opt::SendBuffer)?)
    }

    fn set_send_buffer_size(&mut self, this: Resource<UdpSocket>, value: u64) -> Result<(), Fault> {
        Ok(self.table.get_mut(&this)?.set_option(Opt::SendBuffer, value)?)
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

/// Datagrams of one `receive`, and of one `send`.
const DATAGRAMS_MAX: u64 = 16;

impl udp::HostIncomingDatagramStream for Sockets<'_> {
    fn receive(
        &mut self,
        this: Resource<DatagramsIn>,
        most: u64,
    ) -> Result<Vec<udp::IncomingDatagram>, Fault> {
        let mut peer = lock(&self.table.get(&this)?.0);
        let mut out = Vec::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        while (out.len() as u64) < most.min(DATAGRAMS_MAX) {
            match peer.receive(&mut buffer) {
                Ok(n) => {
                    let Some(from) = peer.address else { break };
                    out.push(udp::IncomingDatagram {
                        data: buffer[..n].to_vec(),
                        remote_address: from.into(),
                    });
                }
                Err(libc::EAGAIN) => break,
                Err(errno) if out.is_empty() => return Err(errno.into()),
                Err(_) => break,
            }
        }
        Ok(out)
    }

    fn subscribe(&mut self, this: Resource<DatagramsIn>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<DatagramsIn>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl udp::HostOutgoingDatagramStream for Sockets<'_> {
    fn check_send(&mut self, this: Resource<DatagramsOut>) -> Result<u64, Fault> {
        let out = self.table.get(&this)?;
        let ready = lock(&out.peer).poll_send(&mut no_waker(), out.blocked).is_ready();
        Ok(if ready { DATAGRAMS_MAX } else { 0 })
    }

    fn send(
        &mut self,
        this: Resource<DatagramsOut>,
        datagrams: Vec<udp::OutgoingDatagram>,
    ) -> Result<u64, Fault> {
        let out = self.table.get_mut(&this)?;
        if datagrams.len() as u64 > DATAGRAMS_MAX {
            return Err(Fault::Trap(wasmtime::format_err!("more datagrams than check-send has allowed")));
        }
        let mut sent = 0;
        for datagram in datagrams {
            let to = datagram.remote_address.map(SocketAddr::from);
            match lock(&out.peer).send(&datagram.data, to) {
                Ok(()) => sent += 1,
                Err(libc::EAGAIN) => {
                    out.blocked = true;
                    break;
                }
                Err(errno) if sent == 0 => return Err(errno.into()),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<DatagramsOut>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<DatagramsOut>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

pub fn add_to_linker<T: SocketsView>(l: &mut Linker<T>) -> wasmtime::Result<()> {
    network::add_to_linker::<T, HasSockets>(l, T::sockets)?;
    instance_network::add_to_linker::<T, HasSockets>(l, T::sockets)?;
    ip_name_lookup::add_to_linker::<T, HasSockets>(l, T::sockets)?;
    tcp::add_to_linker::<T, HasSockets>(l, T::sockets)?;
    tcp_create_socket::add_to_linker::<T, HasSockets>(l, T::sockets)?;
    udp::add_to_linker::<T, HasSockets>(l, T::sockets)?;
    udp_create_socket::add_to_linker::<T, HasSockets>(l, T::sockets)
}
