//! The JSON form: containers are objects, list entries are objects in an array with their keys as members, values are
//! strings or numbers, statements that stand alone are `[null]`, and `@` members carry `inactive`.

use serde_json::{Map, Value as Json, json};

use crate::schema::{Entry, Shape, Value};
use crate::tree::Node;

pub(super) fn configuration(root: &Node) -> Json {
    json!({ "configuration": inside(root) })
}

fn inside(node: &Node) -> Json {
    let mut object = Map::new();
    if node.inactive {
        object.insert("@".to_owned(), json!({ "inactive": true }));
    }
    if let Some(entry) = node.entry
        && matches!(entry.shape(), Shape::List { .. })
    {
        for (name, value) in key_names(node).into_iter().zip(&node.values) {
            object.insert(name, Json::String(value.text.clone()));
        }
    }
    for child in &node.children {
        match child.entry.map(Entry::shape) {
            None => add_foreign(&mut object, child),
            Some(Shape::Flag) => add_leaf(&mut object, child, json!([null])),
            Some(Shape::Leaf(value)) => add_leaf(&mut object, child, scalar(&value, child.value())),
            Some(Shape::Leaves { value, .. }) => {
                let array = object.entry(child.name.clone()).or_insert_with(|| json!([]));
                if let Json::Array(array) = array {
                    array.push(scalar(&value, child.value()));
                    if child.inactive {
                        object.insert(format!("@{}", child.name), json!({ "inactive": true }));
                    }
                }
            }
            Some(Shape::List { .. }) => {
                let array = object.entry(element_name(child)).or_insert_with(|| json!([]));
                if let Json::Array(array) = array {
                    array.push(inside(child));
                }
            }
            Some(Shape::Container | Shape::Foreign | Shape::Same(_)) => {
                object.insert(child.name.clone(), inside(child));
            }
        }
    }
    Json::Object(object)
}

fn add_leaf(object: &mut Map<String, Json>, child: &Node, value: Json) {
    object.insert(child.name.clone(), value);
    if child.inactive {
        object.insert(format!("@{}", child.name), json!({ "inactive": true }));
    }
}

/// A statement the schema does not know: every word a level, the last one `[null]`.
fn add_foreign(object: &mut Map<String, Json>, child: &Node) {
    let words = child.words();
    let mut level = object;
    for (index, word) in words.iter().enumerate() {
        let last = index + 1 == words.len();
        if last && child.children.is_empty() {
            level.entry((*word).to_owned()).or_insert_with(|| json!([null]));
            if child.inactive {
                level.insert(format!("@{word}"), json!({ "inactive": true }));
            }
            return;
        }
        let next = level.entry((*word).to_owned()).or_insert_with(|| json!({}));
        if !next.is_object() {
            *next = json!({});
        }
        let Json::Object(next) = next else { return };
        level = next;
    }
    let Json::Object(inner) = inside(child) else { return };
    level.extend(inner);
}

fn scalar(value: &Value, text: &str) -> Json {
    match value {
        Value::Number { .. } | Value::Timer { .. } => {
            text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
        }
        _ => json!(text),
    }
}

/// Name of a list in JSON and XML. Entries with only a key are called after it.
pub(super) fn element_name(node: &Node) -> String {
    match node.name.as_str() {
        "from-zone" => "policy".to_owned(),
        name => name.trim_matches(['<', '>']).to_owned(),
    }
}

/// Names of the keys of a list entry.
pub(super) fn key_names(node: &Node) -> Vec<String> {
    match node.name.as_str() {
        "from-zone" => vec!["from-zone-name".to_owned(), "to-zone-name".to_owned()],
        _ => vec!["name".to_owned(); node.values.len()],
    }
}
