//! Blobs that are broken, or built to make a reader panic, recurse, loop or allocate.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::format::Kind;
use super::super::{Btf, BtfError};
use super::blob::Blob;
use super::sample;

/// Asks every question of a blob, whatever it holds.
fn ask_everything(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for name in ["sock", "sock_common", "old_bit_fields", "knot"] {
        for path in ["__sk_common.skc_num", "sk_lock.owned", "three", "late", "knot.knot", "absent", "..", ""]
        {
            let _ = btf.member_offset(name, path);
        }
    }
    for name in ["sk_rst_reason", "signed", "wide"] {
        let _ = btf.enum_values(name);
    }
    for name in ["tcp_send_reset", "no_prototype"] {
        let _ = btf.tracepoint_args(name);
    }
    let _ = btf.has_function("tcp_fin");
}

/// Far above what any of these takes, far below what a loop or an explosion would.
#[track_caller]
fn ends_quickly<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < Duration::from_secs(60), "took {:?}", start.elapsed());
    result
}

#[track_caller]
fn parse_error(bytes: &[u8]) -> String {
    Btf::parse(bytes).unwrap_err().to_string()
}

fn with_word(offset: usize, word: u32) -> Vec<u8> {
    let mut bytes = sample();
    bytes[offset..offset + 4].copy_from_slice(&word.to_ne_bytes());
    bytes
}

#[test]
fn damaged_headers_are_refused_with_the_damage_named() {
    let mut swapped = sample();
    swapped.swap(0, 1);
    assert_eq!(Btf::parse(&swapped).unwrap_err(), BtfError::ByteOrder);
    let mut version = sample();
    version[2] = 2;
    assert_eq!(Btf::parse(&version).unwrap_err(), BtfError::Version(2));
    let len = sample().len();
    for (bytes, message) in [
        (Vec::new(), "BTF: the header at offset 0 does not fit into the 0 bytes that are there".to_owned()),
        (b"\x7fELF".repeat(8), "is not 0xeb9f: this is not BTF".into()),
        (with_word(4, 8), "BTF: a header of 8 bytes, at offset 4, is shorter than".into()),
        (with_word(4, u32::MAX), format!("BTF: the type section at offset {} does not fit", u32::MAX)),
        (with_word(8, u32::MAX), "BTF: the type section at offset 4294967319 does not fit".into()),
        (with_word(12, u32::MAX), format!("the type section at offset 24 does not fit into the {len} bytes")),
        (with_word(16, u32::MAX), "BTF: the string section at offset 4294967319 does not fit".into()),
        (with_word(20, 0), "does not begin and end with a zero byte".into()),
        (with_word(20, 3), "does not begin and end with a zero byte".into()),
    ] {
        let error = parse_error(&bytes);
        assert!(error.contains(&message), "{error} / {message}");
    }
}

#[test]
fn unknown_kinds_are_named_with_their_number_and_place() {
    for (info, kind) in [(0, 0), (20 << 24, 20), (0x7f << 24, 127)] {
        let mut blob = Blob::new();
        blob.int("int", 4);
        blob.raw(0, info, 0, &[]);
        assert_eq!(
            parse_error(&blob.finish()),
            format!("BTF: type 2 at offset 40 has the unknown kind {kind}")
        );
    }
}

#[test]
fn counts_beyond_the_section_are_refused() {
    for kind in [Kind::Struct, Kind::Union, Kind::Enum, Kind::Enum64, Kind::FuncProto, Kind::DataSec] {
        let mut blob = Blob::new();
        blob.record("huge", kind, false, 0x00ff_ffff, 0, &[0; 64]);
        assert!(parse_error(&blob.finish()).starts_with("BTF: the type record at offset 24 does not fit"));
    }
    let mut blob = Blob::new();
    blob.raw(77, (Kind::Float as u32) << 24, 4, &[]);
    assert!(parse_error(&blob.finish()).contains("type 1 at offset 24 has its name at 77"));
}

#[test]
fn counts_wider_than_16_bits_are_read_whole() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let (member, last) = (blob.string("member"), blob.string("last"));
    let mut words = [member, int, 0].repeat(1 << 16);
    words.extend([last, int, 32]);
    blob.record("knot", Kind::Struct, false, (1 << 16) + 1, 8, &words);
    let bytes = blob.finish();
    assert_eq!(ends_quickly(|| Btf::parse(&bytes).unwrap().member_offset("knot", "last")), Ok(4));
}

#[test]
fn references_to_missing_types_are_errors_not_panics() {
    let mut blob = Blob::new();
    blob.composite(Kind::Struct, "knot", &[("knot", 99, 0), ("fine", 0, 8)]);
    let bytes = blob.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member_offset("knot", "knot"), Err(BtfError::NoTypeId { id: 99, referrer: 1 }));
    assert_eq!(btf.member_offset("knot", "fine"), Ok(1));
}

#[test]
fn typedef_chains_are_followed_up_to_the_limit() {
    for (len, result) in [
        (32, Ok(0)),
        (33, Err(BtfError::ModifierChain { id: 34, limit: 32 })),
        (100_000, Err(BtfError::ModifierChain { id: 100_001, limit: 32 })),
    ] {
        let mut blob = Blob::new();
        let mut inner = blob.int("int", 4);
        for _ in 0..len {
            inner = blob.wrap(Kind::Typedef, "t", inner);
        }
        blob.composite(Kind::Struct, "knot", &[("knot", inner, 0)]);
        let bytes = blob.finish();
        assert_eq!(ends_quickly(|| Btf::parse(&bytes).unwrap().member_offset("knot", "knot")), result);
    }
}

#[test]
fn cyclic_typedefs_end() {
    let mut blob = Blob::new();
    let itself = blob.next_id();
    blob.wrap(Kind::Typedef, "btf_trace_loop", itself);
    let first = blob.next_id();
    blob.wrap(Kind::Const, "", first + 1);
    blob.wrap(Kind::Volatile, "", first);
    blob.composite(Kind::Struct, "knot", &[("knot", itself, 0), ("", first, 0)]);
    let bytes = blob.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(matches!(btf.member_offset("knot", "knot"), Err(BtfError::ModifierChain { .. })));
    assert!(matches!(btf.member_offset("knot", "absent"), Err(BtfError::ModifierChain { .. })));
    assert_eq!(btf.tracepoint_args("loop"), None);
}

#[test]
fn structs_that_contain_themselves_end() {
    let mut blob = Blob::new();
    let knot = blob.next_id();
    blob.composite(Kind::Struct, "knot", &[("", knot, 8), ("knot", knot, 16)]);
    let bytes = blob.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.member_offset("knot", "knot.knot.knot"), Ok(6));
    assert!(matches!(btf.member_offset("knot", "absent"), Err(BtfError::NoMember { .. })));
}

#[test]
fn anonymous_members_that_fan_out_do_not_explode() {
    // Each level holds the next one twice: 2^5000 ways down.
    let mut blob = Blob::new();
    let mut inner = blob.int("int", 4);
    for _ in 0..5000 {
        inner = blob.composite(Kind::Struct, "", &[("", inner, u32::MAX), ("", inner, 8)]);
    }
    blob.composite(Kind::Struct, "knot", &[("", inner, 0)]);
    let bytes = blob.finish();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(matches!(ends_quickly(|| btf.member_offset("knot", "absent")), Err(BtfError::NoMember { .. })));
}

#[test]
fn offsets_beyond_32_bits_are_refused() {
    let mut blob = Blob::new();
    let mut inner = blob.int("int", 4);
    for _ in 0..10 {
        inner = blob.composite(Kind::Struct, "", &[("knot", inner, u32::MAX - 7)]);
    }
    blob.composite(Kind::Struct, "knot", &[("knot", inner, 0)]);
    let bytes = blob.finish();
    let path = ["knot"; 11].join(".");
    let error = Btf::parse(&bytes).unwrap().member_offset("knot", &path).unwrap_err();
    assert!(matches!(error, BtfError::OffsetRange { bits: 42_949_672_880, .. }), "{error}");
}

#[test]
fn enumerators_that_share_one_endless_name_are_refused() {
    let mut blob = Blob::new();
    let name = blob.string(&"x".repeat(1 << 20));
    let words = [name, 0].repeat(65_535);
    blob.record("knot", Kind::Enum, false, 65_535, 4, &words);
    let bytes = blob.finish();
    assert_eq!(ends_quickly(|| Btf::parse(&bytes).unwrap().enum_values("knot")), None);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..len]).is_err(), "{len}");
    }
}

#[test]
fn every_single_bit_flip_is_survived() {
    let bytes = sample();
    ends_quickly(|| {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            ask_everything(&flipped);
        }
    });
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        ask_everything(&bytes);
    }

    /// A valid header and valid names, so that the records themselves are what is hostile.
    #[test]
    fn arbitrary_records_are_survived(
        records in prop::collection::vec((0u32..60, 0u32..20, any::<bool>(), 0u32..4, 0u32..40, any::<[u8; 12]>()), 0..40),
    ) {
        let mut blob = Blob::new();
        for name in ["sock", "knot", "sk_lock", "owned", "wide", "btf_trace_tcp_send_reset"] {
            blob.string(name);
        }
        for (name_off, kind, flag, vlen, size_or_type, noise) in records {
            let (name_off, info) = (name_off % 48, u32::from(flag) << 31 | kind << 24 | vlen);
            let words = noise.map(|byte| u32::from(byte) % 48);
            let len = match kind { 1 | 14 | 17 => 1, 3 => 3, 4 | 5 | 15 | 19 => vlen * 3, 6 | 13 => vlen * 2, _ => 0 };
            blob.raw(name_off, info, size_or_type, &words[..len as usize]);
        }
        ask_everything(&blob.finish());
    }

    #[test]
    fn damaged_copies_of_a_valid_blob_are_survived(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..32),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = sample();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        ask_everything(&bytes);
    }
}
