//! The token that callers put into their metadata.

use std::error::Error;
use std::fmt;

use subtle::ConstantTimeEq;

/// The shared secret of an agent and its clients: 32 random bytes, written as 64 hexadecimal characters.
///
/// `Debug` never shows it; there is no `PartialEq`, since comparing takes as long for every wrong token.
#[derive(Clone)]
pub struct Token {
    text: [u8; Token::LENGTH],
}

impl Token {
    /// How many characters a token has.
    pub const LENGTH: usize = 64;

    /// Reads a token file's content; one newline at its end is tolerated.
    ///
    /// # Errors
    /// The content is not 64 hexadecimal characters.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let text: [u8; Self::LENGTH] = text
            .as_bytes()
            .try_into()
            .map_err(|_| TokenError::Length { found: text.len() })?;
        if text.iter().all(u8::is_ascii_hexdigit) {
            Ok(Self { text })
        } else {
            Err(TokenError::Character)
        }
    }

    /// The metadata value that presents this token.
    #[must_use]
    pub fn to_authorization(&self) -> http::HeaderValue {
        let value = [b"Bearer ", self.text.as_slice()].concat();
        let mut value = http::HeaderValue::from_bytes(&value)
            .expect("hexadecimal characters are visible ASCII");
        value.set_sensitive(true);
        value
    }

    /// Takes as long for one other token as for another.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.text.ct_eq(&other.text).into()
    }

    /// Whether `authorization` presents this token, the scheme in any letter case.
    ///
    /// Takes as long for one wrong token of the right length as for another.
    #[must_use]
    pub fn is_presented_by(&self, authorization: &[u8]) -> bool {
        let Some((scheme, presented)) = authorization.split_at_checked(SCHEME.len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(SCHEME) && bool::from(presented.ct_eq(&self.text))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why [`Token::parse`] refused its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It has another length than [`Token::LENGTH`].
    Length {
        /// How many bytes there were.
        found: usize,
    },
    /// It holds a character that is not hexadecimal.
    Character,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => {
                write!(
                    f,
                    "a token is {} hexadecimal characters long, not {found}",
                    Token::LENGTH
                )
            }
            Self::Character => f.write_str("a token holds hexadecimal characters only"),
        }
    }
}

impl Error for TokenError {}

const SCHEME: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_tolerated() {
        let text = "0123456789abcdefABCDEF00".to_owned() + &"7".repeat(40);
        for end in ["", "\n", "\r\n"] {
            let token = Token::parse(&format!("{text}{end}")).unwrap();
            assert_eq!(token.to_authorization(), format!("Bearer {text}"));
        }
        assert_eq!(
            Token::parse(&format!("{text}\n\n")).unwrap_err(),
            TokenError::Length { found: 65 }
        );
    }

    #[test]
    fn anything_but_64_hexadecimal_characters_is_refused() {
        assert_eq!(
            Token::parse("").unwrap_err(),
            TokenError::Length { found: 0 }
        );
        assert_eq!(
            Token::parse(&"a".repeat(63)).unwrap_err(),
            TokenError::Length { found: 63 }
        );
        assert_eq!(
            Token::parse(&"g".repeat(64)).unwrap_err(),
            TokenError::Character
        );
    }

    #[test]
    fn the_scheme_may_have_any_case_and_must_be_there() {
        let token = Token::parse(&"ab".repeat(32)).unwrap();
        let right = "ab".repeat(32);
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert!(token.is_presented_by(format!("{scheme} {right}").as_bytes()));
        }
        for wrong in [
            String::new(),
            right.clone(),
            format!("Basic {right}"),
            format!("Bearer{right}"),
            format!("Bearer  {right}"),
            format!("Bearer {right} "),
            format!("Bearer {}", "ac".repeat(32)),
            "Bearer ".into(),
        ] {
            assert!(!token.is_presented_by(wrong.as_bytes()), "{wrong}");
        }
    }

    /// How long a comparison takes cannot be tested on a machine with other things to do; which comparisons there are, can.
    #[test]
    fn tokens_are_compared_in_constant_time_only() {
        // Within the crate the text can be reached in this file alone.
        let (product, _) = include_str!("token.rs").split_once("mod tests").unwrap();
        let compared = |line: &&str| {
            let ways = [
                "==",
                "!=",
                "eq(",
                "eq_",
                "cmp",
                "starts_with",
                "contains",
                "matches",
            ];
            ways.iter().any(|way| line.contains(way))
        };
        let lines: Vec<_> = product.lines().map(str::trim).filter(compared).collect();
        assert_eq!(
            lines,
            [
                "self.text.ct_eq(&other.text).into()",
                "scheme.eq_ignore_ascii_case(SCHEME) && bool::from(presented.ct_eq(&self.text))",
            ]
        );

        // Nobody else can compare tokens: if they had a comparison, this would be ambiguous, and not compile.
        trait IsNotCompared<Way> {
            const HOLDS: bool = true;
        }
        impl<T> IsNotCompared<()> for T {}
        impl<T: PartialEq> IsNotCompared<u8> for T {}
        const { assert!(<Token as IsNotCompared<_>>::HOLDS) };
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(
            format!("{:?}", Token::parse(&"ab".repeat(32)).unwrap()),
            "Token(..)"
        );
    }
}
