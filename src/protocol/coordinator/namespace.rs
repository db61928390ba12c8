//! Namespaces: how keys of a prefix are kept.
//!
//! The longest prefix of a key wins; the empty prefix is the default that is always there.

use std::fmt;
use std::str::FromStr;

use crate::base::time::Duration;
use crate::protocol::version::Conflict;

/// When a replica acknowledges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// When the record is synced.
    Sync,
    /// From the buffer, while one of the N syncs at once without being waited for (Dynamo, section
    /// 6.1); the others sync after this time. With one replica that one is meant: it is `sync`.
    One(Duration),
    /// From the buffer, which is flushed at whichever bound comes first.
    Interval(Interval),
}

/// Bounds of a buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interval {
    /// A record waits no longer than this for its flush to begin.
    pub time: Duration,
    /// Nor than until so many bytes wait.
    pub bytes: Option<u64>,
    /// Nor than until so many records wait.
    pub objects: Option<u64>,
}

/// How keys of one prefix are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// Replicas.
    pub n: u8,
    /// Replicas that answer a get.
    pub r: u8,
    /// Replicas that acknowledge a put.
    pub w: u8,
    /// When a replica acknowledges.
    pub durability: Durability,
    /// What becomes of concurrent versions.
    pub conflict: Conflict,
}

impl Default for Namespace {
    fn default() -> Self {
        Self { n: 3, r: 2, w: 2, durability: Durability::Sync, conflict: Conflict::Siblings }
    }
}

/// All namespaces of a cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Namespaces {
    default: Namespace,
    /// Longest prefix first.
    by_prefix: Vec<(Vec<u8>, Namespace)>,
}

impl Namespaces {
    /// These, by prefix. The empty prefix replaces the default.
    pub fn new(table: impl IntoIterator<Item = (Vec<u8>, Namespace)>) -> Self {
        let mut namespaces = Self::default();
        for (prefix, namespace) in table {
            if prefix.is_empty() {
                namespaces.default = namespace;
            } else {
                namespaces.by_prefix.push((prefix, namespace));
            }
        }
        namespaces.by_prefix.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
        namespaces
    }

    /// The namespace of a key.
    pub fn of(&self, key: &[u8]) -> &Namespace {
        self.by_prefix
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix))
            .map_or(&self.default, |(_, namespace)| namespace)
    }
}

/// What is wrong with a written durability.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadDurability {
    text: String,
}

impl fmt::Display for BadDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "durability {:?} is none of: sync | one:100ms | interval:50ms[,1MiB][,1000obj]",
            self.text
        )
    }
}

impl std::error::Error for BadDurability {}

impl FromStr for Durability {
    type Err = BadDurability;

    /// Reads `sync`, `one:100ms` or `interval:50ms,1MiB,1000obj`. Units are written.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadDurability { text: text.to_owned() };
        let (kind, bounds) = text.split_once(':').unwrap_or((text, ""));
        let mut bounds = bounds.split(',');
        match kind {
            "sync" if text == "sync" => Ok(Self::Sync),
            "one" if text == "one" => Ok(Self::One(Duration::from_millis(100))),
            "one" => {
                let time = bounds.next().and_then(duration).ok_or_else(bad)?;
                if bounds.next().is_some() { Err(bad()) } else { Ok(Self::One(time)) }
            }
            "interval" => {
                let time = bounds.next().and_then(duration).ok_or_else(bad)?;
                let mut interval = Interval { time, bytes: None, objects: None };
                for bound in bounds {
                    interval.set_bound(bound).ok_or_else(bad)?;
                }
                Ok(Self::Interval(interval))
            }
            _ => Err(bad()),
        }
    }
}

impl Interval {
    fn set_bound(&mut self, text: &str) -> Option<()> {
        let (number, unit) = split_unit(text)?;
        let (field, factor) = match unit {
            "obj" => (&mut self.objects, 1),
            "B" => (&mut self.bytes, 1),
            "KiB" => (&mut self.bytes, 1024),
            "MiB" => (&mut self.bytes, 1024 * 1024),
            _ => return None,
        };
        let bound = number.checked_mul(factor).filter(|bound| *bound > 0)?;
        field.replace(bound).is_none().then_some(())
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let duration = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return None,
    };
    (duration > Duration::ZERO && duration <= Duration::from_secs(3600)).then_some(duration)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|letter: char| !letter.is_ascii_digit())?;
    Some((text[..at].parse().ok()?, &text[at..]))
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::One(time) => write!(f, "one:{}", Span(*time)),
            Self::Interval(interval) => {
                write!(f, "interval:{}", Span(interval.time))?;
                if let Some(bytes) = interval.bytes {
                    write!(f, ",{bytes}B")?;
                }
                if let Some(objects) = interval.objects {
                    write!(f, ",{objects}obj")?;
                }
                Ok(())
            }
        }
    }
}

/// A duration as it is written in a durability.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros.is_multiple_of(1000) {
            write!(f, "{}ms", micros / 1000)
        } else {
            write!(f, "{micros}us")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durabilities_are_read_with_their_units_and_written_the_same() {
        let interval = Interval {
            time: Duration::from_millis(50),
            bytes: Some(1024 * 1024),
            objects: Some(1000),
        };
        for (text, durability) in [
            ("sync", Durability::Sync),
            ("one:100ms", Durability::One(Duration::from_millis(100))),
            ("interval:50ms,1048576B,1000obj", Durability::Interval(interval)),
        ] {
            assert_eq!(text.parse(), Ok(durability));
            assert_eq!(durability.to_string(), text);
        }
        assert_eq!("interval:50ms,1MiB,1000obj".parse(), Ok(Durability::Interval(interval)));
        for text in [
            "",
            "sync:1ms",
            "one:5",
            "one:0ms",
            "one:1ms,2ms",
            "interval",
            "interval:5",
            "interval:5ms,3",
            "interval:5ms,1MiB,2MiB",
            "interval:99999h",
            "always",
        ] {
            assert!(text.parse::<Durability>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let with = |w| Namespace { w, ..Namespace::default() };
        let table = [(b"a".to_vec(), with(1)), (b"ab".to_vec(), with(2)), (b"".to_vec(), with(3))];
        let namespaces = Namespaces::new(table);
        for (key, w) in [("abc", 2), ("ac", 1), ("b", 3), ("ab", 2)] {
            assert_eq!(namespaces.of(key.as_bytes()).w, w, "{key}");
        }
    }
}
