//! What was learned of upstreams, for whoever asks: timeouts that repeat, and who listens there.

use std::net::SocketAddr;

use super::ages::Repetition;
use super::listeners::Listening;

/// What is known of one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    pub upstream: SocketAddr,
    /// Of whoever dialled it.
    pub netns: u32,
    /// The waits that end at an age that repeats: one of each kind at most.
    pub timeouts: Vec<Repetition>,
    /// None: nothing of this host was seen to listen there.
    pub listener: Option<Listening>,
}
