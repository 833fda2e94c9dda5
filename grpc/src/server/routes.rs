//! Which services a server offers, and how it says that they are well.

use std::sync::Arc;

use configstream_engine::settings::Resolution;
use configstream_proto::configstream::admin::v1::config_admin_server::ConfigAdminServer;
use configstream_proto::datadog::api::v1::agent_server::AgentServer;
use configstream_proto::datadog::remoteagent::v1::remote_agent_server::RemoteAgentServer;
use futures_util::FutureExt;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::server::admin::AdminService;
use crate::server::core::Core;
use crate::server::reflection::reflection;
use crate::server::service::{AgentSecure, HostNames, RemoteAgents};

/// Every service over `core`, and the means to change what the health service answers.
pub(super) fn routes<S: Resolution>(core: &Arc<Core<S>>) -> (HealthReporter, Routes) {
    let limit = core.request_bytes;
    let (health, health_service) = health_reporter();
    for service in services::<S>() {
        health
            .set_service_status(service, ServingStatus::Serving)
            .now_or_never()
            .expect("nobody else holds the reporter yet");
    }
    let (reflection, older_reflection) = reflection(limit);
    let routes = Routes::new(AgentSecure(core.clone()))
        .add_service(
            AgentServer::new(HostNames(core.clone()))
                .max_decoding_message_size(limit.min(OPEN_REQUEST_BYTES)),
        )
        .add_service(
            RemoteAgentServer::new(RemoteAgents(core.clone())).max_decoding_message_size(limit),
        )
        .add_service(
            ConfigAdminServer::new(AdminService(core.clone())).max_decoding_message_size(limit),
        )
        .add_service(health_service)
        .add_service(reflection)
        .add_service(older_reflection)
        .prepare();
    (health, routes)
}

/// What the health service knows; the empty name is the server as a whole.
pub(super) fn services<S: Resolution>() -> [&'static str; 5] {
    [
        "",
        AgentSecure::<S>::NAME,
        AgentServer::<HostNames<S>>::NAME,
        RemoteAgentServer::<RemoteAgents<S>>::NAME,
        ConfigAdminServer::<AdminService<S>>::NAME,
    ]
}

/// How large a request for the name of the host may be, which is empty: the only one that needs no token.
const OPEN_REQUEST_BYTES: usize = 4 * 1024;
