//! How many bytes a setting takes on the wire, known without encoding it.
//!
//! The engine encodes nothing, yet it refuses a state that no consumer could receive, so it has to know the size of the
//! protobuf encoding. These formulas are exact for an encoder that writes both fields of a map's entry always, and
//! an upper bound for one that leaves out an empty map key. `field(n)` is one field with a payload of `n` bytes: a
//! tag (one byte, as all field numbers are below 16), the length as a varint, the payload.
//!
//! | what | bytes |
//! | --- | --- |
//! | value: bool | 2 |
//! | value: number | 9, since all numbers travel as doubles |
//! | value: string | field(its bytes) |
//! | value: list | field(sum over items of field(item)) |
//! | value: map | field(sum over entries of field(field(key) + field(value))) |
//! | setting | field(source) + field(key) + field(value) |
//! | settings of a snapshot | sum of field(setting) |
//!
//! What a snapshot or an update adds (origin, sequence, the unset source) is bounded by
//! [`HEADROOM`]. All sums saturate: shared parts let a small value in memory be astronomically large on the wire.

/// The bytes of a bool.
pub(super) const BOOL: u64 = 2;

/// The bytes of a number.
pub(super) const NUMBER: u64 = 9;

/// Bytes of a message that are kept for what is not a setting.
///
/// A file name of 255 bytes, two 64-bit varints, the name of an unset source and the tags come to less than 400.
pub(super) const HEADROOM: u64 = 4096;

/// Messages go up to 128 MiB.
pub(super) const DEFAULT_LIMIT: u64 = 128 * 1024 * 1024 - HEADROOM;

/// Protobuf ends at 2 GiB, whatever a limit says.
pub(super) const MAX_LIMIT: u64 = i32::MAX as u64 - HEADROOM;

/// The bytes of one length-delimited field.
pub(super) fn field(payload: u64) -> u64 {
    payload.saturating_add(1 + varint(payload))
}

/// The bytes of a text as a field.
pub(super) fn text(text: &str) -> u64 {
    field(text.len() as u64)
}

/// The bytes of a sum of fields.
pub(super) fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

fn varint(value: u64) -> u64 {
    let bits = u64::BITS - (value | 1).leading_zeros();
    u64::from(bits.div_ceil(7))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::{Key, Setting, Source, Value, value};

    #[test]
    fn a_varint_grows_by_a_byte_every_seven_bits() {
        for (number, bytes) in [
            (0, 1),
            (1, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (u64::MAX >> 1, 9),
            (u64::MAX, 10),
        ] {
            assert_eq!(varint(number), bytes, "{number}");
        }
    }

    #[test]
    fn a_sum_saturates() {
        assert_eq!(field(u64::MAX), u64::MAX);
        assert_eq!(sum([u64::MAX, 1].into_iter()), u64::MAX);
    }

    proptest! {
        #[test]
        fn the_size_is_that_of_the_encoding(value in value::tests::any_value()) {
            let mut encoded = Vec::new();
            encode_field(&mut encoded, 1, b"environment-variable");
            encode_field(&mut encoded, 2, b"some.key");
            encode_field(&mut encoded, 3, &encode(&value));

            let key = Key::parse("some.key").unwrap();
            let setting = Setting::new(Source::EnvironmentVariable, key, value).unwrap();
            prop_assert_eq!(setting.encoded_len(), encoded.len() as u64);
        }
    }

    /// Field 3 of a setting, as bytes.
    fn encode(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = Vec::new();
        match value {
            Value::Bool(bool) => out.extend([4 << 3, u8::from(*bool)]),
            Value::Int(_) | Value::Uint(_) | Value::Float(_) => {
                out.push(2 << 3 | 1);
                out.extend(value.as_f64().unwrap().to_le_bytes());
            }
            Value::String(text) => encode_field(&mut out, 3, text.as_bytes()),
            Value::List(items) => {
                for item in items.iter() {
                    encode_field(&mut body, 1, &encode(item));
                }
                encode_field(&mut out, 6, &body);
            }
            Value::Map(entries) => {
                for (key, value) in entries.iter() {
                    let mut entry = Vec::new();
                    encode_field(&mut entry, 1, key.as_bytes());
                    encode_field(&mut entry, 2, &encode(value));
                    encode_field(&mut body, 1, &entry);
                }
                encode_field(&mut out, 5, &body);
            }
        }
        out
    }

    fn encode_field(out: &mut Vec<u8>, number: u8, payload: &[u8]) {
        out.push(number << 3 | 2);
        let mut length = payload.len();
        while length >= 128 {
            out.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        out.push(u8::try_from(length).unwrap());
        out.extend(payload);
    }
}
