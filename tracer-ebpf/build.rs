//! What bpf-linker is told about the kernel programs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("bpf") {
        // By default it has LLVM copy memory in the order of its addresses, for packets, and then LLVM calls functions to
        // clear and to move memory: byte by byte at run time, and step by step under the verifier, which before Linux 6.4
        // also forgets, at each call, that a number need not be known exactly.
        println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    }
}
