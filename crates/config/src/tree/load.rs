//! A text into the tree, section by section, led by the schema.

use super::scope::{Manner, Scope};
use super::{Node, Tree, Word};
use crate::finding::{Finding, Kind};
use crate::nearest::nearest;
use crate::place::Span;
use crate::schema::{Entry, Shape};
use crate::text::{self, Command, Item, Section, Statement};

/// Most findings of one text; beyond it only their number is told. Nobody reads more, and a wrong file must not make
/// a report many times its size.
pub const MAX_FINDINGS: usize = 1000;

/// What a load does with the configuration that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// The text's statements are added; single values are replaced.
    Merge,
    /// The text is the new configuration.
    Override,
    /// Statements with `replace:` before them replace what stands there; the others are merged.
    Replace,
}

impl Tree {
    /// Reads a text into the tree. `at` is the place of statements that no prompt places; empty: the top.
    /// Every fault is reported; faulty statements are kept as far as they make sense.
    pub(crate) fn load(&mut self, text: &str, at: &[&str], mode: LoadMode) -> Loaded {
        let mut findings = Vec::new();
        let sections = text::parse(text, !at.is_empty(), &mut findings);
        if mode == LoadMode::Override {
            self.root = Node::default();
        } else {
            self.root.forget_places();
        }
        let at: Vec<Word> = at.iter().map(|word| Word::new(*word)).collect();
        let mut loader = Loader { findings, path: Vec::new(), mode, foreign_depth: 0 };
        for section in &sections {
            loader.section(&mut self.root, section, &at);
        }
        let mut findings = loader.findings;
        findings.sort_by_key(|finding| finding.span.start);
        if findings.len() > MAX_FINDINGS {
            let more = findings.len() - MAX_FINDINGS;
            findings.truncate(MAX_FINDINGS);
            findings.push(Finding::error(
                Kind::Syntax,
                Span::default(),
                "",
                format!("and {more} more findings"),
            ));
        }
        let placed_by_prompt =
            sections.iter().any(|section| section.at.as_ref().is_some_and(|at| !at.is_empty()));
        Loaded { findings, placed_by_prompt }
    }
}

/// What reading a text came to.
pub(crate) struct Loaded {
    pub(crate) findings: Vec<Finding>,
    /// A prompt in the text placed a part of it below the top: it is no whole configuration.
    pub(crate) placed_by_prompt: bool,
}

pub(super) struct Loader {
    pub(super) findings: Vec<Finding>,
    /// Words of the statements that are open, for messages.
    pub(super) path: Vec<String>,
    pub(super) mode: LoadMode,
    /// How deep a line of the set form has gone down in a part that the schema does not know.
    pub(super) foreign_depth: usize,
}

impl Loader {
    fn section(&mut self, root: &mut Node, section: &Section, at: &[Word]) {
        let place = match &section.at {
            Some(words) if words.first().is_some_and(|word| word.text == "...") => {
                self.abbreviated(&words[1..])
            }
            Some(words) => words.clone(),
            None => at.to_vec(),
        };
        let items: Vec<Item> = place.into_iter().map(Item::Word).collect();
        let (commands, statements): (Vec<_>, Vec<_>) =
            section.statements.iter().partition(|statement| statement.command.is_some());
        if !statements.is_empty() {
            let block: Vec<Statement> = statements.into_iter().cloned().collect();
            if items.is_empty() {
                self.block(root, Scope::Top, &block);
            } else {
                let manner = Manner { block: Some(&block), inactive: false, tag: None, line: false };
                self.put(root, Scope::Top, &items, manner);
            }
        }
        for statement in commands {
            let mut whole = items.clone();
            whole.extend(statement.items.iter().cloned());
            self.command(root, statement, &whole);
        }
    }

    /// `... server group g1`: the first place of the schema where these words lead somewhere.
    fn abbreviated(&mut self, words: &[Word]) -> Vec<Word> {
        let first = words.first().map_or("", |word| word.text.as_str());
        for prefix in
            [&[] as &[&str], &["security"], &["security", "group-vpn"], &["services"], &["protocols"]]
        {
            let mut scope = Scope::Top;
            for word in prefix {
                scope = scope.child(word).map_or(Scope::Foreign, Scope::inside);
            }
            if scope.child(first).is_some() {
                return prefix.iter().map(|word| Word::new(*word)).chain(words.iter().cloned()).collect();
            }
        }
        words.to_vec()
    }

    fn command(&mut self, root: &mut Node, statement: &Statement, items: &[Item]) {
        match statement.command {
            Some(Command::Set) | None => {
                let manner = Manner { block: None, inactive: false, tag: None, line: true };
                self.put(root, Scope::Top, items, manner);
            }
            Some(command) => {
                let words: Vec<&str> = items
                    .iter()
                    .flat_map(|item| match item {
                        Item::Word(word) => std::slice::from_ref(word).iter(),
                        Item::List(words, _) => words.iter(),
                    })
                    .map(|word| word.text.as_str())
                    .collect();
                let found = match command {
                    Command::Delete => root.remove_path(&words),
                    Command::Deactivate => root.mark_path(&words, true),
                    Command::Activate => root.mark_path(&words, false),
                    Command::Set => true,
                };
                if !found {
                    let message = format!("there is no statement `{}`", crate::text_of(&words));
                    self.findings.push(
                        Finding::warning(Kind::DanglingReference, statement.span, "", message)
                            .remedy("see `show configuration | display set` for the statements there are"),
                    );
                }
            }
        }
    }

    pub(super) fn block(&mut self, parent: &mut Node, scope: Scope, block: &[Statement]) {
        let mut seen: Vec<(usize, Span)> = Vec::new();
        for statement in block {
            let before = parent.children.len();
            let manner = Manner {
                block: statement.block.as_deref(),
                inactive: statement.inactive,
                tag: statement.tag,
                line: false,
            };
            let touched = self.put(parent, scope, &statement.items, manner);
            // A keyed entry or single value that this same block already holds.
            if let Some(index) = touched {
                if index < before
                    && let Some((_, first)) = seen.iter().find(|(other, _)| *other == index)
                {
                    self.repeated(&parent.children[index], statement.span, *first);
                }
                // Only the last few are remembered: a block has thousands of entries at most once each.
                if index >= before || seen.iter().all(|(other, _)| *other != index) {
                    seen.push((index, statement.span));
                }
            }
        }
    }

    fn repeated(&mut self, node: &Node, span: Span, first: Span) {
        let Some(entry) = node.entry else { return };
        let name = crate::text_of(&node.words());
        let message = match entry.shape() {
            Shape::List { .. } if !node.children.is_empty() => {
                format!("`{name}` is already on line {}: the two are read as one", first.line)
            }
            Shape::Leaf(value) if value.is_secret() => {
                format!("`{}` is already on line {}: this one counts", node.name, first.line)
            }
            Shape::Leaf(_) => format!("`{}` is already on line {}: this one counts", node.name, first.line),
            _ => return,
        };
        self.warn(Kind::Duplicate, span, message, "keep one of them");
    }

    pub(super) fn unknown(&mut self, scope: Scope, word: &Word) {
        let named = |entry: &&&'static Entry| !entry.row.is_unnamed() && !entry.row.nameless;
        if matches!(scope, Scope::In(entry) if entry.name() == "pre-shared-key") {
            // What stands here by mistake is most likely the key itself.
            let message = "the pre-shared key does not say what form it has, or is not in quotes";
            let remedy = "write `pre-shared-key ascii-text \"...\";`".to_owned();
            self.error(Kind::UnknownStatement, word.span, message, &self.choices(scope), Some(remedy));
            return;
        }
        let children = scope.children();
        let names = children.iter().filter(named).map(|entry| entry.name());
        let shown: String = word.text.chars().take(80).collect();
        let remedy = match nearest(&word.text, names) {
            Some(name) => Some(format!("did you mean `{name}`?")),
            None => deeper(&word.text, &children),
        };
        let message = format!("unknown statement `{shown}`");
        self.error(Kind::UnknownStatement, word.span, message, &self.choices(scope), remedy);
    }

    /// The statements a scope has, for messages.
    pub(super) fn choices(&self, scope: Scope) -> String {
        let names: Vec<&str> = scope
            .children()
            .iter()
            .filter(|entry| !matches!(entry.shape(), Shape::Foreign))
            .map(|entry| entry.name())
            .collect();
        match names.as_slice() {
            [] => "no statement here".to_owned(),
            [only] => format!("`{only}`"),
            [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
        }
    }

    pub(super) fn error(
        &mut self,
        kind: Kind,
        span: Span,
        message: impl Into<String>,
        expected: &str,
        remedy: Option<String>,
    ) {
        let mut finding = Finding::error(kind, span, crate::text_of(&self.path), message).expected(expected);
        finding.remedy = remedy;
        self.findings.push(finding);
    }

    fn warn(&mut self, kind: Kind, span: Span, message: String, remedy: &str) {
        self.findings.push(Finding::warning(kind, span, crate::text_of(&self.path), message).remedy(remedy));
    }
}

/// A word that is none of these statements may be one inside them: `ipsec-propsal` for `proposal` inside `ipsec`.
fn deeper(word: &str, entries: &[&'static Entry]) -> Option<String> {
    let mut near: Vec<(bool, String)> = Vec::new();
    for entry in entries {
        let inside: Vec<&'static Entry> = entry.children().collect();
        let names = inside
            .iter()
            .filter(|inner| !inner.row.is_unnamed() && !inner.row.nameless)
            .map(|inner| inner.name());
        if let Some(name) = nearest(word, names) {
            let elsewhere = !word.starts_with(entry.name());
            near.push((elsewhere, format!("did you mean `{name}`? It stands inside `{}`", entry.name())));
        }
    }
    near.into_iter().min_by_key(|(elsewhere, _)| *elsewhere).map(|(_, remedy)| remedy)
}
