//! Fingerprints of JSON: what an approval is bound to, and how a repeated command is told from a different one.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Writes `value` with sorted keys and no spaces, so that equal documents have equal bytes.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            // Sorted here and not left to the map: a dependency may switch `serde_json` to insertion order.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(item, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// The first 128 bits of SHA-256 over `label`, a NUL and the canonical form of `value`, as 32 hexadecimal digits.
pub fn digest(label: &str, value: &Value) -> String {
    let mut text = String::from(label);
    text.push('\0');
    canonical(value, &mut text);
    text_digest(&text)
}

/// The first 128 bits of SHA-256 over a text, as 32 hexadecimal digits: what `sha256sum` prints, cut in half.
pub fn text_digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_of_keys_does_not_matter_and_everything_else_does() {
        let a = digest("t", &json!({"a": [1, {"x": "\u{1}", "b": null}], "c": true}));
        let b = digest("t", &serde_json::from_str(r#"{"c":true,"a":[1,{"b":null,"x":"\u0001"}]}"#).unwrap());
        assert_eq!(a, b);
        assert_eq!(a.len(), 32);
        assert_ne!(a, digest("u", &json!({"a": [1, {"x": "\u{1}", "b": null}], "c": true})));
        assert_ne!(digest("t", &json!([1, 2])), digest("t", &json!([2, 1])));
        assert_ne!(digest("t", &json!("1")), digest("t", &json!(1)));
    }
}
