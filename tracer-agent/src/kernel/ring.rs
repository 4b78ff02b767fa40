//! Reads the ring buffer: waits for it, and hands over its records as events.

use std::io;

use aya::maps::{Map, MapData, MapError, RingBuf};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::event::{DecodeError, Event, decode};

/// Records taken at once before others get their turn.
const BATCH: usize = 512;

/// The reading end of the ring buffer.
pub struct Ring {
    fd: AsyncFd<RingBuf<MapData>>,
}

/// The ring can no longer be waited for.
#[derive(Debug, Error)]
#[error("cannot wait for the ring buffer: {0}")]
pub struct RingError(#[from] io::Error);

impl Ring {
    pub(super) fn new(map: Map) -> io::Result<Self> {
        let ring = RingBuf::try_from(map).map_err(|e: MapError| io::Error::other(e))?;
        // SAFETY: the ring owns its file descriptor, which stays the same and open for as long as it lives.
        let fd = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? };
        Ok(Self { fd })
    }

    /// Waits until there are records and hands up to a batch of them to `take`. Returns whether it was a full
    /// batch, so that more is there already.
    ///
    /// # Errors
    /// If the ring cannot be waited for.
    pub async fn read(
        &mut self,
        mut take: impl FnMut(Result<Event, DecodeError>),
    ) -> Result<bool, RingError> {
        let mut guard = self.fd.readable_mut().await?;
        let more = batch(guard.get_inner_mut(), &mut take);
        if !more {
            guard.clear_ready();
        }
        Ok(more)
    }

    /// The same without waiting: what is there already.
    pub fn read_on(&mut self, mut take: impl FnMut(Result<Event, DecodeError>)) -> bool {
        batch(self.fd.get_mut(), &mut take)
    }
}

fn batch(ring: &mut RingBuf<MapData>, take: &mut impl FnMut(Result<Event, DecodeError>)) -> bool {
    for _ in 0..BATCH {
        let Some(record) = ring.next() else { return false };
        take(decode(&record));
    }
    true
}
