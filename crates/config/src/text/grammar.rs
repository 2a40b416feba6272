//! The grammar: statements, blocks, lists, prefixes, `set` lines, and what surrounds pasted output.
//!
//! A text is a run of sections; a prompt line that shows a part of a configuration (`root@host# show security`)
//! opens the next one, at the place it names. Everything is collected, nothing stops at the first error.

use super::repair::{close_blocks, join_pages};
use super::token::{Token, Word, tokens};
use crate::finding::{Finding, Kind};
use crate::place::Span;

/// Deepest nesting of blocks. The deepest statement of the language is 12 levels down; foreign hierarchies are not
/// much deeper.
pub const MAX_DEPTH: usize = 64;

/// One element of a statement's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Word(Word),
    /// `[ a b c ]`.
    List(Vec<Word>, Span),
}

impl Item {
    pub(crate) fn span(&self) -> Span {
        match self {
            Item::Word(word) => word.span,
            Item::List(_, span) => *span,
        }
    }
}

/// A command of the `set` form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Set,
    Delete,
    Deactivate,
    Activate,
}

/// A prefix that tells a load operation what to do with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Replace,
    Delete,
    /// `active:`: not inactive any more.
    Active,
}

/// A statement, its meaning not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) items: Vec<Item>,
    pub(crate) block: Option<Vec<Statement>>,
    pub(crate) inactive: bool,
    pub(crate) tag: Option<Tag>,
    pub(crate) command: Option<Command>,
    pub(crate) span: Span,
}

/// Statements that stand at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// The place a prompt named; `None`: the place the caller names.
    pub(crate) at: Option<Vec<Word>>,
    pub(crate) statements: Vec<Statement>,
}

/// Reads a text. `pasted` texts may have been cut at page breaks.
pub(crate) fn parse(text: &str, pasted: bool, findings: &mut Vec<Finding>) -> Vec<Section> {
    let mut tokens = tokens(text, findings);
    let pasted = pasted || tokens.iter().any(|(token, _)| matches!(token, Token::Prompt(_)));
    if pasted {
        join_pages(&mut tokens, findings);
        close_blocks(&mut tokens, findings);
    }
    let mut parser = Parser { tokens, at: 0, edit: Vec::new(), findings };
    parser.sections()
}

struct Parser<'a> {
    tokens: Vec<(Token, Span)>,
    at: usize,
    /// What the last `[edit ...]` line said.
    edit: Vec<Word>,
    findings: &'a mut Vec<Finding>,
}

impl Parser<'_> {
    fn sections(&mut self) -> Vec<Section> {
        let mut sections = vec![Section::default()];
        while self.at < self.tokens.len() {
            let statements = self.statements(0);
            if let Some(section) = sections.last_mut() {
                section.statements.extend(statements);
            }
            match self.peek() {
                Some(Token::Prompt(_)) => sections.extend(self.prompt()),
                Some(Token::Close) => {
                    let span = self.span();
                    self.findings.push(
                        Finding::error(Kind::Syntax, span, "", "this `}` closes nothing")
                            .remedy("remove it, or look for a block above that is closed too early"),
                    );
                    self.at += 1;
                }
                _ => {}
            }
        }
        sections.retain(|section| section.at.is_some() || !section.statements.is_empty());
        sections
    }

    /// Statements up to a closing brace, a prompt or the end; none of these is consumed.
    fn statements(&mut self, depth: usize) -> Vec<Statement> {
        let mut statements = Vec::new();
        loop {
            match self.peek() {
                None | Some(Token::Close) => return statements,
                Some(Token::Prompt(_)) if depth == 0 => return statements,
                Some(Token::Prompt(_)) => {
                    let span = self.span();
                    self.findings.push(
                        Finding::error(Kind::Syntax, span, "", "a prompt inside a block")
                            .expected("a statement or `}`")
                            .remedy("close the open blocks before the prompt"),
                    );
                    self.at += 1;
                }
                Some(Token::End) => self.at += 1, // an empty statement
                Some(Token::ListOpen) if self.is_edit_line() => self.edit_line(),
                Some(_) => {
                    if let Some(statement) = self.statement(depth) {
                        statements.push(statement);
                    }
                }
            }
        }
    }

    fn statement(&mut self, depth: usize) -> Option<Statement> {
        let start = self.span();
        let mut statement = Statement {
            items: Vec::new(),
            block: None,
            inactive: false,
            tag: None,
            command: None,
            span: start,
        };
        if depth == 0
            && let Some(command) = self.command()
        {
            self.at += 1;
            return self.command_line(command, statement);
        }
        loop {
            match self.peek() {
                Some(Token::Word(text))
                    if statement.items.is_empty() && text.ends_with(':') && text.len() > 1 =>
                {
                    match text.as_str() {
                        "inactive:" => statement.inactive = true,
                        "active:" => statement.tag = Some(Tag::Active),
                        "replace:" => statement.tag = Some(Tag::Replace),
                        "delete:" => statement.tag = Some(Tag::Delete),
                        "protect:" => {}
                        _ => {
                            let span = self.span();
                            let message = format!("unknown prefix `{text}`");
                            self.findings.push(
                                Finding::error(Kind::Syntax, span, "", message)
                                    .expected("`inactive:`, `active:`, `replace:` or `delete:`"),
                            );
                        }
                    }
                    self.at += 1;
                }
                Some(Token::Word(_) | Token::Quoted(_)) => statement.items.push(Item::Word(self.word())),
                Some(Token::ListOpen) if statement.items.is_empty() => {
                    let span = self.span();
                    self.findings.push(
                        Finding::error(Kind::Syntax, span, "", "a list must follow a statement's name")
                            .expected("a statement"),
                    );
                    self.list();
                }
                Some(Token::ListOpen) => {
                    let list = self.list();
                    statement.items.push(list);
                }
                Some(Token::ListClose) => {
                    let span = self.span();
                    self.findings.push(Finding::error(Kind::Syntax, span, "", "this `]` closes nothing"));
                    self.at += 1;
                }
                Some(Token::End) => {
                    self.at += 1;
                    break;
                }
                Some(Token::Open) => {
                    self.block(depth, &mut statement);
                    break;
                }
                Some(Token::Close) | Some(Token::Prompt(_)) | None => {
                    let last = statement.items.last().map_or(start, Item::span);
                    self.findings.push(
                        Finding::error(Kind::Syntax, last, "", "this statement is not finished")
                            .expected("`;` or `{`")
                            .remedy("end the statement with `;`"),
                    );
                    break;
                }
            }
        }
        if let Some(last) = statement.items.last() {
            statement.span = start.to(last.span());
        }
        if statement.items.is_empty() {
            if statement.block.is_some() {
                self.findings.push(
                    Finding::error(Kind::Syntax, start, "", "a block without a name")
                        .expected("a statement's name before `{`"),
                );
            }
            return None;
        }
        Some(statement)
    }

    fn block(&mut self, depth: usize, statement: &mut Statement) {
        let open = self.span();
        self.at += 1;
        if depth + 1 > MAX_DEPTH {
            self.findings.push(
                Finding::error(Kind::Syntax, open, "", "blocks are nested too deeply")
                    .expected(format!("at most {MAX_DEPTH} levels")),
            );
            self.skip_block();
            statement.block = Some(Vec::new());
            return;
        }
        statement.block = Some(self.statements(depth + 1));
        match self.peek() {
            Some(Token::Close) => self.at += 1,
            _ => self.findings.push(
                Finding::error(Kind::Syntax, open, "", "this `{` is never closed")
                    .expected("a `}` before the end")
                    .remedy("close the block with `}`"),
            ),
        }
    }

    /// Behind an opening brace: goes behind the closing one without looking at anything.
    fn skip_block(&mut self) {
        let mut open = 1usize;
        while open > 0 {
            match self.peek() {
                Some(Token::Open) => open += 1,
                Some(Token::Close) => open -= 1,
                Some(_) => {}
                None => return,
            }
            self.at += 1;
        }
    }

    fn list(&mut self) -> Item {
        let open = self.span();
        self.at += 1;
        let mut words = Vec::new();
        let mut last = open;
        loop {
            match self.peek() {
                Some(Token::Word(_) | Token::Quoted(_)) => words.push(self.word()),
                Some(Token::ListClose) => {
                    last = self.span();
                    self.at += 1;
                    break;
                }
                _ => {
                    self.findings.push(
                        Finding::error(Kind::Syntax, open, "", "this `[` is never closed")
                            .expected("words and a closing `]`"),
                    );
                    break;
                }
            }
        }
        Item::List(words, open.to(last))
    }

    fn command(&self) -> Option<Command> {
        let Some(Token::Word(text)) = self.peek() else { return None };
        let command = match text.as_str() {
            "set" => Command::Set,
            "delete" => Command::Delete,
            "deactivate" => Command::Deactivate,
            "activate" => Command::Activate,
            _ => return None,
        };
        // A statement of that name would go on with `;` or `{` at once.
        matches!(self.tokens.get(self.at + 1), Some((Token::Word(_) | Token::Quoted(_), _)))
            .then_some(command)
    }

    /// The rest of a line in the `set` form.
    fn command_line(&mut self, command: Command, mut statement: Statement) -> Option<Statement> {
        let line = statement.span.line;
        statement.command = Some(command);
        while self.at < self.tokens.len() && self.span().line == line {
            match self.peek() {
                Some(Token::Word(_) | Token::Quoted(_)) => statement.items.push(Item::Word(self.word())),
                Some(Token::ListOpen) => {
                    let list = self.list();
                    statement.items.push(list);
                }
                Some(Token::End) => {
                    self.at += 1;
                    break;
                }
                _ => {
                    let span = self.span();
                    self.findings.push(
                        Finding::error(
                            Kind::Syntax,
                            span,
                            "",
                            "braces do not belong into a line of the set form",
                        )
                        .expected("words up to the end of the line"),
                    );
                    self.at += 1;
                }
            }
        }
        if let Some(last) = statement.items.last() {
            statement.span = statement.span.to(last.span());
        }
        Some(statement)
    }

    fn is_edit_line(&self) -> bool {
        matches!(self.tokens.get(self.at + 1), Some((Token::Word(word), _)) if word == "edit")
    }

    fn edit_line(&mut self) {
        if let Item::List(words, _) = self.list() {
            self.edit = words.into_iter().skip(1).collect();
        }
    }

    /// A prompt line. `show PATH` opens a section; a configuration command is one; a bare prompt closes a section.
    fn prompt(&mut self) -> Option<Section> {
        let span = self.span();
        let Some((Token::Prompt(text), _)) = self.tokens.get(self.at).cloned() else { return None };
        self.at += 1;
        let command = text.split_once([' ', '\t']).map_or("", |(_, command)| command);
        let offset = text.len() - command.len();
        let mut words = Vec::new();
        let mut from = offset;
        for part in command.split([' ', '\t', '\r']) {
            if !part.is_empty() {
                let column = span.column + text[..from].chars().count() as u32;
                let word_span = Span {
                    start: span.start + from,
                    end: span.start + from + part.len(),
                    line: span.line,
                    column,
                };
                words.push(Word { text: part.to_owned(), span: word_span });
            }
            from += part.len() + 1;
        }
        if let Some(pipe) = words.iter().position(|word| word.text == "|") {
            words.truncate(pipe);
        }
        if words.len() > 2 && words[0].text == "run" && words[2].text == "configuration" {
            words.remove(0);
        }
        let base = std::mem::take(&mut self.edit);
        let first = words.first().map(|word| word.text.clone());
        match first.as_deref() {
            Some("set" | "delete" | "activate" | "deactivate") => {
                let command = match first.as_deref() {
                    Some("delete") => Command::Delete,
                    Some("activate") => Command::Activate,
                    Some("deactivate") => Command::Deactivate,
                    _ => Command::Set,
                };
                let items = words.drain(1..).map(Item::Word).collect();
                let statement = Statement {
                    items,
                    block: None,
                    inactive: false,
                    tag: None,
                    command: Some(command),
                    span,
                };
                Some(Section { at: (!base.is_empty()).then_some(base), statements: vec![statement] })
            }
            Some("show") => {
                self.join_wrapped(&mut words);
                let mut at = base;
                at.extend(words.drain(1..));
                if at.first().is_some_and(|word| word.text == "configuration") {
                    at.remove(0);
                }
                Some(Section { at: Some(at), statements: Vec::new() })
            }
            // The seed abbreviates a long prompt: `... server group g1`.
            Some("...") => Some(Section { at: Some(words), statements: Vec::new() }),
            // A bare prompt, or another command: what follows has no place of its own.
            _ => Some(Section { at: None, statements: Vec::new() }),
        }
    }

    /// A prompt line that was wrapped at a hyphen goes on with the words of the next line.
    fn join_wrapped(&mut self, words: &mut Vec<Word>) {
        let Some(last) = words.last_mut() else { return };
        if !last.text.ends_with('-') {
            return;
        }
        let Some(line) = self.tokens.get(self.at).map(|(_, span)| span.line) else { return };
        let count = self.tokens[self.at..].iter().take_while(|(_, span)| span.line == line).count();
        let rest = &self.tokens[self.at..self.at + count];
        if line != last.span.line + 1 || !rest.iter().all(|(token, _)| matches!(token, Token::Word(_))) {
            return;
        }
        for index in 0..count {
            let word = self.word();
            match words.last_mut() {
                Some(last) if index == 0 => last.text.push_str(&word.text),
                _ => words.push(word),
            }
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Span::default(), |(_, span)| *span)
    }

    /// The word at this position, which must be one.
    fn word(&mut self) -> Word {
        let span = self.span();
        let text = match self.tokens.get_mut(self.at) {
            Some((Token::Word(text) | Token::Quoted(text), _)) => std::mem::take(text),
            _ => String::new(),
        };
        self.at += 1;
        Word { text, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(text: &str) -> (Vec<Section>, Vec<Finding>) {
        let mut findings = Vec::new();
        (parse(text, false, &mut findings), findings)
    }

    #[test]
    fn a_prompt_names_the_place_of_what_follows() {
        let (sections, findings) =
            sections("root@dc# show security group-vpn server-\nike x\na b;\n[edit]\nroot@dc#\n");
        assert_eq!(findings, []);
        let at: Vec<_> = sections[0].at.iter().flatten().map(|word| word.text.as_str()).collect();
        assert_eq!(at, ["security", "group-vpn", "server-ike", "x"]);
        assert_eq!(sections[0].statements.len(), 1);
    }

    #[test]
    fn blocks_cut_at_a_page_break_are_joined_with_a_warning() {
        let cut = "root@dc# show x\na {\n b {\n  c;\n }\n}\n\n d;\n }\n}\ne;";
        let (joined, findings) = sections(cut);
        assert_eq!(findings.len(), 1);
        assert_eq!(joined[0].statements.len(), 2);
        let a = joined[0].statements[0].block.as_ref().unwrap();
        assert_eq!(a[0].block.as_ref().unwrap().len(), 2);
    }

    #[test]
    fn a_block_that_is_not_closed_ends_where_the_indentation_does() {
        let cut = "root@dc# show x\na {\n  b {\n    c;\n  }\nd {\n  e;\n}\n";
        let (sections, findings) = sections(cut);
        assert_eq!(findings.len(), 1);
        assert_eq!(sections[0].statements.len(), 2);
    }

    #[test]
    fn every_error_of_a_text_is_reported() {
        let (_, findings) = sections("a { b c }\n}\nd [ e ;\n{ f; }\nx { y;");
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "this statement is not finished",
                "this `}` closes nothing",
                "this `[` is never closed",
                "a block without a name",
                "this `{` is never closed"
            ]
        );
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "a {".repeat(100_000);
        let (_, findings) = sections(&deep);
        assert!(findings.iter().any(|finding| finding.message.contains("nested too deeply")));
    }
}
