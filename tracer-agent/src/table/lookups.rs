//! Names that are being resolved: every query that was sent for one, and what came back.
//!
//! A lookup is over for good once one of its queries was answered with data; then nothing is said. It has failed
//! when all that came back said no, and nothing else was asked for a moment; or when no answer has come for so long
//! that whoever asked must have asked again by then, in vain.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::bounded::{Bounded, Fill};
use super::search_list;
use crate::event::{DnsAnswer, DnsQuery, Process, ProcessId, QueryType, Reply};

/// Lookups that are open at once; when it is full the oldest is given up unjudged, and counted.
const CAPACITY: usize = 1024;
/// Queries of one lookup that are followed: types, candidates of a search list, resolvers.
const QUERIES: usize = 32;
/// How long a "no" may be the last word. Both types of address are asked for at once or one right after the other,
/// and the next resolver or the next candidate of a search list right after the "no" of the one before.
const SETTLE_NS: u64 = 200_000_000;
/// How long silence may last. A datagram may be lost: nginx asks again after 5 to 6 s, glibc and Go after 5, others
/// sooner, and the second datagram mostly comes through.
pub const PATIENCE_NS: u64 = 6_500_000_000;
/// How soon the next candidate of a search list follows the "no" to the one before, if nothing but its first label
/// and a socket of its own (as with glibc) tells that it is one.
const NEXT_CANDIDATE_NS: u64 = 20_000_000;
/// A name that goes on failing alike is told of once in that time.
const REPEAT_NS: u64 = 30_000_000_000;
/// Nobody asks again that soon.
const BATCH_NS: u64 = 1_000_000;
/// RCODE of "no such name" (RFC 1035, 4.1.1).
pub const NXDOMAIN: u8 = 3;

/// What a query came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing came back.
    Silence,
    /// The socket's error.
    Errno(u32),
    /// There is such a name, and nothing of that type.
    NoData,
    /// RCODE other than 0.
    Code(u8),
}

/// A query, asked once or again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub asked: DnsQuery,
    /// How often it was sent.
    pub sent: u32,
    pub outcome: Outcome,
    /// When that was known; for silence the last time it was sent.
    pub since_ns: u64,
}

/// One name that a process wants to know the addresses of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// At least one, in the order in which they were asked.
    pub queries: Vec<Query>,
    /// It failed alike not long ago, and that was told.
    pub repeated: bool,
}

/// Who failed to resolve what, by the parent, the name that it gave itself, the network namespace and the name
/// that was asked for: workers of one gateway are one.
type Told = (ProcessId, String, u32, String);

/// The table.
#[derive(Clone, Debug)]
pub struct Lookups {
    open: VecDeque<Lookup>,
    evicted: u64,
    told: Bounded<Told, (u64, Outcome, SocketAddr)>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { open: VecDeque::new(), evicted: 0, told: Bounded::new("lookups_told", CAPACITY, REPEAT_NS) }
    }
}

impl Lookups {
    /// A query. Only those for addresses count: that there is no reverse name or no text harms no connection.
    pub fn asked(&mut self, asked: DnsQuery) {
        if matches!(asked.query_type, QueryType::Other(_)) {
            return;
        }
        if asked.errno != 0 {
            // The error is that of what was asked before on this socket, if anything was.
            self.failed(asked.cookie, asked.errno, asked.ktime_ns);
        }
        let query = Query {
            sent: 1,
            outcome: if asked.errno == 0 { Outcome::Silence } else { Outcome::Errno(asked.errno) },
            since_ns: asked.ktime_ns,
            asked,
        };
        match self.open.iter_mut().find(|lookup| lookup.is_asked_by(&query.asked)) {
            Some(lookup) => lookup.add(query),
            None => self.open.push_back(Lookup { queries: vec![query], repeated: false }),
        }
        if self.open.len() > CAPACITY {
            self.open.pop_front();
            self.evicted += 1;
        }
    }

    /// What came back on a socket.
    pub fn answered(&mut self, answer: &DnsAnswer) {
        let (id, outcome) = match answer.reply {
            Reply::Errno(errno) => return self.failed(answer.cookie, errno, answer.ktime_ns),
            Reply::Message { id, code, .. } if code != 0 => (id, Outcome::Code(code)),
            Reply::Message { id, answers: 0, truncated: false, .. } => (id, Outcome::NoData),
            Reply::Message { id, .. } => return self.resolved(answer.cookie, id),
        };
        for query in self.queries().filter(|q| q.is_on(answer.cookie) && q.asked.id == id) {
            query.outcome = outcome;
            query.since_ns = answer.ktime_ns;
        }
    }

    /// A process is gone: what it still waited for, nobody misses.
    pub fn exited(&mut self, process: &Process) {
        self.open.retain(|lookup| {
            !lookup.owner().is(process) || !matches!(lookup.decisive().outcome, Outcome::Silence)
        });
    }

    /// A failed lookup that is due at `now`.
    pub fn settled(&mut self, now: u64) -> Option<Lookup> {
        let index = self.open.iter().position(|lookup| lookup.due_ns() <= now)?;
        let mut lookup = self.open.remove(index)?;
        // What was no search list after all is due as well.
        self.open.extend(lookup.split_off_others());
        let query = lookup.decisive();
        let (outcome, resolver) = (query.outcome, query.asked.resolver);
        let told = lookup.told();
        lookup.repeated = self.told.get(&told).is_some_and(|(at, told_outcome, told_resolver)| {
            at.saturating_add(REPEAT_NS) > now && (outcome, resolver) == (*told_outcome, *told_resolver)
        });
        if !lookup.repeated {
            self.told.insert(told, (now, outcome, resolver), now);
        }
        Some(lookup)
    }

    /// When [`Lookups::settled`] next has something to say.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.open.iter().map(Lookup::due_ns).min()
    }

    pub fn expire(&mut self, now: u64) {
        self.told.expire(now);
    }

    #[must_use]
    pub fn fills(&self) -> [Fill; 2] {
        let open =
            Fill { table: "lookups", entries: self.open.len(), capacity: CAPACITY, evicted: self.evicted };
        [open, self.told.fill()]
    }

    fn queries(&mut self) -> impl Iterator<Item = &mut Query> {
        self.open.iter_mut().flat_map(|lookup| &mut lookup.queries)
    }

    /// A socket's error, for whatever waits on it.
    fn failed(&mut self, cookie: u64, errno: u32, at_ns: u64) {
        for query in self.queries().filter(|q| q.is_on(cookie) && q.outcome == Outcome::Silence) {
            query.outcome = Outcome::Errno(errno);
            query.since_ns = at_ns;
        }
    }

    /// A query was answered with data: its lookup is over.
    fn resolved(&mut self, cookie: u64, id: u16) {
        let is_meant = |query: &Query| query.is_on(cookie) && query.asked.id == id;
        let index = self.open.iter().position(|lookup| lookup.queries.iter().any(is_meant));
        if let Some(lookup) = index.and_then(|index| self.open.remove(index)) {
            self.told.remove(&lookup.told());
        }
    }
}

impl Lookup {
    /// The process that asked.
    #[must_use]
    pub fn owner(&self) -> &Process {
        &self.first().asked.owner
    }

    /// The name that was wanted: candidates of a search list are that name and something more.
    #[must_use]
    pub fn name(&self) -> &str {
        let names = self.queries.iter().map(|query| query.asked.name.as_str());
        names.min_by_key(|name| name.len()).unwrap_or_default()
    }

    #[must_use]
    pub fn asked_ns(&self) -> u64 {
        self.first().asked.ktime_ns
    }

    /// When it had failed.
    #[must_use]
    pub fn failed_ns(&self) -> u64 {
        let query = self.decisive();
        match query.outcome {
            Outcome::Silence => query.asked.ktime_ns.saturating_add(PATIENCE_NS),
            _ => query.since_ns,
        }
    }

    /// The query whose outcome is the lookup's: an answer rather than an error, an error rather than silence; the
    /// last of them.
    #[must_use]
    pub fn decisive(&self) -> &Query {
        let weight = |outcome| match outcome {
            Outcome::Silence => 0,
            Outcome::Errno(_) => 1,
            Outcome::NoData => 2,
            Outcome::Code(_) => 3,
        };
        let heaviest = self.queries.iter().max_by_key(|query| (weight(query.outcome), query.since_ns));
        heaviest.unwrap_or_else(|| self.first())
    }

    /// A lookup is made with its first query, and none is ever taken away.
    fn first(&self) -> &Query {
        &self.queries[0]
    }

    fn told(&self) -> Told {
        let asked = &self.first().asked;
        (asked.owner.parent_id(), asked.owner.comm.clone(), asked.netns, self.name().to_owned())
    }

    /// Whether this query is one more of this lookup: the same name, of another type or asked of another
    /// resolver, or the next candidate of a search list.
    fn is_asked_by(&self, asked: &DnsQuery) -> bool {
        self.owner().is(&asked.owner)
            && self.first().asked.netns == asked.netns
            && (self.queries.iter().any(|query| query.asked.name == asked.name)
                || self.is_continued_by(asked))
    }

    /// The next candidate is asked for when there is a "no" to all before, by the thread that waits for it.
    fn is_continued_by(&self, asked: &DnsQuery) -> bool {
        let is_no = |query: &Query| matches!(query.outcome, Outcome::Code(NXDOMAIN) | Outcome::NoData);
        let is_candidate = |query: &Query| {
            let soon = asked.ktime_ns.saturating_sub(query.since_ns) <= NEXT_CANDIDATE_NS;
            let (before, name) = (&query.asked.name, &asked.name);
            search_list::are_candidates(before, name)
                || (soon && !query.is_on(asked.cookie) && search_list::begin_alike(before, name))
        };
        self.first().asked.thread == asked.thread
            && self.queries.iter().all(is_no)
            && self.queries.iter().any(is_candidate)
    }

    /// A search list ends, or begins, with the name that was wanted, and all others are made of it. The rest was
    /// asked for in its own right.
    fn split_off_others(&mut self) -> Option<Self> {
        let name = self.name().to_owned();
        let is_other = |query: &mut Query| !search_list::is_made_of(&query.asked.name, &name);
        let others: Vec<_> = self.queries.extract_if(.., is_other).collect();
        (!others.is_empty()).then_some(Self { queries: others, repeated: false })
    }

    fn add(&mut self, query: Query) {
        let same = |q: &&mut Query| q.is_on(query.asked.cookie) && q.asked.id == query.asked.id;
        if let Some(again) = self.queries.iter_mut().find(same) {
            again.ask_again(&query);
        } else if self.queries.len() < QUERIES {
            self.queries.push(query);
        }
    }

    /// When it is to be judged: an answer is as good as the last word, an error or silence is not.
    fn due_ns(&self) -> u64 {
        let open = |query: &&Query| matches!(query.outcome, Outcome::Silence | Outcome::Errno(_));
        let answered = self.queries.iter().filter(|q| !open(q)).map(|q| q.since_ns).max();
        let waiting = self.queries.iter().filter(open).map(|q| q.asked.ktime_ns).min();
        match (waiting, answered) {
            (Some(asked), _) => asked.saturating_add(PATIENCE_NS),
            (None, Some(answered)) => answered.saturating_add(SETTLE_NS),
            (None, None) => 0,
        }
    }
}

impl Query {
    fn is_on(&self, cookie: u64) -> bool {
        self.asked.cookie == cookie
    }

    fn ask_again(&mut self, again: &Self) {
        // Each of a batch of two is seen with the other, within microseconds.
        if again.since_ns.saturating_sub(self.since_ns) >= BATCH_NS {
            self.sent += 1;
            self.outcome = again.outcome;
            self.since_ns = again.since_ns;
        }
    }
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
