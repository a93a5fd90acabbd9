//! Writes settings as TOML with the comments of their fields: the file is the manual.
//!
//! Takes    settings and their JSON schema. Gives TOML that [`super::read`] reads back to the same. Pure.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use toml::Table;

use super::read::properties;

/// Longest line of a comment.
const COLUMNS: usize = 110;

/// Every setting with its comment, in the order in which the code names them; those that are not set are commented out.
pub fn print<T: Serialize + JsonSchema>(settings: &T) -> Result<String, toml::ser::Error> {
    let schema = schemars::schema_for!(T);
    let table = Table::try_from(settings)?;
    let mut text = String::new();
    let known = properties(schema.as_value(), schema.as_value());
    Printer { root: schema.as_value(), text: &mut text }.table(known, &table, &mut Vec::new());
    Ok(text)
}

struct Printer<'a> {
    root: &'a Value,
    text: &'a mut String,
}

impl Printer<'_> {
    fn table(&mut self, known: Option<&Map<String, Value>>, table: &Table, path: &mut Vec<String>) {
        let (sections, values): (Vec<_>, Vec<_>) = table.iter().partition(|(_, value)| value.is_table());
        for (key, value) in values {
            self.comment(known.and_then(|k| k.get(key)));
            self.text.push_str(&format!("{key} = {}\n", shown(value)));
        }
        for (key, schema) in known.into_iter().flatten().filter(|(key, _)| !table.contains_key(*key)) {
            self.comment(Some(schema));
            self.text.push_str(&format!("#{key} =\n"));
        }
        for (key, section) in sections {
            let schema = known.and_then(|k| k.get(key));
            path.push(key.clone());
            self.text.push('\n');
            self.comment(schema);
            self.text.push_str(&format!("[{}]\n", path.join(".")));
            let inner = schema.and_then(|schema| properties(self.root, schema));
            self.table(inner, section.as_table().unwrap_or(&Table::new()), path);
            path.pop();
        }
    }

    fn comment(&mut self, schema: Option<&Value>) {
        let description = schema.and_then(|s| s.get("description")).and_then(Value::as_str).unwrap_or_default();
        for paragraph in description.split("\n\n") {
            let words = paragraph.split_whitespace();
            let mut line = String::from("#");
            for word in words {
                if line.chars().count() + 1 + word.chars().count() > COLUMNS {
                    self.text.push_str(&line);
                    self.text.push('\n');
                    line = String::from("#");
                }
                line.push(' ');
                line.push_str(word);
            }
            if line.len() > 1 {
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
    }
}

/// A value as TOML. Most numbers come from 32 bits, and `0.9` must not become `0.8999999761581421`.
fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number) if f64::from(*number as f32) == *number => format!("{:?}", *number as f32),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{super::read::read, *};

    #[derive(Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        /// Where it is.
        url: Option<String>,
        /// The first part.
        zebra: Part,
        /// How many.
        count: u32,
    }

    #[derive(Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Part {
        /// A share.
        share: f32,
        exact: f64,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { url: None, zebra: Part::default(), count: 3 }
        }
    }

    impl Default for Part {
        fn default() -> Self {
            Self { share: 0.9, exact: 0.05 }
        }
    }

    #[test]
    fn comments_stand_above_and_what_is_not_set_is_commented_out() {
        let want = "# How many.\ncount = 3\n# Where it is.\n#url =\n\n# The first part.\n[zebra]\n# A share.\nshare = 0.9\nexact = 0.05\n";
        assert_eq!(print(&Settings::default()).expect("prints"), want);
    }

    #[test]
    fn what_is_printed_reads_back() {
        let settings = Settings { url: Some("a \"b\"\nc".into()), zebra: Part { share: 0.1, exact: 1e-9 }, count: 0 };
        assert_eq!(read(&print(&settings).expect("prints")), Ok(settings));
    }
}
