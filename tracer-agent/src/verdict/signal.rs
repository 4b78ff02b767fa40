//! Names of signals, as every manual spells them.

/// `SIGKILL` for 9; `SIG64` and the like for what has no name (real-time signals).
#[must_use]
pub fn signal_name(number: u8) -> String {
    const NAMES: [&str; 32] = [
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
        "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match NAMES.get(usize::from(number)) {
        Some(name) => format!("SIG{name}"),
        None => format!("SIG{number}"),
    }
}
