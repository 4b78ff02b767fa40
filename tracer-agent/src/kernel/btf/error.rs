//! What can be wrong with a BTF blob, or with a question put to it.

use thiserror::Error;

/// Every message names the object: the type, the member path, or the byte offset in the blob.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BtfError {
    #[error("BTF: the {part} at offset {offset} does not fit into the {len} bytes that are there")]
    Truncated { part: &'static str, offset: usize, len: usize },
    #[error("BTF: magic {0:#06x} at offset 0 is not 0xeb9f: this is not BTF")]
    Magic(u16),
    #[error("BTF: the magic at offset 0 is in the other byte order: this is another machine's BTF")]
    ByteOrder,
    #[error("BTF: version {0} at offset 2 is not known, only version 1 is")]
    Version(u8),
    #[error("BTF: a header of {0} bytes, at offset 4, is shorter than the 24 that version 1 has")]
    HeaderLength(usize),
    #[error("BTF: the string section at offset {0} does not begin and end with a zero byte")]
    Strings(usize),
    #[error("BTF: type {id} at offset {offset} has the unknown kind {kind}")]
    UnknownKind { id: u32, offset: usize, kind: u32 },
    #[error("BTF: type {id} at offset {offset} has its name at {name_off}, outside the string section")]
    NameOffset { id: u32, offset: usize, name_off: u32 },
    #[error("BTF: type {id} does not exist, yet type {referrer} refers to it")]
    NoTypeId { id: u32, referrer: u32 },
    #[error("BTF: more than {limit} typedefs and qualifiers in a row, starting at type {id}")]
    ModifierChain { id: u32, limit: u32 },
    #[error("BTF: there is no struct {0} with members")]
    NoStruct(String),
    #[error("BTF: struct {type_name} has no member {path}: {component:?} is not there")]
    NoMember { type_name: String, path: String, component: String },
    #[error("BTF: struct {type_name} has no member {path}: {component:?} is of kind {kind}, without members")]
    NoMembersInside { type_name: String, path: String, component: String, kind: &'static str },
    #[error("BTF: member {path} of struct {type_name} is a bit field and has no byte offset of its own")]
    BitField { type_name: String, path: String },
    #[error("BTF: member {path} of struct {type_name} lies {bits} bits in, more than 32 bits of bytes")]
    OffsetRange { type_name: String, path: String, bits: u64 },
}
