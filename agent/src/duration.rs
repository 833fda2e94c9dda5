//! Spans of time as people write them: `30s`, `1m30s`, `1.5h`, `250ms`.
//!
//! The notation is Go's, which agents of this kind have always used: one or more decimal numbers, each with a unit of
//! `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`, without a sign. A lone `0` needs no unit. Arithmetic is exact, in whole
//! nanoseconds.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a text is no span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurationError {
    /// Nothing there.
    Empty,
    /// A number was expected where something else stands.
    NoNumber,
    /// A number without a unit behind it.
    NoUnit,
    /// A unit that is none.
    UnknownUnit,
    /// More than an `i64` of nanoseconds, some 292 years.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "it is empty",
            Self::NoNumber => "a number is missing",
            Self::NoUnit => "a unit is missing (ns, us, ms, s, m, h)",
            Self::UnknownUnit => "a unit is unknown (known are ns, us, ms, s, m, h)",
            Self::TooLong => "it is longer than 292 years",
        })
    }
}

impl Error for DurationError {}

/// Reads a span of time in Go's notation.
///
/// # Errors
///
/// What is wrong with the text, as a [`DurationError`]. A negative span is refused: none of the settings knows what
/// to do with one.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::NoNumber);
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: u128 = match unit {
            "" => return Err(DurationError::NoUnit),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(DurationError::UnknownUnit),
        };
        // At most 19 digits fit the limit anyway, and 19 digits times an hour fit a u128.
        let whole = whole.trim_start_matches('0');
        if whole.len() > 19 {
            return Err(DurationError::TooLong);
        }
        let whole: u128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| DurationError::NoNumber)?
        };
        // Digits beyond the eighteenth are below a nanosecond even of an hour.
        let fraction = &fraction[..fraction.len().min(18)];
        let part: u128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| DurationError::NoNumber)?
        };
        let scale = fraction.bytes().fold(1_u128, |scale, _| scale * 10);
        total += whole * unit + part * unit / scale;
        if total > i64::MAX.unsigned_abs().into() {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    u64::try_from(total)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::TooLong)
}

/// Writes a span of time so that [`parse`] reads the same again: `1m30s`, `250ms`.
#[must_use]
pub fn show(span: Duration) -> String {
    if span.is_zero() {
        return "0s".to_owned();
    }
    let (seconds, nanoseconds) = (span.as_secs(), span.subsec_nanos());
    [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanoseconds / 1_000_000), "ms"),
        (u64::from(nanoseconds / 1_000 % 1_000), "us"),
        (u64::from(nanoseconds % 1_000), "ns"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, unit)| format!("{count}{unit}"))
    .collect()
}

/// The ASCII digits at the start of a text, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_in_go() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("300ms", 300_000_000),
            ("5µs", 5_000),
            ("5μs", 5_000),
            ("7us9ns", 7_009),
            ("0000000000000000000000001s", 1_000_000_000),
            ("0.0000000000000000000000001h", 0),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_as_the_same() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h"),
            (1_500_000, "1ms500us"),
            (86_400_000_000_001, "24h1ns"),
        ] {
            let span = Duration::from_nanos(nanoseconds);
            assert_eq!(show(span), text);
            assert_eq!(parse(text), Ok(span));
        }
    }

    #[test]
    fn what_is_no_span_says_why() {
        for (text, error) in [
            ("", DurationError::Empty),
            ("s", DurationError::NoNumber),
            ("-1s", DurationError::NoNumber),
            (".s", DurationError::NoNumber),
            ("１s", DurationError::NoNumber),
            ("10", DurationError::NoUnit),
            ("1s5", DurationError::NoUnit),
            ("1d", DurationError::UnknownUnit),
            ("1 s", DurationError::UnknownUnit),
            ("1µ", DurationError::UnknownUnit),
            ("9223372036854775808ns", DurationError::TooLong),
            ("99999999999999999999h", DurationError::TooLong),
            ("2562048h", DurationError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
