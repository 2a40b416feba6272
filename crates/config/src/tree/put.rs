//! One statement into the tree: keys and values are taken, one-line forms opened, values checked.

use super::load::{LoadMode, Loader};
use super::scope::{Manner, Scope};
use super::{Node, Word, value};
use crate::finding::Kind;
use crate::obfuscation;
use crate::place::Span;
use crate::schema::{Entry, Shape, Value};
use crate::text::{Item, Tag};

impl Loader {
    /// Puts one statement. Returns the index of the child of `parent` that it became, where it is one.
    pub(super) fn put(
        &mut self,
        parent: &mut Node,
        scope: Scope,
        items: &[Item],
        manner: Manner<'_>,
    ) -> Option<usize> {
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

    pub(super) fn put_entry(
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
            Shape::Flag | Shape::Leaf(_) if manner.tag == Some(Tag::Delete) => {
                parent.children.retain(|child| child.name != entry.name());
                None
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
    pub(super) fn keys<'a>(
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
    pub(super) fn inside(
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
    pub(super) fn after(
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
    pub(super) fn open(
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
    pub(super) fn set_value(
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
    pub(super) fn add_value(
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
    pub(super) fn checked(&mut self, entry: &'static Entry, value: &Value, mut word: Word) -> (Word, bool) {
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
}
