//! A configuration of any size: mixed types, nested sections, about 80 bytes each on the wire.

use configstream_engine::{
    Engine, State,
    settings::{Assignment, Change, Key, Settings, Source, Value},
};
use criterion::Bencher;

/// Sizes that every bench of settings runs at.
pub const SIZES: [usize; 3] = [350, 3_500, 35_000];

/// The key of setting `nth`.
///
/// # Panics
/// Never: the key is well formed.
#[must_use]
pub fn key(nth: usize) -> Key {
    let text = format!("section_{}.subsystem_{}.option_{nth}", nth % 20, nth % 7);
    Key::parse(&text).expect("a well-formed key")
}

/// A value for setting `nth`, in its `round`th form.
#[must_use]
pub fn value(nth: usize, round: i64) -> Value {
    let number = i64::try_from(nth).unwrap_or(0) + round;
    match nth % 4 {
        0 => Value::from(number % 2 == 0),
        1 => Value::from(number),
        2 => Value::from(format!("https://endpoint-{number}.example.com:8126")),
        _ => Value::from(number as f64 / 8.0),
    }
}

/// A whole layer of so many settings, of which the `nth` is in its `round`th form.
pub fn layer(count: usize, nth: usize, round: i64) -> impl Iterator<Item = Assignment> {
    (0..count).map(move |each| {
        let round = if each == nth { round } else { 0 };
        Assignment::new(key(each), value(each, round))
    })
}

/// So many settings in the layer of the file.
///
/// # Panics
/// Never: the settings are well formed.
#[must_use]
pub fn settings(count: usize) -> Settings {
    let change = Change::replace_layer(Source::File, layer(count, 0, 0));
    let filled = Settings::new().apply(&change);
    filled.expect("well-formed settings").state
}

/// Publishes `changes` in turn: two that undo each other, so that each is a change.
///
/// # Panics
/// When there are none.
pub fn publish_in_turn(bencher: &mut Bencher<'_>, engine: &Engine<Settings>, changes: &[Change]) {
    let mut turn = changes.iter().cycle();
    bencher.iter(|| {
        engine
            .publish(turn.next().expect("a cycle does not end"))
            .is_ok()
    });
}

/// An engine with so many settings.
///
/// # Panics
/// Never: the options are well formed.
#[must_use]
pub fn engine(count: usize) -> Engine<Settings> {
    Engine::builder(settings(count))
        .build()
        .expect("a ring with room")
}
