//! Secrets within the URLs that a text holds, be it one or a list of them or a sentence.
//!
//! | text | shown as |
//! | --- | --- |
//! | `postgres://alice:wonder@db:5432/shop` | `postgres://alice:********@db:5432/shop` |
//! | `redis://:wonder@cache` | `redis://:********@cache` |
//! | `jdbc:postgresql://db/shop?user=alice&password=wonder` | `jdbc:postgresql://db/shop?user=alice&password=********` |
//!
//! A password in front of the host is hidden whatever the list says. A parameter is, if its name is on the list.
//!
//! A password may hold what should be escaped there: `/`, `?`, `#`, `@`, a blank. So it reaches to
//! the last `@` of the text. It starts at the first colon, of a text that starts with a scheme, or
//! with `//`, the first behind that. More is hidden rather than less, such as what stands between a
//! port and an `@` of the path, or between the passwords of two URLs.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::REDACTED;

/// The text with what is secret in its URLs masked; none if nothing is. `is_secret` knows the name of a parameter.
pub(super) fn masked(text: &str, is_secret: impl Fn(&str) -> bool) -> Option<String> {
    let without_password = without_password(text);
    let shown = without_password.as_deref().unwrap_or(text);
    if !shown.contains("//") && without_password.is_none() {
        return None;
    }
    let shown = PARAMETER.replace_all(shown, |parts: &Captures<'_>| {
        let (whole, before, name) = (&parts[0], &parts["before"], &parts["name"]);
        match is_secret(name) {
            true => format!("{before}{name}={REDACTED}"),
            false => whole.to_owned(),
        }
    });
    (shown != text).then(|| shown.into_owned())
}

/// The text with what may be a password in front of a host masked.
fn without_password(text: &str) -> Option<String> {
    let end = text.rfind('@')?;
    let authority = SCHEME.find(text).map_or(0, |scheme| scheme.end());
    let password = authority + text.get(authority..end)?.find(':')? + 1;
    (password < end).then(|| format!("{}{REDACTED}{}", &text[..password], &text[end..]))
}

/// What stands in front of an authority at the start of a text.
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"^(?:(?:(?:jdbc|r2dbc):)?[A-Za-z][A-Za-z0-9+.-]*:)?//"));

/// A parameter of a query, or of the list behind `;` that some databases have.
static PARAMETER: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"(?<before>[?&;])(?<name>[^=?&;#\s]+)=[^&;]+"));

fn compiled(pattern: &str) -> Regex {
    // Both stand above, and the tests use both.
    Regex::new(pattern).expect("a good pattern")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let is_secret = |name: &str| name == "password";
        masked(text, is_secret).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn the_password_of_each_url_is_masked_and_nothing_else() {
        for (text, expected) in [
            (
                "postgres://alice:wonder@db:5432/shop",
                "postgres://alice:********@db:5432/shop",
            ),
            ("redis://:wonder@cache", "redis://:********@cache"),
            (
                "amqp://a%40b:wo%2Fnder@[::1]:5672/%2F",
                "amqp://a%40b:********@[::1]:5672/%2F",
            ),
            ("jdbc:mysql://a:wonder@db/x", "jdbc:mysql://a:********@db/x"),
            (
                "mongodb://a:wonder@h1:1,h2:2/?w=1",
                "mongodb://a:********@h1:1,h2:2/?w=1",
            ),
            (
                "http://a:wonder@h/, https://b:wonder@h",
                "http://a:********@h",
            ),
            (
                "cannot reach \"ftp://a:wonder@h\"!",
                "cannot reach \"ftp:********@h\"!",
            ),
            (
                "postgres://shop:won/der@db/x",
                "postgres://shop:********@db/x",
            ),
            ("redis://:won?d#e r@db", "redis://:********@db"),
            ("//u:p@h", "//u:********@h"),
            ("u:p@h:1/db", "u:********@h:1/db"),
            ("jdbc:oracle:thin:a/p@//h:1/x", "jdbc:********@//h:1/x"),
            (
                "docker://registry:5000/image@sha256:abc",
                "docker://registry:********@sha256:abc",
            ),
            (
                "http://me@example.org:wonder@h",
                "http://me@example.org:********@h",
            ),
            // An `@` or a colon in the password that should not stand there as it is.
            ("http://a:won@der:x@h/p", "http://a:********@h/p"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn a_parameter_is_masked_if_its_name_is_secret() {
        for (text, expected) in [
            (
                "x://h/d?user=a&password=wonder&ssl=1",
                "x://h/d?user=a&password=********&ssl=1",
            ),
            (
                "jdbc:sqlserver://h:1433;user=a;password=wonder",
                "jdbc:sqlserver://h:1433;user=a;password=********",
            ),
            ("x://h?password=won der#part", "x://h?password=********"),
            ("//h?password=wonder", "//h?password=********"),
            (
                "x://a:b@h?password=wonder",
                "x://a:********@h?password=********",
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_holds_no_secret_stays_to_the_letter() {
        for text in [
            "",
            "wonder",
            "https://alice@example.org/",
            "https://example.org:443/path?user=a:b#d:e",
            "http://[2001:db8::1]:80/a",
            "alice@example.org",
            "10:30, at the door",
            "x://h?passwords=wonder&password=",
            "what?password=wonder",
            "://",
            "a://:@",
        ] {
            assert_eq!(masked(text, |name| name == "password"), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_part_of_a_password_shows_whatever_it_holds(
            scheme in "(|//|[a-z][a-z0-9+.-]{0,8}://|jdbc:[a-z]{1,8}://)",
            user in r"[a-z0-9._~%+/?# -]{0,8}",
            password in proptest::collection::vec(r"(\PC|[:/?#@ &;=])", 0..6),
            host in r"([a-z]{1,9}|\[::1\])",
            rest in r"(|:[0-9]{1,5})(|/[a-z]{0,5})(|\?[a-z]{1,3}=[a-z]{0,3})",
        ) {
            // Parts of it that stand nowhere else.
            let password = format!("ÄÖ{}ÜÄ", password.join("ÄÜ"));
            let text = format!("{scheme}{user}:{password}@{host}{rest}");
            let shown = shown(&text);
            proptest::prop_assert!(!shown.contains(['Ä', 'Ö', 'Ü']), "{} shows as {}", text, shown);
            proptest::prop_assert!(shown.ends_with(&format!("{REDACTED}@{host}{rest}")), "{} shows as {}", text, shown);
        }
    }
}
