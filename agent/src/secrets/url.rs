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
//! Where a text is no good URL, more is hidden rather than less: the password reaches to the last `@` in front of the path.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::REDACTED;

/// The text with what is secret in its URLs masked; none if nothing is. `is_secret` knows the name of a parameter.
pub(super) fn masked(text: &str, is_secret: impl Fn(&str) -> bool) -> Option<String> {
    if !text.contains("://") {
        return None;
    }
    let without_password = PASSWORD.replace_all(text, |parts: &Captures<'_>| {
        format!("{}{REDACTED}@", &parts["before"])
    });
    let shown = PARAMETER.replace_all(&without_password, |parts: &Captures<'_>| {
        let (whole, before, name) = (&parts[0], &parts["before"], &parts["name"]);
        match is_secret(name) {
            true => format!("{before}{name}={REDACTED}"),
            false => whole.to_owned(),
        }
    });
    (shown != text).then(|| shown.into_owned())
}

/// What stands between the first colon and the last `@` of an authority.
static PASSWORD: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"(?<before>://[^/?#\s:]*:)[^/?#\s]+@"));

/// A parameter of a query, or of the list behind `;` that some databases have.
static PARAMETER: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"(?<before>[?&;])(?<name>[^=?&;#\s]+)=[^&;#\s]+"));

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
                "http://a:********@h/, https://b:********@h",
            ),
            (
                "cannot reach \"ftp://a:wonder@h\"!",
                "cannot reach \"ftp://a:********@h\"!",
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
            ("x://h?password=wonder#part", "x://h?password=********#part"),
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
            "https://example.org:443/path@2x?user=a:b@c#d:e@f",
            "https://alice@example.org/",
            "http://[2001:db8::1]:80/a@b",
            "docker://registry:5000/image@sha256:abc",
            "mailto:alice@example.org",
            "x://h?passwords=wonder&password=",
            "what?password=wonder",
            "://",
            "a://:@",
        ] {
            assert_eq!(masked(text, |name| name == "password"), None, "{text}");
        }
    }
}
