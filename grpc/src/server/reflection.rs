//! Reflection as grpc-go answers it.
//!
//! The library ends the whole stream over a name that nobody knows, and hides why a question was cut off. Here such a
//! question gets an answer that says so, and the next is heard. The older name of the service has the same messages, so it
//! is the same service.

use std::convert::Infallible;
use std::task::{Context, Poll};

use configstream_proto::FILE_DESCRIPTOR_SET;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::Uri;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::server_reflection_server::{
    ServerReflection, ServerReflectionServer,
};
use tonic_reflection::pb::v1::{ErrorResponse, ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::{v1, v1alpha};
use tower::Service;

/// The services that tell what is served, under both their names. A question may be as large as `limit`, in bytes.
pub(super) fn reflection(
    limit: usize,
) -> (
    ServerReflectionServer<impl ServerReflection>,
    OlderName<ServerReflectionServer<impl ServerReflection>>,
) {
    let library = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(v1alpha::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("a test regenerates the descriptors");
    let service = ServerReflectionServer::new(Answers(library)).max_decoding_message_size(limit);
    (service.clone(), OlderName(service))
}

/// Answers one question after the other through the library, which is asked each of them alone.
struct Answers<T>(ServerReflectionServer<T>);

#[async_trait]
impl<T: ServerReflection> ServerReflection for Answers<T> {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        questions: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let library = ServerReflectionClient::new(self.0.clone());
        let answers = questions.into_inner().then(move |question| {
            let library = library.clone();
            async move { answer(library, question?).await }
        });
        Ok(Response::new(answers.boxed()))
    }
}

async fn answer<T: ServerReflection>(
    mut library: ServerReflectionClient<ServerReflectionServer<T>>,
    question: ServerReflectionRequest,
) -> Result<ServerReflectionResponse, Status> {
    let alone = stream::iter([question.clone()]);
    let mut answers = library.server_reflection_info(alone).await?.into_inner();
    match answers.message().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Status::internal("no answer")),
        Err(status) if status.code() == Code::NotFound => Ok(ServerReflectionResponse {
            valid_host: question.host.clone(),
            original_request: Some(question),
            message_response: Some(MessageResponse::ErrorResponse(ErrorResponse {
                error_code: Code::NotFound.into(),
                error_message: status.message().to_owned(),
            })),
        }),
        Err(status) => Err(status),
    }
}

/// A service of reflection under the name it had before.
#[derive(Clone)]
pub(super) struct OlderName<T>(T);

impl<T> NamedService for OlderName<T> {
    const NAME: &'static str = v1alpha::server_reflection_server::SERVICE_NAME;
}

impl<T: Service<http::Request<Body>, Error = Infallible>> Service<http::Request<Body>>
    for OlderName<T>
{
    type Response = T::Response;
    type Error = Infallible;
    type Future = T::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let (older, name) = (Self::NAME, v1::server_reflection_server::SERVICE_NAME);
        let path = request.uri().path().replacen(older, name, 1);
        // Of a path that was one, this is one.
        if let Ok(path) = Uri::try_from(path) {
            *request.uri_mut() = path;
        }
        self.0.call(request)
    }
}
