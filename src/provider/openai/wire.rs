//! What a chat-completions server sends, read loosely.
//!
//! Servers agree on the names and on little else. So every field may be missing, `null` or of another type than
//! expected, and then counts as absent; what is not used is not looked at. Texts are borrowed from the event where
//! they contain no escapes.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::{event::Usage, provider::Model};

/// More tokens than any model reads or writes: a larger count is an error of the one who counted.
const TOKENS_MAX: u64 = 1_000_000_000;

/// One chunk of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) choices: List<Choice<'a>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) delta: Loose<Piece<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Text<'a>,
}

impl Choice<'_> {
    /// Whether it is the first answer; one that does not say is.
    pub(super) fn is_first(&self) -> bool {
        whole(self.index).is_none_or(|index| index == 0)
    }
}

/// What a chunk adds to the answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Piece<'a> {
    #[serde(borrow)]
    pub(super) content: Text<'a>,
    /// A refusal is an answer too; it comes in place of `content`.
    #[serde(borrow)]
    pub(super) refusal: Text<'a>,
    #[serde(borrow)]
    pub(super) reasoning: Text<'a>,
    #[serde(borrow)]
    pub(super) reasoning_content: Text<'a>,
    #[serde(borrow)]
    pub(super) tool_calls: List<CallPiece<'a>>,
}

/// What a chunk adds to a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallPiece<'a> {
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) function: Loose<FunctionPiece<'a>>,
}

impl CallPiece<'_> {
    pub(super) fn index(&self) -> Option<u64> {
        whole(self.index)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionPiece<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl FunctionPiece<'_> {
    /// The piece of JSON text. Some servers send the arguments as an object where a text with an object is due.
    pub(super) fn arguments(&self) -> Cow<'_, str> {
        match self.arguments.map(RawValue::get) {
            None => Cow::Borrowed(""),
            Some(raw) if raw.starts_with('"') => serde_json::from_str::<Text<'_>>(raw).unwrap_or_default().0,
            Some(raw) => Cow::Borrowed(raw),
        }
    }
}

/// A non-negative whole number, possibly written as `3.0`; anything else is absent.
fn whole(raw: Option<&RawValue>) -> Option<u64> {
    let text = raw?.get();
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // Up to 2^53 every whole number is exact.
        (number >= 0.0 && number.fract() == 0.0 && number <= 9_007_199_254_740_992.0).then_some(number as u64)
    })
}

/// The token counts, each absent where it makes no sense; `None` if that leaves nothing.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Counts<'a> {
        #[serde(borrow)]
        prompt_tokens: Option<&'a RawValue>,
        #[serde(borrow)]
        completion_tokens: Option<&'a RawValue>,
        #[serde(borrow)]
        prompt_tokens_details: Loose<Details<'a>>,
        #[serde(borrow)]
        completion_tokens_details: Loose<Details<'a>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details<'a> {
        #[serde(borrow)]
        cached_tokens: Option<&'a RawValue>,
        #[serde(borrow)]
        reasoning_tokens: Option<&'a RawValue>,
    }
    let counts: Loose<Counts<'_>> = serde_json::from_str(raw.get()).ok()?;
    let tokens = |raw| whole(raw).filter(|count| *count <= TOKENS_MAX);
    let usage = Usage {
        input_tokens: tokens(counts.0.prompt_tokens),
        output_tokens: tokens(counts.0.completion_tokens),
        reasoning_tokens: tokens(counts.0.completion_tokens_details.0.reasoning_tokens),
        cached_tokens: tokens(counts.0.prompt_tokens_details.0.cached_tokens),
    };
    (usage != Usage::default()).then_some(usage)
}

/// An error that the server reports, in a status answer or in the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reported {
    /// In words: the server's, or the JSON it sent.
    pub(super) message: String,
    /// Its `code` as a number: an HTTP status where it is between 400 and 599.
    pub(super) status: Option<u64>,
    /// Its `code` or else `type` as a text; empty if neither is one.
    pub(super) kind: String,
}

impl Reported {
    /// The value of an `error` field: an object with a `message`, or just a text.
    pub(super) fn from_error(raw: &str) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body<'a> {
            #[serde(borrow)]
            message: Text<'a>,
            #[serde(borrow)]
            code: Option<&'a RawValue>,
            #[serde(borrow, rename = "type")]
            kind: Text<'a>,
        }
        let body = serde_json::from_str::<Loose<Body<'_>>>(raw).unwrap_or_default().0;
        let text: Text<'_> = serde_json::from_str(raw).unwrap_or_default();
        let message = [body.message.0, text.0].into_iter().find(|text| !text.is_empty()).unwrap_or(Cow::Borrowed(raw));
        let code: Option<Text<'_>> = body.code.and_then(|code| serde_json::from_str(code.get()).ok());
        let kind = code.map(|code| code.0).filter(|code| !code.is_empty()).unwrap_or(body.kind.0);
        Self { message: message.into_owned(), status: whole(body.code), kind: kind.into_owned() }
    }

    /// The error in a whole JSON document, if it holds one: under `error`, or being one itself.
    pub(super) fn from_document(json: &str) -> Option<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Document<'a> {
            #[serde(borrow)]
            error: Option<&'a RawValue>,
            #[serde(borrow)]
            object: Text<'a>,
            #[serde(borrow)]
            message: Text<'a>,
            #[serde(borrow)]
            detail: Option<&'a RawValue>,
        }
        let document = serde_json::from_str::<Loose<Document<'_>>>(json).ok()?.0;
        match (document.error, document.detail) {
            (Some(error), _) => Some(Self::from_error(error.get())),
            (None, _) if document.object.0 == "error" || !document.message.0.is_empty() => Some(Self::from_error(json)),
            (None, Some(detail)) => Some(Self::from_error(detail.get())),
            (None, None) => None,
        }
    }
}

/// The answer to `GET {base}/models`: `{"data": […]}`, or the bare list that some servers send. Each model with its
/// owner, as far as one is named.
pub(super) fn models(json: &str) -> serde_json::Result<Vec<(Model, String)>> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Page<'a> {
        #[serde(borrow)]
        data: List<Entry<'a>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Entry<'a> {
        #[serde(borrow)]
        id: Text<'a>,
        #[serde(borrow)]
        created: Option<&'a RawValue>,
        #[serde(borrow)]
        owned_by: Text<'a>,
    }
    let list: List<Entry<'_>> = match json.trim_start().starts_with('[') {
        true => serde_json::from_str(json)?,
        false => serde_json::from_str::<Loose<Page<'_>>>(json)?.0.data,
    };
    let model = |entry: Entry<'_>| {
        let model = Model { name: entry.id.0.into_owned(), created: whole(entry.created).unwrap_or(0) };
        (model, entry.owned_by.0.into_owned())
    };
    Ok(list.0.into_iter().map(model).filter(|(model, _)| !model.name.is_empty()).collect())
}

/// A text; anything else is the empty text, except a list of parts, which is the text of its parts.
#[derive(Debug, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

/// A list; anything else is the empty list.
#[derive(Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

/// An object; anything else is the object without fields.
#[derive(Debug, Default)]
pub(super) struct Loose<T>(pub(super) T);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The methods of a visitor for values that count as absent.
macro_rules! absent {
    ($($method:ident($($type:ty)?)),*) => {
        $(fn $method<E>(self $(, _: $type)?) -> Result<Self::Value, E> {
            Ok(<Self::Value as Default>::default())
        })*
    };
}

macro_rules! absent_list {
    () => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(<Self::Value as Default>::default())
        }
    };
}

macro_rules! absent_object {
    () => {
        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(<Self::Value as Default>::default())
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.into())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Text<'de>, A::Error> {
                #[derive(Default, Deserialize)]
                #[serde(default)]
                struct Part<'a> {
                    #[serde(borrow)]
                    text: Text<'a>,
                }
                let mut joined = String::new();
                while let Some(part) = parts.next_element::<Loose<Part<'de>>>()? {
                    joined.push_str(&part.0.text.0);
                }
                Ok(Text(joined.into()))
            }
            absent! { visit_unit(), visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64) }
            absent_object! {}
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Loose<T>>()? {
                    items.push(item.0);
                }
                Ok(List(items))
            }
            absent! { visit_unit(), visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str) }
            absent_object! {}
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LooseVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for LooseVisitor<T> {
            type Value = Loose<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Loose<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(Loose)
            }
            absent! { visit_unit(), visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str) }
            absent_list! {}
        }
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}
