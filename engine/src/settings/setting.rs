//! One setting, and the update that tells of it.

use std::fmt;

use super::{
    key::Key,
    size,
    source::Source,
    value::{Value, ValueError},
};
use crate::{Memo, sync::Arc};

/// A key, its value, and the source that set it. Immutable, and always one that can be streamed.
///
/// It lives behind an `Arc`: a layer, the resolved state, each version and each update that contain it share it, and with
/// it its [`memo`](Self::memo). Equality leaves the memo out.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::{Key, Setting, Source, ValueError};
///
/// let setting = Setting::new(Source::File, Key::parse("log_level").unwrap(), "debug")?;
/// assert_eq!(setting.value().as_str(), Some("debug"));
/// assert_eq!(format!("{setting:?}"), r#"Setting { key: "log_level", source: File, value: string, .. }"#);
/// # Ok::<(), ValueError>(())
/// ```
pub struct Setting {
    key: Key,
    source: Source,
    value: Value,
    /// Kept, since every change asks for it, of who wins before and after.
    encoded_len: u64,
    memo: Memo,
}

/// One changed setting: what wins for its key now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingUpdate {
    setting: Arc<Setting>,
    unset: Option<Source>,
}

impl Setting {
    /// A setting, with its value in [canonical](Value::canonical) form. O(1).
    ///
    /// # Errors
    /// When the value cannot be streamed.
    pub fn new(source: Source, key: Key, value: impl Into<Value>) -> Result<Self, ValueError> {
        let value = value.into();
        value.check()?;
        let value = value.canonical();
        let encoded_len = size::text(source.as_str())
            .saturating_add(size::text(&key))
            .saturating_add(size::field(value.encoded_len()));
        Ok(Self {
            key,
            source,
            value,
            encoded_len,
            memo: Memo::default(),
        })
    }

    /// The name.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The layer that the value stands in.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The place for an adapter's encoding of this setting.
    #[must_use]
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// How many bytes source, key and value take on the wire, as one message: exact but for a map's empty key, which an
    /// encoder may leave out. The source that an update unsets is not in it. O(1).
    #[must_use]
    pub fn encoded_len(&self) -> u64 {
        self.encoded_len
    }

    /// How many bytes the setting adds to a snapshot.
    pub(super) fn field_len(&self) -> u64 {
        size::field(self.encoded_len())
    }
}

impl SettingUpdate {
    /// An update: `setting` wins, and if it won because a higher layer let the key go, `unset` is that layer.
    #[must_use]
    pub fn new(setting: impl Into<Arc<Setting>>, unset: Option<Source>) -> Self {
        Self {
            setting: setting.into(),
            unset,
        }
    }

    /// The setting that wins now.
    #[must_use]
    pub fn setting(&self) -> &Arc<Setting> {
        &self.setting
    }

    /// The layer that was cleared, if that is how the setting came to win.
    #[must_use]
    pub fn unset(&self) -> Option<Source> {
        self.unset
    }

    /// The update that turns the winner `old` into `new`; nothing if they are equal.
    ///
    /// A winner of lower precedence than before means that the layer of the one before let the key go.
    pub(super) fn between(old: Option<&Arc<Setting>>, new: &Arc<Setting>) -> Option<Self> {
        if old == Some(new) {
            return None;
        }
        let unset = old
            .map(|old| old.source())
            .filter(|source| *source > new.source());
        Some(Self::new(Arc::clone(new), unset))
    }
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.key == other.key && self.value == other.value
    }
}

impl Eq for Setting {}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting")
            .field("key", &self.key)
            .field("source", &self.source)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(source: Source, value: impl Into<Value>) -> Arc<Setting> {
        let key = Key::parse("log_level").unwrap();
        Arc::new(Setting::new(source, key, value).unwrap())
    }

    #[test]
    fn a_setting_that_cannot_be_streamed_cannot_be_made() {
        let key = Key::parse("a").unwrap();
        let refused = Setting::new(Source::File, key, f64::NAN);
        assert_eq!(refused.unwrap_err(), ValueError::NotFinite);
    }

    #[test]
    fn equality_leaves_the_memo_out() {
        let one = setting(Source::File, "info");
        one.memo().get_or_init(|| 1u8);
        assert_eq!(one, setting(Source::File, "info"));
        assert_ne!(one, setting(Source::Cli, "info"));
        assert_ne!(one, setting(Source::File, "debug"));
    }

    #[test]
    fn no_integer_in_a_setting_is_unsigned() {
        let setting = setting(Source::File, Value::Uint(3));
        assert!(matches!(setting.value(), Value::Int(3)));
    }

    #[test]
    fn an_update_names_the_layer_that_let_the_key_go() {
        let (low, high) = (setting(Source::File, 1), setting(Source::Cli, 2));
        let (equal, other) = (setting(Source::File, 1), setting(Source::File, 3));
        let unset = |old, new| SettingUpdate::between(old, new).map(|update| update.unset());
        assert_eq!(unset(None, &low), Some(None));
        assert_eq!(unset(Some(&low), &low), None);
        assert_eq!(unset(Some(&low), &equal), None);
        assert_eq!(unset(Some(&low), &other), Some(None));
        assert_eq!(unset(Some(&low), &high), Some(None));
        assert_eq!(unset(Some(&high), &low), Some(Some(Source::Cli)));
    }

    #[test]
    fn debug_does_not_tell_the_value() {
        let update = SettingUpdate::new(setting(Source::Secret, "hunter2"), None);
        assert!(!format!("{update:?}").contains("hunter2"));
    }
}
