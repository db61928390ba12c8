//! A connection to a node, as `get`, `put` and `del` need it: one request, one reply, blocking.

use std::env;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::time::Duration;

use super::CliError;
use crate::base::limits;

/// Which node to ask, and how its answer is shown.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    /// The node to ask; its password comes from STATOR_PASSWORD
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7000", value_parser = node)]
    pub(super) node: String,
    /// Answer in JSON, values in base64
    #[arg(long)]
    pub(super) json: bool,
}

/// What a node answers, as RESP 2 has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// `+OK`, or a bulk string.
    Text(Vec<u8>),
    /// `:1`.
    Integer(i64),
    /// `-ERR …`, without the dash.
    Error(String),
    /// A list.
    List(Vec<Reply>),
    /// No such thing.
    Nil,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Client {
    node: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, and says the password if there is one.
    pub(super) fn connect(node: &str) -> Result<Self, CliError> {
        let unreachable = |error| CliError::failed(format!("cannot reach {node}: {error}"));
        let stream = open(node).map_err(unreachable)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut client = Self { node: node.to_owned(), stream: BufReader::new(stream) };
        if let Some(password) = env::var_os("STATOR_PASSWORD") {
            client.call(&[b"AUTH", password.as_encoded_bytes()])?;
        }
        Ok(client)
    }

    /// Asks, and waits for the answer. An error of the node is an error.
    pub(super) fn call(&mut self, words: &[&[u8]]) -> Result<Reply, CliError> {
        match self.exchange(words) {
            Ok(Reply::Error(error)) => Err(CliError::Failed(error)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(CliError::failed(format!("{}: {error}", self.node))),
        }
    }

    /// What to say of an answer that has not the form of one.
    pub(super) fn puzzled(&self, reply: &Reply) -> CliError {
        let node = &self.node;
        CliError::failed(format!("{node} answered what no node of ours would: {reply:.200?}"))
    }

    fn exchange(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            write!(request, "${}\r\n", word.len())?;
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        read_reply(&mut self.stream, NESTING_MAX)
    }
}

/// A node may take its time over a cold read; a person waits no longer than this.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Lists in lists that we read, and elements of one: more than any answer that we ask for.
const NESTING_MAX: usize = 4;
const ELEMENTS_MAX: usize = 4 * limits::SIBLINGS_MAX;

/// One line of an answer, in bytes: errors and lengths.
const LINE_BYTES_MAX: u64 = 64 * 1024;

fn node(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| text.to_owned()).ok_or_else(|| "not ADDR:PORT".to_owned())
}

fn open(node: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such address");
    for address in node.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read_reply(stream: &mut impl BufRead, nesting: usize) -> io::Result<Reply> {
    let line = read_line(stream)?;
    let (kind, text) = line.split_at(1);
    Ok(match kind {
        b"+" => Reply::Text(text.to_vec()),
        b"-" => Reply::Error(String::from_utf8_lossy(text).into_owned()),
        b":" => Reply::Integer(parse_number(text)?),
        b"$" => match length(text, limits::VALUE_BYTES_MAX)? {
            Some(length) => Reply::Text(read_bulk(stream, length)?),
            None => Reply::Nil,
        },
        b"*" => match length(text, ELEMENTS_MAX)? {
            Some(_) if nesting == 0 => return Err(malformed()),
            Some(length) => {
                let elements = (0..length).map(|_| read_reply(stream, nesting - 1));
                Reply::List(elements.collect::<io::Result<_>>()?)
            }
            None => Reply::Nil,
        },
        _ => return Err(malformed()),
    })
}

fn read_line(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    match line.strip_suffix(b"\r\n") {
        Some(line) if !line.is_empty() => Ok(line.to_vec()),
        _ => Err(malformed()),
    }
}

fn read_bulk(stream: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    // Memory grows with what comes, not with what is announced.
    let mut bytes = Vec::new();
    stream.take(length as u64 + 2).read_to_end(&mut bytes)?;
    if bytes.len() != length + 2 || !bytes.ends_with(b"\r\n") {
        return Err(malformed());
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// A length; `-1` is none.
fn length(text: &[u8], most: usize) -> io::Result<Option<usize>> {
    match parse_number(text)? {
        -1 => Ok(None),
        number => match usize::try_from(number) {
            Ok(length) if length <= most => Ok(Some(length)),
            _ => Err(malformed()),
        },
    }
}

fn parse_number(text: &[u8]) -> io::Result<i64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what it answered is not RESP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whole() {
        let text = |text: &str| Reply::Text(text.into());
        for (bytes, reply) in [
            ("+OK\r\n", text("OK")),
            ("$5\r\na\r\nb\0\r\n", text("a\r\nb\0")),
            ("$0\r\n\r\n", text("")),
            ("$-1\r\n", Reply::Nil),
            (":-7\r\n", Reply::Integer(-7)),
            ("-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            ("*2\r\n$1\r\nc\r\n*0\r\n", Reply::List(vec![text("c"), Reply::List(vec![])])),
        ] {
            let read = read_reply(&mut bytes.as_bytes(), NESTING_MAX);
            assert_eq!(read.expect(bytes), reply);
        }
    }

    #[test]
    fn whatever_comes_instead_is_an_error_and_takes_no_memory() {
        for bytes in [
            "",
            "\r\n",
            "HTTP/1.1 400\r\n",
            "$99999999999\r\n",
            "$-2\r\n",
            "*1000000000\r\n",
            "$5\r\nab\r\n",
            "$2\r\nabcd",
            ":x\r\n",
            "+no end",
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ] {
            assert!(read_reply(&mut bytes.as_bytes(), NESTING_MAX).is_err(), "{bytes:?}");
        }
    }
}
