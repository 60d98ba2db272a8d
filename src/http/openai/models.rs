//! The models that can be asked, as OpenAI lists them.

use axum::Json;
use serde_json::{Map, Value, json};

use super::{App, Refusal, name::Name};
use crate::{provider::Model, registry::RegistryError, spec::clip};

fn model(provider: &str, model: &Model) -> Value {
    let id = format!("{provider}/{}", model.name);
    json!({"id": id, "object": "model", "created": model.created, "owned_by": provider})
}

/// `GET /v1/models`
pub(super) async fn list(app: App) -> Json<Value> {
    let mut data: Vec<Value> = Vec::new();
    let mut unavailable = Map::new();
    for (provider, models) in app.registry.models().await {
        match models {
            Ok(models) => data.extend(models.iter().map(|offered| model(&provider, offered))),
            Err(reason) => drop(unavailable.insert(provider, reason.into())),
        }
    }
    Json(json!({"object": "list", "data": data, "unavailable": unavailable}))
}

/// `GET /v1/models/{model}`: by its full name, or by its name alone.
pub(super) async fn retrieve(app: App, Name(name): Name) -> Result<Json<Value>, Refusal> {
    for (provider, models) in app.registry.models().await {
        let offered = models.unwrap_or_default();
        let is_it = |model: &&Model| {
            model.name == name
                || name.strip_prefix(&provider).and_then(|rest| rest.strip_prefix('/')) == Some(&model.name)
        };
        if let Some(offered) = offered.iter().find(is_it) {
            return Ok(Json(model(&provider, offered)));
        }
    }
    Err(RegistryError::UnknownModel(clip(&name, 128).to_owned()).into())
}
