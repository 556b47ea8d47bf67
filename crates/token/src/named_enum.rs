//! Enums whose members have fixed names.

/// Declares an enum with `ALL`, its members in their order, and a method that returns a member's name.
macro_rules! named_enum {
    (
        $(#[$enum_doc:meta])*
        $enum:ident, $(#[$method_doc:meta])* $method:ident,
        $($(#[$doc:meta])* $member:ident = $name:literal,)*
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum {
            $($(#[$doc])* $member,)*
        }

        impl $enum {
            /// All members, in their order.
            pub const ALL: &[Self] = &[$(Self::$member,)*];

            $(#[$method_doc])*
            pub const fn $method(self) -> &'static str {
                match self {
                    $(Self::$member => $name,)*
                }
            }
        }
    };
}

pub(crate) use named_enum;
