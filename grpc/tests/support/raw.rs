//! Streams whose messages are left as they came, for tests that look at bytes or want a cheap reader.

use bytes::{Buf, BufMut, Bytes};
use configstream_proto::datadog::model::v1::ConfigStreamRequest;
use http::uri::PathAndQuery;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{BEARER, request, within_deadline};

/// A stream of encoded `ConfigEvent`s.
pub struct RawEvents(Streaming<Bytes>);

impl RawEvents {
    pub async fn next(&mut self) -> Bytes {
        within_deadline(self.0.message()).await.unwrap().unwrap()
    }
}

/// Opens a stream on `channel`.
pub async fn stream(channel: Channel, session_id: &str) -> RawEvents {
    let message = ConfigStreamRequest { name: "raw".into() }.encode_to_vec();
    let metadata = [("authorization", BEARER), ("session_id", session_id)];
    let message = request(Bytes::from(message), &metadata);
    let path = PathAndQuery::from_static("/datadog.api.v1.AgentSecure/StreamConfigEvents");
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    RawEvents(
        client
            .server_streaming(message, path, Raw)
            .await
            .unwrap()
            .into_inner(),
    )
}

/// Bytes in, bytes out.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
