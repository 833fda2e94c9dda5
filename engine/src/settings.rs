//! Configuration as a [`State`](crate::State): settings in layers, of which the highest wins.
//!
//! * A [`Setting`] is a [`Key`], a [`Value`] and the [`Source`] that set it. Each source is a layer; the order of the
//!   sources is their precedence.
//! * [`Settings`] is the state of whoever has the sources. It takes [`Change`]s to layers and streams what they change
//!   about the winners, one [`SettingUpdate`] per key.
//! * [`Resolved`] is the winners alone. It is in every [`Settings`], and the whole state of a replica.
//!
//! Nothing here recurses without bound, encodes, or prints a value unasked: a value can be private, so `Debug` and
//! errors tell its type only.
//!
//! # Cost
//! n is the number of settings. Reading one and changing one: O(log n). A clone, and with it a version: O(1), sharing
//! all that did not change. Replacing a layer: O(n) to see what it holds, and O(log n) for
//! each setting that it holds or is to hold, whatever streams.
//!
//! # Examples
//!
//! ```
//! use configstream_engine::{State, settings::{Assignment, Change, Key, Settings, Source}};
//!
//! let key = |text| Key::parse(text).unwrap();
//! let file = |level| Change::replace_layer(Source::File, [
//!     Assignment::new(key("log.level"), level),
//!     Assignment::new(key("log.file"), "agent.log"),
//! ]);
//! let first = Settings::new().apply(&file("info")).unwrap();
//! assert_eq!(first.updates.len(), 2);
//!
//! // An unchanged file streams nothing, a changed one its difference.
//! let same = first.state.apply(&file("info")).unwrap();
//! assert!(same.updates.is_empty() && !same.needs_snapshot);
//! let second = first.state.apply(&file("debug")).unwrap();
//! assert_eq!(second.updates[0].setting().key().as_str(), "log.level");
//!
//! // A key that vanishes is shown by a snapshot without it.
//! let gone = second.state.apply(&Change::unset(Source::File, key("log.file"))).unwrap();
//! assert!(gone.needs_snapshot);
//! assert_eq!(gone.state.resolved().len(), 1);
//! ```

mod change;
mod collection;
mod draft;
mod holders;
mod key;
mod layers;
mod provenance;
#[cfg(test)]
mod reference;
mod rejection;
mod resolved;
mod setting;
mod size;
mod source;
mod value;

pub use change::{Assignment, Change};
pub use collection::{List, Map};
pub use key::{Key, KeyError};
pub use layers::{Layered, Settings};
pub use provenance::Provenance;
pub use rejection::Rejection;
pub use resolved::{DuplicateKey, Resolution, Resolved, ResolvedChange};
pub use setting::{Setting, SettingUpdate};
pub use source::{Source, UnknownSource};
pub use value::{Value, ValueError};
