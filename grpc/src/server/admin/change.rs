//! Changes as they travel, and the line that each leaves in the log.
//!
//! The log names keys and layers, who asked and what came of it; never a value, since a value can be private.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use configstream_engine::settings::{Key, Setting, Source, Value};
use configstream_engine::{Epoch, Sequence};
use configstream_proto::configstream::admin::v1 as proto;
use tonic::Status;

use super::backend::{Applied, ChangeRequest, Conditions, Difference, Edit};
use crate::convert::{ToProto, value_from_proto};
use crate::server::peer::Peer;
use crate::server::sparing::Shown;
use crate::status::Refusal;

impl ChangeRequest {
    pub(super) fn from_set(request: proto::SetRequest) -> Result<Self, Refusal> {
        Ok(Self {
            edits: vec![Edit::set(&request.source, &request.key, request.value)?],
            conditions: Conditions::from_proto(request.conditions)?,
            requested_by: line(&request.requested_by),
            persist: request.persist,
            dry_run: false,
        })
    }

    pub(super) fn from_unset(request: proto::UnsetRequest) -> Result<Self, Refusal> {
        Ok(Self {
            edits: vec![Edit::unset(&request.source, &request.key)?],
            conditions: Conditions::from_proto(request.conditions)?,
            requested_by: line(&request.requested_by),
            persist: request.persist,
            dry_run: false,
        })
    }

    pub(super) fn from_apply(request: proto::ApplyRequest) -> Result<Self, Refusal> {
        if request.edits.is_empty() {
            return Err(malformed("nothing to apply: there are no edits"));
        }
        let edits = request.edits.into_iter().map(Edit::from_proto);
        Ok(Self {
            edits: edits.collect::<Result<_, _>>()?,
            conditions: Conditions::from_proto(request.conditions)?,
            requested_by: line(&request.requested_by),
            persist: request.persist,
            dry_run: request.dry_run,
        })
    }
}

impl ToProto for ChangeRequest {
    type Output = proto::ApplyRequest;

    fn to_proto(&self) -> proto::ApplyRequest {
        proto::ApplyRequest {
            edits: self.edits.iter().map(Edit::to_proto).collect(),
            conditions: Some(self.conditions.to_proto()),
            requested_by: self.requested_by.clone(),
            persist: self.persist,
            dry_run: self.dry_run,
        }
    }
}

impl Edit {
    fn set(source: &str, key: &str, value: Option<prost_types::Value>) -> Result<Self, Refusal> {
        let (source, key) = (parse_source(source)?, parse_key(key)?);
        let value = parse_value(value, &key)?;
        Ok(Self::Set { source, key, value })
    }

    fn unset(source: &str, key: &str) -> Result<Self, Refusal> {
        Ok(Self::Unset {
            source: parse_source(source)?,
            key: parse_key(key)?,
        })
    }

    fn from_proto(message: proto::Edit) -> Result<Self, Refusal> {
        let proto::Edit { key, source, edit } = message;
        match edit {
            Some(proto::edit::Edit::Set(value)) => Self::set(&source, &key, Some(value)),
            Some(proto::edit::Edit::Unset(true)) => Self::unset(&source, &key),
            Some(proto::edit::Edit::Unset(false)) | None => Err(malformed(format!(
                "the edit of '{key}' neither sets nor unsets it"
            ))),
        }
    }
}

impl ToProto for Edit {
    type Output = proto::Edit;

    fn to_proto(&self) -> proto::Edit {
        let (source, edit) = match self {
            Self::Set { source, value, .. } => (source, proto::edit::Edit::Set(value.to_proto())),
            Self::Unset { source, .. } => (source, proto::edit::Edit::Unset(true)),
        };
        proto::Edit {
            key: self.key().as_str().to_owned(),
            source: source.as_str().to_owned(),
            edit: Some(edit),
        }
    }
}

/// What the log says of it: no value.
impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { source, key, .. } => write!(f, "set {key} in {source}"),
            Self::Unset { source, key } => write!(f, "unset {key} in {source}"),
        }
    }
}

impl Conditions {
    fn from_proto(message: Option<proto::Conditions>) -> Result<Self, Refusal> {
        let message = message.unwrap_or_default();
        let keys = message.keys.into_iter().map(|condition| {
            let key = parse_key(&condition.key)?;
            Ok((key, Sequence::new(condition.if_sequence)))
        });
        Ok(Self {
            epoch: (message.epoch != 0).then(|| Epoch::new(message.epoch)),
            head: message.if_sequence.map(Sequence::new),
            keys: keys.collect::<Result<_, Refusal>>()?,
        })
    }
}

impl ToProto for Conditions {
    type Output = proto::Conditions;

    fn to_proto(&self) -> proto::Conditions {
        proto::Conditions {
            epoch: self.epoch.map_or(0, Epoch::get),
            if_sequence: self.head.map(Sequence::get),
            keys: self
                .keys
                .iter()
                .map(|(key, sequence)| proto::KeyCondition {
                    key: key.as_str().to_owned(),
                    if_sequence: sequence.get(),
                })
                .collect(),
        }
    }
}

impl Applied {
    pub(super) fn committed(&self) -> proto::Committed {
        proto::Committed {
            epoch: self.epoch.get(),
            sequence: self.sequence.get(),
            updates: self.updates,
            needs_snapshot: self.needs_snapshot,
            persisted: self.persisted,
        }
    }
}

impl ToProto for Applied {
    type Output = proto::ApplyResponse;

    fn to_proto(&self) -> proto::ApplyResponse {
        proto::ApplyResponse {
            committed: Some(self.committed()),
            differences: self.differences.iter().map(Difference::to_proto).collect(),
        }
    }
}

impl ToProto for Difference {
    type Output = proto::Difference;

    fn to_proto(&self) -> proto::Difference {
        proto::Difference {
            key: self.key.as_str().to_owned(),
            before: self
                .before
                .as_deref()
                .map(|setting| admin_setting(setting, None)),
            after: self
                .after
                .as_deref()
                .map(|setting| admin_setting(setting, None)),
            streams: self.before != self.after,
        }
    }
}

/// A setting with the sequence at which it last changed.
pub(super) fn admin_setting(setting: &Setting, changed: Option<Sequence>) -> proto::Setting {
    proto::Setting {
        key: setting.key().as_str().to_owned(),
        source: setting.source().as_str().to_owned(),
        value: Some(setting.value().to_proto()),
        changed_sequence: changed.map(Sequence::get),
    }
}

pub(super) fn parse_key(key: &str) -> Result<Key, Refusal> {
    Key::parse(key).map_err(|error| malformed(format!("bad key '{key}': {error}")))
}

pub(super) fn parse_source(name: &str) -> Result<Source, Refusal> {
    if name.is_empty() {
        return Ok(Source::AgentRuntime);
    }
    name.parse()
        .map_err(|_| malformed(format!("unknown source '{name}'")))
}

fn parse_value(value: Option<prost_types::Value>, key: &Key) -> Result<Value, Refusal> {
    value_from_proto(value.unwrap_or_default())
        .map_err(|error| malformed(format!("bad value for '{key}': {error}")))
}

fn malformed(reason: impl Into<String>) -> Refusal {
    Refusal::Malformed {
        reason: reason.into(),
    }
}

/// Who asks, as one line of bounded length: it comes from outside, and goes into the log.
fn line(name: &str) -> String {
    const LONGEST: usize = 200;
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    name.chars().take(LONGEST).map(plain).collect()
}

/// Whether a request to change something has left its line in the log. Goes with it; what is
/// refused before or in front of the handler has left none.
#[derive(Clone, Default)]
pub(crate) struct Audited(Arc<AtomicBool>);

impl Audited {
    fn mark(&self) {
        // Relaxed: read by the task that has waited for the handler.
        self.0.store(true, Relaxed);
    }

    /// Whether a line is missing for this reply.
    pub(crate) fn lacks_line<B>(&self, reply: &http::Response<B>) -> bool {
        !self.0.load(Relaxed) && Status::from_header_map(reply.headers()).is_some()
    }
}

/// Whether requests for this path change something, and so leave a line.
pub(crate) fn is_change(path: &str) -> bool {
    let method = path.strip_prefix("/configstream.admin.v1.ConfigAdmin/");
    matches!(method, Some("Set" | "Unset" | "Apply"))
}

/// The line for a request that was refused before it could be read.
pub(crate) fn tell_unread<B>(path: &str, peer: &Peer, reply: &http::Response<B>, unsaid: u64) {
    let verb = path.rsplit('/').next().unwrap_or_default();
    let Some(status) = Status::from_header_map(reply.headers()) else {
        return;
    };
    tracing::warn!(
        target: AUDIT_LOG,
        %peer,
        code = ?status.code(),
        unsaid,
        "Configuration change refused: {verb} was not read: {}",
        Shown::message(status.message())
    );
}

/// A request as it was given, for the line that it leaves if it makes no sense. Bounded like that.
pub(super) struct Given(Audit);

impl Given {
    pub(super) fn set(request: &proto::SetRequest) -> Self {
        let edits = vec![name_edit("set", &request.key, &request.source)];
        Self::of(&request.requested_by, edits, request.persist, false)
    }

    pub(super) fn unset(request: &proto::UnsetRequest) -> Self {
        let edits = vec![name_edit("unset", &request.key, &request.source)];
        Self::of(&request.requested_by, edits, request.persist, false)
    }

    pub(super) fn apply(request: &proto::ApplyRequest) -> Self {
        let edits = request.edits.iter().take(NAMED).map(|edit| {
            let verb = match edit.edit {
                Some(proto::edit::Edit::Set(_)) => "set",
                Some(proto::edit::Edit::Unset(true)) => "unset",
                Some(proto::edit::Edit::Unset(false)) | None => "leave",
            };
            name_edit(verb, &edit.key, &edit.source)
        });
        let mut edits: Vec<_> = edits.collect();
        if request.edits.len() > NAMED {
            edits.push(format!("and {} more", request.edits.len() - NAMED));
        }
        Self::of(
            &request.requested_by,
            edits,
            request.persist,
            request.dry_run,
        )
    }

    fn of(requested_by: &str, edits: Vec<String>, persist: bool, dry_run: bool) -> Self {
        Self(Audit {
            requested_by: line(requested_by),
            edits: edits.join(", "),
            persist,
            dry_run,
        })
    }

    /// The request as it was understood; what was not leaves its line.
    pub(super) fn check(
        self,
        understood: Result<ChangeRequest, Refusal>,
        audited: &Audited,
    ) -> Result<ChangeRequest, Refusal> {
        audited.mark();
        understood.inspect_err(|refusal| self.0.tell(&Err(refusal.clone())))
    }
}

fn name_edit(verb: &str, key: &str, source: &str) -> String {
    let source = match source {
        "" => Source::AgentRuntime.as_str(),
        source => source,
    };
    format!("{verb} {} in {}", Shown::name(key), Shown::name(source))
}

/// What the log will say about a request, once it is known what came of it.
pub(super) struct Audit {
    requested_by: String,
    edits: String,
    persist: bool,
    dry_run: bool,
}

impl Audit {
    pub(super) fn of(request: &ChangeRequest) -> Self {
        let mut edits: Vec<String> = request
            .edits
            .iter()
            .take(NAMED)
            .map(Edit::to_string)
            .collect();
        if request.edits.len() > NAMED {
            edits.push(format!("and {} more", request.edits.len() - NAMED));
        }
        Self {
            requested_by: request.requested_by.clone(),
            edits: edits.join(", "),
            persist: request.persist,
            dry_run: request.dry_run,
        }
    }

    pub(super) fn tell(self, outcome: &Result<Applied, Refusal>) {
        let Self {
            requested_by,
            edits,
            persist,
            dry_run,
        } = self;
        match outcome {
            Ok(applied) => tracing::info!(
                target: AUDIT_LOG,
                requested_by,
                epoch = applied.epoch.get(),
                sequence = applied.sequence.get(),
                updates = applied.updates,
                persist,
                "Configuration change {}: {edits}",
                if dry_run { "tried" } else { "made" },
            ),
            Err(refusal) => tracing::warn!(
                target: AUDIT_LOG,
                requested_by,
                code = ?Status::from(refusal.clone()).code(),
                "Configuration change refused: {edits}"
            ),
        }
    }
}

/// What the lines about changes made by hand, or refused, are logged as, so that a host can keep them whatever else it
/// leaves out: nothing but them is. They are of the levels `INFO` and `WARN`.
pub const AUDIT_LOG: &str = "configstream_grpc::audit";

/// How many edits of one request the log names.
const NAMED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_stays_on_one_line_of_bounded_length() {
        assert_eq!(line("alice\nroot\u{1b}[2J"), "alice root [2J");
        assert_eq!(line(&"é".repeat(1000)).chars().count(), 200);
    }

    #[test]
    fn a_request_comes_back_as_it_went() {
        let key = |text| Key::parse(text).unwrap();
        let request = ChangeRequest {
            edits: vec![
                Edit::Set {
                    source: Source::Cli,
                    key: key("a"),
                    value: Value::Int(1),
                },
                Edit::Unset {
                    source: Source::AgentRuntime,
                    key: key("b.c"),
                },
            ],
            conditions: Conditions {
                epoch: Some(Epoch::new(7)),
                head: Some(Sequence::new(0)),
                keys: vec![(key("a"), Sequence::new(3))],
            },
            requested_by: "alice".into(),
            persist: true,
            dry_run: true,
        };
        assert_eq!(ChangeRequest::from_apply(request.to_proto()), Ok(request));
    }

    #[test]
    fn an_edit_that_does_nothing_is_refused() {
        let edit = |edit| proto::Edit {
            key: "a".into(),
            source: String::new(),
            edit,
        };
        for edits in [
            vec![],
            vec![edit(None)],
            vec![edit(Some(proto::edit::Edit::Unset(false)))],
        ] {
            let request = proto::ApplyRequest {
                edits,
                ..Default::default()
            };
            let refused = ChangeRequest::from_apply(request);
            assert!(
                matches!(refused, Err(Refusal::Malformed { .. })),
                "{refused:?}"
            );
        }
    }
}
