//! The agent as a subscriber of its own: what it lives by follows its settings.

use std::future::poll_fn;
use std::sync::Arc;

use configstream_engine::settings::Settings;
use configstream_engine::{Engine, Event};
use configstream_grpc::ServerBounds;
use configstream_grpc::lock::RwLock;

use super::rules::{LOG_LEVEL, RULES};
use super::{Outcome, OwnSettings, RefusedSetting};
use crate::log;
use crate::secrets::Secrets;

/// The agent's own settings that are refused now: shared by who follows them and who shows them.
#[derive(Clone, Debug)]
pub struct RefusedSettings(Arc<RwLock<Vec<RefusedSetting>>>);

impl RefusedSettings {
    /// Those of the start.
    #[must_use]
    pub fn of(own: &OwnSettings) -> Self {
        let shown = Self(Arc::default());
        shown.show(own.refused());
        shown
    }

    /// Which they are.
    #[must_use]
    pub fn all(&self) -> Vec<RefusedSetting> {
        self.0.read().clone()
    }

    #[allow(clippy::cast_precision_loss, reason = "there are not even a hundred")]
    fn show(&self, refused: Vec<RefusedSetting>) {
        metrics::gauge!("configstream_refused_settings").set(refused.len() as f64);
        *self.0.write() = refused;
    }
}

/// Puts into force whatever changes, until the engine closes.
pub async fn follow(
    engine: Engine<Settings>,
    bounds: ServerBounds,
    mut own: OwnSettings,
    shown: RefusedSettings,
) {
    let mut subscription = engine.subscription().name("the agent itself").subscribe();
    // Or it would keep open what it waits to see closed.
    drop(engine);
    let mut secrets = Secrets::known().clone();
    while let Some(event) = poll_fn(|context| subscription.poll_next(context)).await {
        if secrets.follow(subscription.head().state().resolved())
            && let Some(warning) = secrets.warning()
        {
            tracing::warn!("{warning}");
        }
        if concerns(&event) {
            let outcomes = own.take(subscription.head().state());
            if !outcomes.is_empty() {
                let granted = own.granted();
                bounds.set_sessions(granted.sessions);
                bounds.set_limits(granted.limits);
                log::set_level(granted.log_level);
                shown.show(own.refused());
                outcomes.iter().for_each(Outcome::tell);
            }
        }
    }
}

/// Whether an event may change what the agent lives by.
fn concerns(event: &Event<Settings>) -> bool {
    match event {
        Event::Update(update) => {
            let key = update.setting().key().as_str();
            RULES.iter().any(|rule| rule.key == key)
        }
        _ => true,
    }
}

impl Outcome {
    pub(super) fn tell(&self) {
        match self {
            Self::InForce(LOG_LEVEL, _) if log::is_fixed() => {
                tracing::info!("`{LOG_LEVEL}` is not followed: RUST_LOG says what is logged");
            }
            Self::InForce(key, holds_for) => {
                tracing::info!("`{key}` has changed: the new value holds for {holds_for}");
            }
            Self::Refused(refused) => tracing::warn!("{refused}; what was in force stays"),
        }
    }
}
