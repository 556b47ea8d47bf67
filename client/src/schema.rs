//! OpenAPI schemas of the fields of users, as the user service checks them.

use utoipa::openapi::{
    Type,
    schema::{Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat},
};

/// One line of text.
pub(crate) fn line() -> Object {
    let pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$";
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()
}

pub(crate) fn lines() -> Array {
    ArrayBuilder::new().items(line()).build()
}

/// Milliseconds since 1970, up to the year 9999.
pub(crate) fn instant() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .maximum(Some(253_402_300_799_999_i64))
        .build()
}
