//! The tools that every server has: enough to see a call, its approval and its result without writing one.

use std::sync::Arc;

use crate::tool::{Tool, Tools};

mod weather;

pub use weather::{WEATHER_TAKES, Weather};

/// The built-in tools by name.
pub fn tools() -> Tools {
    let all: [Arc<dyn Tool>; 1] = [Arc::new(Weather)];
    all.into_iter().map(|tool| (tool.spec().name, tool)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_valid_declaration_under_its_own_name() {
        let tools = tools();
        assert_eq!(tools.keys().collect::<Vec<_>>(), ["get_weather"]);
        for (name, tool) in tools {
            assert_eq!(tool.spec().check(), Ok(()), "{name}");
            assert!(tool.spec().needs_approval(), "what the server runs asks first: {name}");
        }
    }
}
