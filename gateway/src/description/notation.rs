//! A short way to write down the shape of a JSON value, and its JSON Schema.
//!
//! `int`, `decimal` (a text), `text`, `bool`, `null` and `any` are what they say, `'WORD'` is that text alone, `a|b` is either,
//! `[a]` a list, `[a,b]` a list of exactly these, `{name:a,other?:b}` an object with no field but these, of which `other` may be
//! left out, and `Name` another shape. `{..Name,more:a}` has the fields of `Name` too.

use serde_json::{Map, Value, json};

/// What a decimal looks like.
const DECIMAL: &str = r"^-?[0-9]+(\.[0-9]+)?$";

/// The JSON Schema of a notation; `shape` knows what a name stands for, `reference` is what stands before a name in `$ref`.
///
/// It is for the tables of this crate: what is not well-formed is a mistake of ours, and a panic.
pub fn schema(notation: &str, shape: &dyn Fn(&str) -> &'static str, reference: &str) -> Value {
    let mut parser = Parser { rest: notation, shape, reference };
    let schema = parser.either();
    assert!(parser.rest.is_empty(), "{notation}: {:?} is left", parser.rest);
    schema
}

struct Parser<'a> {
    rest: &'a str,
    shape: &'a dyn Fn(&str) -> &'static str,
    reference: &'a str,
}

impl Parser<'_> {
    fn either(&mut self) -> Value {
        let mut several = vec![self.one()];
        while self.eat("|") {
            several.push(self.one());
        }
        if several.len() == 1 {
            return several.swap_remove(0);
        }
        let words: Option<Vec<&Value>> = several.iter().map(|schema| schema.get("const")).collect();
        match words {
            Some(words) => json!({ "type": "string", "enum": words }),
            None => json!({ "anyOf": several }),
        }
    }

    fn one(&mut self) -> Value {
        if self.eat("[") {
            return self.list();
        }
        if self.eat("{") {
            let (mut properties, mut required) = (Map::new(), Vec::new());
            self.fields(&mut properties, &mut required);
            return json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            });
        }
        if self.eat("'") {
            let word = self.until("'").to_owned();
            self.expect("'");
            return json!({ "const": word });
        }
        let name = self.name().to_owned();
        match name.as_str() {
            "int" => json!({ "type": "integer" }),
            "decimal" => json!({ "type": "string", "pattern": DECIMAL }),
            "text" => json!({ "type": "string" }),
            "bool" => json!({ "type": "boolean" }),
            "null" => json!({ "type": "null" }),
            "any" => json!({}),
            _ => {
                // It must be there.
                (self.shape)(&name);
                json!({ "$ref": format!("{}{name}", self.reference) })
            }
        }
    }

    fn list(&mut self) -> Value {
        let mut items = vec![self.either()];
        while self.eat(",") {
            items.push(self.either());
        }
        self.expect("]");
        match items.len() {
            1 => json!({ "type": "array", "items": items[0] }),
            count => json!({ "type": "array", "prefixItems": items, "minItems": count, "maxItems": count }),
        }
    }

    fn fields(&mut self, properties: &mut Map<String, Value>, required: &mut Vec<String>) {
        while !self.eat("}") {
            if self.eat("..") {
                let name = self.name().to_owned();
                let notation = (self.shape)(&name);
                let rest = notation.strip_prefix('{').unwrap_or_else(|| panic!("{name} is no object"));
                Parser { rest, shape: self.shape, reference: self.reference }.fields(properties, required);
            } else {
                let name = self.name().to_owned();
                let optional = self.eat("?");
                self.expect(":");
                properties.insert(name.clone(), self.either());
                if !optional {
                    required.push(name);
                }
            }
            assert!(self.eat(",") || self.rest.starts_with('}'), "a comma or the end at {:?}", self.rest);
        }
    }

    fn name(&mut self) -> &str {
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        assert!(end > 0, "a name at {:?}", self.rest);
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn until(&mut self, end: &str) -> &str {
        let at = self.rest.find(end).unwrap_or_else(|| panic!("{end} after {:?}", self.rest));
        let (text, rest) = self.rest.split_at(at);
        self.rest = rest;
        text
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn expect(&mut self, text: &str) {
        assert!(self.eat(text), "{text} at {:?}", self.rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notation_becomes_a_schema() {
        let shape = |name: &str| match name {
            "Base" => "{a:int,b?:text}",
            other => panic!("{other}"),
        };
        let schema = |notation| schema(notation, &shape, "#/x/");
        assert_eq!(schema("[Base]"), json!({ "type": "array", "items": { "$ref": "#/x/Base" } }));
        assert_eq!(schema("'A'|'B'"), json!({ "type": "string", "enum": ["A", "B"] }));
        assert_eq!(schema("text|null"), json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }));
        let pair = schema("[decimal,int]");
        assert_eq!((&pair["minItems"], &pair["prefixItems"][1]["type"]), (&json!(2), &json!("integer")));
        let object = schema("{..Base,c:{d:any}}");
        assert_eq!(object["required"], json!(["a", "c"]));
        assert_eq!(object["properties"]["b"], json!({ "type": "string" }));
        assert_eq!(object["properties"]["c"]["additionalProperties"], false);
        assert_eq!(schema("{}")["properties"], json!({}));
    }

    #[test]
    #[should_panic(expected = "is left")]
    fn what_is_left_over_is_a_mistake() {
        schema("int]", &|_| "", "");
    }
}
