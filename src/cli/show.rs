//! How values and contexts are shown, to people and to machines.

use std::io;
use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

/// A context with what it covers, as HTTP has it: values are any bytes, so they are in base64.
pub(super) fn json(context: &[u8], siblings: &[Vec<u8>]) -> String {
    let siblings: Vec<String> =
        siblings.iter().map(|value| BASE64_STANDARD.encode(value)).collect();
    json!({ "context": String::from_utf8_lossy(context), "siblings": siblings }).to_string()
}

/// The context that a write made, as JSON.
pub(super) fn json_context(context: &[u8]) -> String {
    json!({ "context": String::from_utf8_lossy(context) }).to_string()
}

/// A context with what it covers, for people.
pub(super) fn table(out: &mut impl Write, context: &[u8], siblings: &[Vec<u8>]) -> io::Result<()> {
    writeln!(out, "context    {}", printable(context))?;
    if let [value] = siblings {
        return writeln!(out, "value      {}", printable(value));
    }
    for (number, value) in (1..).zip(siblings) {
        writeln!(out, "sibling {number}  {}", printable(value))?;
    }
    Ok(())
}

/// Text as it is, other bytes as escapes: a value must not command a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_get_every_byte_and_people_none_that_moves_their_cursor() {
        let siblings = [b"plain".to_vec(), b"\x1b[2J\xff".to_vec()];
        let shown = json(b"c_-1", &siblings);
        assert_eq!(shown, r#"{"context":"c_-1","siblings":["cGxhaW4=","G1sySv8="]}"#);
        let mut out = Vec::new();
        table(&mut out, b"c_-1", &siblings).expect("memory");
        let out = String::from_utf8(out).expect("printable");
        assert_eq!(out, "context    c_-1\nsibling 1  plain\nsibling 2  \"\\x1b[2J\\xff\"\n");
    }
}
