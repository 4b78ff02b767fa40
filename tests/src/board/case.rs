//! A case: a stage, and what is done on it.

use anyhow::Result;

use super::Stage;
use crate::netns::{Family, Link};

/// One failure, or one thing that must stay quiet.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Also the key of its entry in `fixtures/board/GROUP.json`.
    pub name: &'static str,
    pub link: Link,
    pub family: Family,
    /// Sets up servers, breaks something, and returns when the fault has had its effect on the gateway.
    pub run: fn(&mut Stage) -> Result<()>,
}

impl Case {
    /// Over a veth pair with IPv4, the two ends as two machines.
    pub const fn new(name: &'static str, run: fn(&mut Stage) -> Result<()>) -> Self {
        Self { name, link: Link::Veth, family: Family::V4, run }
    }

    /// The same over another link.
    pub const fn over(self, link: Link) -> Self {
        Self { link, ..self }
    }
}
