//! Upstreams that refused since nothing listens there, and since when that is so.

use super::{Group, Stale};
use crate::output::state::UpstreamState;
use crate::verdict::Cause;

/// Of the groups that were ranked; what the agent knows of their listeners goes with them.
pub fn stale(groups: &[Group], learned: &[UpstreamState]) -> Vec<Stale> {
    let refused = groups.iter().filter(|group| group.cause == Cause::NoListener);
    let mut stale = Vec::<Stale>::new();
    for group in refused {
        let Some(upstream) = &group.upstream else { continue };
        let known = |stale: &&mut Stale| stale.upstream == *upstream && stale.scope == group.scope;
        if let Some(known) = stale.iter_mut().find(known) {
            known.losses += group.losses;
            known.first = known.first.min(group.first);
            if group.last >= known.last {
                known.last = group.last;
                known.registration.clone_from(&group.registration);
            }
            continue;
        }
        let state = learned.iter().find(|state| state.upstream == *upstream && state.scope == group.scope);
        stale.push(Stale {
            upstream: upstream.clone(),
            scope: group.scope.clone(),
            losses: group.losses,
            first: group.first,
            last: group.last,
            registration: group.registration.clone(),
            before: group.culprits.first().cloned(),
            listener: state.and_then(|state| state.listener.clone()),
        });
    }
    stale
}
