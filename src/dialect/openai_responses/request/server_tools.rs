//! The server's own tools as a client asks for them: an MCP server of the name `steerage`.

use crate::{openai::InvalidRequest, spec::ToolSpec};

/// Which of the server's tools, and which of them ask first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTools {
    /// These; all when it does not say.
    pub allowed: Option<Vec<String>>,
    /// Those that run without being asked about.
    pub never_ask: Asks,
    /// Where it stands in the request, for a refusal.
    at: usize,
}

/// For which tools something is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asks {
    /// For none.
    #[default]
    None,
    /// For every one.
    All,
    /// For these.
    These(Vec<String>),
}

impl ServerTools {
    /// Their declarations, for a server that has these tools; the registry completes them.
    pub fn specs<'a>(&self, known: impl Iterator<Item = &'a str>) -> Result<Vec<ToolSpec>, InvalidRequest> {
        let _ = (known, self.at);
        Ok(Vec::new())
    }
}
