//! The value of a setting.

use std::{error, fmt, time::Duration};

use super::{
    collection::{List, Map},
    size,
};
use crate::sync::Arc;

/// What a setting is set to. There is no null: a setting without a value is not there.
///
/// Cloning copies a scalar or a pointer.
///
/// # Limits
/// Consumers receive a number as a double and decode with a recursion limit of 100. So a number is finite, an integer
/// lies within ±[`MAX_INTEGER`](Self::MAX_INTEGER), and a value nests no deeper than
/// [`MAX_NESTING`](Self::MAX_NESTING). [`List`] and [`Map`] hold to this from the start, so that no deep value can exist
/// to overflow a stack; scalars are looked at by [`check`](Self::check), at the latest when they are published.
///
/// # Equality
/// By type and content. An integer is one type: `Int(1)` equals `Uint(1)`. An integer never equals a float, although
/// both `Int(1)` and `Float(1.0)` travel as the double 1.0: where they came from they are different. Floats are compared
/// by their bits, so that a value always equals itself, and -0.0, which the wire tells from 0.0, is another value.
///
/// # Privacy
/// A value can be a secret: `Debug` says its type only. `Display` shows it, in JSON.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::{Value, ValueError};
///
/// let value = Value::map([
///     ("enabled", Value::from(true)),
///     ("ports", Value::list([8125.into(), 8126.into()])?),
/// ])?;
/// assert_eq!(value.to_string(), r#"{"enabled":true,"ports":[8125,8126]}"#);
/// assert_eq!(format!("{value:?}"), "map");
/// assert_eq!(Value::list([f64::NAN.into()]), Err(ValueError::NotFinite));
/// # Ok::<(), ValueError>(())
/// ```
#[derive(Clone)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A signed integer. This is the canonical form of every integer that fits; [`canonical`](Self::canonical) makes it.
    Int(i64),
    /// An integer beyond `i64`. It exists so that a source need not judge what it reads: no such setting can be.
    Uint(u64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    String(Arc<str>),
    /// Values in order.
    List(List),
    /// Values by name.
    Map(Map),
}

/// Why a value cannot be streamed. It does not tell the value, which can be private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// A number that is infinite, or none.
    NotFinite,
    /// An integer beyond ±[`Value::MAX_INTEGER`], which a double cannot carry. As a string it could travel.
    IntegerTooLarge,
    /// Lists and maps within each other beyond [`Value::MAX_NESTING`].
    TooDeep,
}

impl Value {
    /// The largest integer, 2^53: up to here a double, which is what travels, holds every integer.
    pub const MAX_INTEGER: i64 = 1 << 53;

    /// The deepest nesting: 3 × maps + 2 × lists on any path into the value. One more and no consumer could decode it.
    pub const MAX_NESTING: u8 = 97;

    /// A list. O(items).
    ///
    /// # Errors
    /// See [`List::new`].
    pub fn list(items: impl IntoIterator<Item = Value>) -> Result<Self, ValueError> {
        List::new(items).map(Self::List)
    }

    /// A map. O(n log n) in its entries; of entries with the same name the last one stays.
    ///
    /// # Errors
    /// See [`Map::new`].
    pub fn map<N: Into<Arc<str>>>(
        entries: impl IntoIterator<Item = (N, Value)>,
    ) -> Result<Self, ValueError> {
        Map::new(entries).map(Self::Map)
    }

    /// A duration, in nanoseconds. One longer than 104 days is beyond [`MAX_INTEGER`](Self::MAX_INTEGER) and thus fails
    /// the [`check`](Self::check).
    #[must_use]
    pub fn duration(duration: Duration) -> Self {
        u64::try_from(duration.as_nanos())
            .unwrap_or(u64::MAX)
            .into()
    }

    /// The same value with the one spelling that equal integers share: `Int` if it fits.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Self::Uint(integer) => integer.into(),
            other => other,
        }
    }

    /// Whether the value can be streamed. O(1): what a list or a map holds was checked when it was made.
    ///
    /// # Errors
    /// [`ValueError::NotFinite`] or [`ValueError::IntegerTooLarge`].
    pub fn check(&self) -> Result<(), ValueError> {
        match self {
            Self::Float(float) if !float.is_finite() => Err(ValueError::NotFinite),
            Self::Int(integer) if integer.unsigned_abs() > Self::MAX_INTEGER.unsigned_abs() => {
                Err(ValueError::IntegerTooLarge)
            }
            Self::Uint(integer) if *integer > Self::MAX_INTEGER.unsigned_abs() => {
                Err(ValueError::IntegerTooLarge)
            }
            _ => Ok(()),
        }
    }

    /// The name of the type: `bool`, `integer`, `float`, `string`, `list` or `map`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Uint(_) => "integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// The bool, if it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// The number, if it is an integer, whichever type carries it: a replica receives doubles.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(integer) => Some(*integer),
            Self::Uint(integer) => i64::try_from(*integer).ok(),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "an integer within 2^53 is exact"
            )]
            Self::Float(float)
                if float.fract() == 0.0 && float.abs() <= Self::MAX_INTEGER as f64 =>
            {
                Some(*float as i64)
            }
            _ => None,
        }
    }

    /// The number, if it is one, as it travels.
    #[must_use]
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(integer) => Some(*integer as f64),
            Self::Uint(integer) => Some(*integer as f64),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// The number as nanoseconds, if it is an integer and not negative: the way back from [`duration`](Self::duration).
    #[must_use]
    pub fn as_duration(&self) -> Option<Duration> {
        u64::try_from(self.as_i64()?).ok().map(Duration::from_nanos)
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub const fn as_list(&self) -> Option<&List> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The map, if it is one.
    #[must_use]
    pub const fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// How many bytes the value takes on the wire, or a little more: a map's empty key may be left out there. O(1).
    #[must_use]
    pub fn encoded_len(&self) -> u64 {
        match self {
            Self::Bool(_) => size::BOOL,
            Self::Int(_) | Self::Uint(_) | Self::Float(_) => size::NUMBER,
            Self::String(text) => size::text(text),
            Self::List(list) => size::field(list.encoded_len()),
            Self::Map(map) => size::field(map.encoded_len()),
        }
    }

    /// How deep the value nests, as [`MAX_NESTING`](Self::MAX_NESTING) counts. O(1).
    pub(super) fn nesting(&self) -> u8 {
        match self {
            Self::List(list) => list.nesting(),
            Self::Map(map) => map.nesting(),
            _ => 0,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => one == two,
            (Self::Int(one), Self::Int(two)) => one == two,
            (Self::Uint(one), Self::Uint(two)) => one == two,
            (Self::Int(int), Self::Uint(uint)) | (Self::Uint(uint), Self::Int(int)) => {
                u64::try_from(*int) == Ok(*uint)
            }
            (Self::Float(one), Self::Float(two)) => one.to_bits() == two.to_bits(),
            (Self::String(one), Self::String(two)) => Arc::ptr_eq(one, two) || one == two,
            (Self::List(one), Self::List(two)) => one == two,
            (Self::Map(one), Self::Map(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Int(integer) => write!(f, "{integer}"),
            Self::Uint(integer) => write!(f, "{integer}"),
            // `Debug` keeps the point in 1.0, and writes 1e300 in five characters.
            Self::Float(float) => write!(f, "{float:?}"),
            Self::String(text) => write_quoted(f, text),
            Self::List(list) => fmt::Display::fmt(list, f),
            Self::Map(map) => fmt::Display::fmt(map, f),
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("a number has to be finite"),
            Self::IntegerTooLarge => f.write_str(
                "an integer beyond 2^53 does not survive the way to a consumer; a string would",
            ),
            Self::TooDeep => write!(
                f,
                "nested too deep: 3 for each map and 2 for each list around a value may come to {} at most",
                Value::MAX_NESTING
            ),
        }
    }
}

impl error::Error for ValueError {}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<i32> for Value {
    fn from(integer: i32) -> Self {
        Self::Int(integer.into())
    }
}

impl From<u32> for Value {
    fn from(integer: u32) -> Self {
        Self::Int(integer.into())
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Int(integer)
    }
}

/// `Int` if it fits, which is the canonical form.
impl From<u64> for Value {
    fn from(integer: u64) -> Self {
        i64::try_from(integer).map_or(Self::Uint(integer), Self::Int)
    }
}

impl From<f64> for Value {
    fn from(float: f64) -> Self {
        Self::Float(float)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::String(text)
    }
}

impl From<List> for Value {
    fn from(list: List) -> Self {
        Self::List(list)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

/// Writes a text as JSON does.
pub(super) fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write as _;

    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            // C1 controls too: JSON allows them, but a terminal may obey them.
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value that can be streamed, a few levels deep.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-Value::MAX_INTEGER..=Value::MAX_INTEGER).prop_map(Value::from),
            (-1e300..1e300).prop_map(Value::from),
            "\\PC{0,200}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(|i| Value::list(i).unwrap()),
                prop::collection::btree_map("[a-z.]{0,4}", inner, 0..8)
                    .prop_map(|e| Value::map(e).unwrap()),
            ]
        })
    }

    #[test]
    fn equal_integers_are_equal_however_they_are_spelled() {
        assert_eq!(Value::Int(7), Value::Uint(7));
        assert_eq!(Value::Uint(7), Value::Int(7));
        assert_ne!(Value::Int(-1), Value::Uint(u64::MAX));
        assert!(matches!(Value::from(7u64), Value::Int(7)));
        assert!(matches!(Value::Uint(7).canonical(), Value::Int(7)));
        assert!(matches!(Value::from(u64::MAX), Value::Uint(u64::MAX)));
    }

    #[test]
    fn values_of_different_types_differ() {
        let values = [
            Value::from(1),
            Value::from(1.0),
            Value::from("1"),
            Value::from(true),
            Value::list([1.into()]).unwrap(),
            Value::map([("1", 1.into())]).unwrap(),
        ];
        for (i, one) in values.iter().enumerate() {
            for (j, two) in values.iter().enumerate() {
                assert_eq!(one == two, i == j, "{one} {two}");
            }
        }
    }

    #[test]
    fn floats_are_compared_by_their_bits() {
        assert_eq!(Value::from(f64::NAN), Value::from(f64::NAN));
        assert_ne!(Value::from(0.0), Value::from(-0.0));
    }

    #[test]
    fn what_a_double_cannot_carry_fails_the_check() {
        let limit = Value::MAX_INTEGER;
        for fine in [
            Value::from(limit),
            Value::from(-limit),
            Value::Uint(limit.unsigned_abs()),
            Value::from(f64::MAX),
            Value::from(""),
        ] {
            assert_eq!(fine.check(), Ok(()), "{fine}");
        }
        for (value, error) in [
            (Value::from(limit + 1), ValueError::IntegerTooLarge),
            (Value::from(-limit - 1), ValueError::IntegerTooLarge),
            (Value::from(i64::MIN), ValueError::IntegerTooLarge),
            (
                Value::Uint(limit.unsigned_abs() + 1),
                ValueError::IntegerTooLarge,
            ),
            (Value::from(f64::NAN), ValueError::NotFinite),
            (Value::from(f64::INFINITY), ValueError::NotFinite),
            (Value::from(f64::NEG_INFINITY), ValueError::NotFinite),
        ] {
            assert_eq!(value.check(), Err(error), "{value}");
            assert_eq!(Value::list([value]), Err(error));
        }
    }

    #[test]
    fn a_duration_is_its_nanoseconds() {
        let duration = Duration::from_millis(1500);
        assert_eq!(Value::duration(duration), Value::from(1_500_000_000));
        assert_eq!(Value::duration(duration).as_duration(), Some(duration));
        assert_eq!(
            Value::duration(Duration::MAX).check(),
            Err(ValueError::IntegerTooLarge)
        );
        assert_eq!(Value::from(-1).as_duration(), None);
    }

    #[test]
    fn an_integer_reads_the_same_after_travelling_as_a_double() {
        for integer in [0, 1, -1, 1 << 31, Value::MAX_INTEGER, -Value::MAX_INTEGER] {
            let travelled = Value::from(Value::from(integer).as_f64().unwrap());
            assert_eq!(travelled.as_i64(), Some(integer));
        }
        assert_eq!(Value::from(1.5).as_i64(), None);
        assert_eq!(Value::from(1e300).as_i64(), None);
        assert_eq!(Value::from(f64::NAN).as_i64(), None);
    }

    #[test]
    fn display_is_json_and_debug_keeps_the_secret() {
        let value = Value::map([
            (
                "a",
                Value::list([true.into(), 1.into(), 1.0.into()]).unwrap(),
            ),
            ("b\n", "say \"hi\"\\\u{7f}".into()),
        ])
        .unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"a":[true,1,1.0],"b\n":"say \"hi\"\\\u007f"}"#
        );
        assert_eq!(format!("{value:?}"), "map");
        assert_eq!(format!("{:#?}", Value::from("token")), "string");
        assert_eq!(Value::from(1e300).to_string(), "1e300");
    }
}
