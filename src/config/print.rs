//! The whole configuration as a file with comments: what `serve --print-config` shows.
//!
//! Secrets are not in it, only the files that they come from.

use std::fmt::Write;

use super::Config;
use super::keys::KEYS;
use super::namespaces;

impl Config {
    /// A file that makes this configuration again.
    pub fn print(&self) -> String {
        let mut text = String::from(
            "# The configuration of a Stator node. Flags win over the environment, the environment\n\
             # over this file. Paths begin where the node is started.\n",
        );
        for key in KEYS {
            let flag = key.flag();
            let variable = key.variable();
            comment(&mut text, key.comment);
            let _ = writeln!(text, "# --{flag}, {variable}");
            let _ = writeln!(text, "{} = {}", key.name, key.show(self));
        }
        comment(&mut text, namespaces::COMMENT);
        let tables = self.namespaces.iter();
        let tables: Vec<String> =
            tables.map(|(prefix, namespace)| namespaces::write(prefix, namespace)).collect();
        text.push_str(&tables.join("\n"));
        text
    }
}

fn comment(text: &mut String, lines: &str) {
    text.push('\n');
    for line in lines.lines() {
        let _ = writeln!(text, "# {line}");
    }
}
