//! Where secrets come from: a file that the configuration names, else a variable. Never the configuration itself.

use std::{env, fs, path::Path};

use dih_core::Secret;

use crate::problem::OrProblem;

/// Where one secret may be.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub file: Option<&'a Path>,
    /// The setting that names the file.
    pub setting: &'a str,
    pub variable: &'a str,
}

impl Place<'_> {
    /// Reads it; `of` says for people what it is.
    pub fn read(self, of: &str) -> anyhow::Result<Secret> {
        let text = match self.file {
            Some(path) => {
                let what = format!("could not read {of} in `{}`", path.display());
                fs::read_to_string(path).or_problem(what, format!("correct `{}`", self.setting))?
            }
            None => {
                let remedy = format!("set `{}`, or the variable {}", self.setting, self.variable);
                env::var(self.variable).or_problem(format!("there is no {of}"), remedy)?
            }
        };
        Ok(Secret::new(text.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_line_end_and_a_missing_one_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), "hunter2\n").expect("writable");
        let place = Place { file: Some(file.path()), setting: "a.b", variable: "DIH_TEST_NO_SUCH_VARIABLE" };
        assert_eq!(place.read("password of `x`").expect("is there"), Secret::new("hunter2"));
        let missing =
            Place { file: Some("/no/such/file".as_ref()), ..place }.read("password").expect_err("is not there");
        assert!(format!("{missing:#}").contains("/no/such/file"), "{missing:#}");
        let unset = Place { file: None, ..place }.read("password of `x`").expect_err("is not set");
        assert!(format!("{unset:#}").contains("there is no password of `x`"), "{unset:#}");
    }
}
