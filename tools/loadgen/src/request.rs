//! Requests, built from templates: a request is a few copies into a buffer that is there already.

use crate::rng::{Rng, mix};

/// Keys by number: a prefix and a number with leading zeros, all of one length.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Vec<u8>,
    digits: usize,
}

impl Keys {
    /// Keys of `length` bytes for numbers below `count`; refuses a length that cannot hold them.
    pub fn new(prefix: &str, length: usize, count: u64) -> Result<Self, String> {
        let needed = count.saturating_sub(1).max(1).ilog10() as usize + 1;
        let digits = length.saturating_sub(prefix.len());
        if digits < needed {
            return Err(format!(
                "{count} keys that begin with {prefix:?} need --key-length {} at least",
                prefix.len() + needed
            ));
        }
        Ok(Self { prefix: prefix.as_bytes().to_vec(), digits })
    }

    /// Bytes of each key.
    pub fn length(&self) -> usize {
        self.prefix.len() + self.digits
    }

    /// Appends key `number`.
    pub fn append(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        let start = out.len();
        out.resize(start + self.digits, b'0');
        let mut rest = number;
        for digit in out[start..].iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        assert!(rest == 0, "the number of a key fits its digits");
    }
}

/// The value of each key: the same in every run of every version, so that one run can check what
/// another one wrote. A window into fixed noise, stamped with a hash of the key's number.
#[derive(Clone, Debug)]
pub struct Values {
    noise: Vec<u8>,
    length: usize,
}

impl Values {
    /// Values of `length` bytes.
    pub fn new(length: usize) -> Self {
        let mut rng = Rng::from_seed(NOISE_SEED);
        let noise = (0..length + WINDOWS).map(|_| b' ' + rng.below(95) as u8).collect();
        Self { noise, length }
    }

    /// Bytes of each value.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Appends the value of key `number`.
    pub fn append(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let (stamp, window) = self.parts(number);
        out.extend_from_slice(window);
        let stamped = stamp.len().min(self.length);
        out[start..start + stamped].copy_from_slice(&stamp[..stamped]);
    }

    /// Whether `value` is the value of key `number`.
    pub fn is_of(&self, number: u64, value: &[u8]) -> bool {
        let (stamp, window) = self.parts(number);
        let stamped = stamp.len().min(self.length);
        value.len() == self.length
            && value[..stamped] == stamp[..stamped]
            && value[stamped..] == window[stamped..]
    }

    fn parts(&self, number: u64) -> ([u8; 8], &[u8]) {
        let hash = mix(number.wrapping_add(NOISE_SEED));
        let offset = (hash % WINDOWS as u64) as usize;
        // Six bits a byte, all of them printable, so that values can be read in a terminal.
        let stamp = std::array::from_fn(|index| b'0' + (hash >> (8 + 6 * index)) as u8 % 64);
        (stamp, &self.noise[offset..offset + self.length])
    }
}

/// Which words requests use, and what is added to them.
#[derive(Clone, Debug, Default)]
pub struct Dialect {
    /// `DYN.GET` and `DYN.PUT` with contexts, instead of `GET` and `SET`.
    pub dyn_commands: bool,
    /// Words after the key of a get, such as `R 1`.
    pub get_options: Vec<String>,
    /// Words after the value of a set, such as `W 1` or `EX 60`.
    pub set_options: Vec<String>,
}

/// Writes whole requests.
#[derive(Clone, Debug)]
pub struct Templates {
    keys: Keys,
    values: Values,
    dyn_commands: bool,
    get_head: Vec<u8>,
    get_tail: Vec<u8>,
    set_head: Vec<u8>,
    put_head: Vec<u8>,
    /// From the end of the key (or the context) to the value.
    value_head: Vec<u8>,
    set_tail: Vec<u8>,
    put_tail: Vec<u8>,
}

impl Templates {
    /// Templates for these keys and values.
    pub fn new(keys: Keys, values: Values, dialect: &Dialect) -> Self {
        let key_head = format!("${}\r\n", keys.length());
        let head = |words: &str, arguments: usize, options: &[String]| {
            let count = 1 + arguments + options.len();
            format!("*{count}\r\n${}\r\n{words}\r\n{key_head}", words.len()).into_bytes()
        };
        let tail = |options: &[String]| {
            let mut bytes = b"\r\n".to_vec();
            for word in options {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
            bytes
        };
        let get = if dialect.dyn_commands { "DYN.GET" } else { "GET" };
        // Options of a dialect with contexts belong to DYN.PUT; SET then only fills keys.
        let set_options: &[String] = if dialect.dyn_commands { &[] } else { &dialect.set_options };
        Self {
            get_head: head(get, 1, &dialect.get_options),
            get_tail: tail(&dialect.get_options),
            set_head: head("SET", 2, set_options),
            put_head: head("DYN.PUT", 3, &dialect.set_options),
            value_head: format!("\r\n${}\r\n", values.length()).into_bytes(),
            set_tail: tail(set_options),
            put_tail: tail(&dialect.set_options),
            dyn_commands: dialect.dyn_commands,
            keys,
            values,
        }
    }

    /// The values that it writes.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Whether it speaks of contexts.
    pub fn dyn_commands(&self) -> bool {
        self.dyn_commands
    }

    /// Appends a read of key `number`.
    pub fn append_get(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get_head);
        self.keys.append(number, out);
        out.extend_from_slice(&self.get_tail);
    }

    /// Appends a plain `SET` of key `number`, whatever the dialect.
    pub fn append_set(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.set_head);
        self.keys.append(number, out);
        out.extend_from_slice(&self.value_head);
        self.values.append(number, out);
        out.extend_from_slice(&self.set_tail);
    }

    /// Appends a `DYN.PUT` of key `number` that supersedes what `context` covers.
    pub fn append_put(&self, number: u64, context: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.put_head);
        self.keys.append(number, out);
        out.extend_from_slice(b"\r\n$");
        append_decimal(context.len(), out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(context);
        out.extend_from_slice(&self.value_head);
        self.values.append(number, out);
        out.extend_from_slice(&self.put_tail);
    }
}

fn append_decimal(number: usize, out: &mut Vec<u8>) {
    if number >= 10 {
        append_decimal(number / 10, out);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// Never changes: values written by an older version would look wrong.
const NOISE_SEED: u64 = 0x5741_544F_5253_1007;

/// Different windows into the noise, so that neighbouring keys differ beyond the stamp.
const WINDOWS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_resp() {
        let mut out = Vec::new();
        let plain = templates(&Dialect::default());
        plain.append_get(42, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$8\r\nkey:0042\r\n");

        out.clear();
        plain.append_set(7, &mut out);
        assert!(out.starts_with(b"*3\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$10\r\n"));
        assert_eq!(out.len(), b"*3\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$10\r\n".len() + 12);
        assert!(plain.values().is_of(7, &out[out.len() - 12..out.len() - 2]));
    }

    #[test]
    fn options_follow_and_are_counted() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let dialect = Dialect {
            dyn_commands: true,
            get_options: words("R 1"),
            set_options: words("W 2 STRICT"),
        };
        let templates = templates(&dialect);
        let mut out = Vec::new();
        templates.append_get(1, &mut out);
        assert_eq!(out, b"*4\r\n$7\r\nDYN.GET\r\n$8\r\nkey:0001\r\n$1\r\nR\r\n$1\r\n1\r\n");
        out.clear();
        templates.append_put(1, b"abcdefghijkl", &mut out);
        let head = b"*7\r\n$7\r\nDYN.PUT\r\n$8\r\nkey:0001\r\n$12\r\nabcdefghijkl\r\n$10\r\n";
        assert!(out.starts_with(head));
        assert!(out.ends_with(b"\r\n$1\r\nW\r\n$1\r\n2\r\n$6\r\nSTRICT\r\n"));
        out.clear();
        templates.append_set(1, &mut out);
        assert!(out.starts_with(b"*3\r\n$3\r\nSET\r\n"));
        assert!(!out.ends_with(b"STRICT\r\n"));
    }

    #[test]
    fn a_value_belongs_to_its_key_alone() {
        for length in [1, 8, 9, 100] {
            let values = Values::new(length);
            let mut out = Vec::new();
            values.append(5, &mut out);
            assert_eq!(out.len(), length);
            assert!(values.is_of(5, &out));
            assert!(!values.is_of(5, &out[..length - 1]));
            if length >= 8 {
                assert!((0..1_000).filter(|&other| values.is_of(other, &out)).eq([5]));
            }
            out[length - 1] ^= 1;
            assert!(!values.is_of(5, &out));
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        assert!(Keys::new("key:", 8, 10_000).is_ok());
        assert!(Keys::new("key:", 8, 10_001).is_err());
        assert!(Keys::new("a-long-prefix", 8, 1).is_err());
        assert!(Keys::new("", 1, 1).is_ok());
    }

    fn templates(dialect: &Dialect) -> Templates {
        let keys = Keys::new("key:", 8, 10_000).expect("they fit");
        Templates::new(keys, Values::new(10), dialect)
    }
}
