//! The house rules, checked by reading the source.
//!
//! Rust lets any module of a crate import any other. These tests are the walls that the language
//! does not give us: imports go one way, machines never wait, and what is dangerous has one room.
//! They read text, so a macro could hide an import from them; a reviewer looks at macros.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// A room, and the rooms it may import besides itself. What is not listed is refused.
///
/// Read it upwards: a room may use what stands above it, and rooms in one block never meet.
const RULES: &[(&str, &[&str])] = &[
    ("base", &[]),
    //
    ("protocol/version", &["base"]),
    ("protocol/ring", &["base"]),
    ("storage", &["base"]),
    //
    ("protocol/wire", &["base", "protocol/version", "protocol/ring"]),
    //
    ("protocol/session", &["base", "protocol/wire"]),
    ("protocol/peers", &["base", "protocol/wire"]),
    ("protocol/coordinator", &["base", "protocol/version", "protocol/ring", "protocol/wire"]),
    ("protocol/replica", &["base", "protocol/version", "protocol/wire", "storage"]),
    //
    (
        "protocol/shard",
        &[
            "base",
            "storage",
            "protocol/version",
            "protocol/ring",
            "protocol/wire",
            "protocol/session",
            "protocol/peers",
            "protocol/coordinator",
            "protocol/replica",
        ],
    ),
    //
    (
        "config",
        &[
            "base",
            "storage",
            "protocol/version",
            "protocol/ring",
            "protocol/session",
            "protocol/coordinator",
            "protocol/shard",
        ],
    ),
    //
    (
        "engine",
        &["base", "storage", "protocol/wire", "protocol/session", "protocol/shard", "config"],
    ),
    (
        "sim",
        &[
            "base",
            "storage",
            "protocol/ring",
            "protocol/version",
            "protocol/wire",
            "protocol/peers",
            "protocol/session",
            "protocol/coordinator",
            "protocol/shard",
        ],
    ),
    //
    (
        "cli",
        &[
            "base",
            "storage",
            "protocol/ring",
            "protocol/wire",
            "protocol/shard",
            "config",
            "engine",
        ],
    ),
];

/// Rooms that may wait. A machine that waits is one that the simulator cannot hold still.
const MAY_WAIT: &[&str] = &["engine", "cli"];

/// The only room that may say `unsafe`, and that may name the crates that own the kernel's rings.
const DRIVER: &str = "engine";

/// Crates that belong to the driver: one room to change, should one of them have to go.
const DRIVER_CRATES: &[&str] = &["glommio", "io_uring"];

#[test]
fn imports_go_one_way() {
    let mut broken = Vec::new();
    for (file, room, lines) in rooms() {
        let allowed = allowed(&room);
        for (number, code) in lines {
            for target in imports(&code) {
                if target != room && !allowed.contains(&target.as_str()) {
                    broken.push(format!("{file}:{number}: {room} may not import {target}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// The table itself goes one way: whoever adds a room finds its place in the picture.
#[test]
fn a_room_imports_only_what_stands_above_it() {
    for (index, (room, allowed)) in RULES.iter().enumerate() {
        for target in *allowed {
            let above = RULES[..index].iter().any(|(name, _)| name == target);
            assert!(above, "{room} imports {target}, which does not stand above it in RULES");
        }
    }
}

/// Whatever `imports` cannot read is not written: lists in braces, `super` beyond the own room,
/// and other names for this crate.
#[test]
fn imports_are_spelled_out() {
    let mut hidden = Vec::new();
    for path in rust_files(Path::new("src")) {
        let room_door = is_door(&path);
        let mut inside_module = false;
        for (number, code) in code_of(&path) {
            // In the file that is the room's door, `super` is outside; in a module within it, the door.
            inside_module |= code.starts_with("mod ") && code.ends_with('{');
            let is_import = code.trim_start().trim_start_matches("pub ").starts_with("use ");
            let list = is_import && code.contains('{');
            let far = code.contains("super::super::");
            let leaves = room_door && !inside_module && !words(&code, "super").is_empty();
            let renamed = code.contains("crate as ") || code.contains("extern crate");
            if list || far || leaves || renamed {
                hidden.push(format!("{}:{number}: {}", path.display(), code.trim()));
            }
        }
    }
    assert!(hidden.is_empty(), "write one full path for each import:\n{}\n", hidden.join("\n"));
}

#[test]
fn every_file_says_why_it_exists() {
    let folders = ["src", "tests", "benches", "tools"];
    let silent: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| rust_files(Path::new(folder)))
        .filter(|file| !read(file).starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "no module doc: {silent:?}");
}

#[test]
fn machines_never_wait() {
    refuse("may not wait", |room, code| {
        let waits = ["async", "await"].iter().any(|word| !words(code, word).is_empty());
        waits && !MAY_WAIT.contains(&room)
    });
}

#[test]
fn only_the_driver_is_unsafe() {
    refuse("may not be unsafe", |room, code| !words(code, "unsafe").is_empty() && room != DRIVER);
}

#[test]
fn only_the_driver_names_the_rings_of_the_kernel() {
    refuse("may not name it", |room, code| {
        let names = |name: &str| {
            words(code, name).iter().any(|at| {
                let after = &code[at + name.len()..];
                let before = code[..*at].trim_end();
                after.starts_with("::") || before.ends_with("use") || before.ends_with("crate")
            })
        };
        DRIVER_CRATES.iter().any(|name| names(name)) && room != DRIVER
    });
}

/// Fails with every line of a room that is `wrong`.
fn refuse(why: &str, wrong: impl Fn(&str, &str) -> bool) {
    let mut broken = Vec::new();
    for path in rust_files(Path::new("src")) {
        let room = room_of(&path).unwrap_or_else(|| "the frame".to_owned());
        for (number, code) in code_of(&path) {
            if wrong(&room, &code) {
                broken.push(format!("{}:{number}: {room} {why}: {}", path.display(), code.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn allowed(room: &str) -> &'static [&'static str] {
    let rule = RULES.iter().find(|(name, _)| *name == room);
    let (_, allowed) = rule.unwrap_or_else(|| {
        panic!("{room} has no line in RULES: decide its place before filling it")
    });
    allowed
}

type Lines = Vec<(usize, String)>;

/// Each file that is in a room, with its room and its lines of code.
fn rooms() -> Vec<(String, String, Lines)> {
    let mut found = Vec::new();
    for path in rust_files(Path::new("src")) {
        if let Some(room) = room_of(&path) {
            found.push((path.display().to_string(), room, code_of(&path)));
        }
    }
    assert!(found.len() > 20, "the source was not found");
    found
}

/// `crate::protocol::version::X` names the room `protocol/version`; `crate::base::X` names `base`.
fn imports(code: &str) -> Vec<String> {
    code.match_indices("crate::")
        .map(|(at, prefix)| {
            let mut parts = code[at + prefix.len()..].split("::").map(identifier);
            room_name(parts.next().unwrap_or(""), parts.next())
        })
        .collect()
}

/// `src/protocol/version/dot.rs` is in `protocol/version`; `src/config.rs` is its own room.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").expect("only files of src are listed").with_extension("");
    let parts: Vec<&str> = inside.iter().map(|part| part.to_str().expect("plain names")).collect();
    match parts[..] {
        ["lib" | "main"] | ["protocol", "mod"] => None,
        [first, ..] => Some(room_name(first, parts.get(1).copied())),
        [] => unreachable!("a file has a name"),
    }
}

/// Whether the file is the root of its room: there, `super` names another room.
fn is_door(file: &Path) -> bool {
    let Some(room) = room_of(file) else { return true };
    let folder = Path::new("src").join(room);
    *file == folder.join("mod.rs") || *file == folder.with_extension("rs")
}

fn room_name(first: &str, second: Option<&str>) -> String {
    match (first, second) {
        ("protocol", Some(second)) => format!("{first}/{second}"),
        _ => first.to_owned(),
    }
}

/// The identifier that `text` begins with.
fn identifier(text: &str) -> &str {
    let end = text.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// Where `word` stands in `code` as a word of its own.
fn words(code: &str, word: &str) -> Vec<usize> {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| !code[..*at].ends_with(part) && !code[at + word.len()..].starts_with(part))
        .collect()
}

/// The lines of a file with their numbers, without comments and what stands in quotes.
fn code_of(file: &Path) -> Lines {
    let lines = read(file);
    lines.lines().enumerate().map(|(index, line)| (index + 1, without_words(line))).collect()
}

fn without_words(line: &str) -> String {
    let mut code = String::new();
    for (index, part) in line.replace("\\\"", "").replace("'\"'", "").split('"').enumerate() {
        if index % 2 == 0 {
            if let Some((before, _)) = part.split_once("//") {
                code.push_str(before);
                break;
            }
            code.push_str(part);
        }
    }
    code.trim_end().to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.expect("readable entry").path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("a listed file is readable")
}
