//! A remote agent in Rust: follows one section of a configuration, and says how it is.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use configstream_grpc::Registration;
use configstream_grpc::consumer::{Access, Consumer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [_, address, run_dir] = env::args()
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "remote_agent ADDRESS RUN_DIR")?;
    let run_dir = PathBuf::from(run_dir);

    // Where the agent is. Both files are read again before each attempt to connect.
    let access = Access::files(
        address.parse()?,
        run_dir.join("ipc_cert.pem"),
        run_dir.join("auth_token"),
    );
    let consumer = Consumer::builder(access, Registration::new("shop")).start();

    // Reading is local. Before the first snapshot there is nothing to read.
    consumer.wait_ready(Duration::from_secs(10)).await?;
    let retries: u32 = consumer.get("shop.checkout.retries")?;
    let timeout: String = consumer.get("shop.checkout.timeout")?;
    println!("start with {retries} retries and a timeout of {timeout}");

    // The first change holds the whole section. Each later one holds what is new since.
    let mut changes = consumer.subscribe_section("shop")?;
    let mut states = consumer.states();
    loop {
        tokio::select! {
            biased;
            Some(change) = changes.next() => {
                for setting in &change.set {
                    println!("{} = {} ({})", setting.key(), setting.value(), setting.source());
                }
                for key in &change.removed {
                    println!("{key} is gone");
                }
            }
            // `ready`, or `stale` with the reason. It mends itself; this is for people.
            Some(state) = states.next() => println!("{state}"),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    consumer.shutdown().await;
    Ok(())
}
