//! The `message!` macro: turns the tables of one API into structs with their codec.
//!
//! The tables are in [`messages`](super::messages), the types of their fields in [`wire`](super::wire). For every struct the
//! macro writes its `Default` (the schema's), `Encode`, `Decode` and, outside of release builds, `Arbitrary`; for a whole
//! message also `decode`, `encode` and `Message`.

/// Declares the messages of one API as tables.
///
/// ```text
/// message! {
///     /// What it is for.
///     pub struct FooRequest<'a> (Foo, 0..=3, flexible 2) {      // a message: its API, its versions
///         /// What the name does not say.
///         name: Option<Cow<'a, str>> [0..] null [1..];          // there in every version, null from version 1 on
///         limit: i32 [1..=2] default(-1);                        // there in versions 1 and 2, else -1
///         bars: Vec<Bar> [0..];
///         hint: i64 [2..] tag 0;                                 // tagged field 0
///     }
///     /// A part of messages above: written in their dialect.
///     pub struct Bar { index: i32 [0..]; }
/// }
/// ```
///
/// Rows stand in wire order. An `Option` without `null` may be null wherever the field exists. A field that the version
/// lacks reads as its default and is not written. A tagged field is written when it differs from its default.
macro_rules! message {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident $(<$life:lifetime>)? $(($key:ident, $versions:expr, flexible $flexible:expr))? {$(
            $(#[$field_doc:meta])*
            $field:ident: $ty:ty [$range:expr] $(null [$null:expr])? $(tag $tag:literal)? $(default($default:expr))?;
        )*}
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name $(<$life>)? {$(
            $(#[$field_doc])*
            #[doc = ""]
            #[doc = concat!(
                "Versions `", stringify!($range), "`"
                $(, ", null in `", stringify!($null), "`")? $(, ", tagged field ", stringify!($tag))?
                $(, ", default `", stringify!($default), "`")?, "."
            )]
            pub $field: $ty,
        )*}

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                Self {$( $field: $crate::protocol::table::message!(@default $($default)?), )*}
            }
        }

        impl $(<$life>)? $crate::protocol::wire::Encode for $name $(<$life>)? {
            #[allow(unused_variables)]
            fn encode_field(
                &self,
                writer: &mut $crate::protocol::wire::Writer,
                dialect: $crate::protocol::wire::Dialect,
            ) {
                $( $crate::protocol::table::message!(@encode self.$field, writer, dialect, $range, [$($null)?] [$($tag)?]); )*
                if dialect.flexible {
                    #[allow(unused_mut)]
                    let mut tagged = 0_u32;
                    $( $crate::protocol::table::message!(
                        @tagged self.$field, dialect, $range, [$($tag)?] [$($default)?] tag => tagged += 1
                    ); )*
                    writer.unsigned_varint(tagged);
                    $( $crate::protocol::table::message!(
                        @tagged self.$field, dialect, $range, [$($tag)?] [$($default)?]
                        tag => writer.tagged_field(tag, |writer| self.$field.encode_field(writer, dialect))
                    ); )*
                }
            }
        }

        impl<'de $(: $life, $life)?> $crate::protocol::wire::Decode<'de> for $name $(<$life>)? {
            #[allow(unused_mut, unused_variables)]
            fn decode_field(
                reader: &mut $crate::protocol::wire::Reader<'de>,
                dialect: $crate::protocol::wire::Dialect,
            ) -> Result<Self, $crate::protocol::wire::DecodeError> {
                $( let mut $field: $ty = $crate::protocol::table::message!(
                    @decode reader, dialect, $range, [$($null)?] [$($tag)?] [$($default)?]
                ); )*
                if dialect.flexible {
                    reader.tagged_fields(|tag, reader| {
                        match tag {
                            $($( $tag if ($range).contains(&dialect.version) => {
                                $field = $crate::protocol::wire::Decode::decode_field(reader, dialect)?;
                                Ok(true)
                            } )?)*
                            _ => Ok(false),
                        }
                    })?;
                }
                Ok(Self {$( $field, )*})
            }
        }

        $crate::protocol::table::message!(@message $name [$($life)?] [$($key, $versions, $flexible)?]);

        #[cfg(debug_assertions)]
        impl $(<$life>)? $crate::protocol::arbitrary::Arbitrary for $name $(<$life>)? {
            #[allow(unused_variables)]
            fn arbitrary(
                source: &mut $crate::protocol::arbitrary::Source,
                dialect: $crate::protocol::wire::Dialect,
            ) -> Self {
                $( let $field: $ty = if ($range).contains(&dialect.version) {
                    $crate::protocol::table::message!(@arbitrary source, dialect, [$($null)?])
                } else {
                    $crate::protocol::table::message!(@default $($default)?)
                }; )*
                Self {$( $field, )*}
            }
        }
    )*};

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@encode $this:ident.$field:ident, $writer:ident, $dialect:ident, $range:expr, [$($null:expr)?] [$tag:literal]) => {};
    (@encode $this:ident.$field:ident, $writer:ident, $dialect:ident, $range:expr, [] []) => {
        if ($range).contains(&$dialect.version) {
            $this.$field.encode_field($writer, $dialect);
        }
    };
    (@encode $this:ident.$field:ident, $writer:ident, $dialect:ident, $range:expr, [$null:expr] []) => {
        if ($range).contains(&$dialect.version) {
            if ($null).contains(&$dialect.version) {
                $this.$field.encode_field($writer, $dialect);
            } else {
                $this.$field.encode_present($writer, $dialect);
            }
        }
    };

    (@tagged $this:ident.$field:ident, $dialect:ident, $range:expr, [] [$($default:expr)?] $name:ident => $act:expr) => {};
    (@tagged $this:ident.$field:ident, $dialect:ident, $range:expr, [$tag:literal] [$($default:expr)?] $name:ident => $act:expr) => {
        if ($range).contains(&$dialect.version)
            && $crate::protocol::table::differs(&$this.$field, $crate::protocol::table::message!(@default $($default)?))
        {
            #[allow(unused_variables)]
            let $name = $tag;
            $act;
        }
    };

    (@decode $reader:ident, $dialect:ident, $range:expr, [$($null:expr)?] [$tag:literal] [$($default:expr)?]) => {
        $crate::protocol::table::message!(@default $($default)?)
    };
    (@decode $reader:ident, $dialect:ident, $range:expr, [] [] [$($default:expr)?]) => {
        if ($range).contains(&$dialect.version) {
            $crate::protocol::wire::Decode::decode_field($reader, $dialect)?
        } else {
            $crate::protocol::table::message!(@default $($default)?)
        }
    };
    (@decode $reader:ident, $dialect:ident, $range:expr, [$null:expr] [] [$($default:expr)?]) => {
        if !($range).contains(&$dialect.version) {
            $crate::protocol::table::message!(@default $($default)?)
        } else if ($null).contains(&$dialect.version) {
            $crate::protocol::wire::Decode::decode_field($reader, $dialect)?
        } else {
            $crate::protocol::wire::Decode::decode_present($reader, $dialect)?
        }
    };

    (@arbitrary $source:ident, $dialect:ident, []) => {
        $crate::protocol::arbitrary::Arbitrary::arbitrary($source, $dialect)
    };
    (@arbitrary $source:ident, $dialect:ident, [$null:expr]) => {
        if ($null).contains(&$dialect.version) {
            $crate::protocol::arbitrary::Arbitrary::arbitrary($source, $dialect)
        } else {
            $crate::protocol::arbitrary::Arbitrary::arbitrary_present($source, $dialect)
        }
    };

    (@message $name:ident [$($life:lifetime)?] []) => {};
    (@message $name:ident [$($life:lifetime)?] [$key:ident, $versions:expr, $flexible:expr]) => {
        impl $(<$life>)? $name $(<$life>)? {
            /// Reads the message as `version` has it. What follows it in the frame stays unread.
            pub fn decode<'de>(
                reader: &mut $crate::protocol::wire::Reader<'de>,
                version: i16,
            ) -> Result<Self, $crate::protocol::wire::DecodeError>
            $(where 'de: $life)?
            {
                if !<Self as $crate::protocol::wire::Message>::VERSIONS.contains(&version) {
                    return Err($crate::protocol::wire::DecodeError::UnsupportedVersion(version));
                }
                let dialect = <Self as $crate::protocol::wire::Message>::dialect(version);
                $crate::protocol::wire::Decode::decode_field(reader, dialect)
            }

            /// Writes the message as `version` has it, which must be one of its versions.
            pub fn encode(&self, writer: &mut $crate::protocol::wire::Writer, version: i16) {
                assert!(<Self as $crate::protocol::wire::Message>::VERSIONS.contains(&version));
                let dialect = <Self as $crate::protocol::wire::Message>::dialect(version);
                $crate::protocol::wire::Encode::encode_field(self, writer, dialect);
            }
        }

        // Headers are chosen by the key alone, so both must say the same.
        const _: () = assert!($flexible == $crate::protocol::api_key::ApiKey::$key.flexible_since());

        impl $(<$life>)? $crate::protocol::wire::Message for $name $(<$life>)? {
            const KEY: $crate::protocol::api_key::ApiKey = $crate::protocol::api_key::ApiKey::$key;
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE_SINCE: i16 = $flexible;
        }
    };
}

pub(crate) use message;

/// Whether a tagged field must be written. Says to the compiler that both sides have one type.
#[inline]
pub(crate) fn differs<T: PartialEq>(value: &T, default: T) -> bool {
    *value != default
}
