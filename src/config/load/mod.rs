//! Where values come from: flags before environment before file before defaults.

use std::path::PathBuf;

use toml::Table;
use toml::Value;

use super::Config;
use super::ConfigError;
use super::Secret;
use super::check;
use super::keys::KEYS;
use super::keys::Key;
use super::keys::Kind;
use super::namespaces;

const PASSWORD: &str = "STATOR_PASSWORD";
const CLUSTER_SECRET: &str = "STATOR_CLUSTER_SECRET";

/// Variables that are no keys.
const OTHER_VARIABLES: [&str; 3] = [PASSWORD, CLUSTER_SECRET, "STATOR_CONFIG"];

/// Everything that a configuration is made of, already read from the world.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name and its text.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those that do not begin with `STATOR_` do not count.
    pub environment: Vec<(String, String)>,
    /// Names of keys, and what their flags say.
    pub flags: Vec<(&'static str, String)>,
}

/// A configuration, and what its owner should be told once events can be written.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Checked.
    pub config: Config,
    /// Variables that look like ours and mean nothing. No error: an orchestrator makes variables of
    /// the names of services.
    pub unknown_variables: Vec<String>,
}

impl Config {
    /// Puts a configuration together and checks it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in one line.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut config = Self::default();
        if let Some((path, text)) = &sources.file {
            config
                .read_file(text)
                .map_err(|error| ConfigError::new(path.display().to_string(), error.to_string()))?;
        }
        let unknown_variables = config.read_environment(&sources.environment)?;
        for (name, text) in &sources.flags {
            let key = Key::find(name).expect("flags are made from the keys");
            let failed = |reason| ConfigError::new(format!("--{}", key.flag()), reason);
            key.set(&mut config, text).map_err(failed)?;
        }
        config.read_secrets(&sources.environment)?;
        check::check(&config)?;
        Ok(Loaded { config, unknown_variables })
    }

    fn read_file(&mut self, text: &str) -> Result<(), ConfigError> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::new(format!("line {line}"), error.message().replace('\n', " "))
        })?;
        for (name, value) in &table {
            if name == "namespace" {
                namespaces::read(&mut self.namespaces, value)?;
                continue;
            }
            let key = Key::find(name).ok_or_else(|| {
                let names = KEYS.iter().map(|key| key.name).chain(["namespace"]);
                ConfigError::new(format!("unknown key {name:?}"), nearest(name, names))
            })?;
            let text = as_text(key, value).map_err(|why| ConfigError::new(key.name, why))?;
            key.set(self, &text).map_err(|why| ConfigError::new(key.name, why))?;
        }
        Ok(())
    }

    fn read_environment(
        &mut self,
        environment: &[(String, String)],
    ) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for (variable, text) in environment {
            let Some(name) = variable.strip_prefix("STATOR_") else { continue };
            match KEYS.iter().find(|key| key.variable() == *variable) {
                Some(key) => {
                    key.set(self, text).map_err(|why| ConfigError::new(variable, why))?;
                }
                None if OTHER_VARIABLES.contains(&variable.as_str()) || name.is_empty() => {}
                None => unknown.push(variable.clone()),
            }
        }
        unknown.sort();
        Ok(unknown)
    }

    fn read_secrets(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        let sources = [
            (&mut self.password, PASSWORD, &self.password_file),
            (&mut self.cluster_secret, CLUSTER_SECRET, &self.cluster_secret_file),
        ];
        for (secret, variable, file) in sources {
            let given = environment.iter().find(|(name, _)| name == variable);
            if let Some((_, text)) = given {
                let read = Secret::new(text).map_err(|why| ConfigError::new(variable, why))?;
                *secret = Some(read);
            } else if let Some(path) = file {
                let place = format!("{}_file", variable["STATOR_".len()..].to_lowercase());
                *secret = Some(Secret::read(path).map_err(|why| ConfigError::new(place, why))?);
            }
        }
        Ok(())
    }
}

/// What the file says, as the other sources would say it.
fn as_text(key: &Key, value: &Value) -> Result<String, String> {
    match (key.kind, value) {
        (Kind::Text(_), Value::String(text)) => Ok(text.clone()),
        (Kind::Number, Value::Integer(number)) => Ok(number.to_string()),
        (Kind::Switch, Value::Boolean(switch)) => Ok(switch.to_string()),
        (Kind::Text(what), _) => Err(format!("{value} is not a text in quotes ({what})")),
        (Kind::Number, _) => Err(format!("{value} is not a number")),
        (Kind::Switch, _) => Err(format!("{value} is not true or false")),
    }
}

/// Says which key was meant.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    if ["password", "cluster_secret"].contains(&unknown) {
        let variable = unknown.to_uppercase();
        return format!("secrets come by {unknown}_file or by STATOR_{variable} alone");
    }
    let nearest = known.min_by_key(|name| strsim::damerau_levenshtein(unknown, name));
    format!("the nearest is {:?}", nearest.expect("there are keys"))
}

#[cfg(test)]
mod tests;
