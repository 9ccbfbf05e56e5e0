//! Where settings come from: a TOML file (with positions), `CLAIMD_…` variables, flags. All become [`Setting`]s.

use std::path::Path;

use serde_json::Value;
use toml_edit::{Document, Item};

use super::fault::Fault;
use super::settings::Settings;

/// One value that was given.
pub(super) struct Setting {
    /// `section.key`.
    pub(super) key: String,
    given: Value,
    /// For `config print --origin`.
    pub(super) origin: String,
    /// For faults; hides the value of a secret key.
    place: String,
}

impl Setting {
    pub(super) fn value(&self) -> config::Value {
        config::Value::new(Some(&self.origin), as_config(&self.given))
    }

    pub(super) fn fault(&self, error: &str) -> Fault {
        let error = if Settings::is_secret(&self.key) { "the value does not fit" } else { error };
        // The library repeats the key and origin behind the reason; the place says both.
        let reason = error.split(" for key `").next().unwrap_or(error);
        let default = Settings::tree().pointer(&pointer(&self.key)).map(as_toml).unwrap_or_default();
        Fault::plain(format!("`{}`: {reason}", self.key)).at(&self.place).next(format!("the default is {default}"))
    }
}

pub(super) fn from_file(path: &Path, defaults: &Value, given: &mut Vec<Setting>, faults: &mut Vec<Fault>) {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let fault = Fault::plain(format!("cannot read the configuration: {error}")).at(shown.to_string());
            return faults.push(fault.next("give an existing file with `--config`, or none to run on defaults"));
        }
    };
    let document = match Document::parse(text.as_str()) {
        Ok(document) => document,
        Err(error) => {
            let place = error.span().map_or_else(|| shown.to_string(), |span| place(path, &text, span.start, None));
            return faults.push(Fault::plain(format!("not TOML: {}", error.message())).at(place));
        }
    };
    for (section, item) in document.iter() {
        let Some(table) = item.as_table_like() else {
            let at = document.as_table().key(section).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
            let fault = Fault::unknown_key(section, keys(defaults)).at(place(path, &text, at, None));
            faults.push(fault);
            continue;
        };
        if defaults.get(section).is_none() {
            let at = document.as_table().key(section).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
            let sections = defaults.as_object().into_iter().flat_map(|map| map.keys().cloned());
            faults.push(Fault::unknown_key(section, sections).at(place(path, &text, at, None)));
            continue;
        }
        for (key, item) in table.iter() {
            let name = format!("{section}.{key}");
            let at = table.key(key).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
            let place = place(path, &text, at, Some(&name));
            if defaults.pointer(&pointer(&name)).is_none() {
                faults.push(Fault::unknown_key(&name, keys(defaults)).at(place));
                continue;
            }
            let line = text[..at].matches('\n').count() + 1;
            let origin = format!("{shown}:{line}");
            given.push(Setting { key: name, given: as_json(item), origin, place });
        }
    }
}

pub(super) fn from_env(
    env: impl Iterator<Item = (String, String)>,
    defaults: &Value,
    given: &mut Vec<Setting>,
    faults: &mut Vec<Fault>,
) {
    let variables: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with("CLAIMD_")).collect();
    for (variable, value) in &variables {
        // The client side of the command line has variables of its own, and `--config` has one.
        if variable.starts_with("CLAIMD_CLIENT__") || variable == "CLAIMD_CONFIG" {
            continue;
        }
        let path = variable["CLAIMD_".len()..].to_lowercase().replace("__", ".");
        let (key, value) = match path.strip_suffix("_file") {
            Some(key) if Settings::is_secret(key) => {
                if variables.iter().any(|(other, _)| *other == variable[..variable.len() - "_FILE".len()]) {
                    let fault = Fault::plain(format!("`{key}` is given twice"));
                    faults.push(fault.at(variable).next("keep the variable, or the one with `_FILE`, not both"));
                    continue;
                }
                match std::fs::read_to_string(value) {
                    Ok(text) => (key.to_owned(), text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(error) => {
                        faults.push(Fault::plain(format!("cannot read the file of `{key}`: {error}")).at(variable));
                        continue;
                    }
                }
            }
            _ => (path, value.clone()),
        };
        match defaults.pointer(&pointer(&key)) {
            Some(default) => {
                let origin = format!("env {variable}");
                given.push(Setting { key, given: typed(&value, default), origin, place: variable.clone() });
            }
            None => {
                let known = keys(defaults).map(|key| format!("CLAIMD_{}", key.to_uppercase().replace('.', "__")));
                let mut fault = Fault::unknown_key(variable, known);
                fault.what = format!("unknown variable `{variable}`");
                faults.push(fault);
            }
        }
    }
}

pub(super) fn from_flags(
    flags: &[(&str, String)],
    defaults: &Value,
    given: &mut Vec<Setting>,
    faults: &mut Vec<Fault>,
) {
    for (key, value) in flags {
        match defaults.pointer(&pointer(key)) {
            Some(default) => given.push(Setting {
                key: (*key).to_owned(),
                given: typed(value, default),
                origin: "flag".to_owned(),
                place: format!("flag for `{key}`"),
            }),
            None => faults.push(Fault::unknown_key(key, keys(defaults))),
        }
    }
}

/// A text from the environment in the type the default has; what does not fit stays text and is refused with its place.
fn typed(text: &str, default: &Value) -> Value {
    match default {
        Value::Bool(_) => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Bool),
        Value::Number(_) => serde_json::from_str::<serde_json::Number>(text)
            .map_or_else(|_| Value::String(text.to_owned()), Value::Number),
        Value::Array(_) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
        _ => Value::String(text.to_owned()),
    }
}

/// All known keys, dotted.
fn keys(defaults: &Value) -> impl Iterator<Item = String> {
    defaults.as_object().into_iter().flatten().flat_map(|(section, keys)| {
        keys.as_object().into_iter().flatten().map(move |(key, _)| format!("{section}.{key}"))
    })
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('.', "/"))
}

/// `file:line:col  the line`; the line of a secret key is not shown.
fn place(path: &Path, text: &str, at: usize, key: Option<&str>) -> String {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = text[start..at].chars().count() + 1;
    let file = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let position = format!("{file}:{line}:{column}");
    if key.is_some_and(Settings::is_secret) {
        return position;
    }
    format!("{position}  {}", text[start..].lines().next().unwrap_or_default().trim())
}

fn as_json(item: &Item) -> Value {
    match item {
        Item::Value(value) => value_as_json(value),
        Item::Table(table) => table.iter().map(|(key, item)| (key.to_owned(), as_json(item))).collect(),
        Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| as_json(&Item::Table(table.clone()))).collect::<Vec<_>>().into()
        }
        Item::None => Value::Null,
    }
}

fn value_as_json(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(truth) => Value::from(*truth.value()),
        toml_edit::Value::Datetime(time) => Value::from(time.value().to_string()),
        toml_edit::Value::Array(values) => values.iter().map(value_as_json).collect::<Vec<_>>().into(),
        toml_edit::Value::InlineTable(table) => {
            table.iter().map(|(key, value)| (key.to_owned(), value_as_json(value))).collect()
        }
    }
}

/// A value as TOML writes it; JSON's texts, numbers and truth values are TOML's too.
pub(super) fn as_toml(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(as_toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

fn as_config(value: &Value) -> config::ValueKind {
    match value {
        Value::Null => config::ValueKind::Nil,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(whole)) => whole.into(),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => {
            config::ValueKind::Array(values.iter().map(|value| config::Value::new(None, as_config(value))).collect())
        }
        Value::Object(map) => config::ValueKind::Table(
            map.iter().map(|(key, value)| (key.clone(), config::Value::new(None, as_config(value)))).collect(),
        ),
    }
}
