//! Finding, removing and marking statements by the words of the set form.

use super::Node;

/// How a statement's words compare with the words that are looked for.
enum Fit {
    No,
    /// It is the statement, or one of those that are meant.
    Meant,
    /// What is looked for may be inside, after so many words.
    Inside(usize),
}

fn fit(node: &Node, words: &[&str]) -> Fit {
    let own = node.words();
    if own.len() < words.len() && words.starts_with(&own) {
        Fit::Inside(own.len())
    } else if own.starts_with(words) {
        Fit::Meant
    } else {
        Fit::No
    }
}

impl Node {
    /// The statements that the words lead to: one, or all entries of a list or all values of a leaf named without one.
    pub fn find_path(&self, words: &[&str]) -> Vec<&Node> {
        let mut found = Vec::new();
        if words.is_empty() {
            return found;
        }
        for child in &self.children {
            match fit(child, words) {
                Fit::Meant => found.push(child),
                Fit::Inside(taken) => found.extend(child.find_path(&words[taken..])),
                Fit::No => {}
            }
        }
        found
    }

    /// Removes what the words lead to, and containers that are empty after it; false if there was nothing.
    pub(super) fn remove_path(&mut self, words: &[&str]) -> bool {
        if words.is_empty() {
            let any = !self.children.is_empty();
            self.children.clear();
            return any;
        }
        let mut removed = false;
        self.children.retain_mut(|child| match fit(child, words) {
            Fit::Meant => {
                removed = true;
                false
            }
            Fit::Inside(taken) => {
                let inside = child.remove_path(&words[taken..]);
                removed |= inside;
                // An entry of a list stays, as it says something by itself.
                !(inside && child.children.is_empty() && child.values.is_empty())
            }
            Fit::No => true,
        });
        removed
    }

    /// Marks what the words lead to as inactive or active; false if there was nothing.
    pub(super) fn mark_path(&mut self, words: &[&str], inactive: bool) -> bool {
        let mut marked = false;
        if words.is_empty() {
            return false;
        }
        if inactive {
            self.split_foreign(words);
        }
        for child in &mut self.children {
            match fit(child, words) {
                Fit::Meant => {
                    child.inactive = inactive;
                    marked = true;
                }
                Fit::Inside(taken) => marked |= child.mark_path(&words[taken..], inactive),
                Fit::No => {}
            }
        }
        marked
    }

    /// Lines of the set form put what the schema does not know down as whole statements. Where the beginning of some of
    /// them is to be marked, they become one statement with the rest of each inside.
    fn split_foreign(&mut self, words: &[&str]) {
        let longer = |child: &Node| {
            let own = child.words();
            child.entry.is_none() && own.len() > words.len() && own.starts_with(words)
        };
        let Some(first) = self.children.iter().position(longer) else { return };
        let (inside, mut kept): (Vec<Node>, Vec<Node>) =
            std::mem::take(&mut self.children).into_iter().partition(longer);
        let mut whole = Node {
            name: words[0].to_owned(),
            values: words[1..].iter().map(|word| super::Word::new(*word)).collect(),
            span: inside[0].span,
            ..Node::default()
        };
        for mut child in inside {
            let mut rest: Vec<super::Word> = child.values.drain(words.len() - 1..).collect();
            child.name = rest.remove(0).text;
            child.values = rest;
            whole.children.push(child);
        }
        let existing = kept.iter_mut().find(|child| child.entry.is_none() && child.words() == words);
        match existing {
            Some(existing) => existing.children.append(&mut whole.children),
            None => kept.insert(first, whole),
        }
        self.children = kept;
    }
}
