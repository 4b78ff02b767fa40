//! What the programs say of themselves (aya-log), with `--debug-programs` only.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The reading end of the programs' log.
pub struct ProgramLog {
    fd: AsyncFd<EbpfLogger<ToTracing>>,
}

/// Hands the records on to the agent's own log.
struct ToTracing;

impl ProgramLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> std::io::Result<Self> {
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing).map_err(std::io::Error::other)?;
        // SAFETY: the logger owns its ring's file descriptor, which stays the same and open while it lives.
        let fd = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        Ok(Self { fd: fd? })
    }

    /// Waits for records and logs them.
    ///
    /// # Errors
    /// If the log can no longer be waited for.
    pub async fn read(&mut self) -> std::io::Result<()> {
        let mut guard = self.fd.readable_mut().await?;
        guard.get_inner_mut().flush();
        guard.clear_ready();
        Ok(())
    }
}

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!(target: "programs", "{}", record.args());
    }

    fn flush(&self) {}
}
