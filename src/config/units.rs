//! Sizes as people write them: a number and its unit, always both.

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
}
