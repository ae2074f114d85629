//! A UDP socket as a guest knows it: it talks with one peer at a time, over a descriptor that only this
//! peer's datagrams reach. To the kernel it is never unconnected.
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::net::{Errno, Net, Socket, Ticket};
use super::stream::{Readable, has_bytes};
use super::tcp::{Family, Opt, Options};

/// Payload of the largest datagram.
pub const DATAGRAM_MAX: usize = 65507;

enum Link {
    None,
    Asked(Ticket),
    There { readable: Readable, writable: Option<Ticket> },
    Failed(Errno),
}

/// One use of the socket: with a peer, or without, when nothing can be sent.
pub struct Peer {
    pub address: Option<SocketAddr>,
    link: Link,
}

impl Peer {
    pub fn new(net: &Arc<Net>, address: Option<SocketAddr>) -> Result<Peer, Errno> {
        let link = match address {
            Some(peer) => Link::Asked(net.connect(peer, true)?),
            None => Link::None,
        };
        Ok(Peer { address, link })
    }

    /// Takes the descriptor when it has come.
    fn settle(&mut self) {
        let Link::Asked(ticket) = &self.link else { return };
        match ticket.take_socket() {
            Some(Ok(socket)) => {
                self.link = Link::There { readable: Readable::new(socket), writable: None };
            }
            Some(Err(errno)) => self.link = Link::Failed(errno),
            None => (),
        }
    }

    pub fn socket(&mut self) -> Option<&Arc<Socket>> {
        self.settle();
        match &self.link {
            Link::There { readable, .. } => Some(readable.socket()),
            _ => None,
        }
    }

    /// One datagram; EAGAIN: none there now.
    pub fn receive(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.settle();
        match &self.link {
            Link::None | Link::Asked(_) => Err(libc::EAGAIN),
            Link::There { readable, .. } => readable.socket().recv(buf, 0),
            Link::Failed(errno) => Err(*errno),
        }
    }

    /// Sends to the peer; EAGAIN: not now.
    pub fn send(&mut self, data: &[u8], to: Option<SocketAddr>) -> Result<(), Errno> {
        self.settle();
        if data.len() > DATAGRAM_MAX {
            return Err(libc::EMSGSIZE);
        }
        match (to, self.address) {
            (None, None) => return Err(libc::EINVAL),
            (Some(_), None) => return Err(libc::EOPNOTSUPP),
            (Some(to), Some(peer)) if to != peer => return Err(libc::EINVAL),
            _ => (),
        }
        match &self.link {
            Link::None | Link::Asked(_) => Err(libc::EAGAIN),
            Link::There { readable, .. } => readable.socket().send(data).map(drop),
            Link::Failed(errno) => Err(*errno),
        }
    }

    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.settle();
        match &mut self.link {
            Link::None => Poll::Pending, // nothing will ever come
            Link::Asked(ticket) => ticket.poll(cx),
            Link::There { readable, .. } => readable.poll(cx, has_bytes),
            Link::Failed(_) => Poll::Ready(()),
        }
    }

    /// Ready when there is a descriptor. A socket buffer of datagrams that is full is rare and short: then
    /// `blocked` says so, and readiness is the kernel's.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, blocked: bool) -> Poll<()> {
        self.settle();
        match &mut self.link {
            Link::Asked(ticket) => ticket.poll(cx),
            Link::There { readable, writable } if blocked => {
                if writable.is_none() {
                    *writable = readable.socket().watch_write(None).ok();
                }
                match writable.as_ref().map(|ticket| ticket.poll(cx)) {
                    Some(Poll::Pending) => Poll::Pending,
                    _ => {
                        *writable = None;
                        Poll::Ready(())
                    }
                }
            }
            _ => Poll::Ready(()),
        }
    }
}

/// The socket resource: its family, what it was bound to and its options. The peer is shared with the streams.
pub struct Udp {
    pub net: Arc<Net>,
    pub family: Family,
    pub local: Option<SocketAddr>,
    pub options: Options,
}

impl Udp {
    pub fn new(net: Arc<Net>, family: Family) -> Udp {
        Udp { net, family, local: None, options: Options::default() }
    }

    /// Noted only. A port of one's own would be a server's, and a server hears everyone.
    pub fn bind(&mut self, local: SocketAddr) -> Result<(), Errno> {
        if self.local.is_some() {
            return Err(libc::EISCONN);
        }
        self.family.check_local(&local)?;
        if local.port() != 0 {
            return Err(libc::EOPNOTSUPP);
        }
        self.local = Some(local);
        Ok(())
    }

    pub fn peer(&self, address: Option<SocketAddr>) -> Result<Peer, Errno> {
        if let Some(address) = &address {
            self.family.check_peer(address)?;
        }
        Peer::new(&self.net, address)
    }

    pub fn option(&self, peer: Option<&mut Peer>, opt: Opt) -> Result<u64, Errno> {
        self.options.get(peer.and_then(|p| p.socket()).map(|s| &**s), opt)
    }

    pub fn set_option(&mut self, peer: Option<&mut Peer>, opt: Opt, value: u64) -> Result<(), Errno> {
        self.options.set(peer.and_then(|p| p.socket()).map(|s| &**s), opt, value)
    }

    pub fn local_address(&self, peer: Option<&mut Peer>) -> Result<SocketAddr, Errno> {
        match (peer.and_then(|p| p.socket()), self.local) {
            (Some(socket), _) => socket.address(false),
            (None, Some(local)) => Ok(local),
            (None, None) => Err(libc::ENOTCONN),
        }
    }
}
