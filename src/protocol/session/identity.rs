//! Who a client is and what it is told about its own connection: the commands that need no key and
//! no node.

use std::io::Write;

use super::Closing;
use super::Executor;
use super::Session;
use crate::base::time::Now;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::REDIS_VERSION;
use crate::protocol::wire::command::ClientFilter;
use crate::protocol::wire::command::ConnectionCommand;
use crate::protocol::wire::command::Credentials;
use crate::protocol::wire::command::Hello;
use crate::protocol::wire::command::ReplyMode;
use crate::protocol::wire::describe;
use crate::protocol::wire::number;
use crate::protocol::wire::reply;
use crate::protocol::wire::table::COMMANDS;

impl Session {
    /// Answers a command about the connection.
    pub(super) fn connection(
        &mut self,
        now: Now,
        command: ConnectionCommand<'_>,
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        let protocol = self.protocol;
        match command {
            ConnectionCommand::Ping(None) => self.reply(out, |out| reply::simple(out, "PONG")),
            ConnectionCommand::Ping(Some(text)) | ConnectionCommand::Echo(text) => {
                self.reply(out, |out| reply::bulk(out, text));
            }
            ConnectionCommand::Hello(hello) => self.hello(hello, out),
            ConnectionCommand::Auth(credentials) => self.auth(credentials, out),
            ConnectionCommand::Quit => {
                self.ok(out);
                self.ending = Some(Closing::Quit);
            }
            ConnectionCommand::Reset => self.reset(out),
            ConnectionCommand::Select
            | ConnectionCommand::ReadWriteMode
            | ConnectionCommand::ClientNoEvict => self.ok(out),
            ConnectionCommand::ClientId => {
                let id = self.id.to_raw() as i64;
                self.reply(out, |out| reply::integer(out, id));
            }
            ConnectionCommand::ClientInfo => self.client_info(now, out),
            ConnectionCommand::ClientList(filter) => self.client_list(now, filter, executor, out),
            ConnectionCommand::ClientGetName => self.client_name(out),
            ConnectionCommand::ClientSetName(name) => {
                self.name = name.to_vec();
                self.ok(out);
            }
            ConnectionCommand::ClientLibraryName(name) => {
                self.library_name = name.to_vec();
                self.ok(out);
            }
            ConnectionCommand::ClientLibraryVersion(version) => {
                self.library_version = version.to_vec();
                self.ok(out);
            }
            ConnectionCommand::ClientReply(mode) => self.client_reply(mode, out),
            ConnectionCommand::Command => self.reply(out, |out| describe::all(out, protocol)),
            ConnectionCommand::CommandCount => {
                self.reply(out, |out| reply::integer(out, COMMANDS.len() as i64));
            }
            ConnectionCommand::CommandInfo(names) => {
                self.reply(out, |out| describe::info(out, protocol, names));
            }
            ConnectionCommand::CommandDocs(names) => {
                self.reply(out, |out| describe::docs(out, protocol, names));
            }
            ConnectionCommand::Time => self.reply(out, |out| time(now, out)),
        }
    }

    /// Appends the line of `CLIENT LIST` that describes this connection, in Redis's words.
    pub fn describe(&self, now: Now, out: &mut Vec<u8>) {
        let command = self.last_command.map_or("NULL", |name| name.spec().text());
        self.describe_as(now, command, out);
    }

    fn describe_as(&self, now: Now, command: &str, out: &mut Vec<u8>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let resp = if self.protocol == Protocol::Resp2 { 2 } else { 3 };
        writeln!(
            out,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags=N db=0 sub=0 psub=0 ssub=0 \
             multi=-1 qbuf={} qbuf-free={} argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll={} omem={} \
             tot-mem={} events=r cmd={command} user=default redir=-1 resp={resp} lib-name={} \
             lib-ver={}",
            self.id.to_raw(),
            self.peer.address,
            self.peer.local,
            text(&self.name),
            now.monotonic.since(self.opened).as_secs(),
            now.monotonic.since(self.heard).as_secs(),
            self.unread(),
            self.input.capacity() - self.input.len(),
            self.queue.outstanding(),
            self.unsent + self.queue.held(),
            size_of::<Self>() + self.bytes_held() + self.unsent,
            text(&self.library_name),
            text(&self.library_version),
        )
        .expect("writing to memory does not fail");
    }

    fn ok(&mut self, out: &mut Vec<u8>) {
        self.reply(out, reply::ok);
    }

    fn hello(&mut self, hello: Hello<'_>, out: &mut Vec<u8>) {
        if let Some(credentials) = hello.auth
            && let Err(error) = self.admit(credentials)
        {
            return self.reply(out, |out| reply::error(out, error));
        }
        if !self.admitted {
            return self.reply(out, |out| reply::error(out, HELLO_WITHOUT_PASSWORD));
        }
        if let Some(name) = hello.name {
            self.name = name.to_vec();
        }
        if let Some(protocol) = hello.protocol {
            self.protocol = protocol;
        }
        let (protocol, id) = (self.protocol, self.id.to_raw() as i64);
        self.reply(out, |out| {
            reply::map(out, protocol, 7);
            let mut pair = |name: &[u8], write: &dyn Fn(&mut Vec<u8>)| {
                reply::bulk(out, name);
                write(out);
            };
            pair(b"server", &|out| reply::bulk(out, b"redis"));
            pair(b"version", &|out| reply::bulk(out, REDIS_VERSION.as_bytes()));
            pair(b"proto", &|out| {
                reply::integer(out, if protocol == Protocol::Resp2 { 2 } else { 3 });
            });
            pair(b"id", &|out| reply::integer(out, id));
            pair(b"mode", &|out| reply::bulk(out, b"cluster"));
            pair(b"role", &|out| reply::bulk(out, b"master"));
            pair(b"modules", &|out| reply::array(out, 0));
        });
    }

    fn auth(&mut self, credentials: Credentials<'_>, out: &mut Vec<u8>) {
        if credentials.user.is_none() && self.settings.password.is_none() {
            return self.reply(out, |out| reply::error(out, NO_PASSWORD_IS_SET));
        }
        match self.admit(credentials) {
            Ok(()) => self.ok(out),
            Err(error) => self.reply(out, |out| reply::error(out, error)),
        }
    }

    /// Lets a client in that knows the password. One that was let in before stays in.
    fn admit(&mut self, credentials: Credentials<'_>) -> Result<(), &'static str> {
        let known = credentials.user.is_none_or(|user| user == b"default");
        // The password is compared for unknown users too, so that time does not tell which exist.
        let right = match &self.settings.password {
            Some(password) => password.admits(credentials.password),
            None => true,
        };
        if !(known && right) {
            return Err("WRONGPASS invalid username-password pair or user is disabled.");
        }
        self.set_admitted(true);
        Ok(())
    }

    fn set_admitted(&mut self, admitted: bool) {
        self.admitted = admitted;
        self.parser.set_limits(self.settings.request_limits(admitted));
    }

    /// As it was at the start; a client must say the password again, and gets time for it.
    fn reset(&mut self, out: &mut Vec<u8>) {
        self.protocol = Protocol::default();
        self.name.clear();
        self.muted = false;
        self.skip_next = false;
        if self.settings.password.is_some() {
            self.asked = self.heard;
            self.set_admitted(false);
        }
        self.reply(out, |out| reply::simple(out, "RESET"));
    }

    fn client_name(&mut self, out: &mut Vec<u8>) {
        let (name, protocol) = (std::mem::take(&mut self.name), self.protocol);
        self.reply(out, |out| match &name[..] {
            b"" => reply::null(out, protocol),
            name => reply::bulk(out, name),
        });
        self.name = name;
    }

    fn client_info(&mut self, now: Now, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        self.describe_as(now, "client|info", &mut text);
        let protocol = self.protocol;
        self.reply(out, |out| reply::verbatim(out, protocol, &text));
    }

    fn client_list(
        &mut self,
        now: Now,
        filter: ClientFilter<'_>,
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        let mut text = Vec::new();
        if !matches!(filter, ClientFilter::None) {
            self.describe_as(now, "client|list", &mut text);
            executor.describe_others(now, self.id, &mut text);
        }
        if let ClientFilter::Ids(ids) = filter {
            let lines = text.split_inclusive(|&byte| byte == b'\n');
            let listed = |line: &&[u8]| {
                ids.iter().any(|id| {
                    let rest = line.strip_prefix(b"id=").and_then(|rest| rest.strip_prefix(id));
                    rest.is_some_and(|rest| rest.starts_with(b" "))
                })
            };
            text = lines.filter(listed).collect::<Vec<_>>().concat();
        }
        let protocol = self.protocol;
        self.reply(out, |out| reply::verbatim(out, protocol, &text));
    }

    /// `SKIP` is about the command after it; neither it nor `OFF` has a reply of its own.
    fn client_reply(&mut self, mode: ReplyMode, out: &mut Vec<u8>) {
        match mode {
            ReplyMode::On => {
                self.muted = false;
                self.skip_next = false;
                self.ok(out);
            }
            ReplyMode::Off => self.muted = true,
            ReplyMode::Skip => self.skip_next = !self.muted,
        }
    }
}

fn time(now: Now, out: &mut Vec<u8>) {
    let millis = now.wall.as_millis();
    reply::array(out, 2);
    for part in [millis / 1000, millis % 1000 * 1000] {
        let mut text = Vec::with_capacity(20);
        number::write(&mut text, part as i64);
        reply::bulk(out, &text);
    }
}

const HELLO_WITHOUT_PASSWORD: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
     AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
     version at the same time";

const NO_PASSWORD_IS_SET: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure \
     your configuration is correct?";
