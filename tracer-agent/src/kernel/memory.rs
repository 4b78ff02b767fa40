//! What the allocator keeps of memory that is free.

/// The allocator's own default, in bytes, before it has adapted it.
#[cfg(target_env = "gnu")]
const THRESHOLD: libc::c_int = 128 * 1024;

/// From now on what is large goes back to the kernel when it is freed (a scrape's text, the kernel's BTF); else the first
/// large thing that is freed raises the size from which that is so. And threads share what is free: those that load
/// programs would leave a megabyte behind, and none allocates enough to wait for another (mallopt(3)).
pub(super) fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (option, value) in
        [(libc::M_MMAP_THRESHOLD, THRESHOLD), (libc::M_TRIM_THRESHOLD, THRESHOLD), (libc::M_ARENA_MAX, 1)]
    {
        // SAFETY: mallopt takes two numbers and locks what it changes.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Returns what is free to the kernel, wherever it lies: what the start-up needed, or scrapes amid a storm of verdicts.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim only releases free memory; it may be called at any time.
        unsafe { libc::malloc_trim(0) };
    }
}
