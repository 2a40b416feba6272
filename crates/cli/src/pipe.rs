//! What may follow a command after `|`.

use anyhow::{Context as _, Result, bail};
use regex::Regex;

use crate::command::Output;
use crate::xml;

/// One stage of a pipe.
#[derive(Debug)]
pub enum Stage {
    /// `display json`.
    Json,
    /// `display xml`.
    Xml,
    /// `display set`: `show configuration` only, which takes it before it is run.
    Set,
    /// `match RE`: the lines that match.
    Match(Regex),
    /// `except RE`: the lines that do not.
    Except(Regex),
    /// `count`: their number.
    Count,
    /// `no-more`: no paging, which we never do.
    NoMore,
}

/// Separates the words of a command from its pipe. `| display json` may come as one argument or as several.
pub fn split(arguments: &[String]) -> Result<(Vec<String>, Vec<Stage>)> {
    let Some(start) = arguments.iter().position(|argument| argument.trim_start().starts_with('|')) else {
        return Ok((arguments.to_vec(), Vec::new()));
    };
    let text = arguments[start..].join(" ");
    let stages = separate(&text)?.iter().map(|stage| parse(stage)).collect::<Result<_>>()?;
    Ok((arguments[..start].to_vec(), stages))
}

/// The stages between unquoted bars.
fn separate(text: &str) -> Result<Vec<String>> {
    let mut stages = Vec::new();
    let mut quoted = false;
    let mut previous = ' ';
    for letter in text.chars() {
        match letter {
            // A bar inside a word is alternation of a regular expression.
            '|' if !quoted && previous.is_whitespace() => stages.push(String::new()),
            _ => {
                quoted ^= letter == '"';
                stages.last_mut().context("a pipe starts with `|`")?.push(letter);
            }
        }
        previous = letter;
    }
    if quoted {
        bail!("a quote is not closed in `{text}`");
    }
    Ok(stages)
}

fn parse(stage: &str) -> Result<Stage> {
    let stage = stage.trim();
    let (word, rest) = stage.split_once(char::is_whitespace).unwrap_or((stage, ""));
    let rest = rest.trim();
    let expression = || {
        let text = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(rest);
        if text.is_empty() {
            bail!("`| {word}` needs a regular expression");
        }
        Regex::new(text).with_context(|| format!("`| {word}`"))
    };
    let names = |name: &str, word: &str| !word.is_empty() && name.starts_with(word);
    Ok(match word {
        word if names("display", word) => match rest {
            form if names("json", form) => Stage::Json,
            form if names("xml", form) => Stage::Xml,
            form if names("set", form) => Stage::Set,
            _ => bail!("`| display {rest}`: expected json, xml or set"),
        },
        word if names("match", word) => Stage::Match(expression()?),
        word if names("except", word) => Stage::Except(expression()?),
        word if names("count", word) => Stage::Count,
        word if names("no-more", word) => Stage::NoMore,
        _ => bail!(
            "unknown pipe `| {stage}`; possible: display json, display xml, display set, match, except, count, no-more"
        ),
    })
}

/// Sends an output through the stages.
pub fn apply(output: &Output, stages: &[Stage]) -> Result<String> {
    let mut text = output.text.clone();
    for stage in stages {
        text = match stage {
            Stage::Json => {
                let mut text = serde_json::to_string_pretty(&output.json)?;
                text.push('\n');
                text
            }
            Stage::Xml => xml::document(&output.json),
            Stage::Set => bail!("`| display set` goes with `show configuration`"),
            Stage::Match(expression) => lines(&text, |line| expression.is_match(line)),
            Stage::Except(expression) => lines(&text, |line| !expression.is_match(line)),
            Stage::Count => format!("Count: {} lines\n", text.lines().count()),
            Stage::NoMore => text,
        };
    }
    Ok(text)
}

fn lines(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(pipe: &[&str]) -> Result<String> {
        let arguments: Vec<String> = pipe.iter().map(|word| (*word).to_owned()).collect();
        let (words, stages) = split(&arguments)?;
        assert_eq!(words, ["show", "x"]);
        let output =
            Output { text: "one 1\ntwo 2\n".into(), json: serde_json::json!({"a": 1}), success: true };
        apply(&output, &stages)
    }

    #[test]
    fn a_pipe_may_be_one_argument_or_several() {
        assert_eq!(through(&["show", "x", "| match two"]).unwrap(), "two 2\n");
        assert_eq!(through(&["show", "x", "|", "match", "two"]).unwrap(), "two 2\n");
        assert_eq!(through(&["show", "x", "| match one|two | count"]).unwrap(), "Count: 2 lines\n");
        assert_eq!(through(&["show", "x", "| match \"o |t\""]).unwrap(), "two 2\n");
        assert_eq!(through(&["show", "x", "| except two"]).unwrap(), "one 1\n");
        assert_eq!(through(&["show", "x", "| display json | match a"]).unwrap(), "  \"a\": 1\n");
        assert_eq!(through(&["show", "x", "| no-more"]).unwrap(), "one 1\ntwo 2\n");
    }

    #[test]
    fn wrong_pipes_are_named() {
        assert!(through(&["show", "x", "| foo"]).unwrap_err().to_string().contains("unknown pipe"));
        assert!(through(&["show", "x", "| match ("]).is_err());
        assert!(through(&["show", "x", "| match"]).unwrap_err().to_string().contains("regular expression"));
        assert!(through(&["show", "x", "| display set"]).is_err());
    }
}
