//! The server on glommio's executor and sockets: a task for each connection.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::Sender;

use futures_lite::AsyncReadExt;
use futures_lite::AsyncWriteExt;
use glommio::LocalExecutorBuilder;
use glommio::Placement;
use glommio::net::TcpListener;
use glommio::net::TcpStream;

use crate::resp::Conversation;
use crate::resp::Values;

/// As long as one of the other server's provided buffers.
const BUFFER_BYTES: usize = 16 * 1024;

/// Memory for direct reads and writes of files, of which there are none. Its default is more than an
/// ordinary user may lock.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Serves as long as the process lives. It makes its socket itself, and tells where it listens.
pub(crate) fn serve(tell: &Sender<SocketAddr>) {
    let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(IO_MEMORY_BYTES);
    let executor = builder.make().expect("glommio works here");
    executor.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        tell.send(listener.local_addr().expect("bound")).expect("somebody waits for it");
        let values = Rc::new(RefCell::new(Values::default()));
        loop {
            let stream = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("TCP has it");
            glommio::spawn_local(converse(stream, values.clone())).detach();
        }
    });
}

async fn converse(mut stream: TcpStream, values: Rc<RefCell<Values>>) {
    let (mut buffer, mut replies) = (vec![0; BUFFER_BYTES], Vec::new());
    let mut conversation = Conversation::new();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                conversation.receive(&buffer[..count], &mut values.borrow_mut(), &mut replies);
            }
        }
        if stream.write_all(&replies).await.is_err() {
            return;
        }
        replies.clear();
    }
}
