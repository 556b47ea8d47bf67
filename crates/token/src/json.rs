//! JSON objects without repeated members, at any depth, and without deep nesting.
//!
//! `serde_json` keeps the last of two equal members, other parsers keep the first: a token with two
//! `exp` would mean different things to the gateway and to the origin (RFC 7519, section 4; RFC 8725, section 2.4).

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::limits::JSON_DEPTH;

/// A JSON object in which every name is unique, at every depth.
#[derive(Clone)]
pub struct StrictObject(Map<String, Value>);

impl StrictObject {
    /// Parses UTF-8 JSON text that is one object and nothing else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let is_strict = Cell::new(true);
        Self::read(bytes, &is_strict).filter(|_| is_strict.get())
    }

    /// Parses as [`StrictObject::parse`] does, but replaces an inner object with a repeated member,
    /// or a value that nests too deeply, by `null`: for key sets, where one entry must not spoil the others.
    /// Text that the parser refuses (a lone surrogate, a number out of range) still spoils the set.
    pub fn parse_lenient(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes, &Cell::new(true))
    }

    fn read(bytes: &[u8], is_strict: &Cell<bool>) -> Option<Self> {
        // The input is checked to be UTF-8 once, so the parser does not check each string for it.
        let value = parse(str::from_utf8(bytes).ok()?, Strict { depth: JSON_DEPTH, is_strict }).ok()?;
        if let Value::Object(map) = value { Some(Self(map)) } else { None }
    }

    /// Returns an inner object of one that was parsed as strict.
    pub(crate) fn of_inner(value: &Value) -> Option<Self> {
        value.as_object().cloned().map(Self)
    }

    /// Returns whether each member has one of these names.
    pub(crate) fn has_only(&self, names: &[&str]) -> bool {
        self.0.keys().all(|name| names.contains(&name.as_str()))
    }

    /// Returns a member, `null` included.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Adds a member unless there is one that is not `null`.
    pub(crate) fn insert_missing(&mut self, name: &str, value: Value) {
        if self.member(name).is_none_or(Value::is_null) {
            self.insert(name, value);
        }
    }

    /// Adds or replaces a member.
    pub(crate) fn insert(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Returns a member by value.
    pub(crate) fn into_member(self, name: &str) -> Option<Value> {
        self.0.into_iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Returns a member that is a string.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }
}

fn parse(text: &str, strict: Strict<'_>) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Returns an object of members. A hundred uses of `json!` would make the Worker larger, because each has its own code for
/// each member.
pub fn object<const N: usize>(mut members: [(&str, Value); N]) -> Value {
    collect_members(&mut members)
}

#[inline(never)]
fn collect_members(members: &mut [(&str, Value)]) -> Value {
    let mut object = Map::new();
    for (name, value) in members {
        object.insert((*name).to_owned(), value.take());
    }
    Value::Object(object)
}

/// Parses JSON text whose objects, at any depth that the parser allows, repeat no member.
///
/// # Errors
/// The text is not JSON, or an object repeats a member.
pub fn parse_strict(text: &str) -> Result<Value, String> {
    let is_strict = Cell::new(true);
    let value = parse(text, Strict { depth: usize::MAX, is_strict: &is_strict }).map_err(|error| error.to_string())?;
    if is_strict.get() { Ok(value) } else { Err("an object has a repeated member".to_owned()) }
}

/// Deserializes a value. A member that is repeated or nests too deeply, at any depth, is an error.
///
/// # Errors
/// The value is invalid in its format, or not strict.
pub fn deserialize_strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let is_strict = Cell::new(true);
    let value = Strict { depth: JSON_DEPTH, is_strict: &is_strict }.deserialize(deserializer)?;
    let fault = || D::Error::custom("an object has a repeated member, or nests too deeply");
    if is_strict.get() { Ok(value) } else { Err(fault()) }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    /// Cleared if a part is invalid.
    is_strict: &'a Cell<bool>,
}

impl Strict<'_> {
    /// What an invalid part becomes.
    fn invalid(self) -> Value {
        self.is_strict.set(false);
        Value::Null
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Methods of a visitor that keep a scalar as it is.
macro_rules! scalars {
    ($($visit:ident: $scalar:ty),*) => {
        $(fn $visit<E>(self, value: $scalar) -> Result<Value, E> {
            Ok(Value::from(value))
        })*
    };
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without repeated names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return IgnoredAny.visit_seq(access).map(|_| self.invalid());
        };
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Strict { depth, ..self })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return IgnoredAny.visit_map(access).map(|_| self.invalid());
        };
        let mut map = Map::new();
        let mut is_unique = true;
        while let Some(name) = access.next_key::<String>()? {
            is_unique &= map.insert(name, access.next_value_seed(Strict { depth, ..self })?).is_none();
        }
        Ok(if is_unique { Value::Object(map) } else { self.invalid() })
    }
}
