//! The top of a request: parameters are taken out by name, and what is left is not ours.

use serde_json::{Map, Value};

use super::{
    InvalidRequest, Place,
    fields::{as_flag, as_integer, as_number, as_text},
};

/// The parameters that nobody has taken yet. `null` is the same as absent.
#[derive(Debug)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    pub(crate) fn read(body: Value) -> Result<Self, InvalidRequest> {
        match body {
            Value::Object(mut fields) => {
                fields.retain(|_, value| !value.is_null());
                Ok(Self(fields))
            }
            _ => Err(InvalidRequest {
                message: "Invalid type for the body: expected an object.".into(),
                param: None,
                code: "invalid_type",
            }),
        }
    }

    /// What is left.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.0
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// Forgets parameters that have no effect here.
    pub(crate) fn pass_over(&mut self, names: &[&str]) {
        names.iter().for_each(|name| drop(self.take(name)));
    }

    /// Refuses parameters, each with the reason beside it.
    pub(crate) fn refuse(&self, names: &[(&str, &str)]) -> Result<(), InvalidRequest> {
        match names.iter().find(|(name, _)| self.0.contains_key(*name)) {
            Some((name, why)) => Err(InvalidRequest::unsupported_parameter(&Place::Top(name), why)),
            None => Ok(()),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, InvalidRequest> {
        self.typed(name, |value, place| as_text(&value, place).map(str::to_owned))
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, InvalidRequest> {
        self.typed(name, |value, place| as_flag(&value, place))
    }

    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>, InvalidRequest> {
        self.typed(name, |value, place| as_number(&value, place))
    }

    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<i64>, InvalidRequest> {
        self.typed(name, |value, place| as_integer(&value, place))
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, InvalidRequest> {
        self.typed(name, |value, place| match value {
            Value::Object(object) => Ok(object),
            other => Err(InvalidRequest::not_a("an object", place, &other)),
        })
    }

    /// The model, which is at least one character.
    pub(crate) fn model(&mut self) -> Result<Option<String>, InvalidRequest> {
        match self.text("model")? {
            Some(model) if model.is_empty() => Err(InvalidRequest::value(&Place::Top("model"), "it names a model")),
            model => Ok(model),
        }
    }

    /// Texts by name, within OpenAI's own bounds.
    pub(crate) fn metadata(&mut self) -> Result<Map<String, Value>, InvalidRequest> {
        const PAIRS_MAX: usize = 16;
        const KEY_MAX: usize = 64;
        const VALUE_MAX: usize = 512;
        let metadata = self.object("metadata")?.unwrap_or_default();
        let place = Place::Top("metadata");
        if metadata.len() > PAIRS_MAX || metadata.keys().any(|key| key.chars().count() > KEY_MAX) {
            return Err(InvalidRequest::value(
                &place,
                format_args!("it has at most {PAIRS_MAX} keys of at most {KEY_MAX} characters"),
            ));
        }
        for (key, value) in &metadata {
            let place = place.field(key);
            if as_text(value, &place)?.chars().count() > VALUE_MAX {
                return Err(InvalidRequest::value(&place, format_args!("it has at most {VALUE_MAX} characters")));
            }
        }
        Ok(metadata)
    }

    fn typed<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value, &Place<'_>) -> Result<T, InvalidRequest>,
    ) -> Result<Option<T>, InvalidRequest> {
        self.take(name).map(|value| read(value, &Place::Top(name))).transpose()
    }
}
