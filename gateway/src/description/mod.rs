//! The API described for machines: an OpenAPI document of its calls at `/openapi.json`, an AsyncAPI document of its streams at
//! `/asyncapi.json`. Both are made of the route table and of the shapes in `shapes.rs`; tests hold real answers against them.
//!
//! Modules in reading order.

mod notation;
mod shapes;
mod calls;
mod streams;

use std::sync::OnceLock;

/// The OpenAPI document.
pub fn openapi() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| calls::document().to_string())
}

/// The AsyncAPI document.
pub fn asyncapi() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| streams::document().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Every `$ref` in it.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn both_documents_are_json_and_nothing_they_refer_to_is_missing() {
        for text in [openapi(), asyncapi()] {
            let document: Value = serde_json::from_str(text).unwrap();
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(found.len() > 20);
            for reference in found {
                let pointer = reference.strip_prefix('#').expect("within the document");
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        }
    }
}
