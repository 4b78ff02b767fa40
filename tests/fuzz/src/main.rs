//! One fuzzer: libFuzzer's main loop around the target that `RSTRACE_FUZZ_TARGET` names.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rstrace_fuzz::{Target, target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("RSTRACE_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("RSTRACE_FUZZ_TARGET={name} names no target"))
});

fuzz_target!(|input: &[u8]| (TARGET.run)(input));
