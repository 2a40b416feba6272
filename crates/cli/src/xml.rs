//! `| display xml`: the JSON of a reply as elements.

use serde_json::Value;

/// A whole document.
pub fn document(value: &Value) -> String {
    let mut text = String::from("<gvpn-reply>\n");
    element_content(value, "entry", 1, &mut text);
    text.push_str("</gvpn-reply>\n");
    text
}

fn element_content(value: &Value, entry: &str, depth: usize, text: &mut String) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| element(name, value, depth, text)),
        Value::Array(values) => values.iter().for_each(|value| element(entry, value, depth, text)),
        _ => element(entry, value, depth, text),
    }
}

fn element(name: &str, value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(_) => {
            text.push_str(&format!("{indent}<{name}>\n"));
            element_content(value, name, depth + 1, text);
            text.push_str(&format!("{indent}</{name}>\n"));
        }
        Value::Array(values) => values.iter().for_each(|value| element(name, value, depth, text)),
        Value::Null => text.push_str(&format!("{indent}<{name}/>\n")),
        Value::String(content) => text.push_str(&format!("{indent}<{name}>{}</{name}>\n", escape(content))),
        Value::Bool(_) | Value::Number(_) => text.push_str(&format!("{indent}<{name}>{value}</{name}>\n")),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_repeat_their_element_and_text_is_escaped() {
        let value = serde_json::json!([{"name": "a<b", "spi": ["1", "2"], "none": null}]);
        let expected = "<gvpn-reply>\n  <entry>\n    <name>a&lt;b</name>\n    <none/>\n    <spi>1</spi>\n    \
                        <spi>2</spi>\n  </entry>\n</gvpn-reply>\n";
        assert_eq!(document(&value), expected);
    }
}
