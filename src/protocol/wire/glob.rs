//! The patterns of `SCAN … MATCH` and `CONFIG GET`, as Redis reads them: `*`, `?`, `[a-z]`, `[^a]`, `\`.
//!
//! # Why not the usual matcher
//!
//! The usual one goes back to the last star at each mismatch. A pattern such as `*a*a*a*b` makes the
//! simple form of it exponential and the careful one quadratic, in bytes that a stranger chose, while
//! its core serves nobody else. Here the pattern becomes a set of states, one bit each, and
//! every byte of the text moves all of them at once: the cost is the text's length times the
//! pattern's in machine words, whatever is in them.
//!
//! State `i` means "`i` elements matched". A star before element `i` lets state `i` stay.

/// A pattern, ready to be matched many times.
#[derive(Debug)]
pub struct Glob {
    /// What a text must begin with: most patterns are little else.
    prefix: Vec<u8>,
    rest: Rest,
}

/// What follows the prefix.
#[derive(Debug)]
enum Rest {
    Nothing,
    Anything,
    States(Box<States>),
}

#[derive(Debug)]
struct States {
    /// The last state, which is the one that accepts.
    last: usize,
    /// For each byte, `words()` words: which states it takes one further.
    moves: Vec<u64>,
    /// Which states any byte leaves where they are.
    stays: Vec<u64>,
}

impl Glob {
    /// Reads a pattern. Every text is one.
    pub fn new(pattern: &[u8]) -> Self {
        let elements = parse(pattern);
        let literals = elements.iter().map_while(|element| match element {
            Element::Byte(byte) => Some(*byte),
            _ => None,
        });
        let prefix: Vec<u8> = literals.collect();
        let rest = match &elements[prefix.len()..] {
            [] => Rest::Nothing,
            [Element::Star] => Rest::Anything,
            rest => Rest::States(Box::new(States::new(rest))),
        };
        Self { prefix, rest }
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some(text) = text.strip_prefix(&self.prefix[..]) else { return false };
        match &self.rest {
            Rest::Nothing => text.is_empty(),
            Rest::Anything => true,
            Rest::States(states) => states.matches(text),
        }
    }
}

impl States {
    fn new(elements: &[Element]) -> Self {
        let last = elements.iter().filter(|element| !matches!(element, Element::Star)).count();
        let words = last / 64 + 1;
        let mut states = Self { last, moves: vec![0; 256 * words], stays: vec![0; words] };
        let mut state = 0;
        for element in elements {
            let (word, bit) = (state / 64, 1 << (state % 64));
            if let Element::Star = element {
                states.stays[word] |= bit;
                continue;
            }
            for byte in 0..=255_u8 {
                if element.takes(byte) {
                    states.moves[usize::from(byte) * words + word] |= bit;
                }
            }
            state += 1;
        }
        states
    }

    fn matches(&self, text: &[u8]) -> bool {
        let words = self.stays.len();
        let mut active = [0_u64; STATE_WORDS_MAX];
        let mut active_long = Vec::new();
        // Patterns of a request are bounded and fit; those of tests and tools need not.
        let active = if words <= STATE_WORDS_MAX {
            &mut active[..words]
        } else {
            active_long.resize(words, 0);
            &mut active_long[..]
        };
        active[0] = 1;
        for &byte in text {
            let moves = &self.moves[usize::from(byte) * words..][..words];
            let mut carry = 0;
            let mut alive = 0;
            for ((active, moves), stays) in active.iter_mut().zip(moves).zip(&self.stays) {
                let moved = *active & moves;
                *active = moved << 1 | carry | *active & stays;
                carry = moved >> 63;
                alive |= *active;
            }
            if alive == 0 {
                return false;
            }
        }
        active[self.last / 64] >> (self.last % 64) & 1 == 1
    }
}

/// States of the longest pattern that a request may carry, 64 a word.
const STATE_WORDS_MAX: usize = crate::base::limits::SCAN_PATTERN_BYTES_MAX / 64 + 1;

/// One part of a pattern. All but the star take one byte.
#[derive(Debug)]
enum Element {
    Byte(u8),
    Any,
    Class(Box<[bool; 256]>),
    Star,
}

impl Element {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(wanted) => *wanted == byte,
            Self::Any => true,
            Self::Class(set) => set[usize::from(byte)],
            Self::Star => false,
        }
    }
}

fn parse(mut pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    while let [first, rest @ ..] = pattern {
        pattern = rest;
        let element = match (first, rest) {
            (b'*', _) => Element::Star,
            (b'?', _) => Element::Any,
            (b'[', _) => {
                let (set, rest) = class(rest);
                pattern = rest;
                Element::Class(set)
            }
            (b'\\', [escaped, rest @ ..]) => {
                pattern = rest;
                Element::Byte(*escaped)
            }
            (byte, _) => Element::Byte(*byte),
        };
        let repeated = matches!((elements.last(), &element), (Some(Element::Star), Element::Star));
        if !repeated {
            elements.push(element);
        }
    }
    elements
}

/// Reads a class behind its `[`, and what follows it. One that is not closed ends with the pattern.
fn class(mut pattern: &[u8]) -> (Box<[bool; 256]>, &[u8]) {
    let negated = pattern.first() == Some(&b'^');
    pattern = &pattern[usize::from(negated)..];
    let mut set = Box::new([false; 256]);
    loop {
        pattern = match pattern {
            [b'\\', escaped, rest @ ..] => {
                set[usize::from(*escaped)] = true;
                rest
            }
            [b']', rest @ ..] => {
                pattern = rest;
                break;
            }
            [] => break,
            [one, b'-', other, rest @ ..] => {
                let (low, high) = (*one.min(other), *one.max(other));
                (low..=high).for_each(|byte| set[usize::from(byte)] = true);
                rest
            }
            [byte, rest @ ..] => {
                set[usize::from(*byte)] = true;
                rest
            }
        }
    }
    if negated {
        set.iter_mut().for_each(|member| *member = !*member);
    }
    (set, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*b", "aab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[bc]d", "acd", true),
            ("a[^bc]d", "acd", false),
            ("[a-c]", "b", true),
            ("[c-a]", "b", true),
            ("[a-]", "-", false),
            ("[a-]", "^", true),
            ("[]", "]", false),
            ("[^]", "]", true),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("[", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("**a**", "xax", true),
            ("user:*:cart", "user:7:cart", true),
            ("user:*:cart", "user:7:card", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// With the usual matcher this does not end.
    #[test]
    fn many_stars_cost_no_more_than_few() {
        let pattern = b"*a".repeat(500);
        let text = vec![b'a'; 16 * 1024];
        assert!(glob(&pattern, &text));
        assert!(!glob(&[&pattern[..], b"b"].concat(), &text));
        assert!(!glob(&pattern, &text[..499]));
    }

    #[test]
    fn the_longest_pattern_needs_no_allocation_to_match() {
        let pattern = vec![b'?'; crate::base::limits::SCAN_PATTERN_BYTES_MAX];
        let Rest::States(states) = Glob::new(&pattern).rest else { panic!("it has states") };
        assert!(states.stays.len() <= STATE_WORDS_MAX);
        assert!(states.matches(&pattern));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn it_agrees_with_the_recursive_matcher(
            pattern in r"[ab*?\[\]\\^-]{0,12}",
            text in r"[ab\[\]\\^-]{0,10}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob(pattern, text), naive(pattern, text));
        }

        #[test]
        fn states_beyond_one_word_agree_too(
            parts in prop::collection::vec("[ab?*]{60,70}", 1..4),
            text in "[ab]{50,300}",
        ) {
            let pattern = parts.concat();
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob(pattern, text), reachable(pattern, text));
        }
    }

    fn glob(pattern: &[u8], text: &[u8]) -> bool {
        Glob::new(pattern).matches(text)
    }

    /// The matcher of Redis, written down without care for time.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => {
                naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (_, []) => false,
            ([b'?', rest @ ..], _) => naive(rest, &text[1..]),
            ([b'[', rest @ ..], [byte, text @ ..]) => {
                let (found, rest) = naive_class(rest, *byte);
                found && naive(rest, text)
            }
            ([b'\\', escaped, rest @ ..], [byte, text @ ..]) => {
                escaped == byte && naive(rest, text)
            }
            ([wanted, rest @ ..], [byte, text @ ..]) => wanted == byte && naive(rest, text),
        }
    }

    /// Index by index, as the original walks it.
    fn naive_class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
        let negated = pattern.first() == Some(&b'^');
        let (mut at, mut found) = (usize::from(negated), false);
        while at < pattern.len() {
            let left = pattern.len() - at;
            if left >= 2 && pattern[at] == b'\\' {
                at += 1;
                found |= pattern[at] == byte;
            } else if pattern[at] == b']' {
                at += 1;
                return (found != negated, &pattern[at..]);
            } else if left >= 3 && pattern[at + 1] == b'-' {
                let (one, other) = (pattern[at], pattern[at + 2]);
                found |= (one.min(other)..=one.max(other)).contains(&byte);
                at += 2;
            } else {
                found |= pattern[at] == byte;
            }
            at += 1;
        }
        (found != negated, &[])
    }

    /// Which lengths of the text a pattern of `*`, `?` and letters can have eaten.
    fn reachable(pattern: &[u8], text: &[u8]) -> bool {
        let mut eaten = vec![false; text.len() + 1];
        eaten[0] = true;
        for wanted in pattern {
            if *wanted == b'*' {
                let first = eaten.iter().position(|&here| here).unwrap_or(eaten.len());
                eaten[first..].fill(true);
            } else {
                for at in (0..text.len()).rev() {
                    eaten[at + 1] = eaten[at] && (*wanted == b'?' || *wanted == text[at]);
                }
                eaten[0] = false;
            }
        }
        eaten[text.len()]
    }
}
