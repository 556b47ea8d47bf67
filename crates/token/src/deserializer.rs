//! Deserializes types from JSON values.
//!
//! It gives a struct its members as a sequence, in the order of its fields. So a type needs no code that finds its members
//! by name, which would be a tenth of the Worker. Each struct is read as if it had `deny_unknown_fields`.

use std::{fmt, slice};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, map};

/// Deserializes a value; without one, what an absent member stands for.
#[derive(Clone, Copy)]
pub struct ValueDeserializer<'a>(Option<&'a Value>);

impl<'a> ValueDeserializer<'a> {
    /// Returns the deserializer of a value.
    pub const fn new(value: &'a Value) -> Self {
        Self(Some(value))
    }

    fn mismatch(self, expected: &dyn Expected) -> ValueError {
        let found = match self.0 {
            None => return ValueError::Absent,
            Some(Value::Null) => Unexpected::Unit,
            Some(Value::Bool(value)) => Unexpected::Bool(*value),
            Some(Value::Number(_)) => Unexpected::Other("number"),
            Some(Value::String(text)) => Unexpected::Str(text),
            Some(Value::Array(_)) => Unexpected::Seq,
            Some(Value::Object(_)) => Unexpected::Map,
        };
        ValueError::invalid_type(found, expected)
    }
}

/// Why a value cannot be read.
#[derive(Debug)]
pub enum ValueError {
    /// There is no value.
    Absent,
    /// The struct has no member for the field with this index.
    Missing(usize),
    /// Another reason.
    Other(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if let Self::Other(reason) = self { reason } else { "missing field" })
    }
}

impl std::error::Error for ValueError {}

impl ValueError {
    /// Names the field of a missing member.
    fn of(self, fields: &'static [&'static str]) -> Self {
        match self {
            Self::Missing(index) => Self::missing_field(fields.get(index).copied().unwrap_or_default()),
            Self::Absent | Self::Other(_) => self,
        }
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Other(reason.to_string())
    }

    fn invalid_length(length: usize, _: &dyn Expected) -> Self {
        Self::Missing(length)
    }
}

impl<'de> Deserializer<'de> for ValueDeserializer<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            None => Err(ValueError::Absent),
            Some(Value::Null) => visitor.visit_unit(),
            Some(Value::Bool(value)) => visitor.visit_bool(*value),
            Some(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Some(Value::String(text)) => visitor.visit_str(text),
            Some(Value::Array(items)) => visitor.visit_seq(Items(items.iter())),
            Some(Value::Object(members)) => visitor.visit_map(Members { members: members.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if let Some(Value::Bool(value)) = self.0 { visitor.visit_bool(*value) } else { Err(self.mismatch(&visitor)) }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0.and_then(Value::as_u64) {
            Some(number) => visitor.visit_u64(number),
            None => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if let Some(Value::String(text)) = self.0 { visitor.visit_str(text) } else { Err(self.mismatch(&visitor)) }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if let None | Some(Value::Null) = self.0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if let Some(Value::Array(items)) = self.0 {
            visitor.visit_seq(Items(items.iter()))
        } else {
            Err(self.mismatch(&visitor))
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if let Some(Value::Object(members)) = self.0 {
            visitor.visit_map(Members { members: members.iter(), value: None })
        } else {
            Err(self.mismatch(&visitor))
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let Some(Value::Object(members)) = self.0 else { return Err(self.mismatch(&visitor)) };
        check_names(members, fields)?;
        visitor.visit_seq(Fields { members, names: fields.iter() }).map_err(|error| error.of(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.0 {
            Some(Value::String(name)) => visitor.visit_enum(Variant { name, value: None }),
            Some(Value::Object(members)) if members.len() == 1 => match members.iter().next() {
                Some((name, value)) => visitor.visit_enum(Variant { name, value: Some(value) }),
                None => Err(self.mismatch(&visitor)),
            },
            _ => Err(self.mismatch(&visitor)),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

fn check_names(members: &Map<String, Value>, fields: &'static [&'static str]) -> Result<(), ValueError> {
    let unknown = members.keys().find(|name| !fields.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(ValueError::unknown_field(name, fields)))
}

/// The items of an array.
struct Items<'a>(slice::Iter<'a, Value>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ValueError> {
        self.0.next().map(|item| seed.deserialize(ValueDeserializer::new(item))).transpose()
    }
}

/// The members of a struct, in the order of its fields.
struct Fields<'a> {
    members: &'a Map<String, Value>,
    names: slice::Iter<'static, &'static str>,
}

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = ValueError;

    /// Returns `None` for an absent member, for which a field has its default. A field without one fails.
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ValueError> {
        let value = self.names.next().and_then(|name| self.members.get(*name));
        match (value, seed.deserialize(ValueDeserializer(value))) {
            (None, Err(_)) => Ok(None),
            (_, read) => read.map(Some),
        }
    }
}

/// The members of an object.
struct Members<'a> {
    members: map::Iter<'a>,
    value: Option<&'a Value>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(name_deserializer(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        seed.deserialize(ValueDeserializer(self.value.take()))
    }
}

/// A variant of an enum, with its value if it has one.
struct Variant<'a> {
    name: &'a str,
    value: Option<&'a Value>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = ValueError;
    type Variant = ValueDeserializer<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), ValueError> {
        Ok((seed.deserialize(name_deserializer(self.name))?, ValueDeserializer(self.value)))
    }
}

impl<'de> VariantAccess<'de> for ValueDeserializer<'_> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        if self.0.is_none() { Ok(()) } else { Err(self.mismatch(&"unit variant")) }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ValueError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_struct("", fields, visitor)
    }
}

fn name_deserializer(name: &str) -> StrDeserializer<'_, ValueError> {
    name.into_deserializer()
}
