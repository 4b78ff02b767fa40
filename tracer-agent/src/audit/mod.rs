//! The audit: what the kernel counted itself of TCP against what rstrace saw of it, in each network namespace.
//!
//! Pure: readings and a time go in, a report comes out. Two readings of one namespace are compared, so it does not
//! matter what either side had counted before the first of them.

mod gaps;
mod ledger;

pub use gaps::{Gap, Line, Why};
pub use ledger::{Ledger, Present, Reading};

use tracer_ebpf::wire::seen;

use crate::event::{Counter, Mib};

/// What the programs saw, in the order of [`Counter`].
pub type Seen = [u64; seen::COUNT];

/// What both sides counted in a namespace since it was first met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub kernel: Mib,
    pub seen: Seen,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Inode number.
    pub netns: u32,
    /// `CLOCK_MONOTONIC`: from when and until when is compared.
    pub since_ns: u64,
    pub until_ns: u64,
    /// It is there no more, and there was a gap.
    pub has_ended: bool,
    pub lines: Vec<Line>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sums over all namespaces that were ever compared; they never fall.
    pub totals: Vec<Line>,
    pub namespaces: Vec<Namespace>,
    /// Namespaces that no thread is in, so that the kernel's counters cannot be read.
    pub unread: usize,
}

impl Counts {
    /// Sums what two namespaces counted.
    fn add(&mut self, other: &Self) {
        let sum = |into: &mut [u64], from: &[u64]| into.iter_mut().zip(from).for_each(|(i, f)| *i += f);
        sum(&mut self.kernel.0, &other.kernel.0);
        sum(&mut self.seen, &other.seen);
    }

    /// What came since an earlier moment; None if a counter has fallen, which no counter of one namespace does.
    fn since(&self, earlier: &Self) -> Option<Self> {
        let mut counts = *self;
        let kernel = counts.kernel.0.iter_mut().zip(earlier.kernel.0);
        for (now, then) in kernel.chain(counts.seen.iter_mut().zip(earlier.seen)) {
            *now = now.checked_sub(then)?;
        }
        Some(counts)
    }
}

/// Whether the programs count it too.
#[must_use]
pub fn is_seen(counter: Counter) -> bool {
    (counter as usize) < seen::COUNT
}
