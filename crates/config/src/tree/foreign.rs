//! Statements that the schema does not know: kept word for word.

use super::load::{LoadMode, Loader};
use super::scope::{Manner, Scope};
use super::{Node, Word};
use crate::finding::Kind;
use crate::text::{self, Item, Tag};

impl Loader {
    pub(super) fn put_foreign(&mut self, parent: &mut Node, items: &[Item], manner: Manner<'_>) {
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

    pub(super) fn put_words(
        &mut self,
        parent: &mut Node,
        words: Vec<Word>,
        listed: bool,
        manner: Manner<'_>,
    ) {
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        if manner.line {
            // A line goes down as far as statements with others inside are there, and adds what is left as one statement. A
            // statement of its own stays one, also if a longer one begins like it.
            for child in &mut parent.children {
                let theirs = child.words();
                let is_way_down = !child.children.is_empty() || theirs.len() == texts.len();
                if child.entry.is_none() && texts.starts_with(&theirs) && is_way_down {
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
}
