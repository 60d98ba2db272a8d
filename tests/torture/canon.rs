//! Digests of tool arguments, worked out without the server's code.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// 128 bits of SHA-256 over the label, a NUL and the JSON with sorted keys, in hexadecimal.
pub(crate) fn digest(label: &str, value: &Value) -> String {
    let text = format!("{label}\0{}", sorted(value));
    Sha256::digest(text)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, item)| (key, sorted(item))).collect();
            entries.sort();
            let entries = entries.iter().map(|(key, item)| format!("{}:{item}", Value::from(key.as_str())));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

/// A short fingerprint of bytes, for journals.
pub(crate) fn print(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
