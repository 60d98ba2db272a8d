//! The tools of a request, and the choice among them.

use serde_json::{Value, json};

use super::server_tools::{SERVER_LABEL, ServerTools};
use crate::{
    openai::{Body, Fields, InvalidRequest, Place, TOOLS_MAX, add_function, choose, list},
    spec::ToolSpec,
};

/// Functions of the client's, and tools of the server's.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) functions: Vec<ToolSpec>,
    pub(super) server: Option<ServerTools>,
    /// What an upstream is told of the choice: `tool_choice` of Chat Completions.
    pub(super) choice: Option<Value>,
}

impl Tools {
    /// Takes `tools` and `tool_choice` out of a request.
    pub(super) fn take(body: &mut Body) -> Result<Self, InvalidRequest> {
        let mut tools = Self::default();
        let place = Place::Top("tools");
        let declared = body.take("tools");
        let declared = declared.as_ref().map(|value| list(value, &place, TOOLS_MAX)).transpose()?.unwrap_or_default();
        for (at, tool) in declared.iter().enumerate() {
            tools.add(tool, at, &place.item(at))?;
        }
        if let Some(choice) = body.take("tool_choice") {
            tools.choose(&choice, &Place::Top("tool_choice"))?;
        }
        Ok(tools)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.server.is_none()
    }

    fn add(&mut self, tool: &Value, at: usize, place: &Place<'_>) -> Result<(), InvalidRequest> {
        let fields = Fields::of(tool, place)?;
        match fields.need_text("type")? {
            "function" => add_function(&mut self.functions, fields),
            "mcp" => match self.server.replace(ServerTools::read(fields, at)?) {
                None => Ok(()),
                Some(_) => Err(InvalidRequest::value(&place.field("server_label"), "another tool has it")),
            },
            _ => {
                let why = format_args!("tools are of the type 'function', or 'mcp' of the server '{SERVER_LABEL}'");
                Err(InvalidRequest::unsupported_value(&place.field("type"), why))
            }
        }
    }

    fn choose(&mut self, choice: &Value, place: &Place<'_>) -> Result<(), InvalidRequest> {
        match choice {
            Value::String(mode) => self.mode(mode, place),
            Value::Object(_) => {
                let fields = Fields::of(choice, place)?;
                match fields.need_text("type")? {
                    "function" => {
                        let name = fields.need_text("name")?;
                        choose(Some(name), &self.functions, place)?;
                        self.choice = Some(json!({"type": "function", "function": {"name": name}}));
                        Ok(())
                    }
                    "allowed_tools" => {
                        self.keep(fields)?;
                        self.mode(fields.need_text("mode")?, &place.field("mode"))
                    }
                    _ => {
                        let why = "it is a word, a function, or allowed_tools";
                        Err(InvalidRequest::unsupported_value(&place.field("type"), why))
                    }
                }
            }
            other => Err(InvalidRequest::not_a("a string or an object", place, other)),
        }
    }

    fn mode(&mut self, mode: &str, place: &Place<'_>) -> Result<(), InvalidRequest> {
        match mode {
            "auto" => {}
            "none" => *self = Self::default(),
            "required" if self.server.is_some() => {
                // It would be told to the model at every step: a run that may use the server's tools would never end.
                let why = format_args!("beside the tools of '{SERVER_LABEL}' the model must be free to answer");
                return Err(InvalidRequest::unsupported_value(place, why));
            }
            "required" => {
                choose(None, &self.functions, place)?;
                self.choice = Some("required".into());
            }
            other => return Err(InvalidRequest::none_of(&["none", "auto", "required"], place, other)),
        }
        Ok(())
    }

    /// Keeps only the tools that a choice lists: no upstream has to know of such choices.
    fn keep(&mut self, fields: Fields<'_, '_>) -> Result<(), InvalidRequest> {
        let place = fields.place().field("tools");
        let (mut names, mut server) = (Vec::new(), false);
        for (at, tool) in list(fields.need("tools")?, &place, TOOLS_MAX)?.iter().enumerate() {
            let place = place.item(at);
            let tool = Fields::of(tool, &place)?;
            match tool.need_text("type")? {
                "function" => {
                    let name = tool.need_text("name")?;
                    choose(Some(name), &self.functions, &place)?;
                    names.push(name);
                }
                "mcp" if tool.need_text("server_label")? == SERVER_LABEL && self.server.is_some() => server = true,
                _ => return Err(InvalidRequest::value(&place, "it is not in 'tools'")),
            }
        }
        self.functions.retain(|tool| names.contains(&tool.name.as_str()));
        self.server.take_if(|_| !server);
        Ok(())
    }
}
