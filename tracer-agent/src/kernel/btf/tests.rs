//! Tests of the BTF reader: on a small blob made here, on hostile ones, on the running kernel's.

mod blob;
mod hostile;
mod running_kernel;

use super::format::Kind;
use super::{Btf, BtfError};
use blob::{Blob, Field};

/// A blob with the shapes that the kernel's own has: anonymous members, typedefs, bit fields, a forward
/// declaration before the definition, enums of both widths, a tracepoint.
fn sample() -> Vec<u8> {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let u16 = blob.int("unsigned short", 2);
    let be16 = blob.wrap(Kind::Typedef, "__be16", u16);
    let void_ptr = blob.wrap(Kind::Ptr, "", 0);
    let array = blob.array(int, 4);
    blob.record("sock", Kind::Fwd, false, 0, 0, &[]);
    let pair = blob.composite(Kind::Struct, "", &[("skc_dport", be16, 0), ("skc_num", u16, 16)]);
    let ports = blob.composite(Kind::Union, "", &[("skc_portpair", int, 0), ("", pair, 0)]);
    let const_ports = blob.wrap(Kind::Const, "", ports);
    let common =
        blob.composite(Kind::Struct, "sock_common", &[("skc_addrpair", array, 0), ("", const_ports, 128)]);
    let lock = blob.composite(Kind::Struct, "", &[("slock", int, 0), ("owned", int, 32)]);
    let lock = blob.wrap(Kind::Typedef, "socket_lock_t", lock);
    let lock = blob.wrap(Kind::Volatile, "", lock);
    let lock = blob.wrap(Kind::TypeTag, "tag", lock);
    blob.composite(Kind::Struct, "sock", &[]);
    let sock = blob.fields(
        "sock",
        &[
            Field { name: "__sk_common", type_id: common, bit_offset: 0, width: 0 },
            Field { name: "sk_lock", type_id: lock, bit_offset: 160, width: 0 },
            Field { name: "sk_kern_sock", type_id: int, bit_offset: 224, width: 1 },
            Field { name: "sk_socket", type_id: void_ptr, bit_offset: 256, width: 0 },
        ],
    );
    let odd = blob.record("odd_int", Kind::Int, false, 0, 4, &[3]);
    blob.composite(
        Kind::Struct,
        "old_bit_fields",
        &[("whole", int, 0), ("three", odd, 32), ("late", int, 67)],
    );
    blob.record("sk_rst_reason", Kind::Enum, false, 0, 4, &[]);
    blob.enumeration(
        "sk_rst_reason",
        false,
        &[("SK_RST_REASON_NOT_SPECIFIED", 0), ("SK_RST_REASON_MAX", -1)],
    );
    blob.enumeration("signed", true, &[("MINUS", -1), ("PLUS", 1)]);
    blob.enumeration64("wide", &[("HIGH", 1 << 40), ("LOW", -2)]);
    let sock_ptr = blob.wrap(Kind::Ptr, "", sock);
    let prototype = blob.prototype(&[void_ptr, sock_ptr, int]);
    let prototype_ptr = blob.wrap(Kind::Ptr, "", prototype);
    blob.wrap(Kind::Typedef, "btf_trace_tcp_send_reset", prototype_ptr);
    blob.wrap(Kind::Typedef, "btf_trace_no_prototype", void_ptr);
    blob.wrap(Kind::Func, "tcp_fin", prototype);
    blob.record("", Kind::Float, false, 0, 8, &[]);
    blob.record("jiffies", Kind::Var, false, 0, int, &[0]);
    blob.record(".data", Kind::DataSec, false, 1, 4, &[int, 0, 4]);
    blob.record("tag", Kind::DeclTag, false, 0, sock, &[u32::MAX]);
    blob.finish()
}

#[track_caller]
fn offset_in_sample(type_name: &str, path: &str) -> Result<u32, BtfError> {
    Btf::parse(&sample()).unwrap().member_offset(type_name, path)
}

#[test]
fn members_are_found_through_structs_typedefs_and_anonymous_members() {
    for (type_name, path, offset) in [
        ("sock", "__sk_common", 0),
        ("sock", "__sk_common.skc_addrpair", 0),
        ("sock", "__sk_common.skc_portpair", 16),
        ("sock", "__sk_common.skc_dport", 16),
        ("sock", "__sk_common.skc_num", 18),
        ("sock", "sk_lock", 20),
        ("sock", "sk_lock.owned", 24),
        ("sock", "sk_socket", 32),
        ("sock_common", "skc_num", 18),
        ("old_bit_fields", "whole", 0),
    ] {
        assert_eq!(offset_in_sample(type_name, path), Ok(offset), "{type_name}.{path}");
    }
}

#[test]
fn errors_name_the_struct_and_the_member() {
    for (type_name, path, message) in [
        ("task_struct", "pid", "BTF: there is no struct task_struct with members"),
        ("socket_lock_t", "owned", "BTF: there is no struct socket_lock_t with members"),
        ("", "owned", "BTF: there is no struct  with members"),
        ("sock", "sk_nothing", r#"BTF: struct sock has no member sk_nothing: "sk_nothing" is not there"#),
        ("sock", "sk_lock.ow", r#"BTF: struct sock has no member sk_lock.ow: "ow" is not there"#),
        ("sock", "", r#"BTF: struct sock has no member : "" is not there"#),
        ("sock", "sk_lock.", r#"BTF: struct sock has no member sk_lock.: "" is not there"#),
        (
            "sock",
            "sk_socket.file",
            r#"BTF: struct sock has no member sk_socket.file: "sk_socket" is of kind pointer, without members"#,
        ),
    ] {
        assert_eq!(offset_in_sample(type_name, path).unwrap_err().to_string(), message);
    }
}

#[test]
fn bit_fields_are_refused_by_name_however_they_are_written() {
    for (type_name, path) in
        [("sock", "sk_kern_sock"), ("old_bit_fields", "three"), ("old_bit_fields", "late")]
    {
        let error = BtfError::BitField { type_name: type_name.into(), path: path.into() };
        assert_eq!(offset_in_sample(type_name, path), Err(error));
    }
}

#[test]
fn enumerators_keep_their_order_sign_and_width() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    let values = |name| btf.enum_values(name).map(|values| values.into_iter().map(|(_, v)| v).collect());
    assert_eq!(values("sk_rst_reason"), Some(vec![0, i64::from(u32::MAX)]));
    assert_eq!(values("signed"), Some(vec![-1, 1]));
    assert_eq!(values("wide"), Some(vec![1 << 40, -2]));
    assert_eq!(values("sock"), None);
    assert_eq!(values(""), None);
    assert_eq!(btf.enum_values("signed").unwrap()[1].0, "PLUS");
}

#[test]
fn tracepoint_arguments_are_counted_without_the_leading_pointer() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.tracepoint_args("tcp_send_reset"), Some(2));
    assert_eq!(btf.tracepoint_args("no_prototype"), None);
    assert_eq!(btf.tracepoint_args("tcp_receive_reset"), None);
}

#[test]
fn only_functions_count_as_functions() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(btf.has_function("tcp_fin"));
    for name in ["tcp_fi", "tcp_fin2", "sock", "jiffies", ""] {
        assert!(!btf.has_function(name), "{name}");
    }
}

#[test]
fn longer_header_is_read_by_its_own_length() {
    let mut bytes = sample();
    bytes[4..8].copy_from_slice(&32u32.to_ne_bytes());
    bytes.splice(24..24, [0; 8]);
    assert_eq!(Btf::parse(&bytes).unwrap().member_offset("sock", "sk_lock.owned"), Ok(24));
}

#[test]
fn debug_output_does_not_print_the_blob() {
    let bytes = sample();
    assert!(format!("{:?}", Btf::parse(&bytes).unwrap()).len() < 40);
}
