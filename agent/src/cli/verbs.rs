//! The verbs that ask one question.

use configstream_engine::settings::Key;
use configstream_grpc::{Client, printable};
use configstream_proto::configstream::admin::v1 as admin;
use serde_json::json;
use tonic::{Code, Status};

use super::output::Output;
use super::shown::Shown;
use super::target::{Target, refused};
use crate::exit::{Exit, Failure};
use crate::narration::say;

/// `configstream get`.
pub(super) async fn get(target: &Target, output: Output, key: &Key) -> Result<(), Failure> {
    let what = format!("cannot get `{key}`");
    let client = target.connect().await?;
    let reply = match client.get(key.as_str()).await {
        Ok(reply) => reply,
        Err(status) if is_section(&client, key, &status).await => {
            return Err(Failure::new(
                Exit::NotFound,
                what,
                format!("`{key}` is a section, not a setting"),
                format!("see what is in it with `configstream list {key}`"),
            ));
        }
        Err(status) => return Err(refused(&what, &status)),
    };
    let Some(setting) = reply.setting else {
        return Err(Failure::new(
            Exit::NotFound,
            what,
            "the agent answered without a setting",
            "update one of the two",
        ));
    };
    let shown = Shown::by(&client).await?;
    if output.is_json() {
        let mut object = shown.setting(&setting);
        object["epoch"] = reply.epoch.into();
        object["sequence"] = reply.sequence.into();
        return output.object(&object);
    }
    let since = match setting.changed_sequence {
        Some(sequence) => format!(", since sequence {sequence}"),
        None => String::new(),
    };
    output.line(&format!(
        "{} = {} {}",
        output.bold(&setting.key),
        printable(&shown.text(&setting.key, setting.value.as_ref())),
        output.dim(&format!("(source: {}{since})", setting.source))
    ))
}

/// Whether a key was not found because it only stands before others.
async fn is_section(client: &Client, key: &Key, status: &Status) -> bool {
    status.code() == Code::NotFound
        && client
            .list(key.as_str())
            .await
            .is_ok_and(|reply| !reply.settings.is_empty())
}

/// `configstream list`.
pub(super) async fn list(target: &Target, output: Output, prefix: &str) -> Result<(), Failure> {
    let what = "cannot list the settings";
    let client = target.connect().await?;
    let reply = client
        .list(prefix)
        .await
        .map_err(|status| refused(what, &status))?;
    let shown = Shown::by(&client).await?;
    if reply.settings.is_empty() && !prefix.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no setting `{prefix}` and no section"),
            "",
            "see all with `configstream list`",
        ));
    }
    if output.is_json() {
        return reply
            .settings
            .iter()
            .try_for_each(|setting| output.object(&shown.setting(setting)));
    }
    let rows = reply.settings.iter().map(|setting| {
        [
            setting.key.clone(),
            shown.text(&setting.key, setting.value.as_ref()),
            setting.source.clone(),
        ]
    });
    output.table(["setting", "value", "source"], rows)?;
    say(format_args!(
        "{} settings as of sequence {}",
        reply.settings.len(),
        reply.sequence
    ));
    Ok(())
}

/// `configstream explain`.
pub(super) async fn explain(target: &Target, output: Output, key: &Key) -> Result<(), Failure> {
    let what = format!("cannot explain `{key}`");
    let client = target.connect().await?;
    let layers = client
        .explain(key.as_str())
        .await
        .map_err(|status| refused(&what, &status))?;
    let shown = Shown::by(&client).await?;
    if output.is_json() {
        // Lowest first, each above the one that it hides, as they are stacked.
        return layers.iter().rev().try_for_each(|layer| {
            output.object(&json!({
                "key": key.as_str(),
                "source": layer.source,
                "value": shown.json(key.as_str(), layer.value.as_ref()),
                "wins": layer.wins,
                "provenance": layer.provenance,
                "requested_by": (!layer.requested_by.is_empty()).then_some(&layer.requested_by),
                "requested_at": moment(layer.requested_at.as_ref()),
            }))
        });
    }
    // Highest first: the first line is what streams.
    let rows = layers.iter().map(|layer| {
        let wins = if layer.wins { "wins" } else { "" };
        [
            wins.to_owned(),
            layer.source.clone(),
            shown.text(key.as_str(), layer.value.as_ref()),
            match moment(layer.requested_at.as_ref()) {
                Some(when) => format!("{}, {when}", layer.provenance),
                None => layer.provenance.clone(),
            },
        ]
    });
    output.table(["", "layer", "value", "from"], rows)
}

/// `configstream agents`.
pub(super) async fn agents(target: &Target, output: Output) -> Result<(), Failure> {
    let agents = target
        .connect()
        .await?
        .agents()
        .await
        .map_err(|status| refused("cannot list the agents", &status))?;
    if output.is_json() {
        return agents
            .iter()
            .try_for_each(|agent| output.object(&agent_json(agent)));
    }
    if agents.is_empty() {
        say(format_args!("no remote agent is registered"));
        return Ok(());
    }
    streams_table(output, &agents)
}

/// A row for each stream, and one for an agent without any.
pub(super) fn streams_table(output: Output, agents: &[admin::Agent]) -> Result<(), Failure> {
    let rows = agents.iter().flat_map(|agent| {
        let row = |stream: Option<&admin::Stream>| {
            let figure = |of: fn(&admin::Stream) -> Option<u64>| {
                stream
                    .and_then(of)
                    .map(|figure| figure.to_string())
                    .unwrap_or_default()
            };
            [
                agent.display_name.clone(),
                agent.flavor.clone(),
                format!("{:.0} s", agent.age_seconds),
                stream.map(|stream| stream.name.clone()).unwrap_or_default(),
                figure(|stream| stream.last_sequence_sent),
                figure(|stream| Some(stream.lag)),
                figure(|stream| Some(stream.resyncs)),
                figure(|stream| Some(stream.dropped)),
            ]
        };
        let without = agent.streams.is_empty().then(|| row(None));
        let streams: Vec<_> = agent
            .streams
            .iter()
            .map(|stream| row(Some(stream)))
            .collect();
        streams.into_iter().chain(without)
    });
    output.table(
        [
            "agent", "flavor", "age", "stream", "sequence", "lag", "resyncs", "dropped",
        ],
        rows,
    )
}

/// `configstream status`.
pub(super) async fn status(target: &Target, output: Output) -> Result<(), Failure> {
    let what = "cannot get the status";
    let status = target
        .connect()
        .await?
        .status()
        .await
        .map_err(|status| refused(what, &status))?;
    if output.is_json() {
        return output.object(&status_json(&status));
    }
    let yes_no = |flag: bool| if flag { "yes" } else { "no" };
    let rows = [
        ("version", status.version.clone()),
        ("process", status.pid.to_string()),
        ("up for", format!("{:.0} s", status.uptime_seconds)),
        ("origin", status.origin.clone()),
        ("epoch", status.epoch.to_string()),
        ("sequence", status.sequence.to_string()),
        ("settings", status.settings.to_string()),
        ("sessions", status.sessions.to_string()),
        ("streams", status.streams.to_string()),
        ("all streams caught up", yes_no(status.caught_up).to_owned()),
        ("changes that wait", status.queued_changes.to_string()),
        ("connections", status.connections.to_string()),
        ("refused handshakes", status.refused_handshakes.to_string()),
    ];
    let problems = status.problems.into_iter();
    let problems = problems.map(|problem| ["PROBLEM".to_owned(), problem]);
    output.table(
        ["agent", ""],
        problems.chain(rows.map(|(name, value)| [name.to_owned(), value])),
    )?;
    let rows = status.sources.into_iter().map(|source| {
        let health = match (
            source.error.is_empty(),
            moment(source.last_error_at.as_ref()),
        ) {
            (false, _) => source.error,
            (true, Some(when)) => format!("good; failed last at {when}"),
            (true, None) => "good".to_owned(),
        };
        [
            source.source,
            source.detail,
            source.settings.to_string(),
            moment(source.loaded_at.as_ref()).unwrap_or_default(),
            health,
        ]
    });
    output.table(["layer", "reads", "settings", "loaded", "health"], rows)
}

pub(super) fn agent_json(agent: &admin::Agent) -> serde_json::Value {
    let streams: Vec<_> = agent
        .streams
        .iter()
        .map(|stream| {
            json!({
                "name": stream.name,
                "age_seconds": stream.age_seconds,
                "last_sequence_sent": stream.last_sequence_sent,
                "lag": stream.lag,
                "lagging": stream.lagging,
                "updates_sent": stream.updates_sent,
                "snapshots_sent": stream.snapshots_sent,
                "resyncs": stream.resyncs,
                "dropped": stream.dropped,
            })
        })
        .collect();
    json!({
        "session_id": agent.session_id,
        "display_name": agent.display_name,
        "flavor": agent.flavor,
        "pid": agent.pid,
        "api_endpoint_uri": agent.api_endpoint_uri,
        "services": agent.services,
        "age_seconds": agent.age_seconds,
        "idle_seconds": agent.idle_seconds,
        "streams": streams,
    })
}

fn status_json(status: &admin::StatusResponse) -> serde_json::Value {
    let sources: Vec<_> = status
        .sources
        .iter()
        .map(|source| {
            json!({
                "source": source.source,
                "detail": source.detail,
                "settings": source.settings,
                "error": (!source.error.is_empty()).then_some(&source.error),
                "loaded_at": moment(source.loaded_at.as_ref()),
                "failing_since": moment(source.failing_since.as_ref()),
                "last_error": (!source.last_error.is_empty()).then_some(&source.last_error),
                "last_error_at": moment(source.last_error_at.as_ref()),
                "loads": source.loads,
                "failures": source.failures,
            })
        })
        .collect();
    json!({
        "version": status.version,
        "uptime_seconds": status.uptime_seconds,
        "origin": status.origin,
        "epoch": status.epoch,
        "sequence": status.sequence,
        "settings": status.settings,
        "sessions": status.sessions,
        "streams": status.streams,
        "connections": status.connections,
        "refused_handshakes": status.refused_handshakes,
        "caught_up": status.caught_up,
        "pid": status.pid,
        "now": moment(status.now.as_ref()),
        "queued_changes": status.queued_changes,
        "sources": sources,
        "problems": status.problems,
    })
}

/// A moment as people and programs write it: RFC 3339, in whole seconds.
fn moment(at: Option<&prost_types::Timestamp>) -> Option<String> {
    at.map(|at| {
        let seconds = at.seconds;
        prost_types::Timestamp { seconds, nanos: 0 }.to_string()
    })
}
