//! The two directions of a connected socket.
use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use super::net::{Errno, Socket, Ticket, lock};

/// Bytes of one read, and of one write: what a guest may write before the socket has taken the last piece.
pub const PIECE_MAX: usize = 64 << 10;

/// What waits until a socket can be read, or accepted from.
pub struct Readable {
    watch: Option<Ticket>, // goes before the socket does
    socket: Arc<Socket>,
}

impl Readable {
    pub fn new(socket: Arc<Socket>) -> Readable {
        Readable { watch: None, socket }
    }

    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Ready, or `cx` is woken. `now` says whether the socket is readable at this moment: an old answer
    /// may speak of bytes that were read since.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: impl Fn(&Socket) -> bool) -> Poll<()> {
        loop {
            if let Some(watch) = &self.watch {
                if watch.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.watch = None;
            }
            if now(&self.socket) {
                return Poll::Ready(());
            }
            match self.socket.watch_read() {
                Ok(ticket) => self.watch = Some(ticket),
                Err(_) => return Poll::Ready(()), // the read itself tells what is wrong
            }
        }
    }

    /// Every event counts as ready: for a listener, which cannot be asked without accepting.
    pub fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.is_none() {
            match self.socket.watch_read() {
                Ok(ticket) => self.watch = Some(ticket),
                Err(_) => return Poll::Ready(()),
            }
        }
        match self.watch.as_ref().map(|w| w.poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            _ => {
                self.watch = None;
                Poll::Ready(())
            }
        }
    }
}

/// Whether a receive would not have to wait: there are bytes, or an end, or an error.
pub fn has_bytes(socket: &Socket) -> bool {
    let mut byte = [0u8; 1];
    socket.recv(&mut byte, libc::MSG_PEEK) != Err(libc::EAGAIN)
}

/// The direction from the peer to the guest.
pub struct Incoming {
    readable: Readable,
    ended: bool,
}

impl Incoming {
    pub fn new(socket: Arc<Socket>) -> Incoming {
        Incoming { readable: Readable::new(socket), ended: false }
    }

    /// 0 is the end; -EAGAIN: nothing there now.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        let result = self.readable.socket().recv(buf, 0);
        self.ended = matches!(result, Ok(0));
        result
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        self.readable.poll(cx, has_bytes)
    }

    pub fn shutdown(&mut self) {
        if !self.ended {
            self.ended = true;
            self.readable.socket().shutdown(libc::SHUT_RD);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Yes,
    Closing, // when what waits has been sent
    No,
}

/// The direction from the guest to the peer. What the socket does not take at once is kept, and leaves by
/// itself as the socket takes it, whether the guest waits for that or not.
pub struct Outgoing {
    watch: Option<Ticket>, // goes before the socket does
    socket: Arc<Socket>,
    me: Weak<Mutex<Outgoing>>,
    waiting: VecDeque<u8>, // at most PIECE_MAX
    error: Option<Errno>,
    open: Open,
    waker: Option<Waker>,
}

impl Outgoing {
    pub fn new(socket: Arc<Socket>) -> Arc<Mutex<Outgoing>> {
        Arc::new_cyclic(|me| {
            Mutex::new(Outgoing {
                watch: None,
                socket,
                me: me.clone(),
                waiting: VecDeque::new(),
                error: None,
                open: Open::Yes,
                waker: None,
            })
        })
    }

    /// How many bytes `write` takes now; 0: wait. `Ok` past a shutdown is an error of the caller.
    pub fn room(&self) -> Result<usize, Errno> {
        if let Some(errno) = self.error {
            return Err(errno);
        }
        if self.open != Open::Yes {
            return Err(libc::EPIPE);
        }
        Ok(if self.waiting.is_empty() { PIECE_MAX } else { 0 })
    }

    /// Takes all of `data`, which is at most what `room` said.
    pub fn write(&mut self, data: &[u8]) -> Result<(), Errno> {
        self.room()?;
        let sent = match self.socket.send(data) {
            Ok(n) => n,
            Err(libc::EAGAIN) => 0,
            Err(errno) => {
                self.error = Some(errno);
                return Err(errno);
            }
        };
        if sent < data.len() {
            self.waiting.extend(&data[sent..]);
            self.drain();
        }
        Ok(())
    }

    /// Sends what waits, and asks to be called again for the rest.
    pub fn drain(&mut self) {
        self.watch = None;
        while self.error.is_none() && !self.waiting.is_empty() {
            match self.socket.send(self.waiting.as_slices().0) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(libc::EAGAIN) => match self.socket.watch_write(Some(self.me.clone())) {
                    Ok(ticket) if ticket.answered() => (),
                    Ok(ticket) => {
                        self.watch = Some(ticket);
                        return;
                    }
                    Err(errno) => self.error = Some(errno),
                },
                Err(errno) => self.error = Some(errno),
            }
        }
        if self.open == Open::Closing {
            self.close_now();
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.error.is_some() || self.waiting.is_empty() {
            return Poll::Ready(());
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn error(&self) -> Option<Errno> {
        self.error
    }

    /// Tells the peer of the end once everything has been sent.
    pub fn shutdown(&mut self) {
        if self.open != Open::Yes {
            return;
        }
        self.open = Open::Closing;
        if self.waiting.is_empty() || self.error.is_some() {
            self.close_now();
        }
    }

    fn close_now(&mut self) {
        self.open = Open::No;
        self.socket.shutdown(libc::SHUT_WR);
    }
}

/// A connected socket as its two directions, which the socket resource keeps an eye on for `shutdown`.
pub struct Duplex {
    pub socket: Arc<Socket>,
    pub incoming: Arc<Mutex<Incoming>>,
    pub outgoing: Arc<Mutex<Outgoing>>,
}

impl Duplex {
    pub fn new(socket: Arc<Socket>) -> Duplex {
        Duplex {
            incoming: Arc::new(Mutex::new(Incoming::new(socket.clone()))),
            outgoing: Outgoing::new(socket.clone()),
            socket,
        }
    }

    /// `how` is SHUT_RD, SHUT_WR or SHUT_RDWR.
    pub fn shutdown(&self, how: c_int) {
        if how != libc::SHUT_WR {
            lock(&self.incoming).shutdown();
        }
        if how != libc::SHUT_RD {
            lock(&self.outgoing).shutdown();
        }
    }
}
