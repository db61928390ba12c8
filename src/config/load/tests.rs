//! What a configuration is made of, and what is refused with which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::Sources;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::KEYS;
use crate::config::Kind;
use crate::config::LogFormat;
use crate::protocol::coordinator::Durability;
use crate::protocol::coordinator::Namespace;
use crate::protocol::version::Conflict;

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let mut sources = file("maxclients = 1\ngarbage_percent = 10\npin = false\n");
    sources.environment = vec![
        ("STATOR_MAXCLIENTS".to_owned(), "2".to_owned()),
        ("STATOR_GARBAGE_PERCENT".to_owned(), "20".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    sources.flags = vec![("maxclients", "3".to_owned())];
    let config = load(&sources).expect("it is right");
    let expected = Config { maxclients: 3, garbage_percent: 20, pin: false, ..Config::default() };
    assert_eq!(config, expected);
}

#[test]
fn the_printed_file_makes_the_same_configuration() {
    let mut sources = file(
        "listen = \"[::1]:7100\"\nshards = 3\nvalue_bytes_max = \"1536B\"\nlog = \"json\"\n\
         peer_listen = \"127.0.0.1:9\"\ndata = \"with \\\"quotes\\\" and \\\\\"\n\
         [namespace.\"\"]\nn = 5\n\
         [namespace.\"a\\\"b:\"]\ndurability = \"interval:50ms,1MiB,7obj\"\nconflict = \"lww\"\n",
    );
    let config = load(&sources).expect("it is right");
    assert_eq!(config.log, LogFormat::Json);
    assert_eq!(config.namespaces["a\"b:"].conflict, Conflict::Lww);
    let majority = Namespace { n: 5, r: 3, w: 3, ..Namespace::default() };
    assert_eq!(config.namespaces[""], majority);
    sources = file(&config.print());
    assert_eq!(load(&sources), Ok(config));
    assert_eq!(load(&file(&Config::default().print())), Ok(Config::default()));
}

#[test]
fn every_key_is_printed_with_its_comment_and_can_be_set_everywhere() {
    let printed = Config::default().print();
    for key in KEYS {
        assert!(printed.contains(&format!("\n{} = ", key.name)), "{}", key.name);
        let line = printed.lines().find(|line| line.starts_with(&format!("{} = ", key.name)));
        let shown = line.and_then(|line| line.split_once(" = ")).expect("it is printed").1;
        let text = match key.kind {
            Kind::Text(_) => shown.trim_matches('"'),
            Kind::Number | Kind::Switch => shown,
        };
        let sources = Sources {
            environment: vec![(key.variable(), text.to_owned())],
            flags: vec![(key.name, text.to_owned())],
            ..Sources::default()
        };
        assert_eq!(load(&sources), Ok(Config::default()), "{}", key.name);
    }
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_named() {
    refused("maxclient = 5\n", &["maxclient", "\"maxclients\""]);
    refused("[namespace.\"cart:\"]\ndurabilty = \"sync\"\n", &["cart:", "\"durability\""]);
    refused("[namespaces.\"cart:\"]\nn = 3\n", &["\"namespace\""]);
    refused("password = \"word\"\n", &["password_file", "STATOR_PASSWORD"]);
}

#[test]
fn a_wrong_value_is_refused_with_what_would_be_right() {
    for (text, words) in [
        ("this is no toml", ["line 1", ""]),
        ("pin = true\npin = true\n", ["line 2", ""]),
        ("shards = \"two\"\n", ["shards", "number"]),
        ("shards = 70000\n", ["shards", "0 to 256"]),
        ("listen = \"nonsense\"\n", ["listen", "127.0.0.1:7000"]),
        ("listen = \"127.0.0.1:0\"\n", ["listen", "127.0.0.1:7000"]),
        ("listen = \"127.0.0.1:65530\"\n", ["listen", "ports"]),
        ("value_bytes_max = 1048576\n", ["value_bytes_max", "quotes"]),
        ("value_bytes_max = \"1048576\"\n", ["value_bytes_max", "unit"]),
        ("value_bytes_max = \"65MiB\"\n", ["value_bytes_max", "64MiB"]),
        ("value_bytes_max = \"40MiB\"\n", ["segment_bytes", "value"]),
        ("segment_bytes = \"256MiB\"\n", ["segment_bytes", "128MiB"]),
        ("segment_bytes = \"1048577B\"\n", ["segment_bytes", "pages"]),
        ("unsynced_bytes = \"1MiB\"\n", ["unsynced_bytes", "2MiB"]),
        ("client_bytes = \"1MiB\"\n", ["client_bytes", "8MiB"]),
        ("resident_bytes = \"99999999GiB\"\n", ["resident_bytes", "beyond"]),
        ("partitions = 1000\n", ["partitions", "power of two"]),
        ("partitions = 8\n", ["partitions", "16 to 16384"]),
        ("garbage_percent = 0\n", ["garbage_percent", "1 to 99"]),
        ("name = \"a b\"\n", ["name", "letters"]),
        ("request_timeout = \"5\"\n", ["request_timeout", "unit"]),
        ("request_timeout = \"601s\"\n", ["request_timeout", "600s"]),
        ("log = \"xml\"\n", ["log", "text | json"]),
        ("peer_listen = \"0.0.0.0:7002\"\n", ["peer_listen", "secret"]),
        ("listen = \"[::]:7000\"\n", ["peer_listen", "secret"]),
        ("namespace = 5\n", ["namespace", ""]),
        ("[namespace.\"a:\"]\nn = \"three\"\n", ["a:", "n = "]),
        ("[namespace.\"a:\"]\nn = 2\nr = 3\n", ["a:", "r = 3"]),
        ("[namespace.\"a:\"]\nw = 4\n", ["a:", "w = 4"]),
        ("[namespace.\"a:\"]\nr = 0\n", ["a:", "r = 0"]),
        ("[namespace.\"a:\"]\ndurability = \"sometimes\"\n", ["a:", "sync | one:100ms"]),
        ("[namespace.\"a:\"]\nconflict = \"merge\"\n", ["a:", "siblings | lww"]),
    ] {
        refused(text, &words);
    }
}

#[test]
fn a_value_as_long_as_can_be_fits_a_long_segment() {
    let text = "value_bytes_max = \"64MiB\"\nsegment_bytes = \"128MiB\"\n\
                unsynced_bytes = \"128MiB\"\nclient_bytes = \"1GiB\"\n";
    assert!(load(&file(text)).is_ok());
}

#[test]
fn a_secret_comes_by_file_or_environment_and_is_shown_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    fs::write(&path, "in the file\n").expect("written");
    let mut sources = file(&format!("password_file = \"{}\"\n", path.display()));

    set_mode(&path, 0o640);
    let error = load(&sources).expect_err("others may read it").to_string();
    assert!(error.contains("600") && error.contains("password_file"), "{error}");

    set_mode(&path, 0o600);
    let config = load(&sources).expect("it is right");
    assert_eq!(config.password.as_ref().map(super::Secret::reveal), Some("in the file"));

    sources.environment = vec![("STATOR_PASSWORD".to_owned(), "hunter2".to_owned())];
    let config = load(&sources).expect("it is right");
    let settings = config.session();
    assert!(settings.password.as_ref().is_some_and(|password| password.admits(b"hunter2")));
    let shown = format!("{config:?} {settings:?} {}", config.print());
    assert!(!shown.contains("hunter2") && !shown.contains("in the file"));

    sources.environment = vec![("STATOR_PASSWORD".to_owned(), " ".to_owned())];
    let error = load(&sources).expect_err("it protects nothing").to_string();
    assert!(error.contains("STATOR_PASSWORD"), "{error}");
}

#[test]
fn a_missing_secret_is_refused_and_not_left_out() {
    refused("cluster_secret_file = \"/nonexistent/secret\"\n", &["cluster_secret_file"]);
}

#[test]
fn with_a_secret_a_node_may_be_reached_from_elsewhere() {
    let mut sources = file("listen = \"0.0.0.0:7000\"\n");
    sources.environment = vec![("STATOR_CLUSTER_SECRET".to_owned(), "s".to_owned())];
    assert!(load(&sources).is_ok());
}

#[test]
fn variables_that_mean_nothing_are_told() {
    let variables = ["STATOR_PROT", "STATOR_PASSWORD", "STATOR_CONFIG", "HOME"];
    let environment = variables.map(|name| (name.to_owned(), "x".to_owned())).to_vec();
    let loaded = Config::load(&Sources { environment, ..Sources::default() });
    assert_eq!(loaded.expect("it is right").unknown_variables, ["STATOR_PROT"]);
}

#[test]
fn rooms_get_what_was_set() {
    let text = "segment_bytes = \"8MiB\"\ngarbage_percent = 33\nvalue_bytes_max = \"2MiB\"\n\
                [namespace.\"fast:\"]\ndurability = \"one:5ms\"\n";
    let config = load(&file(text)).expect("it is right");
    let storage = config.storage(crate::base::id::LogId::new(7));
    assert_eq!((storage.segment_bytes, storage.garbage_percent), (8 << 20, 33));
    assert_eq!(config.session().value_bytes_max, 2 << 20);
    let namespaces = config.namespaces();
    assert!(matches!(namespaces.of(b"fast:1").durability, Durability::One(_)));
    assert_eq!(namespaces.of(b"slow:1").durability, Durability::Sync);
    assert_eq!(config.core_listen(1).to_string(), "127.0.0.1:7011");
    assert_eq!(config.peer_listen().to_string(), "127.0.0.1:7002");
}

fn refused(text: &str, words: &[&str]) {
    let error = load(&file(text)).expect_err(text).to_string();
    assert!(error.starts_with("stator.toml: ") || !error.contains("stator.toml"), "{error}");
    assert!(!error.contains('\n'), "not one line: {error}");
    assert!(words.iter().all(|word| error.contains(word)), "{error:?} lacks one of {words:?}");
}

fn file(text: &str) -> Sources {
    let file = Some((PathBuf::from("stator.toml"), text.to_owned()));
    Sources { file, ..Sources::default() }
}

fn load(sources: &Sources) -> Result<Config, ConfigError> {
    Config::load(sources).map(|loaded| loaded.config)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}
