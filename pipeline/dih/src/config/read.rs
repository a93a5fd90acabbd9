//! Reads settings so that every fault is found in one go, not only the first.
//!
//! Takes    TOML and a type with a JSON schema whose parts all have defaults. Gives the settings, or the faults: keys
//!          that are not known, values of the wrong kind. Pure.

use dih_core::config::{Fault, Faults};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::Table;

/// Reads `text` as settings of type `T`.
pub fn read<T: DeserializeOwned + JsonSchema>(text: &str) -> Result<T, Vec<Fault>> {
    let mut faults = Faults::default();
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            faults.add(
                place(text, &error),
                format!("is no TOML: {}", first_line(error.message())),
                "correct this line",
            );
            return Err(faults.into_vec());
        }
    };
    let schema = schemars::schema_for!(T);
    Reader::<T> { root: schema.as_value(), faults: &mut faults, of: std::marker::PhantomData }.table(
        schema.as_value(),
        &table,
        &mut Vec::new(),
    );
    if !faults.is_empty() {
        return Err(faults.into_vec());
    }
    table.try_into().map_err(|error: toml::de::Error| {
        faults.add("the file", first_line(error.message()), "correct it");
        faults.into_vec()
    })
}

struct Reader<'a, T> {
    root: &'a Value,
    faults: &'a mut Faults,
    of: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Reader<'_, T> {
    fn table(&mut self, schema: &Value, table: &Table, path: &mut Vec<String>) {
        let Some(known) = properties(self.root, schema) else { return };
        for (key, value) in table {
            path.push(key.clone());
            match (known.get(key), value) {
                (None, _) => self.unknown(known, path),
                (Some(part), toml::Value::Table(inner)) if properties(self.root, part).is_some() => {
                    self.table(part, inner, path);
                }
                (Some(_), value) => self.value(value, path),
            }
            path.pop();
        }
    }

    /// Every other setting has a default, so a file with this value alone shows what is wrong with it.
    fn value(&mut self, value: &toml::Value, path: &[String]) {
        let alone = path
            .iter()
            .rev()
            .fold(value.clone(), |inner, key| toml::Value::Table(Table::from_iter([(key.clone(), inner)])));
        if let Err(error) = alone.try_into::<T>() {
            self.faults.add(path.join("."), first_line(error.message()), "`dih config schema` says what it may be");
        }
    }

    fn unknown(&mut self, known: &Map<String, Value>, path: &[String]) {
        let key = path.last().map_or("", String::as_str);
        let near = known.keys().map(|k| (strsim::jaro_winkler(k, key), k)).max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match near.filter(|(likeness, _)| *likeness > 0.8) {
            Some((_, near)) => format!("perhaps `{near}` is meant"),
            None => format!("known here: `{}`", known.keys().cloned().collect::<Vec<_>>().join("`, `")),
        };
        self.faults.add(path.join("."), "is no setting", hint);
    }
}

/// The named parts of an object, through references; None for everything else, maps included.
pub(super) fn properties<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.strip_prefix('#')?)?,
        None => schema,
    };
    schema.get("properties")?.as_object()
}

fn place(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(at).filter(|b| *b == b'\n').count();
    format!("line {line}")
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use dih_core::config::HumanDuration;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        name: Option<String>,
        part: Part,
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Part {
        sharpness_min: f32,
        deadline: HumanDuration,
    }

    impl Default for Part {
        fn default() -> Self {
            Self { sharpness_min: 12.0, deadline: HumanDuration::secs(30) }
        }
    }

    #[track_caller]
    fn check(text: &str, want: &[(&str, &str)]) {
        let faults = read::<Settings>(text).expect_err("a fault");
        let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), want.len(), "{found:?}");
        for (fault, (path, part)) in faults.iter().zip(want) {
            assert_eq!(fault.path, *path);
            assert!(fault.to_string().contains(part), "{fault}");
        }
    }

    #[test]
    fn what_is_not_said_keeps_its_default() {
        let part = Part { sharpness_min: 3.0, ..Part::default() };
        assert_eq!(read("[part]\nsharpness_min = 3.0\n"), Ok(Settings { name: None, part }));
        assert_eq!(read(""), Ok(Settings::default()));
    }

    #[test]
    fn all_faults_are_found_at_once_each_with_its_path() {
        check(
            "name = 3\nqdrant = 1\n[part]\nsharpnes_min = 1\ndeadline = \"soon\"\n",
            &[
                ("name", "string"),
                ("qdrant", "is no setting"),
                ("part.sharpnes_min", "perhaps `sharpness_min` is meant"),
                ("part.deadline", "30s"),
            ],
        );
        check("part = 1\n", &[("part", "expected")]);
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        check("name = \"a\"\n[part\n", &[("line 2", "is no TOML")]);
    }
}
