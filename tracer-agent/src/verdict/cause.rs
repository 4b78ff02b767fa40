//! The closed lists of a verdict, with the names that JSON, metrics and docs use.

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $type {
            /// Every one, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in JSON, metrics and docs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The one of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

names! {
    /// Whose action ended the connection, or kept it from being made.
    By {
        Upstream = "upstream",
        Gateway = "gateway",
        Client = "client",
        Firewall = "firewall",
        Network = "network",
        Operator = "operator",
        Unknown = "unknown",
    }
}

names! {
    /// Why it ended. `docs/causes.md` has a section for each.
    Cause {
        NoListener = "no_listener",
        AcceptQueueFull = "accept_queue_full",
        NeverAccepted = "never_accepted",
        ConnectionForgotten = "connection_forgotten",
        ConnectTimeout = "connect_timeout",
        HostUnreachable = "host_unreachable",
        FirewallRejected = "firewall_rejected",
        GatewayResource = "gateway_resource",
        GatewayConnectTimeout = "gateway_connect_timeout",
        DnsFailure = "dns_failure",
        ProcessCrashed = "process_crashed",
        ProcessKilled = "process_killed",
        ProcessExited = "process_exited",
        OomKilled = "oom_killed",
        WorkerTimeout = "worker_timeout",
        ServiceStopped = "service_stopped",
        UpstreamTimeout = "upstream_timeout",
        ClosedWithoutResponse = "closed_without_response",
        ResetWithoutResponse = "reset_without_response",
        ClosedUnreadData = "closed_unread_data",
        ResetMidResponse = "reset_mid_response",
        ClosedMidResponse = "closed_mid_response",
        KeepaliveRace = "keepalive_race",
        GatewayTimeout = "gateway_timeout",
        GatewayClosed = "gateway_closed",
        GatewayRejectedResponse = "gateway_rejected_response",
        GatewayExited = "gateway_exited",
        ClientGone = "client_gone",
        PacketsLost = "packets_lost",
        MiddleboxReset = "middlebox_reset",
        SocketDestroyed = "socket_destroyed",
        IdleClose = "idle_close",
        Graceful = "graceful",
        Probe = "probe",
        Unknown = "unknown",
    }
}

names! {
    /// What it did to the request on this connection, whatever the gateway did afterwards.
    Impact {
        ConnectFailed = "connect_failed",
        RequestLost = "request_lost",
        ResponseTruncated = "response_truncated",
        /// Two readings remain.
        Unknown = "unknown",
        None = "none",
    }
}

names! {
    /// How sure it is.
    Confidence {
        /// Seen on this host.
        Proven = "proven",
        /// Deduced from timing, repetition or one end alone.
        Inferred = "inferred",
    }
}

names! {
    /// What ended the connection on the wire, seen from this socket.
    How {
        RstReceived = "rst_received",
        RstSent = "rst_sent",
        FinReceived = "fin_received",
        FinSent = "fin_sent",
        Timeout = "timeout",
        Icmp = "icmp",
        ConnectError = "connect_error",
        SyscallError = "syscall_error",
    }
}
