//! A client of a node: requests in, the replies that the tool needs out.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

/// Appends a request of these words.
pub(crate) fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// To the node on this port.
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends whole requests.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// One request, and the one line that answers it.
    pub(crate) fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let mut request = Vec::new();
        command(&mut request, words);
        self.send(&request)?;
        self.line()
    }

    /// All keys, as SCAN shows them.
    pub(crate) fn walk(&mut self) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let outer = self.ask(&["SCAN", &cursor, "COUNT", "100"])?;
            let next = self.bulk()?;
            let inner = self.line()?;
            let count = inner.strip_prefix('*').and_then(|count| count.parse::<usize>().ok());
            let (true, Some(next), Some(count)) = (outer == "*2", next, count) else {
                return Err(io::Error::other(format!("{outer} {inner}")));
            };
            for _ in 0..count {
                keys.extend(self.bulk()?);
            }
            if next == "0" {
                return Ok(keys);
            }
            cursor = next;
        }
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// The next string; `None`: there is none.
    pub(crate) fn bulk(&mut self) -> io::Result<Option<String>> {
        let line = self.line()?;
        let Some(length) = line.strip_prefix('$') else { return Err(io::Error::other(line)) };
        let Ok(length) = length.parse::<usize>() else { return Ok(None) };
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value)?;
        value.truncate(length);
        Ok(Some(String::from_utf8_lossy(&value).into_owned()))
    }
}
