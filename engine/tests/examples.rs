//! The examples do what they say: each ends by checking its own outcome.

#[cfg(feature = "stream")]
#[path = "../examples/async.rs"]
mod asynchronous;
#[path = "../examples/custom_state.rs"]
mod custom_state;
#[path = "../examples/threads.rs"]
mod threads;

#[test]
fn threads_converge_and_so_does_the_slow_one() {
    threads::main().unwrap();
}

#[test]
fn a_state_of_ones_own_is_followed() {
    custom_state::main().unwrap();
}

#[cfg(feature = "stream")]
#[test]
fn a_stream_shows_the_end_to_everybody() {
    asynchronous::main().unwrap();
}
