//! What people decided: a CSV with the columns `file,question,answer`.

use std::{collections::HashMap, path::Path};

use anyhow::Context;

use crate::{
    bench::damage::Question,
    problem::{OrProblem, Problem},
};

/// Answers by file and question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decisions {
    answers: HashMap<(String, String), bool>,
}

#[derive(Debug, serde::Deserialize)]
struct Row {
    file: String,
    question: String,
    answer: String,
}

impl Decisions {
    pub fn read(csv: &Path) -> anyhow::Result<Self> {
        let what = || format!("could not read the decisions in `{}`", csv.display());
        let remedy = "name a CSV file with the columns `file,question,answer`";
        let reader = csv::Reader::from_path(csv).or_problem(what(), remedy)?;
        Self::parse(reader).with_context(what)
    }

    fn parse<R: std::io::Read>(mut reader: csv::Reader<R>) -> anyhow::Result<Self> {
        let known = Question::ALL.map(Question::reason);
        let mut answers = HashMap::new();
        for (n, row) in reader.deserialize().enumerate() {
            let place = format!("row {}", n + 2);
            let Row { file, question, answer } = row.or_problem(place.clone(), "write `file,question,answer`")?;
            if !known.contains(&question.trim()) {
                let what = format!("{place}: `{question}` is no question");
                return Err(Problem::usage(what, format!("ask one of `{}`", known.join("`, `"))).into());
            }
            let answer = match answer.trim() {
                "yes" => true,
                "no" => false,
                _ => {
                    let what = format!("{place}: `{answer}` is no answer");
                    return Err(Problem::usage(what, "write `yes` or `no`").into());
                }
            };
            answers.insert((file.trim().to_owned(), question.trim().to_owned()), answer);
        }
        Ok(Self { answers })
    }

    pub fn len(&self) -> usize {
        self.answers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Files that somebody decided about.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.answers.keys().map(|(file, _)| file.as_str())
    }

    pub fn about(&self, file: &str, question: &str) -> Option<bool> {
        self.answers.get(&(file.to_owned(), question.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Decisions> {
        Decisions::parse(csv::Reader::from_reader(text.as_bytes()))
    }

    #[test]
    fn answers_are_found_by_file_and_question() {
        let said = parse("file,question,answer\na.jpg,blurred,yes\na.jpg,too_dark,no\n").expect("reads");
        assert_eq!((said.about("a.jpg", "blurred"), said.about("a.jpg", "too_dark")), (Some(true), Some(false)));
        assert_eq!((said.about("b.jpg", "blurred"), said.len()), (None, 2));
    }

    #[test]
    fn what_cannot_be_understood_is_named_with_its_row() {
        for (text, part) in [("a,pretty,yes", "row 2"), ("a,blurred,perhaps", "no answer"), ("a,blurred", "row 2")] {
            let error = parse(&format!("file,question,answer\n{text}\n")).expect_err("a fault");
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
