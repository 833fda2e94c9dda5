//! Which settings are secret, and what stands in for them wherever people look.
//!
//! The stream carries every value to whoever may read it. Everything else of ours (tools, logs, pages, metrics, error
//! messages) shows [`REDACTED`] in place of a value whose key is on a list. The list is itself a setting,
//! `secret_keys`, so it follows the stream: an agent and each of its clients hide the same.
//!
//! # Patterns
//!
//! A pattern is one or more segments joined by dots. It hides a key if its segments match segments of the key that
//! follow each other, and everything below those. `*` stands for any characters within a segment, or for none.
//!
//! | pattern | hides | but not |
//! | --- | --- | --- |
//! | `password` | `password`, `db.password`, `password.old` | `password_file` |
//! | `*_token` | `auth_token`, `cluster_agent.auth_token` | `token`, `token_lifetime` |
//! | `vault.key` | `vault.key`, `a.vault.key` | `key`, `vault.cache.key` |
//!
//! What is within a map value is looked at in the same way, each name as further segments, so one entry of a map can
//! be hidden and the rest shown. Letters match in either case and `-` is `_`: `X-Api-Key` is hidden by `*api_key`.
//!
//! # URLs
//!
//! A text may hold URLs, and those secrets, whatever its key is called. A password in front of the host
//! (`postgres://alice:wonder@db`) is hidden whatever the list says; a parameter (`?password=wonder`) if the list hides its
//! name, like an entry of a map. Secrets within a text of another form, such as a header, need a pattern for its key.
//!
//! # A list that is wrong hides more, never less
//!
//! If the setting is no list, or something on it is no pattern, then the known defaults hide beside what was good of
//! it; with more than [`MAX_PATTERNS`] everything is hidden. [`Secrets::warning`] says so. An empty list is good, and
//! hides no key.
//!
//! # Cost
//!
//! Building compiles the patterns, which costs as much as hundreds of look-ups: keep a [`Secrets`] and let it
//! [`follow`](Secrets::follow) the state. [`hides`](Secrets::hides) is one pass over the key, whatever the number of
//! patterns. [`shown`](Secrets::shown) does that for each name within a map, looks through each text once or twice, and copies
//! a value only if something in it is hidden.

mod url;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use configstream_engine::settings::{Resolved, Value};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::known::Known;

/// What is shown in place of a secret.
pub const REDACTED: &str = "********";

/// The setting that holds the list.
pub const SECRET_KEYS: &str = "secret_keys";

/// The longest list that is taken.
pub const MAX_PATTERNS: usize = 256;

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 128;

/// Which settings are secret. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The setting it was made from.
    list: Option<Value>,
    /// None hides everything.
    patterns: Option<Arc<GlobSet>>,
    warning: Option<Arc<str>>,
}

impl Secrets {
    /// The list of a state: of an agent's, or of a client's replica.
    #[must_use]
    pub fn of(state: &Resolved) -> Self {
        Self::listed(list_of(state))
    }

    /// The list that a value of `secret_keys` is. Without one: the known defaults.
    #[must_use]
    pub fn listed(list: Option<&Value>) -> Self {
        let (patterns, warning) = match list {
            None => (Ok(defaults()), None),
            Some(list) => read(list),
        };
        let (patterns, warning) = match patterns.and_then(|patterns| compile(&patterns)) {
            Ok(patterns) => (Some(Arc::new(patterns)), warning),
            Err(why) => (
                None,
                Some(format!("{why}; everything is hidden until then")),
            ),
        };
        Self {
            list: list.cloned(),
            patterns,
            warning: warning.map(Into::into),
        }
    }

    /// What is wrong with a list, if anything is.
    pub(crate) fn fault(list: &Value) -> Option<String> {
        match read(list) {
            (Err(why), _) => Some(why),
            (Ok(patterns), None) => compile(&patterns).err(),
            // What follows is what hides meanwhile.
            (Ok(_), Some(warning)) => warning.split_once("; ").map(|(what, _)| what.to_owned()),
        }
    }

    /// The known defaults, for when there is no state yet.
    #[must_use]
    pub fn known() -> &'static Self {
        static KNOWN: LazyLock<Secrets> = LazyLock::new(|| Secrets::listed(None));
        &KNOWN
    }

    /// Takes the list of a newer state. Cheap if it is the same. Says whether it was another.
    pub fn follow(&mut self, state: &Resolved) -> bool {
        self.follow_list(list_of(state))
    }

    /// The same for who has the value of `secret_keys` at hand, and no state.
    pub fn follow_list(&mut self, list: Option<&Value>) -> bool {
        let changed = self.list.as_ref() != list;
        if changed {
            *self = Self::listed(list);
        }
        changed
    }

    /// Whether the value of a key, as a whole, is a secret.
    #[must_use]
    pub fn hides(&self, key: &str) -> bool {
        self.hides_path(&path_of(key))
    }

    /// A value as people may see it: [`REDACTED`] in place of the whole or of parts.
    #[must_use]
    pub fn shown<'v>(&self, key: &str, value: &'v Value) -> Cow<'v, Value> {
        match self.masked(&path_of(key), value) {
            Some(masked) => Cow::Owned(masked),
            None => Cow::Borrowed(value),
        }
    }

    /// What is wrong with the list, and what to do: for the log, once each time it changes.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn hides_path(&self, path: &str) -> bool {
        self.patterns
            .as_ref()
            .is_none_or(|patterns| patterns.is_match(path))
    }

    /// The value with what is hidden masked; none if nothing is. Values nest some 30 maps deep at most.
    fn masked(&self, path: &str, value: &Value) -> Option<Value> {
        if self.hides_path(path) {
            return Some(REDACTED.into());
        }
        // Each part is looked at once, so the cost does not double with each level.
        let masked = match value {
            Value::Map(map) => {
                let parts: Vec<_> = map
                    .iter()
                    .map(|(name, part)| {
                        let below = format!("{path}/{}", path_of(name));
                        (self.masked_text(path, name), self.masked(&below, part))
                    })
                    .collect();
                if parts
                    .iter()
                    .all(|(name, part)| name.is_none() && part.is_none())
                {
                    return None;
                }
                // Of two names that differ in nothing but a password one shows.
                let whole = map.iter().zip(parts);
                Value::map(whole.map(|((name, part), (masked_name, masked))| {
                    let name = masked_name.map_or_else(|| name.clone(), Into::into);
                    (name, masked.unwrap_or_else(|| part.clone()))
                }))
            }
            Value::List(list) => {
                let parts: Vec<_> = list.iter().map(|part| self.masked(path, part)).collect();
                if parts.iter().all(Option::is_none) {
                    return None;
                }
                let whole = list.iter().zip(parts);
                Value::list(whole.map(|(part, masked)| masked.unwrap_or_else(|| part.clone())))
            }
            Value::String(text) => return self.masked_text(path, text).map(Value::from),
            _ => return None,
        };
        // Masking makes nothing deeper. If it failed all the same, nothing would be shown.
        Some(masked.unwrap_or_else(|_| REDACTED.into()))
    }

    /// The text with what is hidden in its URLs masked; none if nothing is.
    fn masked_text(&self, path: &str, text: &str) -> Option<String> {
        url::masked(text, |name| {
            self.hides_path(&format!("{path}/{}", path_of(name)))
        })
    }
}

fn list_of(state: &Resolved) -> Option<&Value> {
    state.get(SECRET_KEYS).map(|setting| setting.value())
}

/// The patterns of the list that is compiled in.
fn defaults() -> Vec<String> {
    let list = Known::embedded()
        .default_of(SECRET_KEYS)
        .and_then(Value::as_list);
    let patterns = list.into_iter().flat_map(|list| list.iter());
    patterns.filter_map(pattern).collect()
}

/// The patterns of a list, or why everything has to be hidden; and what is wrong with it.
fn read(list: &Value) -> (Result<Vec<String>, String>, Option<String>) {
    let with_defaults = |mut good: Vec<String>, what: String| {
        good.extend(defaults());
        let warning = format!(
            "{what}; the known defaults hide as well until `{SECRET_KEYS}` is a list of patterns such as *_token or vault.key"
        );
        (Ok(good), Some(warning))
    };
    let Some(items) = list.as_list() else {
        return with_defaults(Vec::new(), format!("`{SECRET_KEYS}` is no list"));
    };
    if items.len() > MAX_PATTERNS {
        let count = items.len();
        let why = format!("`{SECRET_KEYS}` has {count} patterns; keep to {MAX_PATTERNS}");
        return (Err(why), None);
    }
    let patterns: Vec<_> = items.iter().map(pattern).collect();
    let bad = patterns.iter().position(Option::is_none);
    let good = patterns.into_iter().flatten().collect();
    match bad {
        None => (Ok(good), None),
        Some(index) => with_defaults(
            good,
            format!("item {} of `{SECRET_KEYS}` is no pattern", index + 1),
        ),
    }
}

/// An item of the list as a path of globs, if it is a pattern: dotted segments of letters, digits, `_`, `-` and `*`.
fn pattern(item: &Value) -> Option<String> {
    let text = item.as_str()?;
    let good = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'*');
        !segment.is_empty() && segment.bytes().all(plain)
    };
    (text.len() <= MAX_PATTERN_BYTES && text.split('.').all(good)).then(|| path_of(text))
}

/// A key, or a name within a map, in the form in which it is compared.
fn path_of(key: &str) -> String {
    key.chars()
        .map(|character| match character {
            '.' => '/',
            '-' => '_',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

fn compile(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    let fail = |error: globset::Error| format!("`{SECRET_KEYS}` cannot be compiled: {error}");
    for pattern in patterns {
        for glob in [format!("**/{pattern}"), format!("**/{pattern}/**")] {
            let glob = GlobBuilder::new(&glob).literal_separator(true).build();
            set.add(glob.map_err(fail)?);
        }
    }
    set.build().map_err(fail)
}

#[cfg(test)]
mod tests {
    use configstream_engine::settings::{Key, Setting, Source};

    use super::*;

    fn listed<const N: usize>(patterns: [&str; N]) -> Secrets {
        Secrets::listed(Some(&list(patterns)))
    }

    fn list<const N: usize>(items: [&str; N]) -> Value {
        Value::list(items.map(Value::from)).unwrap()
    }

    #[test]
    fn a_pattern_hides_segments_that_follow_each_other_and_all_below() {
        let secrets = listed(["password", "*_token", "vault.key", "*pass*"]);
        for key in [
            "password",
            "db.password",
            "password.old",
            "db.password.old",
            "auth_token",
            "cluster_agent.auth_token",
            "auth-token",
            "Auth_Token",
            "vault.key",
            "a.vault.key.b",
            "bypass.it",
        ] {
            assert!(secrets.hides(key), "{key}");
        }
        for key in [
            "token",
            "token_lifetime",
            "key",
            "vault.cache.key",
            "vault",
            "key.vault",
            "",
        ] {
            assert!(!secrets.hides(key), "{key}");
        }
        assert_eq!(secrets.warning(), None);
        assert!(!listed([]).hides("password"), "an empty list is good");
    }

    #[test]
    fn the_known_list_hides_the_secrets_of_the_example_and_nothing_else() {
        let hidden: Vec<_> = Known::embedded()
            .iter()
            .map(|(key, _)| key.as_str())
            .filter(|key| Secrets::known().hides(key))
            .collect();
        assert_eq!(
            hidden,
            [
                "additional_endpoints",
                "api_key",
                "app_key",
                "cluster_agent.auth_token",
                "evp_proxy_config.additional_endpoints",
                "logs_config.additional_endpoints",
                "multi_region_failover.api_key",
                "process_config.additional_endpoints",
                "remote_configuration.api_key",
                "remote_configuration.key",
                "secret_backend_arguments",
                "secret_backend_config",
            ]
        );
        assert_eq!(Secrets::known().warning(), None);
    }

    #[test]
    fn the_known_list_hides_what_people_call_secrets() {
        for key in [
            "password",
            "db.main.password",
            "snmp.authKey",
            "x.community_string",
            "headers.X-Api-Key",
            "proxy.Authorization",
            "oauth.client_secret",
            "oauth.clientSecret",
            "tls.private_key",
            "aws.secret_access_key",
            "github.token",
            "smtp.passwd",
        ] {
            assert!(Secrets::known().hides(key), "{key}");
        }
    }

    #[test]
    fn within_a_map_only_what_is_secret_is_masked() {
        let map = |entries: &[(&str, Value)]| Value::map(entries.iter().cloned()).unwrap();
        let server = |password| {
            map(&[
                ("host", "h".into()),
                ("DB-Password", password),
                ("port", 5.into()),
            ])
        };
        let value = Value::list([server("x".into()), map(&[("a.b", server(7.into()))])]).unwrap();
        let shown = Secrets::known().shown("servers", &value);
        let masked = server(REDACTED.into());
        assert_eq!(
            *shown,
            Value::list([masked.clone(), map(&[("a.b", masked)])]).unwrap()
        );
        let harmless = map(&[("host", "h".into())]);
        assert!(matches!(
            Secrets::known().shown("servers", &harmless),
            Cow::Borrowed(_)
        ));
        assert_eq!(
            *Secrets::known().shown("db.password", &value),
            REDACTED.into()
        );
        // A pattern of several segments spans key and names.
        let vault = map(&[("vault", map(&[("key", "x".into())]))]);
        let shown = listed(["mine.vault.key"]).shown("mine", &vault).to_string();
        assert_eq!(shown, r#"{"vault":{"key":"********"}}"#);
    }

    #[test]
    fn secrets_within_urls_are_masked_wherever_a_text_stands() {
        let shown = |secrets: &Secrets, value: &Value| secrets.shown("db.url", value).to_string();
        let url = "x://alice:wonder@db/shop?token=wonder&app=mine";
        let value = Value::list([
            url.into(),
            Value::map([(url, Value::from(url)), ("plain", 7.into())]).unwrap(),
        ]);
        let value = value.unwrap();
        let masked = "x://alice:********@db/shop?token=********&app=mine";
        assert_eq!(
            shown(Secrets::known(), &value),
            format!(r#"["{masked}",{{"plain":7,"{masked}":"{masked}"}}]"#)
        );
        let bare = listed([]);
        assert_eq!(
            shown(&bare, &url.into()),
            r#""x://alice:********@db/shop?token=wonder&app=mine""#
        );
        assert_eq!(
            shown(&listed(["db.url.app"]), &"x://h?app=mine".into()),
            r#""x://h?app=********""#
        );
        let plain = Value::from("x://alice@db/shop");
        assert!(matches!(
            Secrets::known().shown("db.url", &plain),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn a_map_as_deep_as_can_be_is_masked_at_once() {
        let mut value = Value::map([("password", "x".into())]).unwrap();
        while let Ok(deeper) = Value::map([("m", value.clone())]) {
            value = deeper;
        }
        let shown = Secrets::known().shown("a", &value).to_string();
        assert!(shown.contains(REDACTED) && !shown.contains('x'), "{shown}");
    }

    #[test]
    fn a_list_that_is_wrong_hides_more_and_says_so() {
        for (wrong, part) in [
            (Value::from("mine"), "is no list"),
            (
                Value::list(["mine".into(), "a..b".into()]).unwrap(),
                "item 2",
            ),
            (Value::list(["mine".into(), 7.into()]).unwrap(), "item 2"),
            (list(["mine", "[a-"]), "item 2"),
            (list(["mine", ""]), "item 2"),
            (list(["mine", "ü"]), "item 2"),
        ] {
            let secrets = Secrets::listed(Some(&wrong));
            assert!(secrets.hides("api_key"), "{wrong}");
            assert_eq!(secrets.hides("mine"), wrong.as_list().is_some(), "{wrong}");
            assert!(!secrets.hides("log_level"), "{wrong}");
            let warning = secrets.warning().unwrap();
            assert!(
                warning.contains(part) && warning.contains("; "),
                "{warning}"
            );
        }
        let long = Value::list((0..=MAX_PATTERNS).map(|_| "a".into())).unwrap();
        let secrets = Secrets::listed(Some(&long));
        assert!(secrets.hides("log_level") && secrets.warning().is_some());
    }

    #[test]
    fn the_longest_list_of_the_longest_patterns_never_shows_what_it_names() {
        let pattern = |index| format!("*{}{index}", "a*".repeat(60));
        let long = Value::list((0..MAX_PATTERNS).map(|index| pattern(index).into())).unwrap();
        assert!(Secrets::listed(Some(&long)).hides(&format!("{}7", "a".repeat(60))));
    }

    #[test]
    fn it_follows_the_state() {
        let state = |list: Option<Value>| {
            let setting = list.map(|list| {
                let key = Key::parse(SECRET_KEYS).unwrap();
                Setting::new(Source::File, key, list).unwrap()
            });
            Resolved::from_settings(setting).unwrap()
        };
        let mut secrets = Secrets::of(&state(None));
        assert!(secrets.hides("api_key") && !secrets.hides("mine"));
        let mine = state(Some(list(["mine"])));
        assert!(secrets.follow(&mine));
        assert!(!secrets.follow(&mine), "nothing is new");
        assert!(secrets.hides("mine") && !secrets.hides("api_key"));
        assert!(secrets.follow(&state(None)));
        assert!(secrets.hides("api_key") && !secrets.hides("mine"));
    }
}
