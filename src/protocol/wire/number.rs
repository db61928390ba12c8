//! Integers as Redis reads and writes them.
//!
//! Reading is `string2ll` of Redis: one form for each number, so that no blank, plus, leading zero
//! or minus zero passes. Writing avoids the formatting machinery, which costs more than a get.

/// Reads a number in its one right form.
pub fn parse(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() > 19 {
        return None;
    }
    // Nineteen digits fit 64 unsigned bits, so only the sign can overflow.
    let mut value: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// Reads a cursor as Redis does: any run of decimal digits, or nothing for 0.
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Appends `value` in decimal.
#[inline]
pub fn write(out: &mut Vec<u8>, value: i64) {
    if (0..10).contains(&value) {
        out.push(b'0' + value as u8);
        return;
    }
    let mut text = [0; 20];
    let mut at = text.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        text[at] = b'-';
    }
    out.extend_from_slice(&text[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_one_right_form_is_a_number() {
        for wrong in ["", "-", "-0", "+1", "01", " 1", "1 ", "1x", "0x1", "9223372036854775808"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        for wrong in ["-9223372036854775809", "99999999999999999999", "18446744073709551617"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(parse(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse(b"9223372036854775807"), Some(i64::MAX));
    }

    #[test]
    fn a_cursor_is_64_unsigned_bits() {
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_cursor(b"18446744073709551616"), None);
        assert_eq!(parse_cursor(b""), Some(0));
        assert_eq!(parse_cursor(b"+1"), Some(1));
        for wrong in ["x", "-1", " 1", "1x", "0x10", "++1"] {
            assert_eq!(parse_cursor(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: i64) {
            let mut out = Vec::new();
            write(&mut out, value);
            prop_assert_eq!(std::str::from_utf8(&out), Ok(&*value.to_string()));
            prop_assert_eq!(parse(&out), Some(value));
        }

        #[test]
        fn what_is_read_is_written_back(text in "[-+0-9 ]{0,22}") {
            if let Some(value) = parse(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }
}
