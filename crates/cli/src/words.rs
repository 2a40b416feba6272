//! Finds the command that words mean; every word may be shortened as long as it stays unambiguous.

use anyhow::{Result, bail};

use crate::command::{Command, Kind};

/// The command that `tokens` start with, and the tokens that follow its words.
pub fn resolve<'a>(
    commands: &'static [Command],
    tokens: &'a [String],
) -> Result<(&'static Command, &'a [String])> {
    let (candidates, consumed) = walk(commands, tokens)?;
    if let Some(command) = candidates.iter().find(|command| command.words.split(' ').count() == consumed) {
        return Ok((command, &tokens[consumed..]));
    }
    let next = next_words(&candidates, consumed);
    let so_far =
        if consumed == 0 { String::new() } else { format!(" after `{}`", prefix(&candidates, consumed)) };
    match tokens.get(consumed) {
        Some(token) => bail!("unknown word `{token}`{so_far}; possible: {}", next.join(", ")),
        None => bail!("incomplete command{so_far}; possible: {}", next.join(", ")),
    }
}

/// What may come next after complete `tokens`: words with a line of help each.
pub fn completions(commands: &'static [Command], tokens: &[String]) -> Vec<(String, String)> {
    let Ok((candidates, consumed)) = walk(commands, tokens) else { return Vec::new() };
    let mut found: Vec<(String, String)> = Vec::new();
    if consumed == tokens.len() {
        for word in next_words(&candidates, consumed) {
            let mut of_word =
                candidates.iter().filter(|command| command.words.split(' ').nth(consumed) == Some(word));
            let help = match (of_word.next(), of_word.next()) {
                (Some(only), None) => only.summary().to_owned(),
                _ => String::new(),
            };
            found.push((word.to_owned(), help));
        }
    }
    if let Some(command) = candidates.iter().find(|command| command.words.split(' ').count() == consumed) {
        let named =
            command.arguments.iter().filter(|argument| matches!(argument.kind, Kind::Flag | Kind::Value));
        found.extend(
            named
                .filter(|argument| !tokens[consumed..].iter().any(|token| token == argument.name))
                .map(|argument| (argument.name.to_owned(), argument.help.to_owned())),
        );
    }
    found
}

impl Command {
    /// First line of the help.
    pub fn summary(&self) -> &'static str {
        self.help.lines().next().unwrap_or_default().trim()
    }
}

/// Follows `tokens` down the tree of words as far as they are words: the commands that are left, and how many tokens
/// were words. An ambiguous token is an error.
fn walk(commands: &'static [Command], tokens: &[String]) -> Result<(Vec<&'static Command>, usize)> {
    let mut candidates: Vec<&'static Command> = commands.iter().collect();
    for (position, token) in tokens.iter().enumerate() {
        let next = next_words(&candidates, position);
        let matching: Vec<&str> = match next.iter().find(|word| *word == token) {
            Some(exact) => vec![exact],
            None => next.iter().copied().filter(|word| word.starts_with(token.as_str())).collect(),
        };
        match matching[..] {
            [] => return Ok((candidates, position)),
            [word] => candidates.retain(|command| command.words.split(' ').nth(position) == Some(word)),
            _ => bail!("`{token}` is ambiguous: {}", matching.join(", ")),
        }
    }
    Ok((candidates, tokens.len()))
}

fn next_words(candidates: &[&'static Command], position: usize) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    for word in candidates.iter().filter_map(|command| command.words.split(' ').nth(position)) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

fn prefix(candidates: &[&'static Command], length: usize) -> String {
    let words: Vec<&str> =
        candidates.first().map(|c| c.words.split(' ').take(length).collect()).unwrap_or_default();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::COMMANDS;

    fn tokens(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_may_be_shortened() {
        let given = tokens("sh sec gr s ik sec detail");
        let (command, rest) = resolve(COMMANDS, &given).unwrap();
        assert_eq!(command.words, "show security group-vpn server ike security-associations");
        assert_eq!(rest, ["detail"]);
    }

    #[test]
    fn a_command_may_continue_another() {
        let given = tokens("clear security group-vpn server group g1 now");
        assert_eq!(resolve(COMMANDS, &given).unwrap().1.len(), 3);
        let given = tokens("clear security group-vpn server statistics");
        assert_eq!(resolve(COMMANDS, &given).unwrap().0.words, "clear security group-vpn server statistics");
    }

    #[test]
    fn unknown_ambiguous_and_missing_words_name_what_is_possible() {
        let error = |text: &str| resolve(COMMANDS, &tokens(text)).err().expect("an error").to_string();
        assert!(error("show security group-vpn server ike foo").contains("possible: security-associations"));
        assert!(error("show security group-vpn").contains("incomplete command"));
        assert!(error("c").contains("ambiguous"));
    }

    #[test]
    fn every_command_has_its_own_words_and_a_summary() {
        let mut words: Vec<&str> = COMMANDS.iter().map(|command| command.words).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), COMMANDS.len());
        assert!(COMMANDS.iter().all(|command| !command.summary().is_empty()));
    }

    #[test]
    fn completions_are_words_and_then_arguments() {
        let words: Vec<String> = completions(COMMANDS, &tokens("show security group-vpn server"))
            .into_iter()
            .map(|(w, _)| w)
            .collect();
        assert!(
            words.contains(&"ike".to_owned()) && words.contains(&"registered-members".to_owned()),
            "{words:?}"
        );
        let arguments = completions(COMMANDS, &tokens("show security group-vpn server statistics"));
        assert_eq!(arguments[0].0, "group");
    }
}
