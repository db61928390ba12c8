//! The arguments of one request, borrowed from the bytes that came.
//!
//! A request costs no allocation: [`Arguments`] is scratch that its connection keeps, and holds only
//! where each argument lies. [`Request`] joins it with the bytes for as long as they stay put.

/// Where each argument of one request lies. Reused from request to request.
#[derive(Debug, Default)]
pub struct Arguments {
    spans: Vec<Span>,
    /// The words of an inline command without their quotes, which are nowhere in what came.
    inline: Vec<u8>,
    /// Whether `spans` speak of `inline`, and not of the bytes that came.
    unquoted: bool,
}

/// One argument: its first byte, and the one behind its last.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// Beyond this many arguments the scratch is given back: a connection that once sent a thousand
/// keys should not hold their places for ever.
const SPANS_KEPT: usize = 64;

impl Arguments {
    /// Forgets the last request.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(SPANS_KEPT);
        self.inline.clear();
        self.unquoted = false;
    }

    /// The next argument is `start..end` of the bytes that came.
    #[inline]
    pub(super) fn push(&mut self, start: usize, end: usize) {
        // Frames are bounded far below 4 GiB; `RequestLimits` asserts it.
        self.spans.push(Span { start: start as u32, end: end as u32 });
    }

    /// Where the words of an inline command are put. [`Arguments::end_word`] ends each.
    pub(super) fn inline(&mut self) -> &mut Vec<u8> {
        self.unquoted = true;
        &mut self.inline
    }

    /// The inline bytes since `start` are an argument.
    pub(super) fn end_word(&mut self, start: usize) {
        self.push(start, self.inline.len());
    }

    /// How many there are, the command's name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The request: these places in the `bytes` that were given to the parser.
    #[inline]
    pub fn of<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        let bytes = if self.unquoted { &self.inline } else { bytes };
        Request { bytes, spans: &self.spans }
    }
}

/// The arguments of one request, or the last of them. Its name comes first.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// How many arguments there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, if there are so many.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|&span| self.slice(span))
    }

    /// The arguments from `index` on; none if there are fewer.
    #[inline]
    pub fn from(&self, index: usize) -> Self {
        Self { bytes: self.bytes, spans: self.spans.get(index..).unwrap_or_default() }
    }

    /// Each argument in turn.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + use<'a> {
        let (bytes, spans) = (self.bytes, self.spans);
        spans.iter().map(move |span| &bytes[span.start as usize..span.end as usize])
    }

    #[inline]
    fn slice(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }
}

impl<'a> std::ops::Index<usize> for Request<'a> {
    type Output = [u8];

    /// The argument at `index`, which the caller knows to be there: its command's arity says so.
    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.slice(self.spans[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_lends_the_bytes_that_came() {
        let mut arguments = Arguments::default();
        arguments.push(0, 3);
        arguments.push(4, 5);
        let request = arguments.of(b"GET k");
        assert_eq!(request.iter().collect::<Vec<_>>(), [&b"GET"[..], b"k"]);
        assert_eq!(request.get(1), Some(&b"k"[..]));
        assert_eq!(request.get(2), None);
        assert!(request.from(7).is_empty());
    }

    #[test]
    fn a_crowd_of_arguments_is_not_remembered() {
        let mut arguments = Arguments::default();
        for _ in 0..10_000 {
            arguments.push(0, 0);
        }
        arguments.clear();
        assert!(arguments.spans.capacity() <= 2 * SPANS_KEPT);
    }
}
