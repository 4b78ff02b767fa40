//! Connects that fail like thousands of others: counted here, so that a flood costs the agent nothing.
//!
//! Up to `limit::TOLD_EACH` failed connects of an upstream in a second are told each. Of the next ones those are only
//! counted that share with one just told all that a verdict goes by: who connected, the error, and what is noted of
//! their segments. The agent adds their number to the verdict of the one that was told.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use tracer_ebpf::config::limit;
use tracer_ebpf::wire::AlikeKey;

use crate::kread::Sk;
use crate::maps;
use crate::notes::Found;
use crate::shares::{self, Origin};

#[map]
static ALIKE: HashMap<AlikeKey, u64> = HashMap::with_max_entries(limit::ALIKE as u32, BPF_F_NO_PREALLOC);

/// The key of a connect of the process `owner` that failed with `err`.
#[inline(always)]
pub fn key(sk: &Sk, owner: u32, err: u32, found: &Found) -> AlikeKey {
    let mut key = AlikeKey::default();
    sk.upstream_key(&mut key.upstream);
    let words = [owner, err, found.notes, found.refused_in_netns, found.filtered_in_netns];
    key.shape = shares::hash(0, words.iter().copied()) | 1;
    key
}

/// Whether this one need not be told. It has then been counted.
#[inline(always)]
pub fn counted(key: &AlikeKey, origin: Origin) -> bool {
    if !shares::has_offered(origin, limit::TOLD_EACH) {
        return false;
    }
    let Some(count) = ALIKE.get_ptr_mut(key) else { return false };
    maps::add(count);
    true
}

/// This one was told: from now on those like it are counted, while there are too many.
#[inline(always)]
pub fn told(key: &AlikeKey, origin: Origin) {
    if shares::has_offered(origin, limit::TOLD_EACH) {
        // Where it finds no place, the next one is told as well.
        let _ = ALIKE.insert(key, 0, u64::from(BPF_NOEXIST));
    }
}
