//! The real binary: exit codes, what it says, and on which of the two outputs.
//!
//! Where a node is needed, `get`, `put` and `del` meet one that answers what the test wrote, and
//! `serve` is run for what only a real one shows.

#![cfg(feature = "cli")]

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread::JoinHandle;

const COMMANDS: [&str; 6] = ["serve", "get", "put", "del", "check", "doctor"];

#[test]
fn help_is_for_every_command_and_goes_to_standard_output() {
    let all = text(&stator(&["--help"]));
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not listed");
        let help = stator(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(help.stderr.is_empty() && text(&help).contains("Usage: stator "), "{command}");
    }
}

#[test]
fn wrong_usage_is_exit_2_and_nothing_is_tried() {
    for words in [
        &[][..],
        &["nosuch"],
        &["get"],
        &["get", "a", "b"],
        &["get", "a", "--node", "nonsense"],
        &["put", "a"],
        &["del"],
        &["check"],
        &["serve", "--listen", "nonsense"],
        &["serve", "--value-bytes-max", "5"],
        &["serve", "--password", "word"],
    ] {
        let done = stator(words);
        assert_eq!(done.status.code(), Some(2), "{words:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn a_node_that_is_not_there_is_one_line_with_its_address() {
    // Bound and not listening: nobody else can take it meanwhile.
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let node = address.to_string();
    for words in [&["get", "k"][..], &["put", "k", "v"], &["del", "k"]] {
        let why = refused(&[words, &["--node", &node]].concat());
        assert!(why.contains(&node), "{why}");
    }
}

#[test]
fn a_get_shows_the_context_and_every_sibling_to_people_and_to_machines() {
    let reply = "*2\r\n$3\r\nctx\r\n*2\r\n$3\r\none\r\n$2\r\n\x01\n\r\n";
    let (done, asked) = ask(&["get", "k"], &[reply]);
    assert_eq!(text(&done), "context    ctx\nsibling 1  one\nsibling 2  \"\\x01\\n\"\n");
    assert_eq!(asked, "*2\r\n$7\r\nDYN.GET\r\n$1\r\nk\r\n");

    let (done, _) = ask(&["get", "k", "--json"], &[reply]);
    assert_eq!(text(&done), "{\"context\":\"ctx\",\"siblings\":[\"b25l\",\"AQo=\"]}\n");

    let (done, _) = ask(&["get", "k", "--raw"], &[reply]);
    assert_eq!(line(&done), "stator: k has 2 siblings");
    let (done, _) = ask(&["get", "k", "--raw"], &["*2\r\n$1\r\nc\r\n*1\r\n$3\r\n\0\r\n\r\n"]);
    assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(0), &b"\0\r\n"[..]));
}

#[test]
fn a_get_of_a_missing_key_is_exit_1() {
    let (done, _) = ask(&["get", "k"], &["*2\r\n$3\r\nctx\r\n*0\r\n"]);
    assert_eq!(line(&done), "stator: k has no value");
    assert!(done.stdout.is_empty());
}

#[test]
fn a_put_is_blind_unless_it_is_given_what_was_seen() {
    let reply = "$3\r\nnew\r\n";
    let (done, asked) = ask(&["put", "k", "v"], &[reply]);
    assert_eq!(text(&done), "context    new\n");
    assert_eq!(asked, "*4\r\n$7\r\nDYN.PUT\r\n$1\r\nk\r\n$0\r\n\r\n$1\r\nv\r\n");
    let (_, asked) = ask(&["put", "k", "v", "--context", "ctx"], &[reply]);
    assert_eq!(asked, "*4\r\n$7\r\nDYN.PUT\r\n$1\r\nk\r\n$3\r\nctx\r\n$1\r\nv\r\n");
}

#[test]
fn a_value_may_come_by_standard_input_and_be_any_bytes() {
    let node = Node::start(vec!["$1\r\nc\r\n".to_owned()]);
    let mut command = command(&["put", "k", "-", "--node", &node.address.to_string()]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().expect("the binary runs");
    child.stdin.take().expect("piped").write_all(b"\xff\0\r\n").expect("it reads");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(0));
    let asked = node.asked();
    assert!(asked.ends_with(b"$4\r\n\xff\0\r\n\r\n"), "{asked:?}");
}

#[test]
fn a_del_without_a_context_is_a_plain_one() {
    let (done, asked) = ask(&["del", "k"], &[":1\r\n"]);
    assert_eq!(
        (text(&done).as_str(), asked.as_str()),
        ("deleted\n", "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n")
    );
    let (done, _) = ask(&["del", "k"], &[":0\r\n"]);
    assert_eq!(done.status.code(), Some(0), "not there is as good as deleted");
    let (done, asked) = ask(&["del", "k", "--context", "ctx"], &["$3\r\nnew\r\n"]);
    assert_eq!(text(&done), "context    new\n");
    assert_eq!(asked, "*3\r\n$7\r\nDYN.DEL\r\n$1\r\nk\r\n$3\r\nctx\r\n");
}

#[test]
fn an_error_of_the_node_is_one_line_and_a_wrong_password_ends_it() {
    let (done, _) = ask(&["put", "k", "v"], &["-BADCONTEXT not of this key\r\n"]);
    assert_eq!(line(&done), "stator: BADCONTEXT not of this key");

    let node = Node::start(vec!["-WRONGPASS no\r\n".to_owned()]);
    let address = node.address.to_string();
    let mut command = command(&["get", "k", "--node", &address]);
    let done = command.env("STATOR_PASSWORD", "hunter2").output().expect("the binary runs");
    assert_eq!(line(&done), "stator: WRONGPASS no");
    assert_eq!(node.asked(), b"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n");
}

#[test]
fn whatever_answers_instead_of_a_node_is_one_line() {
    for reply in ["HTTP/1.1 400 Bad Request\r\n\r\n", "$99999999999\r\n", ":7\r\n", ""] {
        let (done, _) = ask(&["get", "k"], &[reply]);
        assert!(line(&done).contains("127.0.0.1:"), "{reply:?}: {}", line(&done));
    }
}

#[test]
fn the_printed_configuration_is_read_again_and_has_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = command(&["serve", "--print-config", "--shards", "2", "--log", "json"]);
    let done = command.env("STATOR_PASSWORD", "hunter2").output().expect("the binary runs");
    let printed = text(&done);
    assert!(printed.contains("\nshards = 2\n") && printed.contains("\nlog = \"json\"\n"));
    assert!(!printed.contains("hunter2"));
    let file = folder.path().join("stator.toml");
    fs::write(&file, &printed).expect("written");
    let path = file.to_str().expect("plain");
    assert_eq!(text(&stator(&["serve", "--print-config", "--config", path])), printed);
}

#[test]
fn a_refused_configuration_is_one_line_and_makes_no_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, data) = (folder.path().join("stator.toml"), folder.path().join("data"));
    fs::write(&file, "[namespace.\"cart:\"]\ndurabilty = \"sync\"\n").expect("written");
    let words = ["serve", "--config", path(&file), "--data", path(&data)];
    let why = refused(&words);
    assert!(why.contains("durabilty") && why.contains("\"durability\""), "{why}");
    assert!(!data.exists());
    let why = refused(&["serve", "--config", path(&data)]);
    assert!(why.contains(path(&data)), "{why}");
}

#[test]
fn a_check_of_what_is_no_data_directory_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(refused(&["check", path(&folder.path().join("nosuch"))]).contains("nosuch"));
    assert!(refused(&["check", path(folder.path())]).contains("logs"));
}

#[test]
fn a_node_serves_keeps_its_directory_to_itself_and_stops_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut node = Serving::start(&data);
    assert_eq!(stator(&["put", "k", "value", "--node", &node.address]).status.code(), Some(0));
    assert_eq!(text(&stator(&["get", "k", "--raw", "--node", &node.address])), "value");
    assert!(refused(&["check", path(&data)]).contains("a node is using"));
    let elsewhere = free_block();
    let second =
        refused(&["serve", "--data", path(&data), "--listen", &elsewhere, "--shards", "1"]);
    assert!(second.contains(path(&data)), "{second}");

    node.signal("TERM");
    assert_eq!(node.child.wait().expect("it ends").code(), Some(0));
    let report = text(&stator(&["check", path(&data)]));
    assert!(report.contains("\nall "), "{report}");
    let node = Serving::start(&data);
    assert_eq!(text(&stator(&["get", "k", "--raw", "--node", &node.address])), "value");
}

#[test]
fn a_taken_port_is_one_line_with_the_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let data = folder.path().join("data");
    let done = stator(&["serve", "--data", path(&data), "--listen", &address, "--shards", "1"]);
    assert_eq!(done.status.code(), Some(1));
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(told.lines().last().is_some_and(|line| line.contains(&address)), "{told}");
}

#[test]
fn doctor_measures_where_the_data_will_be_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = stator(&["doctor", "--data", path(&folder.path().join("not/yet"))]);
    let found = text(&done);
    for word in ["kernel", "io_uring", "memlock", "files", "sync", path(folder.path())] {
        assert!(found.contains(word), "{word} is not in {found}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
}

/// A node of the real binary, killed at the end of the test.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(data: &Path) -> Self {
        let address = free_block();
        let words = ["serve", "--data", path(data), "--listen", &address, "--shards", "1"];
        let mut command = command(&words);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let mut ready = String::new();
        let output = child.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut ready).expect("it says when it is ready");
        assert!(ready.contains("ready") && ready.contains(&address), "{ready:?}");
        Self { child, address }
    }

    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &process]).status();
        assert!(kill.expect("kill is there").success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address whose ports for clients and for core 0 are free.
fn free_block() -> String {
    loop {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let Some(core) = address.port().checked_add(10) else { continue };
        if TcpListener::bind(("127.0.0.1", core)).is_ok() {
            return address.to_string();
        }
    }
}

/// Something that accepts one client, and answers each of its requests as it was told.
struct Node {
    address: SocketAddr,
    thread: JoinHandle<Vec<u8>>,
}

impl Node {
    fn start(replies: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let thread = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("the command connects");
            let mut asked = Vec::new();
            for reply in &replies {
                asked.extend(read_request(&mut client));
                client.write_all(reply.as_bytes()).expect("it reads");
            }
            asked
        });
        Self { address, thread }
    }

    fn asked(self) -> Vec<u8> {
        self.thread.join().expect("it answered everything")
    }
}

/// One request, as its lengths say.
fn read_request(client: &mut TcpStream) -> Vec<u8> {
    let mut client = BufReader::new(client);
    let mut request = Vec::new();
    let words = read_length(&mut client, &mut request);
    for _ in 0..words {
        let length = read_length(&mut client, &mut request);
        let mut word = vec![0; length + 2];
        client.read_exact(&mut word).expect("a whole word");
        request.extend(word);
    }
    request
}

fn read_length(client: &mut impl BufRead, request: &mut Vec<u8>) -> usize {
    let mut line = String::new();
    client.read_line(&mut line).expect("a line");
    request.extend(line.as_bytes());
    line[1..].trim().parse().expect("a length")
}

/// Runs the words against a node with these replies. Returns what it printed, and was asked.
fn ask(words: &[&str], replies: &[&str]) -> (Output, String) {
    let node = Node::start(replies.iter().map(|reply| (*reply).to_owned()).collect());
    let address = node.address.to_string();
    let done = stator(&[words, &["--node", &address]].concat());
    (done, String::from_utf8(node.asked()).expect("these tests ask in text"))
}

/// The one line on standard error of something that was refused.
fn refused(words: &[&str]) -> String {
    line(&stator(words))
}

fn line(done: &Output) -> String {
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    told.trim_end().to_owned()
}

fn text(done: &Output) -> String {
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{told}");
    String::from_utf8(done.stdout.clone()).expect("text")
}

fn stator(words: &[&str]) -> Output {
    command(words).stdin(Stdio::null()).output().expect("the binary runs")
}

/// Without variables of the caller's, which are configuration.
fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stator"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STATOR_") {
            command.env_remove(name);
        }
    }
    command.args(words);
    command
}

fn path(path: &Path) -> &str {
    path.to_str().expect("plain")
}
