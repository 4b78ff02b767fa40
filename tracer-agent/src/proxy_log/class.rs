//! What kind of failure a proxy's message tells, and which causes it can have.

use crate::verdict::Cause;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// What a message of a proxy says of an upstream connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Class {
            $($(#[$doc])* $variant,)+
        }

        impl Class {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

classes! {
    /// The connect was refused, or there is no such Unix socket.
    Refused = "refused",
    /// There is no way to that host.
    Unreachable = "unreachable",
    ConnectTimedOut = "connect_timed_out",
    /// The backlog of a Unix socket.
    BacklogFull = "backlog_full",
    /// No local port, no memory.
    NoResource = "no_resource",
    NotPermitted = "not_permitted",
    /// The end of the stream came before an answer.
    Closed = "closed",
    Reset = "reset",
    /// Closed or reset within an answer.
    CutShort = "cut_short",
    /// The proxy waited for an answer and gave up.
    TimedOut = "timed_out",
    /// The kernel gave up: nothing was acknowledged.
    Unacknowledged = "unacknowledged",
    TlsFailed = "tls_failed",
    HeaderTooBig = "header_too_big",
    InvalidAnswer = "invalid_answer",
    ClientGone = "client_gone",
    /// The socket was destroyed from outside.
    Destroyed = "destroyed",
    /// An access log's 502: any of the above but a wait.
    BadGateway = "bad_gateway",
    /// An access log's 504.
    GatewayTimeout = "gateway_timeout",
    /// HAProxy's `SC`: refused, unreachable, or nothing left to connect with.
    ConnectFailed = "connect_failed",
    /// HAProxy's `SH`: closed or reset before an answer.
    Broken = "broken",
    /// HAProxy's `D…`: it ended the sessions of a server that it took for down.
    MarkedDown = "marked_down",
    NotResolved = "not_resolved",
    NoResolver = "no_resolver",
    NameUnknownAtStart = "name_unknown_at_start",
    NoLiveUpstreams = "no_live_upstreams",
    NoDescriptor = "no_descriptor",
    NoWorkerConnections = "no_worker_connections",
    WorkerDied = "worker_died",
    /// An access log without an upstream: none was found.
    NoUpstream = "no_upstream",
    AnsweredItself = "answered_itself",
    QueueTimedOut = "queue_timed_out",
}

// === impl Class ===

impl Class {
    /// Whether a connection with that cause can be logged like this.
    #[must_use]
    pub fn can_be(self, cause: Cause) -> bool {
        if cause == Cause::Unknown {
            return self.has_verdict();
        }
        match self {
            Self::Refused => {
                matches!(cause, Cause::NoListener | Cause::FirewallRejected | Cause::AcceptQueueFull)
            }
            Self::Unreachable => {
                matches!(cause, Cause::HostUnreachable | Cause::FirewallRejected | Cause::GatewayResource)
            }
            Self::ConnectTimedOut => is_silence(cause),
            Self::BacklogFull => cause == Cause::AcceptQueueFull,
            Self::NoResource => cause == Cause::GatewayResource,
            Self::NotPermitted => matches!(cause, Cause::GatewayResource | Cause::FirewallRejected),
            Self::Closed => is_end_of_server(cause) || closes(cause),
            Self::Reset => is_end_of_server(cause) || resets(cause),
            Self::CutShort => is_end_of_server(cause) || closes(cause) || resets(cause),
            Self::TimedOut => is_wait(cause),
            Self::Unacknowledged => matches!(cause, Cause::PacketsLost | Cause::HostUnreachable),
            Self::TlsFailed => rejects(cause) || is_end_of_server(cause) || closes(cause) || resets(cause),
            Self::HeaderTooBig | Self::InvalidAnswer => rejects(cause),
            Self::ClientGone => {
                matches!(cause, Cause::ClientGone | Cause::GatewayClosed | Cause::GatewayRejectedResponse)
            }
            Self::Destroyed => cause == Cause::SocketDestroyed,
            Self::BadGateway => {
                Self::ConnectFailed.can_be(cause)
                    || Self::TlsFailed.can_be(cause)
                    || Self::Destroyed.can_be(cause)
                    || Self::Unacknowledged.can_be(cause)
            }
            Self::GatewayTimeout => is_wait(cause) || is_silence(cause),
            Self::ConnectFailed => {
                Self::Refused.can_be(cause)
                    || Self::Unreachable.can_be(cause)
                    || Self::NoResource.can_be(cause)
            }
            Self::Broken => Self::Closed.can_be(cause) || Self::Reset.can_be(cause),
            Self::MarkedDown => cause == Cause::GatewayClosed,
            Self::NotResolved => cause == Cause::DnsFailure,
            Self::NoResolver
            | Self::NameUnknownAtStart
            | Self::NoLiveUpstreams
            | Self::NoDescriptor
            | Self::NoWorkerConnections
            | Self::WorkerDied
            | Self::NoUpstream
            | Self::AnsweredItself
            | Self::QueueTimedOut => false,
        }
    }

    /// Whether there may be a verdict: without a connection there is none.
    #[must_use]
    pub fn has_verdict(self) -> bool {
        Cause::ALL.iter().any(|cause| *cause != Cause::Unknown && self.can_be(*cause))
    }

    /// What only the log can know, and what to do about it.
    #[must_use]
    pub fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::HeaderTooBig => {
                "the answer's headers are larger than the proxy's buffer: raise proxy_buffer_size or \
                 fastcgi_buffer_size (HAProxy: tune.bufsize), or make the application's headers and cookies smaller"
            }
            Self::InvalidAnswer => {
                "the upstream answered what is no valid answer, so the proxy closed: look whether the right service \
                 and protocol (TLS, HTTP/2, FastCGI) is behind that address, else at the application's headers"
            }
            Self::NotResolved => {
                "the name of the upstream did not resolve, so no connection was tried: check the name, and the \
                 servers of nginx's resolver directive"
            }
            Self::NoResolver => {
                "a name with a variable in it is resolved while nginx runs, and no resolver is configured: add \
                 `resolver ADDRESS;`, or name an upstream block"
            }
            Self::NameUnknownAtStart => {
                "nginx resolves the names of its configuration when it starts or reloads, and refuses to do so \
                 without them: correct the name or the DNS of this host, then start it again"
            }
            Self::NoLiveUpstreams => {
                "every server of the group had failed shortly before, so no connection was tried: the lines before \
                 this one say why they failed (nginx: max_fails and fail_timeout; HAProxy: health checks)"
            }
            Self::NoDescriptor => {
                "the proxy has no free file descriptor, so no connection was tried: raise worker_rlimit_nofile (or \
                 LimitNOFILE of its service), and look for connections that stay open"
            }
            Self::NoWorkerConnections => {
                "the worker has as many connections as it may have, so no connection was tried: raise \
                 worker_connections, two for each client that is proxied"
            }
            Self::WorkerDied => {
                "a worker of the proxy itself died and took all of its connections along: `rstrace watch --cause \
                 gateway_exited --since …` shows them"
            }
            Self::NoUpstream => {
                "nginx had no address to connect to, mostly because a name did not resolve: the error log says which \
                 one (`--nginx-error-log`)"
            }
            Self::AnsweredItself => {
                "the upstream itself answered with that status, so no connection failed: look at its own log"
            }
            Self::QueueTimedOut => {
                "the request waited in HAProxy's queue for longer than `timeout queue`: the servers have as many \
                 connections as their maxconn allows, so they are too slow or too few"
            }
            _ => return None,
        })
    }

    /// The group of hooks without which the agent does not see such a failure at a Unix socket, a name, or
    /// before a SYN is sent.
    #[must_use]
    pub fn group(self, unix: bool) -> Option<&'static str> {
        match self {
            Self::NotResolved => Some("dns"),
            _ if unix => Some("unix"),
            Self::Unreachable | Self::NotPermitted => Some("connect-errors"),
            _ => None,
        }
    }
}

/// A process at the other end came to its end, or was told to.
fn is_end_of_server(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::ProcessCrashed
            | Cause::ProcessKilled
            | Cause::ProcessExited
            | Cause::OomKilled
            | Cause::WorkerTimeout
            | Cause::ServiceStopped
            | Cause::UpstreamTimeout
            | Cause::NeverAccepted
            | Cause::KeepaliveRace
    )
}

/// Something else shows as the end of the stream. What closes over unread data resets, and the proxy may have
/// read the end before.
fn closes(cause: Cause) -> bool {
    matches!(cause, Cause::ClosedWithoutResponse | Cause::ClosedMidResponse | Cause::ClosedUnreadData)
}

/// Something else shows as a reset.
fn resets(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::ResetWithoutResponse
            | Cause::ResetMidResponse
            | Cause::ClosedUnreadData
            | Cause::ConnectionForgotten
            | Cause::MiddleboxReset
            | Cause::FirewallRejected
            | Cause::AcceptQueueFull
            | Cause::SocketDestroyed
    )
}

/// No answer to a SYN.
fn is_silence(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::ConnectTimeout
            | Cause::GatewayConnectTimeout
            | Cause::AcceptQueueFull
            | Cause::FirewallRejected
            | Cause::HostUnreachable
    )
}

/// No answer to a request.
fn is_wait(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::GatewayTimeout
            | Cause::GatewayClosed
            | Cause::NeverAccepted
            | Cause::PacketsLost
            | Cause::AcceptQueueFull
            | Cause::FirewallRejected
    )
}

/// The proxy did not like what it read.
fn rejects(cause: Cause) -> bool {
    matches!(cause, Cause::GatewayRejectedResponse | Cause::GatewayClosed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_verdict_is_explained_by_itself() {
        for class in Class::ALL {
            assert!(class.has_verdict() || class.meaning().is_some(), "{}", class.name());
        }
    }

    #[test]
    fn what_a_cause_is_logged_as_can_be_that_cause() {
        // From the sections of docs/causes.md.
        for (class, causes) in [
            (Class::Refused, &[Cause::NoListener, Cause::FirewallRejected][..]),
            (Class::Closed, &[Cause::ProcessCrashed, Cause::OomKilled, Cause::KeepaliveRace]),
            (Class::Reset, &[Cause::WorkerTimeout, Cause::MiddleboxReset, Cause::ClosedUnreadData]),
            (Class::TimedOut, &[Cause::GatewayTimeout, Cause::PacketsLost, Cause::NeverAccepted]),
            (Class::ConnectTimedOut, &[Cause::ConnectTimeout, Cause::GatewayConnectTimeout]),
        ] {
            assert!(causes.iter().all(|cause| class.can_be(*cause)), "{}", class.name());
        }
        assert!(!Class::Refused.can_be(Cause::GatewayTimeout) && !Class::Closed.can_be(Cause::NoListener));
    }
}
