//! Statements into the tree, led by the schema: keys and values are taken, one-line forms opened, values checked.

use super::value;
use super::{Node, Tree, Word};
use crate::finding::{Finding, Kind};
use crate::nearest::nearest;
use crate::obfuscation;
use crate::place::Span;
use crate::schema::{self, Entry, Shape, Value};
use crate::text::{self, Command, Item, Section, Statement, Tag};

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

/// Where statements are put.
#[derive(Clone, Copy)]
enum Scope {
    Top,
    In(&'static Entry),
    Foreign,
}

impl Scope {
    fn child(self, name: &str) -> Option<&'static Entry> {
        match self {
            Scope::Top => schema::top_child(name),
            // Groups are applied anywhere.
            Scope::In(entry) => entry
                .child(name)
                .or_else(|| name.starts_with("apply-groups").then(|| schema::top_child(name)).flatten()),
            Scope::Foreign => None,
        }
    }

    fn unnamed_child(self) -> Option<&'static Entry> {
        match self {
            Scope::In(entry) => entry.unnamed_child(),
            Scope::Top | Scope::Foreign => None,
        }
    }

    fn children(self) -> Vec<&'static Entry> {
        match self {
            Scope::Top => schema::top().collect(),
            Scope::In(entry) => entry.children().collect(),
            Scope::Foreign => Vec::new(),
        }
    }

    fn is_open(self) -> bool {
        match self {
            Scope::Top => false,
            Scope::In(entry) => entry.meant().open,
            Scope::Foreign => true,
        }
    }

    fn is_one_line(self) -> bool {
        matches!(self, Scope::In(entry) if entry.meant().one_line)
    }

    /// The scope inside a statement.
    fn inside(entry: &'static Entry) -> Scope {
        match entry.shape() {
            Shape::Foreign => Scope::Foreign,
            _ => Scope::In(entry),
        }
    }
}

/// What else is known about the statement that is put.
#[derive(Clone, Copy)]
struct Manner<'a> {
    block: Option<&'a [Statement]>,
    inactive: bool,
    tag: Option<Tag>,
    /// From a line of the set form, where a later value silently replaces an earlier one.
    line: bool,
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

struct Loader {
    findings: Vec<Finding>,
    /// Words of the statements that are open, for messages.
    path: Vec<String>,
    mode: LoadMode,
    /// How deep a line of the set form has gone down in a part that the schema does not know.
    foreign_depth: usize,
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

    fn block(&mut self, parent: &mut Node, scope: Scope, block: &[Statement]) {
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

    /// Puts one statement. Returns the index of the child of `parent` that it became, where it is one.
    fn put(&mut self, parent: &mut Node, scope: Scope, items: &[Item], manner: Manner<'_>) -> Option<usize> {
        if matches!(scope, Scope::Foreign) {
            self.put_foreign(parent, items, manner);
            return None;
        }
        let first = match items.first() {
            Some(Item::Word(word)) => word,
            Some(Item::List(_, span)) => {
                self.error(
                    Kind::Syntax,
                    *span,
                    "a list where a statement should be",
                    &self.choices(scope),
                    None,
                );
                return None;
            }
            None => return None,
        };
        if let Some(entry) = scope.child(&first.text) {
            return self.put_entry(parent, scope, entry, first.span, &items[1..], manner);
        }
        if let Some(entry) = scope.unnamed_child() {
            // `source-address address P`: the name may be written where it cannot be the value itself.
            if let (Shape::Leaf(value), [Item::Word(name), rest @ ..]) = (entry.shape(), items)
                && name.text == entry.name()
                && !rest.is_empty()
                && value::check(&value, entry.name(), &name.text).is_err()
            {
                return self.put_entry(parent, scope, entry, name.span, rest, manner);
            }
            return self.put_entry(parent, scope, entry, first.span, items, manner);
        }
        if scope.is_open() {
            self.put_foreign(parent, items, manner);
            return None;
        }
        self.unknown(scope, first);
        None
    }

    fn put_entry(
        &mut self,
        parent: &mut Node,
        scope: Scope,
        entry: &'static Entry,
        span: Span,
        items: &[Item],
        manner: Manner<'_>,
    ) -> Option<usize> {
        match entry.shape() {
            Shape::Container | Shape::Foreign | Shape::Same(_) => {
                let index = self.open(parent, entry, Vec::new(), span, manner);
                self.inside(parent, index, entry, items, manner);
                Some(index)
            }
            Shape::List { keys: [_] } if matches!(items, [Item::List(..)]) => {
                // `ike-gateway [ a b ]`: an entry for each.
                if let [Item::List(words, _)] = items {
                    for word in words {
                        self.put_entry(parent, scope, entry, span, &[Item::Word(word.clone())], manner);
                    }
                }
                None
            }
            Shape::List { keys } => {
                let (values, rest) = self.keys(entry, keys, span, items)?;
                let faulty = values.len() < keys.len();
                let index = self.open(parent, entry, values, span, manner);
                parent.children[index].faulty |= faulty;
                self.inside(parent, index, entry, rest, manner);
                Some(index)
            }
            Shape::Flag => {
                let index = self.open(parent, entry, Vec::new(), span, manner);
                self.after(parent, scope, entry, items, manner);
                Some(index)
            }
            Shape::Leaf(value) => {
                let (word, rest) = match items.split_first() {
                    Some((Item::Word(word), rest)) => (word.clone(), rest),
                    Some((Item::List(words, list), rest)) => match words.as_slice() {
                        [word] => (word.clone(), rest),
                        _ => {
                            let message = format!("`{}` takes one value, not a list", entry.name());
                            self.error(Kind::BadValue, *list, message, &value.expectation(), None);
                            return None;
                        }
                    },
                    None => {
                        let message = format!("`{}` has no value", entry.name());
                        self.error(Kind::Missing, span, message, &value.expectation(), None);
                        return None;
                    }
                };
                let index = self.set_value(parent, entry, &value, word, span, manner);
                self.after(parent, scope, entry, rest, manner);
                Some(index)
            }
            Shape::Leaves { value, max } => {
                let (words, rest) = match items.split_first() {
                    Some((Item::Word(word), rest)) => (vec![word.clone()], rest),
                    Some((Item::List(words, _), rest)) => (words.clone(), rest),
                    None => {
                        let message = format!("`{}` has no value", entry.name());
                        self.error(Kind::Missing, span, message, &value.expectation(), None);
                        return None;
                    }
                };
                if manner.tag == Some(Tag::Replace) || manner.tag == Some(Tag::Delete) {
                    parent.children.retain(|child| child.name != entry.name());
                    if manner.tag == Some(Tag::Delete) {
                        return None;
                    }
                }
                for word in words {
                    self.add_value(parent, entry, &value, word, span, manner.inactive);
                }
                let count = parent.children.iter().filter(|child| child.name == entry.name()).count();
                if count > max {
                    let message = format!("`{}` has {count} values", entry.name());
                    self.error(Kind::BadValue, span, message, &format!("at most {max}"), None);
                }
                self.after(parent, scope, entry, rest, manner);
                None
            }
        }
    }

    /// The keys of a list entry and what follows them.
    fn keys<'a>(
        &mut self,
        entry: &'static Entry,
        keys: &[Value],
        span: Span,
        mut items: &'a [Item],
    ) -> Option<(Vec<Word>, &'a [Item])> {
        let mut values = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            if index > 0
                && let Some(between) = entry.row.key_word(index)
            {
                match items.split_first() {
                    Some((Item::Word(word), rest)) if word.text == between => items = rest,
                    other => {
                        let at = other.map_or(span, |(item, _)| item.span());
                        let message = format!("`{}` goes on with `{between}`", entry.name());
                        self.error(Kind::Syntax, at, message, &format!("`{between}`"), None);
                        return None;
                    }
                }
            }
            match items.split_first() {
                Some((Item::Word(word), rest)) => {
                    items = rest;
                    if let Err(wrong) = value::check(key, entry.name(), &word.text) {
                        self.error(
                            Kind::BadValue,
                            word.span,
                            wrong.message,
                            &key.expectation(),
                            wrong.remedy,
                        );
                        return None;
                    }
                    values.push(word.clone());
                }
                Some((Item::List(_, list), _)) => {
                    let message = format!("`{}` takes no list", entry.name());
                    self.error(Kind::Syntax, *list, message, &key.expectation(), None);
                    return None;
                }
                None => {
                    let message = format!("`{}` needs {}", entry.name(), key.expectation());
                    self.error(Kind::Missing, span, message, &key.expectation(), None);
                    return None;
                }
            }
        }
        Some((values, items))
    }

    /// What stands inside a container: the rest of the line, or the block.
    fn inside(
        &mut self,
        parent: &mut Node,
        index: usize,
        entry: &'static Entry,
        items: &[Item],
        manner: Manner<'_>,
    ) {
        if manner.tag == Some(Tag::Delete) && items.is_empty() {
            parent.children.remove(index);
            return;
        }
        let node = &mut parent.children[index];
        let words = node.words().len();
        self.path.extend(node.words().into_iter().map(str::to_owned));
        if !items.is_empty() {
            // The prefix belonged to the statement as a whole.
            let within = Manner { inactive: false, tag: None, ..manner };
            self.put(node, Scope::inside(entry), items, within);
        } else if let Some(block) = manner.block {
            self.block(node, Scope::inside(entry), block);
        }
        self.path.truncate(self.path.len().saturating_sub(words));
    }

    /// What follows a finished value on the same line: the next statement of a one-line container, else a mistake.
    fn after(
        &mut self,
        parent: &mut Node,
        scope: Scope,
        entry: &'static Entry,
        items: &[Item],
        manner: Manner<'_>,
    ) {
        let Some(next) = items.first() else {
            if manner.block.is_some() {
                let span = parent.children.last().map_or(Span::default(), |child| child.span);
                let message = format!("`{}` has no block", entry.name());
                self.error(Kind::Syntax, span, message, "`;`", None);
            }
            return;
        };
        let within = Manner { inactive: false, tag: None, ..manner };
        if scope.is_one_line() {
            self.put(parent, scope, items, within);
            return;
        }
        let known = matches!(next, Item::Word(word) if scope.child(&word.text).is_some());
        let remedy = if known {
            "end the statement before it with `;`"
        } else {
            "remove it, or put several words into quotes"
        };
        let message = format!("unexpected words after `{}`", entry.name());
        self.error(Kind::Syntax, next.span(), message, "`;`", Some(remedy.to_owned()));
        if known {
            self.put(parent, scope, items, within);
        }
    }

    /// The child for a container, list entry or flag: the one that is there, or a new one.
    fn open(
        &mut self,
        parent: &mut Node,
        entry: &'static Entry,
        values: Vec<Word>,
        span: Span,
        manner: Manner<'_>,
    ) -> usize {
        let same = |child: &Node| {
            child.entry.is_some_and(|other| std::ptr::eq(other, entry))
                && child.values.len() == values.len()
                && child.values.iter().zip(&values).all(|(ours, theirs)| ours.text == theirs.text)
        };
        let span = values.last().map_or(span, |last| span.to(last.span));
        if let Some(index) = parent.children.iter().rposition(same) {
            let node = &mut parent.children[index];
            if manner.tag == Some(Tag::Replace) && self.mode != LoadMode::Merge {
                node.children.clear();
            }
            if manner.tag == Some(Tag::Active) {
                node.inactive = false;
            }
            node.inactive |= manner.inactive;
            node.span = span;
            return index;
        }
        parent.children.push(Node {
            name: entry.name().to_owned(),
            values,
            children: Vec::new(),
            inactive: manner.inactive,
            span,
            entry: Some(entry),
            faulty: false,
            listed: false,
        });
        let most = entry.row.most;
        if most > 0 {
            let count = parent.children.iter().filter(|child| child.name == entry.name()).count();
            if count == most + 1 {
                let message = format!("more than {most} `{}`", entry.name());
                self.error(Kind::BadValue, span, message, &format!("at most {most}"), None);
            }
        }
        parent.children.len() - 1
    }

    /// Sets the only value of a leaf.
    fn set_value(
        &mut self,
        parent: &mut Node,
        entry: &'static Entry,
        value: &Value,
        word: Word,
        span: Span,
        manner: Manner<'_>,
    ) -> usize {
        let (word, faulty) = self.checked(entry, value, word);
        let span = span.to(word.span);
        if let Some(index) = parent.children.iter().position(|child| child.name == entry.name()) {
            let node = &mut parent.children[index];
            node.values = vec![word];
            node.faulty = faulty;
            node.span = span;
            node.inactive = manner.inactive || node.inactive && manner.line;
            return index;
        }
        parent.children.push(Node {
            name: entry.name().to_owned(),
            values: vec![word],
            children: Vec::new(),
            inactive: manner.inactive,
            span,
            entry: Some(entry),
            faulty,
            listed: false,
        });
        parent.children.len() - 1
    }

    /// Adds one of several values, behind its siblings.
    fn add_value(
        &mut self,
        parent: &mut Node,
        entry: &'static Entry,
        value: &Value,
        word: Word,
        span: Span,
        inactive: bool,
    ) {
        let (word, faulty) = self.checked(entry, value, word);
        let same = |child: &&mut Node| child.name == entry.name() && child.value() == word.text;
        if let Some(child) = parent.children.iter_mut().find(same) {
            child.inactive = inactive;
            return;
        }
        let node = Node {
            name: entry.name().to_owned(),
            values: vec![word.clone()],
            children: Vec::new(),
            inactive,
            span: span.to(word.span),
            entry: Some(entry),
            faulty,
            listed: false,
        };
        match parent.children.iter().rposition(|child| child.name == entry.name()) {
            Some(last) => parent.children.insert(last + 1, node),
            None => parent.children.push(node),
        }
    }

    /// Checks a value. A secret becomes its `$9$` form, so that the tree never holds one in clear.
    fn checked(&mut self, entry: &'static Entry, value: &Value, mut word: Word) -> (Word, bool) {
        let mut faulty = false;
        if let Err(wrong) = value::check(value, entry.name(), &word.text) {
            self.error(Kind::BadValue, word.span, wrong.message, &value.expectation(), wrong.remedy);
            faulty = true;
        }
        if value.is_secret() && !word.text.starts_with(obfuscation::MAGIC) {
            let hidden = obfuscation::encode(word.text.as_bytes());
            let clear = std::mem::replace(&mut word.text, hidden);
            drop(crate::SecretText::new(clear.into_bytes()));
        }
        (word, faulty)
    }

    fn put_foreign(&mut self, parent: &mut Node, items: &[Item], manner: Manner<'_>) {
        let mut words: Vec<Word> = Vec::new();
        let mut listed: Option<Vec<Word>> = None;
        for item in items {
            match item {
                Item::Word(word) if listed.is_none() => words.push(word.clone()),
                Item::List(list, _) if listed.is_none() && !words.is_empty() => listed = Some(list.clone()),
                Item::Word(_) | Item::List(..) => {
                    self.error(Kind::Syntax, item.span(), "a list must end its statement", "`;`", None);
                    return;
                }
            }
        }
        if words.is_empty() {
            return;
        }
        let Some(list) = listed else { return self.put_words(parent, words, false, manner) };
        for word in list {
            let mut whole = words.clone();
            whole.push(word);
            self.put_words(parent, whole, true, manner);
        }
    }

    fn put_words(&mut self, parent: &mut Node, words: Vec<Word>, listed: bool, manner: Manner<'_>) {
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        if manner.line {
            // A line goes down as far as statements are there, and adds what is left as one statement.
            for child in &mut parent.children {
                let theirs = child.words();
                if child.entry.is_none() && texts.starts_with(&theirs) {
                    let taken = theirs.len();
                    let rest = words[taken..].to_vec();
                    if rest.is_empty() {
                        return;
                    }
                    if self.foreign_depth >= text::MAX_DEPTH {
                        let deepest = format!("at most {} levels", text::MAX_DEPTH);
                        self.error(
                            Kind::Syntax,
                            rest[0].span,
                            "statements are nested too deeply",
                            &deepest,
                            None,
                        );
                        return;
                    }
                    self.foreign_depth += 1;
                    self.put_words(child, rest, listed, manner);
                    self.foreign_depth -= 1;
                    return;
                }
            }
        }
        let existing =
            parent.children.iter().position(|child| child.entry.is_none() && child.words() == texts);
        let index = match existing {
            Some(index) => index,
            None => {
                let span = words[0].span.to(words[words.len() - 1].span);
                let mut words = words.into_iter();
                let name = words.next().map_or(String::new(), |word| word.text);
                let inactive = manner.inactive;
                let values = words.collect();
                parent.children.push(Node { name, values, inactive, span, listed, ..Node::default() });
                parent.children.len() - 1
            }
        };
        match manner.tag {
            Some(Tag::Delete) => {
                parent.children.remove(index);
                return;
            }
            Some(Tag::Replace) if self.mode != LoadMode::Merge => parent.children[index].children.clear(),
            _ => {}
        }
        if let Some(block) = manner.block {
            self.block(&mut parent.children[index], Scope::Foreign, block);
        }
    }

    fn unknown(&mut self, scope: Scope, word: &Word) {
        let named = |entry: &&&'static Entry| !entry.row.is_unnamed() && !entry.row.nameless;
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
    fn choices(&self, scope: Scope) -> String {
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

    fn error(
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
