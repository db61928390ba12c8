//! The flags of `serve`, made from the table of configuration keys.

use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use clap::FromArgMatches;

use crate::config::Config;
use crate::config::KEYS;
use crate::config::Key;
use crate::config::Kind;

/// What was said on the command line: names of keys, and their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags(pub(super) Vec<(&'static str, String)>);

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| command.arg(argument(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS {
            if let Some(text) = matches.get_one::<String>(key.name) {
                self.0.push((key.name, text.clone()));
            }
        }
        Ok(())
    }
}

fn argument(key: &'static Key) -> Arg {
    let value = match key.kind {
        Kind::Text(what) => what,
        Kind::Number => "N",
        Kind::Switch => "true|false",
    };
    let default = key.show(&Config::default());
    // A wrong value is wrong usage, and is said before anything else is looked at.
    let parser = move |text: &str| {
        key.set(&mut Config::default(), text).map(|()| text.to_owned()).map_err(Refused)
    };
    Arg::new(key.name)
        .long(key.flag())
        .value_name(value)
        .help(format!("{} [default: {default}]", key.comment.replace('\n', " ")))
        .value_parser(parser)
}

/// What would have been right, in the words of the configuration.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}
