//! The lexer: words, punctuation, prompts; comments and white space vanish. Every token knows its line and column.

use logos::Logos;

use crate::finding::{Finding, Kind};
use crate::place::Span;

/// Longest text that is read, in octets. The largest configuration the limits of a server allow (250 groups with
/// 400 SAs of 300 policies cannot be announced in a datagram; 1,100 policies a group can) is a few megabytes.
pub const MAX_TEXT_OCTETS: usize = 32 << 20;

/// A word as written, without its quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The text, escapes resolved.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Word {
    /// A word that was written nowhere.
    pub fn new(text: impl Into<String>) -> Word {
        Word { text: text.into(), span: Span::default() }
    }
}

#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq)]
#[logos(skip r"[ \t\r\n\f\u{feff}\u{a0}]+")]
enum Lexeme {
    #[token("{")]
    Open,
    #[token("}")]
    Close,
    #[token("[")]
    ListOpen,
    #[token("]")]
    ListClose,
    #[token(";")]
    End,
    // Fences come along when a listing is copied out of a Markdown page.
    #[regex(r"#[^\n]*", allow_greedy = true)]
    #[regex(r"```[^\n]*", allow_greedy = true, priority = 200)]
    LineComment,
    #[token("/*", block_comment)]
    BlockComment(bool),
    #[token("\"", quoted)]
    Quoted(bool),
    // `root@data-center# show security`, or the bare prompt.
    #[regex(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+[#>%]([ \t][^\n]*)?", priority = 100, allow_greedy = true)]
    Prompt,
    #[regex(r##"([^ \t\r\n\f\u{feff}\u{a0};{}\[\]"#/]|/[^ \t\r\n\f\u{feff}\u{a0};{}\[\]"*])[^ \t\r\n\f\u{feff}\u{a0};{}\[\]"]*"##, priority = 1)]
    #[token("/", priority = 1)]
    Word,
}

/// Takes everything to the closing `*/`; false where there is none.
fn block_comment(lexer: &mut logos::Lexer<'_, Lexeme>) -> bool {
    match lexer.remainder().find("*/") {
        Some(at) => {
            lexer.bump(at + 2);
            true
        }
        None => {
            lexer.bump(lexer.remainder().len());
            false
        }
    }
}

/// Takes everything to the closing quote; false where there is none. A backslash protects the next character.
fn quoted(lexer: &mut logos::Lexer<'_, Lexeme>) -> bool {
    let rest = lexer.remainder();
    let mut escaped = false;
    for (at, character) in rest.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                lexer.bump(at + 1);
                return true;
            }
            _ => {}
        }
    }
    // An open quote is most likely missing its end on the same line.
    lexer.bump(rest.find('\n').unwrap_or(rest.len()));
    false
}

/// What the grammar reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// A word in quotes: never a prefix or a command.
    Quoted(String),
    Prompt(String),
    Open,
    Close,
    ListOpen,
    ListClose,
    End,
}

/// Counts lines and columns while moving forward only, so that the cost is linear however long the lines are.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    column: u32,
}

impl Lines<'_> {
    fn span(&mut self, start: usize, end: usize) -> Span {
        for character in self.text[self.offset..start].chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.offset = start;
        Span { start, end, line: self.line, column: self.column }
    }
}

/// Splits a text into tokens; what is no token becomes a finding.
pub(super) fn tokens(text: &str, findings: &mut Vec<Finding>) -> Vec<(Token, Span)> {
    let mut lines = Lines { text, offset: 0, line: 1, column: 1 };
    if text.len() > MAX_TEXT_OCTETS {
        findings.push(
            Finding::error(
                Kind::Syntax,
                Span::default(),
                "",
                format!("the text is {} octets long", text.len()),
            )
            .expected(format!("at most {MAX_TEXT_OCTETS} octets")),
        );
        return Vec::new();
    }
    let mut tokens = Vec::new();
    let mut lexer = Lexeme::lexer(text);
    while let Some(lexeme) = lexer.next() {
        let range = lexer.span();
        let span = lines.span(range.start, range.end);
        let slice = &text[range];
        let token = match lexeme {
            Ok(Lexeme::Open) => Token::Open,
            Ok(Lexeme::Close) => Token::Close,
            Ok(Lexeme::ListOpen) => Token::ListOpen,
            Ok(Lexeme::ListClose) => Token::ListClose,
            Ok(Lexeme::End) => Token::End,
            Ok(Lexeme::LineComment) | Ok(Lexeme::BlockComment(true)) => continue,
            Ok(Lexeme::Prompt) => Token::Prompt(slice.to_owned()),
            Ok(Lexeme::Word) => Token::Word(slice.to_owned()),
            Ok(Lexeme::Quoted(true)) => Token::Quoted(unescape(&slice[1..slice.len() - 1])),
            Ok(Lexeme::Quoted(false)) => {
                findings.push(
                    Finding::error(Kind::Syntax, span, "", "this quoted string is not closed")
                        .expected("a closing `\"`")
                        .remedy("close the string on the line it starts"),
                );
                Token::Quoted(unescape(slice[1..].trim_end_matches([';', ' ', '\t', '\r'])))
            }
            Ok(Lexeme::BlockComment(false)) => {
                findings.push(
                    Finding::error(Kind::Syntax, span, "", "this comment is not closed")
                        .expected("a closing `*/`"),
                );
                continue;
            }
            Err(()) => {
                findings.push(Finding::error(Kind::Syntax, span, "", "this character cannot be here"));
                continue;
            }
        };
        tokens.push((token, span));
    }
    tokens
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

/// A word as it must be written: quoted where it would not come back as the same word.
pub(crate) fn written(word: &str) -> String {
    let plain = |character: char| {
        !character.is_whitespace()
            && !character.is_control()
            && !matches!(character, ';' | '{' | '}' | '[' | ']' | '"' | '#' | '\\' | '|' | '$' | '\u{feff}')
    };
    let keyword_like =
        word.ends_with(':') || word.starts_with("/*") || word.contains('@') && word.contains(['>', '%']);
    if !word.is_empty() && word.chars().all(plain) && !keyword_like {
        return word.to_owned();
    }
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for character in word.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Token> {
        let mut findings = Vec::new();
        let tokens = tokens(text, &mut findings).into_iter().map(|(token, _)| token).collect();
        assert_eq!(findings, []);
        tokens
    }

    #[test]
    fn comments_of_all_three_kinds_vanish() {
        let with = words(
            "a b; ## SECRET-DATA\n# x\n/* c { \n */ source 0.0.0.0/2;   ##0.0.0.0 to 63.255.255.255\n/*x*/",
        );
        assert_eq!(with, words("a b; source 0.0.0.0/2;"));
    }

    #[test]
    fn words_hold_slashes_dots_and_signs() {
        let tokens = words("ge-0/0/1.0 /var/log/kmd 10.0.0.0/8 <100>ms a/ /");
        assert_eq!(tokens.len(), 6);
        assert!(tokens.iter().all(|token| matches!(token, Token::Word(_))));
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let mut findings = Vec::new();
        let tokens = tokens("é a\n  \"b c\";", &mut findings);
        let places: Vec<_> = tokens.iter().map(|(_, span)| (span.line, span.column)).collect();
        assert_eq!(places, [(1, 1), (1, 3), (2, 3), (2, 8)]);
    }

    #[test]
    fn written_words_come_back_as_themselves() {
        for word in [
            "a", "", "a b", "\"", "\\", "$9$x", "a#b", "x:", "/*", "/", "a\nb", "é", "root@h#", "a@b>",
            "\u{a0}",
        ] {
            let tokens = words(&written(word));
            let back = matches!(&tokens[..], [Token::Word(text) | Token::Quoted(text)] if text == word);
            assert!(back, "{word:?} came back as {tokens:?}");
        }
    }

    #[test]
    fn prompts_are_one_token() {
        assert_eq!(
            words("root@data-center# show security"),
            [Token::Prompt("root@data-center# show security".into())]
        );
        assert_eq!(words("root@black#\n"), [Token::Prompt("root@black#".into())]);
        assert_eq!(words("a@b.example;").len(), 2);
    }
}
