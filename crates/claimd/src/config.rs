//! The configuration: defaults, file, environment, flags, in that order (each later one wins).
//!
//! Each component owns its section's struct; here they are put together, read, and checked. Every fault is found, not only
//! the first, and each says where it is, why it is one, and what to do.

mod fault;
mod settings;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

pub(crate) use fault::Fault;
pub(crate) use settings::{LogFormat, Manifest, Settings};
use source::Setting;

/// A checked configuration, and where each value came from.
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    /// Dotted key → origin, for keys that are not at their default.
    origins: BTreeMap<String, String>,
}

/// Reads and checks everything. `file`: the given one must exist; none given: only defaults and environment.
pub(crate) fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> Result<Loaded, Vec<Fault>> {
    let defaults = Settings::tree();
    let mut faults = Vec::new();
    let mut given = Vec::new();
    if let Some(path) = file {
        source::from_file(path, &defaults, &mut given, &mut faults);
    }
    source::from_env(env, &defaults, &mut given, &mut faults);
    source::from_flags(flags, &defaults, &mut given, &mut faults);

    // One value at a time over the defaults, so that each fault is pinned to the value that made it.
    for setting in &given {
        if let Err(error) = build(std::iter::once(setting)) {
            faults.push(setting.fault(&error.to_string()));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let settings = build(given.iter()).map_err(|error| vec![Fault::plain(error.to_string())])?;
    faults.extend(settings.contradictions());
    if !faults.is_empty() {
        return Err(faults);
    }
    let origins = given.into_iter().map(|setting| (setting.key, setting.origin)).collect();
    Ok(Loaded { settings, origins })
}

fn build<'a>(given: impl Iterator<Item = &'a Setting>) -> Result<Settings, config::ConfigError> {
    let mut builder = config::Config::builder().add_source(config::Config::try_from(&Settings::default())?);
    for setting in given {
        builder = builder.set_override(&setting.key, setting.value())?;
    }
    builder.build()?.try_deserialize()
}

impl Loaded {
    /// Secret keys that have their value from the file of settings.
    pub(crate) fn secrets_in_file(&self) -> impl Iterator<Item = &str> {
        let of_file = |origin: &str| origin != "flag" && !origin.starts_with("env ");
        let secret = move |(key, origin): &(&String, &String)| Settings::is_secret(key) && of_file(origin);
        self.origins.iter().filter(secret).map(|(key, _)| key.as_str())
    }

    /// The merged configuration as TOML, secrets hidden if asked, each value with its origin if asked.
    pub(crate) fn print(&self, redacted: bool, origin: bool) -> String {
        let mut text = String::new();
        let Value::Object(sections) = serde_json::to_value(&self.settings).unwrap_or_default() else { return text };
        for (section, keys) in sections {
            let Value::Object(keys) = keys else { continue };
            text.push_str(&format!("[{section}]\n"));
            for (key, value) in keys {
                let path = format!("{section}.{key}");
                let hidden = redacted && Settings::is_secret(&path) && value != Value::String(String::new());
                let shown = if hidden { "\"[redacted]\"".to_owned() } else { source::as_toml(&value) };
                text.push_str(&format!("{key} = {shown}"));
                if origin {
                    let origin = self.origins.get(&path).map_or("default", String::as_str);
                    text.push_str(&format!("  # {origin}"));
                }
                text.push('\n');
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}
