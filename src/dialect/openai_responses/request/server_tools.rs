//! The server's own tools as a client asks for them: an MCP server of the name `steerage`.

use serde_json::{Value, json};

use crate::{
    openai::{Fields, InvalidRequest, Place, TOOLS_MAX, list, told},
    spec::{ApprovalPolicy, Executor, ToolSpec},
};

/// What the server is called as an MCP server.
pub const SERVER_LABEL: &str = "steerage";

/// Which of the server's tools, and which of them run unasked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTools {
    /// These; all when it does not say.
    pub allowed: Option<Vec<String>>,
    /// Those that run without a person's yes.
    pub unasked: Unasked,
    /// Where it stands among the request's tools, for a refusal.
    at: usize,
}

/// Which tools run without a person's yes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unasked {
    /// None of them: OpenAI's default too.
    #[default]
    None,
    /// Every one.
    All,
    /// These.
    These(Vec<String>),
}

impl ServerTools {
    /// Reads a tool of the type `mcp`, which stands at `at`. Where it says that its server is, nobody asks: it is here.
    pub(super) fn read(fields: Fields<'_, '_>, at: usize) -> Result<Self, InvalidRequest> {
        let place = fields.place();
        if fields.need_text("server_label")? != SERVER_LABEL {
            let why =
                format_args!("other servers are not called from here; this server's own tools are '{SERVER_LABEL}'");
            return Err(InvalidRequest::unsupported_value(&place.field("server_label"), why));
        }
        let allowed = match fields.get("allowed_tools") {
            None => None,
            Some(value @ Value::Object(_)) => names_of(value, &place.field("allowed_tools"))?,
            Some(value) => Some(names(value, &place.field("allowed_tools"))?),
        };
        let unasked = fields.get("require_approval").map(|value| unasked(value, &place.field("require_approval")));
        Ok(Self { allowed, unasked: unasked.transpose()?.unwrap_or_default(), at })
    }

    /// Their declarations, for a server that has these tools; the registry completes them.
    pub fn specs<'a>(&self, known: impl Iterator<Item = &'a str>) -> Result<Vec<ToolSpec>, InvalidRequest> {
        let known: Vec<&str> = known.collect();
        let named = match &self.allowed {
            None => known,
            Some(allowed) => {
                let unknown = |(_, name): &(usize, &String)| !known.contains(&name.as_str());
                if let Some((at, name)) = allowed.iter().enumerate().find(unknown) {
                    let tools = Place::Top("tools");
                    let tool = tools.item(self.at);
                    let list = tool.field("allowed_tools");
                    let why = format_args!("this server has no tool '{}'; it has: {}", told(name), known.join(", "));
                    return Err(InvalidRequest::value(&list.item(at), why));
                }
                allowed.iter().map(String::as_str).collect()
            }
        };
        Ok(named.into_iter().map(|name| self.spec(name)).collect())
    }

    fn spec(&self, name: &str) -> ToolSpec {
        let named = |names: &[String]| names.iter().any(|other| other == name);
        let unasked = match &self.unasked {
            Unasked::None => false,
            Unasked::All => true,
            Unasked::These(names) => named(names),
        };
        ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            parameters: json!({"type": "object"}),
            executor: Executor::Builtin,
            approval: Some(if unasked { ApprovalPolicy::Never } else { ApprovalPolicy::Always }),
            approval_timeout_s: None,
            timeout_s: None,
            idempotent: false,
            ends_run: false,
        }
    }
}

/// Names, each once.
fn names(value: &Value, place: &Place<'_>) -> Result<Vec<String>, InvalidRequest> {
    let mut names: Vec<String> = Vec::new();
    for (at, name) in list(value, place, TOOLS_MAX)?.iter().enumerate() {
        let Some(name) = name.as_str() else {
            return Err(InvalidRequest::not_a("a string", &place.item(at), name));
        };
        if names.iter().all(|other| other != name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The names of a filter. The other way to choose, `read_only`, asks what tools here do not say of themselves.
fn names_of(value: &Value, place: &Place<'_>) -> Result<Option<Vec<String>>, InvalidRequest> {
    let filter = Fields::of(value, place)?;
    if filter.get("read_only").is_some() {
        let why = "name the tools, in 'tool_names'";
        return Err(InvalidRequest::unsupported_value(&place.field("read_only"), why));
    }
    filter.get("tool_names").map(|value| names(value, &place.field("tool_names"))).transpose()
}

fn unasked(value: &Value, place: &Place<'_>) -> Result<Unasked, InvalidRequest> {
    match value {
        Value::String(word) => match word.as_str() {
            "never" => Ok(Unasked::All),
            "always" => Ok(Unasked::None),
            other => Err(InvalidRequest::none_of(&["always", "never"], place, other)),
        },
        Value::Object(_) => {
            let fields = Fields::of(value, place)?;
            let names = |name: &str| match fields.get(name) {
                Some(value) => names_of(value, &place.field(name)),
                None => Ok(None),
            };
            Ok(match (names("always")?, names("never")?) {
                // A tool that is in both lists asks.
                (Some(always), Some(never)) => {
                    Unasked::These(never.into_iter().filter(|name| !always.contains(name)).collect())
                }
                (None, Some(never)) => Unasked::These(never),
                _ => Unasked::None,
            })
        }
        other => Err(InvalidRequest::not_a("a string or an object", place, other)),
    }
}
