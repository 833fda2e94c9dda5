//! Where a value was set, and which place wins.

use std::{error, fmt, str::FromStr};

/// A layer, named after where its settings come from. The order is precedence: for each key the highest layer wins.
///
/// # Examples
///
/// ```
/// use configstream_engine::settings::Source;
///
/// assert!(Source::File < Source::EnvironmentVariable);
/// assert_eq!(Source::EnvironmentVariable.as_str(), "environment-variable");
/// assert_eq!("cli".parse(), Ok(Source::Cli));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The configuration schema.
    Schema,
    /// The default built into the program.
    Default,
    /// A place that nobody named.
    Unknown,
    /// The infrastructure mode, which presets several settings.
    InfraMode,
    /// The configuration file.
    File,
    /// A variable of the environment.
    EnvironmentVariable,
    /// A policy of the fleet.
    FleetPolicies,
    /// What the program adjusts once everything else was read.
    ConfigPostInit,
    /// A secret that was looked up.
    Secret,
    /// Another process on this machine.
    LocalConfigProcess,
    /// A change at run time.
    AgentRuntime,
    /// A change by remote control.
    RemoteConfig,
    /// The command line.
    Cli,
}

/// Why a text is no [`Source`]: it names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSource {
    name: Box<str>,
}

impl Source {
    /// Every source, lowest precedence first.
    pub const ALL: [Self; 13] = [
        Self::Schema,
        Self::Default,
        Self::Unknown,
        Self::InfraMode,
        Self::File,
        Self::EnvironmentVariable,
        Self::FleetPolicies,
        Self::ConfigPostInit,
        Self::Secret,
        Self::LocalConfigProcess,
        Self::AgentRuntime,
        Self::RemoteConfig,
        Self::Cli,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Default => "default",
            Self::Unknown => "unknown",
            Self::InfraMode => "infra-mode",
            Self::File => "file",
            Self::EnvironmentVariable => "environment-variable",
            Self::FleetPolicies => "fleet-policies",
            Self::ConfigPostInit => "config-post-init",
            Self::Secret => "secret",
            Self::LocalConfigProcess => "local-config-process",
            Self::AgentRuntime => "agent-runtime",
            Self::RemoteConfig => "remote-config",
            Self::Cli => "cli",
        }
    }

    /// The place in [`ALL`](Self::ALL).
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl UnknownSource {
    /// The name that no source has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(name: &str) -> Result<Self, UnknownSource> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == name)
            .ok_or_else(|| UnknownSource { name: name.into() })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for UnknownSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of the sources", self.name)?;
        for (index, source) in Source::ALL.into_iter().enumerate() {
            write!(f, "{} {source}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl error::Error for UnknownSource {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sources_stand_in_order_of_precedence_at_their_index() {
        assert!(Source::ALL.is_sorted());
        for (index, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source.index(), index);
        }
    }

    #[test]
    fn every_name_reads_back() {
        for source in Source::ALL {
            assert_eq!(source.as_str().parse(), Ok(source));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "File".parse::<Source>().unwrap_err();
        assert_eq!(error.name(), "File");
        let text = error.to_string();
        assert!(
            text.starts_with("\"File\" is none of the sources: schema, default,"),
            "{text}"
        );
        assert!(text.ends_with(", remote-config, cli"), "{text}");
    }
}
