//! `get_weather {"city"}`: made-up weather, the same for the same city on every day and every machine.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::{
    spec::{Executor, ToolSpec},
    tool::{Tool, ToolCall},
};

/// How long one lookup takes: long enough to be seen running in a user interface.
pub const WEATHER_TAKES: Duration = Duration::from_millis(300);

/// Longest city name that is looked up, in bytes.
const CITY_BYTES_MAX: usize = 256;

const CONDITIONS: [&str; 8] = [
    "clear sky",
    "scattered clouds",
    "light rain",
    "steady rain",
    "morning fog",
    "a stiff breeze",
    "thunder in the distance",
    "wet snow",
];

/// The tool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather;

impl Tool for Weather {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "get_weather".into(),
            description: "The weather in a city now. Demo data: made up from the city's name, not measured.".into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "city": {
                        "type": "string",
                        "description": "Name of the city, for instance Lisbon.",
                        "minLength": 1,
                        "maxLength": CITY_BYTES_MAX,
                    },
                },
                "required": ["city"],
                "additionalProperties": false,
            }),
            executor: Executor::Builtin,
            approval: None,
            approval_timeout_s: None,
            timeout_s: None,
            idempotent: true,
            ends_run: false,
        }
    }

    fn run(&self, call: ToolCall) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async move {
            let city = city(&call.arguments)?;
            tokio::time::sleep(WEATHER_TAKES).await;
            Ok(observe(city))
        })
    }
}

/// The one argument. Checked here too: a tool does not rely on who calls it.
fn city(arguments: &Value) -> Result<&str, String> {
    let wrong = || format!(r#"the arguments are {{"city": "NAME"}} with a name of 1 to {CITY_BYTES_MAX} bytes"#);
    let fields = arguments.as_object().ok_or_else(wrong)?;
    let city = fields.get("city").and_then(Value::as_str).map(str::trim).ok_or_else(wrong)?;
    if fields.len() == 1 && (1..=CITY_BYTES_MAX).contains(&city.len()) { Ok(city) } else { Err(wrong()) }
}

/// Weather from a hash of the name. FNV-1a rather than the standard library's hasher, which may change between
/// releases; letter case does not change the weather.
fn observe(city: &str) -> Value {
    let hash = city
        .to_lowercase()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The low bits of FNV-1a depend on the last bytes most; the high half is better mixed.
    let mixed = hash ^ (hash >> 32);
    let conditions = CONDITIONS[(mixed % CONDITIONS.len() as u64) as usize];
    let warmest = if conditions == "wet snow" { 2 } else { 31 };
    let coldest = if conditions == "wet snow" { -6 } else { 3 };
    let span = (warmest - coldest + 1) as u64;
    let temperature_c = coldest + ((mixed >> 8) % span) as i64;
    json!({"city": city, "temperature_c": temperature_c, "conditions": conditions, "demo": true})
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn look_up(arguments: Value) -> Result<Value, String> {
        Weather.run(ToolCall { call_id: "c1".parse().unwrap(), attempt: 1, arguments }).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_city_has_the_same_weather_and_it_takes_its_time() {
        let started = Instant::now();
        let oslo = look_up(json!({"city": "Oslo"})).await.unwrap();
        assert_eq!(started.elapsed().as_millis(), WEATHER_TAKES.as_millis());
        assert_eq!(oslo["city"], "Oslo");
        assert_eq!(oslo["demo"], true);
        assert!((-6..=31).contains(&oslo["temperature_c"].as_i64().unwrap()), "{oslo}");
        assert_eq!(oslo, look_up(json!({"city": " Oslo "})).await.unwrap());
        let elsewhere = look_up(json!({"city": "São Paulo"})).await.unwrap();
        assert_ne!(
            (&oslo["temperature_c"], &oslo["conditions"]),
            (&elsewhere["temperature_c"], &elsewhere["conditions"])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_arguments_are_refused_by_the_schema_and_by_the_tool() {
        let long = "x".repeat(CITY_BYTES_MAX + 1);
        for bad in [json!({}), json!({"city": 5}), json!({"city": ""}), json!({"city": long}), json!("Oslo")] {
            assert!(Weather.spec().check_arguments(&bad).is_err(), "{bad}");
            assert!(look_up(bad).await.is_err());
        }
        let more = json!({"city": "Oslo", "unit": "K"});
        assert!(Weather.spec().check_arguments(&more).is_err());
        assert!(look_up(more).await.is_err());
    }
}
