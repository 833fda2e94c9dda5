//! The messages and services of configstream, as Rust types.
//!
//! The `.proto` files stand in `proto/`; the code below `src/generated` is made from them, committed, and kept
//! current by a test, so that building needs no protobuf compiler. After a change to a `.proto` file:
//!
//! ```sh
//! CONFIGSTREAM_REGENERATE=1 cargo test -p configstream-proto
//! ```
//!
//! Packages keep the names they have on the wire, since those are part of every request's path. Fields numbered
//! 100 and above are additions of this project; other implementations skip them.

#![forbid(unsafe_code)]

/// Messages and services shared with agents in the field.
pub mod datadog {
    /// The services of a core agent.
    pub mod api {
        /// Version 1.
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::cast_possible_truncation
        )]
        pub mod v1 {
            include!("generated/datadog.api.v1.rs");
        }
    }
    /// What those services speak of: configuration events, host names, tags.
    pub mod model {
        /// Version 1.
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::cast_possible_truncation
        )]
        pub mod v1 {
            include!("generated/datadog.model.v1.rs");
        }
    }
    /// The registry of remote agents.
    pub mod remoteagent {
        /// Version 1.
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::cast_possible_truncation
        )]
        pub mod v1 {
            include!("generated/datadog.remoteagent.v1.rs");
        }
    }
}

/// Services of this project alone.
pub mod configstream {
    /// Reading and changing the configuration by hand.
    pub mod admin {
        /// Version 1.
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::cast_possible_truncation
        )]
        pub mod v1 {
            include!("generated/configstream.admin.v1.rs");
        }
    }
}

/// Every file above and what it imports, as an encoded `google.protobuf.FileDescriptorSet`: what a reflection
/// service answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
