//! Sizes and times as people write them: a number and its unit, always both.

use crate::base::time::Duration;

/// Reads `32MiB`. `None`: there is no unit, or no such one, or it is beyond 64 bits.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes it with the largest unit that leaves a whole number.
pub(super) fn write_size(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes.is_multiple_of(*factor) && bytes >= *factor;
    match UNITS.iter().find(fits) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Reads `100ms` or `5s`. `None`: there is no unit, or no such one.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number = text[..at].parse().ok()?;
    match &text[at..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// Writes whole seconds, or else milliseconds.
pub(super) fn write_time(time: Duration) -> String {
    let millis = time.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

const UNITS: &[(&str, u64)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_survives_writing_and_needs_its_unit() {
        for bytes in [0, 1, 1000, 1024, 1536, 1 << 20, 3 << 30, u64::MAX] {
            assert_eq!(parse_size(&write_size(bytes)), Some(bytes));
        }
        assert_eq!(write_size(32 << 20), "32MiB");
        assert_eq!(write_size(1536), "1536B");
        for text in ["", "5", "MiB", "5MB", "-5MiB", "5 MiB", "1.5MiB", "99999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_time_survives_writing_and_needs_its_unit() {
        for millis in [1, 999, 1000, 1500, 600_000] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse_time(&write_time(time)), Some(time));
        }
        for text in ["", "5", "ms", "5m", "-5s", "1.5s"] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
    }
}
