//! The fields of an object, each of the kind that it must be.

use serde_json::{Map, Value};

use super::{InvalidRequest, Place};

/// An object. `null` is the same as absent: SDKs write what they do not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'v, 'p> {
    object: &'v Map<String, Value>,
    place: &'p Place<'p>,
}

impl<'v, 'p> Fields<'v, 'p> {
    pub(crate) fn of(value: &'v Value, place: &'p Place<'p>) -> Result<Self, InvalidRequest> {
        match value {
            Value::Object(object) => Ok(Self { object, place }),
            other => Err(InvalidRequest::not_a("an object", place, other)),
        }
    }

    /// Where the object stands.
    pub(crate) fn place(&self) -> &'p Place<'p> {
        self.place
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether it is there, be it `null`.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'v str>, InvalidRequest> {
        self.get(name).map(|value| as_text(value, &self.place.field(name))).transpose()
    }

    pub(crate) fn need(&self, name: &str) -> Result<&'v Value, InvalidRequest> {
        self.get(name).ok_or_else(|| InvalidRequest::missing(&self.place.field(name)))
    }

    pub(crate) fn need_text(&self, name: &str) -> Result<&'v str, InvalidRequest> {
        as_text(self.need(name)?, &self.place.field(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, InvalidRequest> {
        self.get(name).map(|value| as_flag(value, &self.place.field(name))).transpose()
    }
}

pub(super) fn as_text<'a>(value: &'a Value, place: &Place<'_>) -> Result<&'a str, InvalidRequest> {
    value.as_str().ok_or_else(|| InvalidRequest::not_a("a string", place, value))
}

pub(super) fn as_flag(value: &Value, place: &Place<'_>) -> Result<bool, InvalidRequest> {
    value.as_bool().ok_or_else(|| InvalidRequest::not_a("a boolean", place, value))
}

pub(super) fn as_number(value: &Value, place: &Place<'_>) -> Result<f64, InvalidRequest> {
    value.as_f64().ok_or_else(|| InvalidRequest::not_a("a number", place, value))
}

/// A whole number, also one that is written `5.0`: some languages have no other.
pub(super) fn as_integer(value: &Value, place: &Place<'_>) -> Result<i64, InvalidRequest> {
    /// Up to here every whole number is one.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64);
    let integer = value.as_i64().or_else(|| whole(value.as_f64()?));
    integer.ok_or_else(|| InvalidRequest::not_a("an integer", place, value))
}

/// A list of at most so many.
pub(crate) fn list<'a>(value: &'a Value, place: &Place<'_>, max: usize) -> Result<&'a [Value], InvalidRequest> {
    match value {
        Value::Array(list) => few(list.len(), place, max).map(|()| &list[..]),
        other => Err(InvalidRequest::not_a("an array", place, other)),
    }
}

/// Whether a list is not too long.
pub(crate) fn few(count: usize, place: &Place<'_>, max: usize) -> Result<(), InvalidRequest> {
    if count <= max {
        return Ok(());
    }
    Err(InvalidRequest::value(place, format_args!("it has at most {max} elements, not {count}")))
}
