//! The ports of a node, and accepting on them.
//!
//! Each core has a socket of its own on the shared port (`SO_REUSEPORT`): the kernel spreads
//! connections over them and nobody hands any over. Besides, each core may have a port of its own.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::TcpKeepalive;
use socket2::Type;

use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::engine::uring::Completion;
use crate::engine::uring::Held;
use crate::engine::uring::OperationId;
use crate::engine::uring::Token;
use crate::engine::uring::Uring;
use crate::protocol::shard::Door;

/// Connections that the kernel completes before they are accepted. It lowers this to its own limit.
const BACKLOG: i32 = 4096;

/// A client that is silent for so long is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(300);

/// When accepting fails, most likely for want of descriptors, it pauses so long.
const PAUSE: Duration = Duration::from_millis(100);

/// A port in use is tried again for so long. When a process is killed, the kernel takes its rings
/// down after the process is gone, and its sockets with them: 12 ms later at most in 40 kills.
const IN_USE_FOR: Duration = Duration::from_millis(500);

/// How long it waits between two tries.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// Opens a port once for each of `count` cores.
///
/// # Errors
///
/// If another process has it, or the address is not of this machine.
pub(super) fn bind_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Without this look, a second node of the same user would silently share the port.
    let alone = bind(address)?;
    let address = alone.local_addr()?;
    if count == 1 {
        return Ok(vec![alone]);
    }
    drop(alone);
    (0..count).map(|_| open(address, true)).collect()
}

/// Opens a port.
///
/// # Errors
///
/// As [`bind_shared`].
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    open(address, false)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let until = std::time::Instant::now() + IN_USE_FOR;
    loop {
        match try_open(address, shared) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && std::time::Instant::now() < until =>
            {
                std::thread::sleep(TRY_EVERY);
            }
            done => return done,
        }
    }
}

fn try_open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Accepted sockets inherit these: no calls for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that one core accepts from.
#[derive(Debug)]
struct Listener {
    door: Door,
    socket: Rc<OwnedFd>,
    accepting: Option<OperationId>,
    paused_until: Option<Instant>,
}

/// The sockets that one core accepts from.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
    open: bool,
}

impl Listeners {
    /// Not accepting yet.
    pub(super) fn new(sockets: Vec<(Door, TcpListener)>) -> Self {
        let listener = |(door, socket)| Listener {
            door,
            socket: Rc::new(OwnedFd::from(socket)),
            accepting: None,
            paused_until: None,
        };
        Self { listeners: sockets.into_iter().map(listener).collect(), open: false }
    }

    /// Accepts from now on.
    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Accepts no more; the kernel refuses connections once nothing is in flight.
    pub(super) fn close(&mut self, ring: &mut Uring) {
        self.open = false;
        for listener in &self.listeners {
            if let Some(operation) = listener.accepting {
                ring.cancel(operation);
            }
        }
        self.listeners.retain(|listener| listener.accepting.is_some());
    }

    /// Takes a completion of [`Token::Accept`] with this number. Returns the socket, and its door.
    pub(super) fn complete(
        &mut self,
        now: Instant,
        number: u8,
        completion: Completion,
    ) -> Option<(Door, OwnedFd)> {
        let listener = &mut self.listeners[usize::from(number)];
        if !completion.more {
            listener.accepting = None;
        }
        match (completion.result, completion.held) {
            (Ok(_), Held::Socket(socket)) => Some((listener.door, socket)),
            (Ok(_), held) => panic!("an accept gave {held:?}"),
            (Err(errno), _) => {
                let errno = Errno::from_raw_os_error(errno);
                if !matches!(errno, Errno::CANCELED | Errno::CONNABORTED | Errno::INTR) {
                    tracing::warn!("accepting pauses for {} ms: {errno}", PAUSE.as_millis());
                    listener.paused_until = Some(now + PAUSE);
                }
                None
            }
        }
    }

    /// Accepts where that ended by itself.
    pub(super) fn flush(&mut self, now: Instant, ring: &mut Uring) {
        if !self.open {
            return;
        }
        for (number, listener) in self.listeners.iter_mut().enumerate() {
            if listener.paused_until.is_some_and(|until| until <= now) {
                listener.paused_until = None;
            }
            if listener.accepting.is_none() && listener.paused_until.is_none() {
                let token = Token::Accept(number as u8);
                listener.accepting = Some(ring.accept(token, &listener.socket));
            }
        }
    }

    /// When [`Listeners::flush`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.listeners.iter().filter_map(|listener| listener.paused_until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_a_port_and_others_cannot() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let sockets = bind_shared(any, 3).expect("a free port");
        let address = sockets[0].local_addr().expect("bound");
        assert!(sockets.iter().all(|socket| socket.local_addr().is_ok_and(|own| own == address)));
        let error = bind_shared(address, 3).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        assert!(bind_shared(address, 1).is_ok(), "and free again at once");
    }

    #[test]
    fn a_port_that_is_let_go_late_is_waited_for() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let before = bind(any).expect("a free port");
        let address = before.local_addr().expect("bound");
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let first = try_open(address, false).map_err(|error| error.kind());
            tell.send(first.is_err()).expect("the test waits");
            open(address, false)
        });
        assert!(told.recv().expect("it tries"), "the port was free");
        drop(before);
        assert!(waiting.join().expect("no panic").is_ok());
    }
}
