//! The places of upstreams in the kernel's maps: what was counted of each, and who has one.

use aya::maps::{Array, HashMap, MapData, Stack};
use tracer_ebpf::config::limit;
use tracer_ebpf::wire::{PLACE_WORDS, UpstreamCounters, UpstreamKey, UpstreamPlace};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::counters::CountersError;
use super::loader::Kernel;

const UPSTREAMS: &str = "UPSTREAMS";
const PLACES: &str = "PLACES";
const FREE_PLACES: &str = "FREE_PLACES";
const MADE: &str = "UPSTREAMS_MADE";
const EXPIRED: &str = "UPSTREAMS_EXPIRED";

/// Places are given away from the first one on, so those beyond as many as were given away need not be looked at; but for
/// these: CPUs that make the same upstream at the same time take one each, and all but one give theirs back.
const CPUS: u64 = 512;

type Words = [u64; PLACE_WORDS];
type Key = [u8; size_of::<UpstreamKey>()];

impl Kernel {
    /// How many upstreams have a place.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn upstreams_in_use(&self) -> Result<u64, CountersError> {
        Ok(self.single(MADE)?.saturating_sub(self.single(EXPIRED)?))
    }

    /// Every upstream that has a place, and what was counted of it; the all-zero key stands for those that have none.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn upstreams(&self) -> Result<Vec<(UpstreamKey, UpstreamCounters)>, CountersError> {
        let Some(map) = self.ebpf.map(PLACES) else { return Ok(vec![]) };
        let map: Array<_, Words> = Array::try_from(map).map_err(failed(PLACES))?;
        let highest = self.single(MADE)?.saturating_add(CPUS).min(limit::UPSTREAMS as u64) as u32;
        let mut rows = Vec::new();
        for index in 0..=highest {
            let words = map.get(&index, 0).map_err(failed(PLACES))?;
            let place = UpstreamPlace::read_from_bytes(words.as_bytes()).unwrap_or_default();
            if index == 0 || place.key != UpstreamKey::default() {
                rows.push((place.key, place.counters));
            }
        }
        Ok(rows)
    }

    /// Takes away the place of an upstream; returns what was counted there. What is counted meanwhile, a microsecond, is
    /// lost: only for upstreams that have been idle for minutes.
    ///
    /// # Errors
    /// If a map cannot be read or written.
    pub fn expire_upstream(&mut self, key: &UpstreamKey) -> Result<UpstreamCounters, CountersError> {
        let Some(index) = self.take_index(key)? else { return Ok(UpstreamCounters::default()) };
        let Some(map) = self.ebpf.map_mut(PLACES) else { return Ok(UpstreamCounters::default()) };
        let mut map: Array<_, Words> = Array::try_from(map).map_err(failed(PLACES))?;
        let words = map.get(&index, 0).map_err(failed(PLACES))?;
        // From here on a connection that remembers the place finds that it is not its own any more.
        map.set(index, [0; PLACE_WORDS], 0).map_err(failed(PLACES))?;
        self.give_back(index)?;
        if let Some(map) = self.ebpf.map_mut(EXPIRED) {
            let mut map: Array<_, u64> = Array::try_from(map).map_err(failed(EXPIRED))?;
            let expired = map.get(&0, 0).map_err(failed(EXPIRED))?;
            map.set(0, expired + 1, 0).map_err(failed(EXPIRED))?;
        }
        let place = UpstreamPlace::read_from_bytes(words.as_bytes()).unwrap_or_default();
        Ok(place.counters)
    }

    /// Nobody has a place yet. The first ones lie on top.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub(super) fn free_all_places(&mut self) -> Result<(), CountersError> {
        (1..=limit::UPSTREAMS as u32).rev().try_for_each(|index| self.give_back(index))
    }

    fn give_back(&mut self, index: u32) -> Result<(), CountersError> {
        let Some(map) = self.ebpf.map_mut(FREE_PLACES) else { return Ok(()) };
        let mut map: Stack<_, u32> = Stack::try_from(map).map_err(failed(FREE_PLACES))?;
        map.push(index, 0).map_err(failed(FREE_PLACES))
    }

    /// Forgets which place an upstream has, and returns it.
    fn take_index(&mut self, key: &UpstreamKey) -> Result<Option<u32>, CountersError> {
        let mut bytes = Key::default();
        bytes.copy_from_slice(key.as_bytes());
        let Some(map) = self.ebpf.map_mut(UPSTREAMS) else { return Ok(None) };
        let mut map: HashMap<&mut MapData, Key, u32> = HashMap::try_from(map).map_err(failed(UPSTREAMS))?;
        let index = map.get(&bytes, 0).map_err(failed(UPSTREAMS))?;
        map.remove(&bytes).map_err(failed(UPSTREAMS))?;
        Ok(Some(index))
    }

    fn single(&self, name: &'static str) -> Result<u64, CountersError> {
        let Some(map) = self.ebpf.map(name) else { return Ok(0) };
        Array::try_from(map).and_then(|map: Array<_, u64>| map.get(&0, 0)).map_err(failed(name))
    }
}

fn failed(map: &'static str) -> impl Fn(aya::maps::MapError) -> CountersError + Copy {
    move |source| CountersError { map, source }
}
