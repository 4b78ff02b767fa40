//! What each upstream lost to each cause.

use std::collections::{HashMap, HashSet};

use super::culprits::Culprits;
use super::seen::Seen;
use super::{Group, Impacts, Others};
use crate::verdict::Cause;

/// Groups that are counted: far more than are shown, so that the heaviest is found wherever it begins.
const COUNTED: usize = 8192;
/// Groups that are shown.
const SHOWN: usize = 100;

/// The count.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// By the address dialled or accepted at.
    by_address: HashMap<String, Vec<Counted>>,
    count: usize,
    beyond: Impacts,
}

#[derive(Clone, Debug)]
struct Counted {
    group: Group,
    culprits: Culprits,
    /// Processes in different containers, or in none, were among the owners.
    containers_differ: bool,
}

/// The groups, ranked.
#[derive(Clone, Debug)]
pub struct Ranked {
    pub groups: Vec<Group>,
    pub others: Others,
    /// Of all groups that were counted.
    pub upstreams: u64,
    /// Losses by cause.
    pub causes: Vec<(Cause, u64)>,
}

// === impl Groups ===

impl Groups {
    pub fn add(&mut self, seen: &Seen<'_>) {
        let address = seen.upstream.as_deref().or(seen.listener.as_deref()).unwrap_or_default();
        let groups = match self.by_address.get_mut(address) {
            Some(groups) => groups,
            None if self.count < COUNTED => self.by_address.entry(address.to_owned()).or_default(),
            None => return self.beyond.add(seen.impact),
        };
        if let Some(counted) = groups.iter_mut().find(|counted| counted.holds(seen)) {
            counted.add(seen);
        } else if self.count < COUNTED {
            self.count += 1;
            let mut counted = Counted::new(seen);
            counted.add(seen);
            groups.push(counted);
        } else {
            self.beyond.add(seen.impact);
        }
    }

    /// The most losses first.
    pub fn finish(self) -> Ranked {
        let mut groups: Vec<Group> = self.by_address.into_values().flatten().map(Counted::finish).collect();
        groups.sort_by(|a, b| {
            let by_weight = b.losses.cmp(&a.losses).then(a.first.cmp(&b.first));
            by_weight.then_with(|| a.key().cmp(&b.key()))
        });
        let mut causes = HashMap::<Cause, u64>::new();
        for group in &groups {
            *causes.entry(group.cause).or_default() += group.losses;
        }
        let mut causes: Vec<_> = causes.into_iter().collect();
        causes.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let upstreams: HashSet<_> = groups.iter().map(|group| (group.address(), &group.scope)).collect();
        let upstreams = upstreams.len() as u64;
        let mut impacts = self.beyond;
        let rest = groups.split_off(groups.len().min(SHOWN));
        for group in &rest {
            impacts.add_all(group.impacts);
        }
        let others = Others { losses: impacts.sum(), impacts, groups: rest.len() as u64 };
        Ranked { groups, others, upstreams, causes }
    }
}

// === impl Counted ===

impl Counted {
    fn new(seen: &Seen<'_>) -> Self {
        let owner = seen.owner.as_ref();
        Self {
            group: Group {
                upstream: seen.upstream.as_deref().map(str::to_owned),
                upstream_name: None,
                registration: None,
                listener: seen.listener.as_deref().map(str::to_owned),
                scope: seen.scope.to_string(),
                by: seen.by,
                cause: seen.cause,
                losses: 0,
                impacts: Impacts::default(),
                first: seen.time,
                last: seen.time,
                example: seen.summary.to_string(),
                alternatives: Vec::new(),
                container: owner.and_then(|owner| owner.container.as_deref()).map(str::to_owned),
                culprits: Vec::new(),
                other_culprits: 0,
            },
            culprits: Culprits::default(),
            containers_differ: false,
        }
    }

    fn holds(&self, seen: &Seen<'_>) -> bool {
        self.group.cause == seen.cause
            && self.group.by == seen.by
            && self.group.scope == *seen.scope
            && self.group.upstream.is_some() == seen.upstream.is_some()
    }

    fn add(&mut self, seen: &Seen<'_>) {
        let group = &mut self.group;
        group.losses += 1;
        group.impacts.add(seen.impact);
        group.first = group.first.min(seen.time);
        if seen.time >= group.last {
            group.last = seen.time;
            (*seen.summary).clone_into(&mut group.example);
            if let Some(registration) = &seen.registration {
                group.registration = registration.in_use();
            }
        }
        if group.upstream_name.is_none() {
            group.upstream_name = seen.upstream_name.as_deref().map(str::to_owned);
        }
        for cause in &seen.alternatives {
            if !group.alternatives.contains(cause) {
                group.alternatives.push(*cause);
            }
        }
        let container = seen.owner.as_ref().and_then(|owner| owner.container.as_deref());
        self.containers_differ |= group.container.as_deref() != container;
        if let Some(culprit) = &seen.culprit {
            self.culprits.add(culprit, seen.time);
        }
    }

    fn finish(self) -> Group {
        let (culprits, other_culprits) = self.culprits.finish();
        let mut group = Group { culprits, other_culprits, ..self.group };
        if self.containers_differ {
            group.container = None;
        }
        group.alternatives.sort_unstable();
        group
    }
}

// === impl Group ===

impl Group {
    /// The address dialled, or the one that accepted.
    #[must_use]
    pub fn address(&self) -> &str {
        self.upstream.as_deref().or(self.listener.as_deref()).unwrap_or_default()
    }

    fn key(&self) -> (&str, &str, Cause) {
        (self.address(), &self.scope, self.cause)
    }
}
