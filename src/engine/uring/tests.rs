//! A ring against the kernel: sockets, files, other rings.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use super::*;

fn small() -> Uring {
    let settings = Settings { submissions: 8, completions: 64, short_buffers: 4, long_buffers: 4 };
    Uring::new(settings).expect("io_uring works here")
}

/// Waits for the next completion that somebody waits for.
fn next(ring: &mut Uring) -> Completion {
    let mut completions = Vec::new();
    loop {
        ring.completions(&mut completions, 1);
        match completions.pop() {
            Some(completion) if completion.token != Token::Ignored => return completion,
            Some(_) => {}
            None => ring.submit_and_wait(None).expect("it works"),
        }
    }
}

fn pair() -> (TcpStream, Rc<OwnedFd>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (server, _) = listener.accept().expect("it connected");
    (client, Rc::new(OwnedFd::from(server)))
}

#[test]
fn it_accepts_receives_and_sends() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let listener = Rc::new(OwnedFd::from(listener));
    let mut ring = small();
    ring.accept(Token::Accept(0), &listener);
    let mut client = TcpStream::connect(address).expect("connects");
    let completion = next(&mut ring);
    assert_eq!((completion.token, completion.more), (Token::Accept(0), true));
    let Held::Socket(socket) = completion.held else { panic!("no socket") };
    let socket = Rc::new(socket);

    let token = Token::Receive(ConnectionId::new(1));
    ring.receive(token, &socket);
    client.write_all(b"hello").expect("it is open");
    let completion = next(&mut ring);
    assert_eq!((completion.token, completion.result), (token, Ok(5)));
    let lent = completion.lent.expect("bytes came");
    assert_eq!(ring.bytes(&lent), b"hello");
    ring.give_back(lent);

    let token = Token::Send(ConnectionId::new(1));
    ring.send(token, &socket, b"--world--".to_vec(), 2, 7);
    let completion = next(&mut ring);
    assert_eq!((completion.token, completion.result), (token, Ok(5)));
    let mut answer = [0; 5];
    client.read_exact(&mut answer).expect("it was sent");
    assert_eq!(&answer, b"world");
}

/// Four buffers, and a client that sends more than they hold: the receive ends, is asked for
/// anew, and not a byte is missing.
#[test]
fn running_out_of_buffers_loses_nothing() {
    let (mut client, socket) = pair();
    let mut ring = small();
    let sent: Vec<u8> = (0..64 * 1024_u32).map(|number| (number % 251) as u8).collect();
    client.write_all(&sent).expect("it fits into the socket's buffer");
    drop(client);
    let token = Token::Receive(ConnectionId::new(1));
    ring.receive(token, &socket);
    let (mut received, mut ended, mut held) = (Vec::new(), 0, Vec::new());
    loop {
        let completion = next(&mut ring);
        match completion.result {
            Ok(0) => break,
            Ok(_) => {
                let lent = completion.lent.expect("bytes came");
                received.extend_from_slice(ring.bytes(&lent));
                held.push(lent);
            }
            Err(errno) => assert_eq!(errno, rustix::io::Errno::NOBUFS.raw_os_error()),
        }
        if !completion.more {
            ended += 1;
            held.drain(..).for_each(|lent| ring.give_back(lent));
            ring.receive(token, &socket);
        }
    }
    assert_eq!(received, sent);
    assert!(ended > 0, "the buffers did run out");
}

#[test]
fn a_receive_that_is_cancelled_ends() {
    let (_client, socket) = pair();
    let mut ring = small();
    let operation = ring.receive(Token::Receive(ConnectionId::new(1)), &socket);
    ring.submit().expect("it works");
    ring.cancel(operation);
    let completion = next(&mut ring);
    assert_eq!(completion.result, Err(rustix::io::Errno::CANCELED.raw_os_error()));
    assert!(!completion.more);
    assert!(ring.in_flight <= 1, "only the cancellation may be left");
}

#[test]
fn more_submissions_than_the_queue_holds_are_all_made() {
    let file = std::fs::File::open("/dev/zero").expect("every Linux has it");
    let file = Rc::new(OwnedFd::from(file));
    let mut ring = small();
    for number in 0..50 {
        ring.read(Token::Disk(number), &file, vec![1; 16], 8, 0);
    }
    for _ in 0..50 {
        let completion = next(&mut ring);
        let Held::Bytes(bytes) = completion.held else { panic!("no bytes") };
        assert_eq!(bytes, [[1_u8; 8], [0; 8]].concat());
    }
    assert_eq!(ring.in_flight, 0);
}

#[test]
fn a_ring_that_dies_ends_what_is_in_flight() {
    let (_client, socket) = pair();
    let mut ring = small();
    ring.receive(Token::Receive(ConnectionId::new(1)), &socket);
    ring.submit().expect("it works");
    drop(ring);
    assert_eq!(Rc::strong_count(&socket), 1);
}

#[test]
fn a_ring_wakes_another() {
    let mut sender = small();
    let (tell, told) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let mut ring = small();
        tell.send(ring.number()).expect("somebody listens");
        next(&mut ring).token
    });
    let number = told.recv().expect("it is made");
    sender.wake(ShardId::new(3), number);
    sender.submit().expect("it works");
    assert_eq!(sleeper.join().expect("it ended"), Token::Woken);

    sender.wake(ShardId::new(3), -1);
    assert_eq!(next(&mut sender).token, Token::WakeFailed(ShardId::new(3)));
}
