//! The thin adapter between the configstream engine and gRPC.
#![forbid(unsafe_code)]

mod tls;
mod token;

pub use tls::{Identity, IdentityError};
pub use token::{Token, TokenError};
