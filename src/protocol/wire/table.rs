//! What is known of a command before it is parsed: name, arity, flags, and where its keys stand.
//!
//! `COMMAND` serves this to clients, which route by it; the parser takes arities from it. The
//! rows are in `commands`.

use super::arguments::Request;
use super::commands;
pub use super::commands::COMMANDS;
pub use super::commands::Name;

/// One command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// In lower case; a subcommand's is `container|name`.
    pub name: &'static [u8],
    /// Arguments with the name: so many, or at least so many where it is negative.
    pub arity: i8,
    /// What Redis calls flags, one bit each.
    pub flags: u32,
    /// The family that documentation lists it in.
    pub group: Group,
    /// The version that brought it: of Redis, or of this store for its own.
    pub since: &'static str,
    /// How its cost grows.
    pub cost: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Hints for clients that spread commands over nodes.
    pub tips: &'static [&'static str],
    /// Where its keys stand, if it has keys.
    pub keys: Option<Keys>,
    /// Whether Redis warns of it though only administrators' commands are dangerous.
    pub dangerous: bool,
    /// The access category that its family, or an exception that Redis makes, puts it in.
    pub category: Option<&'static str>,
    /// What may follow a container.
    pub subcommands: &'static [Spec],
}

/// Where the keys of a command stand, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The first key's place; the name is at 0.
    pub first: i8,
    /// The last key's; counted from the end where negative.
    pub last: i8,
    /// From one key to the next.
    pub step: i8,
    /// What Redis calls key flags.
    pub flags: &'static [&'static str],
    /// A remark on them.
    pub notes: Option<&'static str>,
}

/// The family that documentation lists a command in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "they are their own names")]
pub enum Group {
    String,
    Generic,
    Connection,
    Server,
    Cluster,
    Dynamo,
}

impl Group {
    /// Its name in documentation.
    pub fn text(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Generic => "generic",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Cluster => "cluster",
            Self::Dynamo => "dynamo",
        }
    }

    /// The access category that follows from it, if one does.
    const fn category(self) -> Option<&'static str> {
        match self {
            Self::String => Some("@string"),
            Self::Generic => Some("@keyspace"),
            Self::Connection => Some("@connection"),
            Self::Server | Self::Cluster | Self::Dynamo => None,
        }
    }
}

/// No flag.
pub const NONE: u32 = 0;
/// It changes keys.
pub const WRITE: u32 = 1;
/// It reads keys and changes none.
pub const READONLY: u32 = 1 << 1;
/// It is refused when memory is short.
pub const DENYOOM: u32 = 1 << 2;
/// It is for administrators.
pub const ADMIN: u32 = 1 << 3;
/// It is not for scripts.
pub const NOSCRIPT: u32 = 1 << 4;
/// It works while data is loaded.
pub const LOADING: u32 = 1 << 5;
/// It works where data may be old.
pub const STALE: u32 = 1 << 6;
/// It takes constant time.
pub const FAST: u32 = 1 << 7;
/// It works before a password.
pub const NO_AUTH: u32 = 1 << 8;
/// It works while a script runs.
pub const ALLOW_BUSY: u32 = 1 << 9;

/// The words of Redis for the flags, in the order of their bits, which is Redis's order.
pub const FLAG_NAMES: [&str; 10] = [
    "write",
    "readonly",
    "denyoom",
    "admin",
    "noscript",
    "loading",
    "stale",
    "fast",
    "no_auth",
    "allow_busy",
];

/// The start of a row.
pub(super) const fn spec(name: &'static [u8], arity: i8, flags: u32, group: Group) -> Spec {
    Spec {
        name,
        arity,
        flags,
        group,
        since: "",
        cost: "O(1)",
        summary: "",
        tips: &[],
        keys: None,
        dangerous: false,
        category: group.category(),
        subcommands: &[],
    }
}

impl Spec {
    pub(super) const fn since(mut self, version: &'static str) -> Self {
        self.since = version;
        self
    }

    pub(super) const fn cost(mut self, cost: &'static str) -> Self {
        self.cost = cost;
        self
    }

    pub(super) const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    pub(super) const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    pub(super) const fn keys(
        mut self,
        first: i8,
        last: i8,
        step: i8,
        flags: &'static [&'static str],
    ) -> Self {
        self.keys = Some(Keys { first, last, step, flags, notes: None });
        self
    }

    pub(super) const fn notes(mut self, notes: &'static str) -> Self {
        self.keys = match self.keys {
            Some(keys) => Some(Keys { notes: Some(notes), ..keys }),
            None => panic!("notes are about keys"),
        };
        self
    }

    pub(super) const fn dangerous(mut self) -> Self {
        self.dangerous = true;
        self
    }

    pub(super) const fn category(mut self, category: Option<&'static str>) -> Self {
        self.category = category;
        self
    }

    pub(super) const fn subcommands(mut self, subcommands: &'static [Self]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// Its name as text.
    pub fn text(&self) -> &'static str {
        std::str::from_utf8(self.name).expect("names are ASCII")
    }

    /// Whether a request of `arguments` words, the name included, may be this command.
    #[inline]
    pub fn takes(&self, arguments: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= arity } else { arguments == arity }
    }

    /// The subcommand of this name in whatever case, if this is a container that has it.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        let prefix = self.name.len() + 1;
        self.subcommands.iter().find(|spec| spec.name[prefix..].eq_ignore_ascii_case(name))
    }

    /// Its keys within `request`, whose arity was checked.
    pub fn keys_of<'a>(&self, request: Request<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (first, last, step) = match self.keys {
            Some(keys) if keys.last < 0 => (
                keys.first as usize,
                request.len().saturating_sub(keys.last.unsigned_abs() as usize),
                keys.step as usize,
            ),
            Some(keys) => (keys.first as usize, keys.last as usize, keys.step as usize),
            None => (1, 0, 1),
        };
        (first..=last).step_by(step).filter_map(move |index| request.get(index))
    }
}

impl Name {
    /// What is known of the command.
    #[inline]
    pub fn spec(self) -> &'static Spec {
        &COMMANDS[self as usize]
    }
}

/// Which command a request names, in whatever case.
#[inline]
pub fn lookup(name: &[u8]) -> Option<Name> {
    // Most requests are one of two. A letter and its capital differ in this bit, and no other
    // byte becomes a small letter by it.
    if let [first, second, third] = name {
        match [first | 0x20, second | 0x20, third | 0x20] {
            [b'g', b'e', b't'] => return Some(Name::Get),
            [b's', b'e', b't'] => return Some(Name::Set),
            _ => {}
        }
    }
    let mut lower = [0; NAME_BYTES_MAX];
    commands::find(lower_case(name, &mut lower)?)
}

/// The command or the subcommand (`client|id`) of this name, in whatever case.
pub fn describe(name: &[u8]) -> Option<&'static Spec> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let spec = lookup(parts.next()?)?.spec();
    match parts.next() {
        Some(subcommand) => spec.subcommand(subcommand),
        None => Some(spec),
    }
}

/// The longest name of a command that anything is said about.
pub(super) const NAME_BYTES_MAX: usize = 24;

/// `name` in lower case, if it is short enough to be a command's.
#[inline]
pub(super) fn lower_case<'a>(
    name: &[u8],
    buffer: &'a mut [u8; NAME_BYTES_MAX],
) -> Option<&'a [u8]> {
    let lower = buffer.get_mut(..name.len())?;
    for (lower, byte) in lower.iter_mut().zip(name) {
        *lower = byte.to_ascii_lowercase();
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        for (index, spec) in COMMANDS.iter().enumerate() {
            let upper = spec.name.to_ascii_uppercase();
            assert_eq!(lookup(&upper).map(|name| name as usize), Some(index), "{}", spec.text());
            assert_eq!(lookup(spec.name).map(|name| name as usize), Some(index));
            assert!(lookup(&[spec.name, b"x"].concat()).is_none());
            assert!(!spec.summary.is_empty());
            assert!(!spec.since.is_empty());
        }
    }

    #[test]
    fn subcommands_carry_the_name_of_their_container() {
        for spec in COMMANDS.iter().filter(|spec| !spec.subcommands.is_empty()) {
            for sub in spec.subcommands {
                let (container, name) = sub.text().split_once('|').expect("container|name");
                assert_eq!(container, spec.text());
                assert_eq!(
                    spec.subcommand(name.as_bytes()).map(|found| found.name),
                    Some(sub.name)
                );
                assert_eq!(describe(sub.name).map(|found| found.name), Some(sub.name));
            }
        }
    }

    #[test]
    fn names_are_distinct_and_short() {
        let names: BTreeSet<&[u8]> = COMMANDS.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES_MAX));
    }

    #[test]
    fn a_byte_that_only_looks_like_a_letter_is_none() {
        assert_eq!(lookup(b"\x07et"), None);
        assert_eq!(lookup(b"g\x05t"), None);
        assert_eq!(lookup(b""), None);
    }
}
