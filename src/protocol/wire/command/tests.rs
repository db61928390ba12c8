//! What each request means, and what each mistake is answered.

use super::*;
use crate::base::limits::KEY_BYTES_MAX;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::arguments::Arguments;
use crate::protocol::wire::error::CommandError;
use crate::protocol::wire::resp::Parsed;
use crate::protocol::wire::resp::RequestLimits;
use crate::protocol::wire::resp::RequestParser;
use crate::protocol::wire::table::COMMANDS;
use proptest::prelude::*;

const NOW: Wall = Wall::from_millis(1_700_000_000_000);

#[test]
fn mistakes_are_answered_in_the_words_of_redis() {
    for (line, answer) in [
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("get a b", "-ERR wrong number of arguments for 'get' command"),
        ("NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "),
        ("\"\"", "-ERR unknown command '', with args beginning with: "),
        ("foo \"a\\r\\nb\"", "-ERR unknown command 'foo', with args beginning with: 'a  b' "),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command"),
        ("CLIENT NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
        ("CLIENT GETNAME x", "-ERR wrong number of arguments for 'client|getname' command"),
        ("CLIENT REPLY x", "-ERR syntax error"),
        ("CLIENT NO-EVICT x", "-ERR syntax error"),
        ("CLIENT LIST x", "-ERR syntax error"),
        ("CLIENT LIST ID", "-ERR syntax error"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID"),
        ("CLIENT LIST TYPE x", "-ERR Unknown client type 'x'"),
        (
            "CLIENT SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        ("CLIENT SETINFO x y", "-ERR Unrecognized option 'x'"),
        (
            "CLIENT SETINFO lib-ver 'a b'",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.",
        ),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
        ("HELLO 2 FOO", "-ERR Syntax error in HELLO option 'FOO'"),
        ("HELLO 2 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'"),
        (
            "HELLO 2 SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        ("AUTH a b c", "-ERR syntax error"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("SELECT 1", "-ERR SELECT is not allowed in cluster mode"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
        ("RESET x", "-ERR wrong number of arguments for 'reset' command"),
        ("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP."),
        ("COMMAND COUNT x", "-ERR wrong number of arguments for 'command|count' command"),
        ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command"),
        ("CONFIG FOO", "-ERR unknown subcommand 'FOO'. Try CONFIG HELP."),
        ("CLUSTER KEYSLOT", "-ERR wrong number of arguments for 'cluster|keyslot' command"),
        ("CLUSTER COUNTKEYSINSLOT 16384", "-ERR Invalid slot"),
        ("CLUSTER COUNTKEYSINSLOT -1", "-ERR Invalid slot"),
        ("SET k v NOSUCH", "-ERR syntax error"),
        ("SET k v EX", "-ERR syntax error"),
        ("SET k v EX 1 PX 1", "-ERR syntax error"),
        ("SET k v EX 1 KEEPTTL", "-ERR syntax error"),
        ("SET k v KEEPTTL EX 1", "-ERR syntax error"),
        ("SET k v NX XX", "-ERR syntax error"),
        ("SET k v PERSIST", "-ERR syntax error"),
        ("SET k v EX x", "-ERR value is not an integer or out of range"),
        ("SET k v EX x FOO", "-ERR syntax error"),
        ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET k v PX -1", "-ERR invalid expire time in 'set' command"),
        ("SET k v EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET k v PX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SET k v EXAT 9223372036854775807", "-ERR invalid expire time in 'set' command"),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
        ("PSETEX k x v", "-ERR value is not an integer or out of range"),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
        ("GETEX k EX 1 PERSIST", "-ERR syntax error"),
        ("GETEX k KEEPTTL", "-ERR syntax error"),
        ("GETEX k EX", "-ERR syntax error"),
        ("EXPIRE k x", "-ERR value is not an integer or out of range"),
        ("EXPIRE k +1", "-ERR value is not an integer or out of range"),
        ("EXPIRE k 1 FOO", "-ERR Unsupported option FOO"),
        (
            "EXPIRE k 1 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible"),
        ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("EXPIRE k -9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("EXPIRE k 9223372036854775", "-ERR invalid expire time in 'expire' command"),
        ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
        ("GETRANGE k a b", "-ERR value is not an integer or out of range"),
        ("MGET", "-ERR wrong number of arguments for 'mget' command"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command"),
        ("MSET a b c", "-ERR wrong number of arguments for 'mset' command"),
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN 18446744073709551616", "-ERR invalid cursor"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("SCAN 0 COUNT 0", "-ERR syntax error"),
        ("SCAN 0 COUNT", "-ERR syntax error"),
        ("SCAN 0 NOSUCH", "-ERR syntax error"),
        ("SCAN 0 NOSUCH 1", "-ERR syntax error"),
        ("GET ''", "-ERR a key has at least one byte"),
        ("MGET a ''", "-ERR a key has at least one byte"),
        ("DYN.PUT '' '' v", "-ERR a key has at least one byte"),
        ("DYN.GET k NOSUCH", "-ERR syntax error"),
        ("DYN.GET k R", "-ERR R needs a number of replicas"),
        ("DYN.GET k R 0", "-ERR R needs a number of replicas"),
        ("DYN.GET k R x", "-ERR R needs a number of replicas"),
        ("DYN.GET k R -1", "-ERR R needs a number of replicas"),
        ("DYN.GET k R 1 r 2", "-ERR syntax error"),
        ("DYN.GET k W 1", "-ERR syntax error"),
        ("DYN.GET k FANOUT", "-ERR syntax error"),
        ("DYN.GET k FANOUT SOME", "-ERR syntax error"),
        ("DYN.GET k TIMEOUT 0", "-ERR TIMEOUT needs milliseconds"),
        ("DYN.GET k STRICT STRICT", "-ERR syntax error"),
        ("DYN.PUT k '' v EX 0", "-ERR invalid expire time in 'dyn.put' command"),
        ("DYN.PUT k '' v R 1", "-ERR syntax error"),
        ("DYN.PUT k v", "-ERR wrong number of arguments for 'dyn.put' command"),
        ("DYN.DEL k", "-ERR wrong number of arguments for 'dyn.del' command"),
        ("DYN.DEL k '' EX 5", "-ERR syntax error"),
        ("DYN.EXPLAIN k v", "-ERR syntax error"),
        ("DYN.EXPLAIN PUT k v", "-ERR wrong number of arguments for 'dyn.explain' command"),
        ("DYN.STATS a b", "-ERR wrong number of arguments for 'dyn.stats' command"),
    ] {
        let said = refused(line);
        assert!(said.starts_with(answer), "{line}: {said}");
        assert_eq!(said.matches("\r\n").count(), 1);
    }
}

#[test]
fn an_unknown_command_is_not_repeated_at_length() {
    let said = refused(&format!("{} {} c", "A".repeat(200), "b".repeat(200)));
    let expected = format!(
        "-ERR unknown command '{}', with args beginning with: '{}' \r\n",
        "A".repeat(128),
        "b".repeat(128)
    );
    assert_eq!(said, expected);
}

#[test]
fn what_cannot_be_right_is_refused_with_its_reason_and_a_way_out() {
    for line in [
        "SET k v NX",
        "SET k v XX",
        "SET k v EX 10 NX",
        "SETNX k v",
        "MSETNX k v",
        "INCR k",
        "INCRBY k 2",
        "DECR k",
        "DECRBY k 2",
        "INCRBYFLOAT k 1.5",
        "APPEND k v",
        "SETRANGE k 0 v",
        "MULTI",
        "EXEC",
        "DISCARD",
        "WATCH k",
        "UNWATCH",
        "EVAL 'return 1' 0",
        "EVALSHA x 0",
        "FCALL f 0",
        "SCRIPT LOAD x",
        "RENAME k l",
        "RENAMENX k l",
        "COPY k l",
        "EXPIRE k 1 NX",
        "PEXPIRE k 1 gt",
        "KEYS *",
        "FLUSHALL",
        "CONFIG SET maxmemory 1",
    ] {
        let said = refused(line);
        assert!(said.starts_with("-ERR "), "{said}");
        assert!(!said.contains("unknown command") && !said.contains("syntax error"), "{said}");
        assert!(said.contains("DYN.") || said.contains("use "), "{said}");
    }
}

#[test]
fn names_of_clients_have_a_bound() {
    let longest = "n".repeat(1024);
    for words in [&["CLIENT", "SETNAME"][..], &["CLIENT", "SETINFO", "LIB-NAME"]] {
        let bytes = frame(&[words, &[&longest]].concat());
        parsed(&bytes, |command| assert!(command.is_ok()));
        assert!(refused(&format!("{} {longest}n", words.join(" "))).starts_with("-TOOBIG "));
    }
}

#[test]
fn keys_have_a_bound() {
    let longest = "k".repeat(KEY_BYTES_MAX);
    let bytes = frame(&["GET", &longest]);
    parsed(&bytes, |command| assert!(matches!(command, Ok(Command::Key(_)))));
    let bytes = frame(&["MSET", "a", "v", &format!("{longest}k"), "v"]);
    parsed(&bytes, |command| {
        let mut out = Vec::new();
        command.expect_err("too long").write(&mut out);
        assert_eq!(out, b"-TOOBIG a key of 16385 bytes, 16384 are the limit\r\n");
    });
}

#[test]
fn set_knows_its_options() {
    let set = |expiry, previous| Operation::Set { value: b"v", expiry, previous };
    let at = |millis| SetExpiry::At(Wall::from_millis(millis));
    let now = NOW.as_millis();
    for (line, meant) in [
        ("SET k v", set(SetExpiry::Never, false)),
        ("set k v get", set(SetExpiry::Never, true)),
        ("SET k v EX 10", set(at(now + 10_000), false)),
        ("SET k v ex 1 EX 2", set(at(now + 2_000), false)),
        ("SET k v PX 10 GET", set(at(now + 10), true)),
        ("SET k v EXAT 5", set(at(5_000), false)),
        ("SET k v PXAT 9223372036854775807", set(at(i64::MAX as u64), false)),
        ("SET k v KEEPTTL KEEPTTL", set(SetExpiry::Keep, false)),
        ("SETEX k 10 v", set(at(now + 10_000), false)),
        ("PSETEX k 10 v", set(at(now + 10), false)),
        ("GETSET k v", set(SetExpiry::Never, true)),
        ("MSET k v", set(SetExpiry::Never, false)),
    ] {
        assert_operation(line, meant);
    }
}

#[test]
fn the_commands_of_one_key_mean_what_they_say() {
    let at = |millis| Wall::from_millis(millis);
    let now = NOW.as_millis();
    for (line, meant) in [
        ("GET k", Operation::Get),
        ("GETDEL k", Operation::GetDel),
        ("GETEX k", Operation::GetEx(ExpiryChange::Leave)),
        ("GETEX k PERSIST", Operation::GetEx(ExpiryChange::Remove)),
        ("GETEX k PX 5", Operation::GetEx(ExpiryChange::At(at(now + 5)))),
        ("STRLEN k", Operation::StrLen),
        ("GETRANGE k -3 4", Operation::GetRange { first: -3, last: 4 }),
        ("TYPE k", Operation::Type),
        ("EXPIRE k 10", Operation::Expire(at(now + 10_000))),
        ("EXPIRE k -10", Operation::Expire(at(now - 10_000))),
        ("PEXPIREAT k -1", Operation::Expire(at(0))),
        ("EXPIREAT k 7", Operation::Expire(at(7_000))),
        ("PEXPIRE k 7", Operation::Expire(at(now + 7))),
        ("TTL k", ttl(false, false)),
        ("PTTL k", ttl(true, false)),
        ("EXPIRETIME k", ttl(false, true)),
        ("PEXPIRETIME k", ttl(true, true)),
        ("PERSIST k", Operation::Persist),
        ("DEL k", Operation::Delete),
        ("UNLINK k", Operation::Delete),
        ("EXISTS k", Operation::Exists),
        ("TOUCH k", Operation::Exists),
        ("DYN.OWNERS k", Operation::Owners),
    ] {
        assert_operation(line, meant);
    }
}

#[test]
fn the_options_of_the_dynamo_commands_come_in_any_order() {
    let read = ReadOptions {
        r: Some(2),
        pr: Some(1),
        strict: true,
        fanout_all: true,
        timeout_millis: Some(500),
    };
    assert_operation("DYN.GET k", Operation::DynGet(ReadOptions::default()));
    assert_operation("DYN.GET k FANOUT ALL TIMEOUT 500 strict PR 1 R 2", Operation::DynGet(read));
    assert_operation(
        "DYN.EXPLAIN GET k R 2 PR 1 STRICT FANOUT ALL TIMEOUT 500",
        Operation::ExplainGet(read),
    );
    let options = WriteOptions {
        w: Some(3),
        pw: Some(2),
        dw: Some(1),
        strict: true,
        timeout_millis: Some(9),
    };
    let expiry = Some(Wall::from_millis(NOW.as_millis() + 7_000));
    let put = Put { context: b"c", value: b"v", expiry, options };
    assert_operation("DYN.PUT k c v EX 7 W 3 PW 2 DW 1 STRICT TIMEOUT 9", Operation::DynPut(put));
    assert_operation(
        "DYN.EXPLAIN PUT k c v TIMEOUT 9 STRICT DW 1 PW 2 W 3 EX 7",
        Operation::ExplainPut(put),
    );
    let options = WriteOptions { w: Some(1), ..WriteOptions::default() };
    assert_operation("DYN.DEL k c w 1", Operation::DynDel { context: b"c", options });
}

#[test]
fn commands_over_many_keys_are_commands_over_one() {
    parsed(b"MSET a 1 b 2 a 3\n", |command| {
        let Ok(Command::Keys(keys)) = command else { panic!("several keys") };
        assert_eq!((keys.kind, keys.len()), (KeysKind::AllSet, 3));
        let value = b"3";
        let operation = Operation::Set { value, expiry: SetExpiry::Never, previous: false };
        assert_eq!(keys.part(2), KeyCommand { key: b"a", operation });
    });
    for (line, kind, operation) in [
        (&b"MGET a b\n"[..], KeysKind::Values, Operation::Get),
        (b"DEL a b\n", KeysKind::Deleted, Operation::Delete),
        (b"UNLINK a b\n", KeysKind::Deleted, Operation::Delete),
        (b"EXISTS a b\n", KeysKind::Existing, Operation::Exists),
        (b"TOUCH a b\n", KeysKind::Existing, Operation::Exists),
    ] {
        parsed(line, |command| {
            let Ok(Command::Keys(keys)) = command else { panic!("several keys") };
            assert_eq!((keys.kind, keys.len()), (kind, 2));
            assert_eq!(keys.part(1), KeyCommand { key: b"b", operation });
        });
    }
    // An array of one is still an array.
    parsed(b"MGET a\n", |command| {
        assert!(matches!(command, Ok(Command::Keys(keys)) if keys.len() == 1));
    });
}

#[test]
fn scan_takes_its_options_in_any_order() {
    parsed(b"SCAN 17 CLUSTER COUNT 20 match a* TYPE string\n", |command| {
        let Ok(Command::Node(NodeCommand::Scan(scan))) = command else { panic!("a scan") };
        let meant = Scan {
            cursor: 17,
            pattern: Some(b"a*"),
            count: 20,
            kind: Some(b"string"),
            cluster: true,
        };
        assert_eq!(scan, meant);
    });
    let bytes = frame(&["SCAN", "0", "MATCH", &"*".repeat(1025)]);
    parsed(&bytes, |command| assert!(command.is_err()));
}

#[test]
fn hello_says_protocol_password_and_name() {
    parsed(b"HELLO 3 SETNAME me AUTH default secret\n", |command| {
        let Ok(Command::Connection(ConnectionCommand::Hello(hello))) = command else {
            panic!("a hello")
        };
        assert_eq!(hello.protocol, Some(Protocol::Resp3));
        assert_eq!(hello.name, Some(&b"me"[..]));
        let auth = hello.auth.expect("a password");
        assert_eq!((auth.user, auth.password), (Some(&b"default"[..]), &b"secret"[..]));
    });
}

#[test]
fn times_are_told_as_redis_tells_them() {
    let at = Wall::from_millis;
    let seconds = TtlForm { millis: false, absolute: false };
    assert_eq!(seconds.value(at(100_000), at(500)), 100);
    assert_eq!(seconds.value(at(100_000), at(501)), 99);
    assert_eq!(seconds.value(at(5), at(9)), 0);
    let absolute = TtlForm { millis: true, absolute: true };
    assert_eq!(absolute.value(at(4_102_444_800_123), at(9)), 4_102_444_800_123);
}

#[test]
fn ranges_are_those_of_redis() {
    for (first, last, expected) in [
        (1, 3, 1..4),
        (-3, -1, 2..5),
        (3, 99, 3..5),
        (9, 12, 0..0),
        (3, 1, 0..0),
        (0, -1, 0..5),
        (-99, 1, 0..2),
        (-99, -98, 0..1),
        (-1, -99, 0..0),
        (i64::MIN, i64::MAX, 0..5),
    ] {
        assert_eq!(range_within(5, first, last), expected, "{first} {last}");
    }
    assert_eq!(range_within(0, 0, -1), 0..0);
}

/// Each row of the table with as many arguments as it asks for: the parser knows it, and counts
/// as the row says.
#[test]
fn every_command_of_the_table_is_parsed_and_counted() {
    for spec in COMMANDS {
        let rows =
            if spec.subcommands.is_empty() { std::slice::from_ref(spec) } else { spec.subcommands };
        for row in rows {
            let mut words: Vec<&str> = row.text().split('|').collect();
            let least = row.arity.unsigned_abs() as usize;
            let fill = ["1", "1", "1"];
            words.extend(&fill[..least - words.len()]);
            match row.text() {
                "select" => words[1] = "0",
                "hello" => words.push("2"),
                "client|setinfo" => words[2] = "lib-name",
                "client|no-evict" | "client|reply" => words[2] = "on",
                "dyn.explain" => words[1] = "get",
                _ => {}
            }
            parsed(&frame(&words), |command| {
                assert!(command.is_ok(), "{words:?}: {command:?}");
            });
            let fewer = &words[..least - 1];
            // `COMMAND` is a command without its subcommand too.
            if !fewer.is_empty() && fewer != ["command"] {
                parsed(&frame(fewer), |command| {
                    let error = command.expect_err("too few");
                    let arity = matches!(error, CommandError::Arity(_));
                    assert!(arity || !spec.subcommands.is_empty(), "{fewer:?}: {error:?}");
                });
            }
            if row.arity > 0 {
                words.push("1");
                parsed(&frame(&words), |command| {
                    assert!(matches!(command, Err(CommandError::Arity(_))), "{words:?}");
                });
            }
        }
    }
}

/// What `COMMAND` tells clients about keys is where the parser finds them.
#[test]
fn the_keys_of_the_table_are_the_keys_of_the_parser() {
    for line in [
        "GET a",
        "SET a v",
        "DYN.GET a",
        "DYN.PUT a c v",
        "DYN.EXPLAIN GET a",
        "TTL a",
        "MGET a b c",
        "MSET a 1 b 2",
        "DEL a b",
        "GETRANGE a 0 1",
        "DYN.EXPLAIN PUT a c v",
    ] {
        let bytes = format!("{line}\n").into_bytes();
        let (arguments, _) = read(&bytes);
        let request = arguments.of(&bytes);
        let told: Vec<&[u8]> = identify(request).expect("known").spec().keys_of(request).collect();
        let found: Vec<&[u8]> = match parse(request, NOW).expect("right") {
            Command::Key(command) => vec![command.key],
            Command::Keys(keys) => (0..keys.len()).map(|index| keys.part(index).key).collect(),
            other => panic!("no keys in {other:?}"),
        };
        assert_eq!(told, found, "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any words after any name give a command or an error of one line.
    #[test]
    fn any_words_are_a_command_or_a_mistake(
        name in prop::sample::select(COMMANDS.iter().map(|spec| spec.name).collect::<Vec<_>>()),
        words in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec!["EX", "PX", "NX", "GET", "R", "W", "STRICT", "1", "-1", "0",
                    "MATCH", "COUNT", "AUTH", "SETNAME", "ID", "TYPE", "LIST", "REPLY", "KEYSLOT",
                    "FANOUT", "ALL", "PUT", "KEEPTTL", "9223372036854775807", "CLUSTER", "3"])
                    .prop_map(|word| word.as_bytes().to_vec()),
                any::<Vec<u8>>(),
            ],
            0..9,
        ),
    ) {
        let words: Vec<&[u8]> = std::iter::once(name).chain(words.iter().map(|word| &word[..])).collect();
        let bytes = frame_of(&words);
        parsed(&bytes, |command| {
            if let Err(error) = command {
                let mut out = Vec::new();
                error.write(&mut out);
                assert!(out.starts_with(b"-") && out.ends_with(b"\r\n"));
                assert_eq!(out.iter().filter(|&&byte| matches!(byte, b'\r' | b'\n')).count(), 2);
            }
        });
    }
}

fn assert_operation(line: &str, operation: Operation<'_>) {
    parsed(format!("{line}\n").as_bytes(), |command| match command {
        Ok(Command::Key(command)) => assert_eq!(command, KeyCommand { key: b"k", operation }),
        other => panic!("{line}: {other:?}"),
    });
}

fn ttl(millis: bool, absolute: bool) -> Operation<'static> {
    Operation::Ttl(TtlForm { millis, absolute })
}

fn refused(line: &str) -> String {
    let mut out = Vec::new();
    parsed(format!("{line}\n").as_bytes(), |command| {
        command.expect_err(line).write(&mut out);
    });
    String::from_utf8(out).expect("text")
}

fn parsed(bytes: &[u8], look: impl FnOnce(Result<Command<'_>, CommandError<'_>>)) {
    let (arguments, consumed) = read(bytes);
    assert_eq!(consumed, bytes.len());
    look(parse(arguments.of(bytes), NOW));
}

fn read(bytes: &[u8]) -> (Arguments, usize) {
    let mut arguments = Arguments::default();
    let mut parser = RequestParser::new(RequestLimits::admitted(1 << 20));
    match parser.parse(bytes, &mut arguments) {
        Parsed::Request { consumed } => (arguments, consumed),
        other => panic!("{other:?}"),
    }
}

fn frame(words: &[&str]) -> Vec<u8> {
    frame_of(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
}

fn frame_of(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
