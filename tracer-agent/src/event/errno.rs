//! The errors that tables and rules ask for (include/uapi/asm-generic/errno.h; the same on x86_64 and arm64).

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)+) => {
        $($(#[$doc])* pub const $name: u32 = $number;)+

        /// `ENETUNREACH (101)`.
        #[must_use]
        pub fn words(errno: u32) -> String {
            match errno {
                $($name => concat!(stringify!($name), " (", $number, ")").to_owned(),)+
                _ => format!("error {errno}"),
            }
        }
    };
}

errors! {
    EPERM = 1;
    ENOENT = 2;
    EAGAIN = 11;
    ENOMEM = 12;
    EACCES = 13;
    ENOTDIR = 20;
    EINVAL = 22;
    /// A RST that came when the peer had closed already; a write to a peer that is gone.
    EPIPE = 32;
    ELOOP = 40;
    EPROTOTYPE = 91;
    EADDRNOTAVAIL = 99;
    ENETDOWN = 100;
    ENETUNREACH = 101;
    /// Only `tcp_abort` sets it (`SOCK_DESTROY`).
    ECONNABORTED = 103;
    ECONNRESET = 104;
    ENOBUFS = 105;
    ETIMEDOUT = 110;
    ECONNREFUSED = 111;
    EHOSTUNREACH = 113;
}
