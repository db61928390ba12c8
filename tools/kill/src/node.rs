//! A real node: a process of its own, on ports that are free, with data in a folder of the tool's.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::dice::Dice;

/// A node that this process started. Dropped, it is killed.
pub(crate) struct Node {
    child: Child,
    pub(crate) port: u16,
}

impl Node {
    /// Starts the node on the data in `folder`, and returns when it says that it is ready.
    pub(crate) fn start(
        stator: &Path,
        folder: &Path,
        shards: u16,
        dice: &mut Dice,
    ) -> io::Result<Self> {
        let port = free_block(shards, dice)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(stator)
            .arg("serve")
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--shards", &shards.to_string()])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut node = Self { child, port };
        let output = node.child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if !line.starts_with("ready") {
            let why = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(io::Error::other(format!("it did not start: {line}{why}")));
        }
        Ok(node)
    }

    /// Kills it after so long.
    pub(crate) fn kill_after(&mut self, after: Duration) -> io::Result<()> {
        // The dice say when; nothing is synchronised by it.
        let until = Instant::now() + after;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        self.kill()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Stops it in order, and waits until it has ended.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("stopped: {status}"))) }
    }

    /// Kills it, for it went wrong after this kill.
    pub(crate) fn explain(&mut self, round: u32, why: String) -> io::Error {
        let _ = self.kill();
        io::Error::other(format!("after kill {round}: {why}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A port with its neighbours free: the node takes P, P + 1, P + 2 and P + 10 + core.
fn free_block(shards: u16, dice: &mut Dice) -> io::Result<u16> {
    for _ in 0..100 {
        let base = 20_000 + dice.below(100) as u16 * 100;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(base) && (0..shards).all(|core| free(base + 10 + core)) {
            return Ok(base);
        }
    }
    Err(io::Error::other("no free block of ports"))
}
