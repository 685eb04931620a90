//! Values written as JSON, with an error for numbers that JSON has not: serde_json writes `null` for
//! NaN and for an infinite number, and the reader never learns that there was one.

use std::{fmt::Display, io};

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Writes a value as JSON.
///
/// # Errors
///
/// [`serde_json::Error`] if the value can't be written as JSON: a NaN, a map whose keys are not strings.
pub fn write<T: Serialize + ?Sized>(out: impl io::Write, value: &T) -> serde_json::Result<()> {
    value.serialize(Finite(&mut serde_json::Serializer::new(out)))
}

/// A serializer that takes finite numbers only.
struct Finite<S>(S);

/// A value within one, to be written by such a serializer, too.
struct Inner<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for Inner<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Finite(serializer))
    }
}

/// Passes values on that hold no others.
macro_rules! pass_on {
    ($($method:ident($($name:ident: $type:ty),*);)+) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<S::Ok, S::Error> {
            self.0.$method($($name),*)
        }
    )+};
}

/// Begins a value that holds others.
macro_rules! begin {
    ($($method:ident($($name:ident: $type:ty),*) -> $compound:ident;)+) => {$(
        #[inline]
        fn $method(self, $($name: $type),*) -> Result<Self::$compound, S::Error> {
            self.0.$method($($name),*).map(Finite)
        }
    )+};
}

macro_rules! check {
    ($($method:ident($type:ty);)+) => {$(
        #[inline]
        fn $method(self, number: $type) -> Result<S::Ok, S::Error> {
            if number.is_finite() {
                self.0.$method(number)
            } else {
                Err(S::Error::custom(format_args!("JSON has no number {number}")))
            }
        }
    )+};
}

impl<S: Serializer> Serializer for Finite<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Finite<S::SerializeSeq>;
    type SerializeTuple = Finite<S::SerializeTuple>;
    type SerializeTupleStruct = Finite<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Finite<S::SerializeTupleVariant>;
    type SerializeMap = Finite<S::SerializeMap>;
    type SerializeStruct = Finite<S::SerializeStruct>;
    type SerializeStructVariant = Finite<S::SerializeStructVariant>;

    check! {
        serialize_f32(f32);
        serialize_f64(f64);
    }

    pass_on! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    begin! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(
            name: &'static str, index: u32, variant: &'static str, len: usize
        ) -> SerializeStructVariant;
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Inner(value))
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Inner(value))
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let inner = Inner(value);
        self.0
            .serialize_newtype_variant(name, index, variant, &inner)
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// Writes the values within arrays.
macro_rules! elements {
    ($($trait:ident::$method:ident;)+) => {$(
        impl<S: $trait> $trait for Finite<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.0.$method(&Inner(value))
            }

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        }
    )+};
}

/// Writes the values of members.
macro_rules! fields {
    ($($trait:ident;)+) => {$(
        impl<S: $trait> $trait for Finite<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.0.serialize_field(name, &Inner(value))
            }

            #[inline]
            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                self.0.skip_field(name)
            }

            #[inline]
            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        }
    )+};
}

elements! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<S: SerializeMap> SerializeMap for Finite<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    // serde_json refuses a key that is not finite by itself.
    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Inner(value))
    }

    #[inline]
    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), S::Error> {
        self.0.serialize_entry(key, &Inner(value))
    }

    #[inline]
    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    #[derive(serde::Serialize)]
    enum Shape {
        Unit,
        One(f64),
        Two(f64, f32),
        Named { x: Option<f64> },
    }

    #[derive(serde::Serialize)]
    struct Wrapped(f64);

    #[derive(serde::Serialize)]
    struct Pair(f64, f64);

    fn written<T: Serialize>(value: &T) -> serde_json::Result<String> {
        let mut out = Vec::new();
        write(&mut out, value)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_number_that_json_has_not_is_an_error_wherever_it_stands() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let all: [serde_json::Result<String>; 11] = [
                written(&number),
                written(&(number as f32)),
                written(&Some(number)),
                written(&[1.0, number]),
                written(&("x", number)),
                written(&Wrapped(number)),
                written(&Pair(1.0, number)),
                written(&Shape::One(number)),
                written(&Shape::Two(1.0, number as f32)),
                written(&Shape::Named { x: Some(number) }),
                written(&BTreeMap::from([("a", vec![number])])),
            ];
            for result in all {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("JSON has no number"), "{error}");
            }
        }
    }

    #[test]
    fn everything_else_is_written_as_serde_json_writes_it() {
        fn same<T: Serialize>(value: &T) {
            assert_eq!(
                written(value).unwrap(),
                serde_json::to_string(value).unwrap()
            );
        }
        same(&[Shape::Unit, Shape::One(-0.0), Shape::Two(1e300, 0.1)]);
        same(&Shape::Named { x: None });
        same(&(Wrapped(1.5), Pair(0.0, 2.0), 'x', "ü\n", (), Some(1_u8)));
        same(&(i128::MIN, u128::MAX, true, i8::MIN, u64::MAX));
        same(&json!({"a": [null, 1.5, {"b": []}], "c": "\u{1f}"}));
        same(&to_raw_value(&json!([1.0, null])).unwrap());
        same(&BTreeMap::from([(1_u8, Value::Null), (2, json!(-7))]));
        same(&std::net::Ipv4Addr::LOCALHOST);
        let error = written(&BTreeMap::from([([1_u8], 1)])).unwrap_err();
        assert!(
            error.to_string().contains("key must be a string"),
            "{error}"
        );
    }
}
