//! The bytes of BTF as `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h` lay them out:
//! header, kinds, type records, members.
//!
//! Every function here is total and reads native byte order. Nothing here follows a reference from
//! one type to another; that is the parent module's part.

use super::error::BtfError;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// The fields that version 1 began with; whatever a newer header appends is skipped by its `hdr_len`.
const HEADER_LEN: usize = 24;
/// `struct btf_type`, which every type record starts with.
const RECORD_LEN: usize = 12;

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_ne_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// The two sections of a blob.
pub(super) struct Sections<'a> {
    pub types: &'a [u8],
    /// Where `types` begins in the blob, so that errors can name offsets in the blob.
    pub types_offset: usize,
    /// Not empty; the first and the last byte are zero.
    pub strings: &'a [u8],
}

impl<'a> Sections<'a> {
    pub fn locate(blob: &'a [u8]) -> Result<Self, BtfError> {
        let truncated = BtfError::Truncated { part: "header", offset: 0, len: blob.len() };
        let header = blob.first_chunk::<HEADER_LEN>().ok_or(truncated.clone())?;
        let magic = u16::from_ne_bytes([header[0], header[1]]);
        if magic == MAGIC.swap_bytes() {
            return Err(BtfError::ByteOrder);
        }
        if magic != MAGIC {
            return Err(BtfError::Magic(magic));
        }
        if header[2] != VERSION {
            return Err(BtfError::Version(header[2]));
        }
        let field = |offset| u32_at(header, offset).map(|value| value as usize).ok_or(truncated.clone());
        let header_len = field(4)?;
        if header_len < HEADER_LEN {
            return Err(BtfError::HeaderLength(header_len));
        }
        let section = |part, offset: usize, len: usize| {
            // Offsets count from the end of the header.
            let start = header_len.saturating_add(offset);
            let bytes = blob.get(start..start.saturating_add(len));
            bytes.map(|bytes| (start, bytes)).ok_or(BtfError::Truncated {
                part,
                offset: start,
                len: blob.len(),
            })
        };
        let (types_offset, types) = section("type section", field(8)?, field(12)?)?;
        let (strings_offset, strings) = section("string section", field(16)?, field(20)?)?;
        if strings.first() != Some(&0) || strings.last() != Some(&0) {
            return Err(BtfError::Strings(strings_offset));
        }
        Ok(Self { types, types_offset, strings })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Type id 0, which has no record.
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    pub const COUNT: usize = Self::Enum64 as usize + 1;

    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::DataSec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Int => "int",
            Self::Ptr => "pointer",
            Self::Array => "array",
            Self::Struct => "struct",
            Self::Union => "union",
            Self::Enum => "enum",
            Self::Fwd => "forward declaration",
            Self::Typedef => "typedef",
            Self::Volatile => "volatile",
            Self::Const => "const",
            Self::Restrict => "restrict",
            Self::Func => "function",
            Self::FuncProto => "function prototype",
            Self::Var => "variable",
            Self::DataSec => "data section",
            Self::Float => "float",
            Self::DeclTag => "declaration tag",
            Self::TypeTag => "type tag",
            Self::Enum64 => "enum64",
        }
    }

    /// Whether the kind only wraps another type: names it or qualifies it.
    pub fn is_modifier(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }

    /// Bytes that follow the common part of a record.
    fn payload_len(self, vlen: u32) -> usize {
        let vlen = vlen as usize;
        match self {
            Self::Int | Self::Var | Self::DeclTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::DataSec | Self::Enum64 => vlen.saturating_mul(12),
            Self::Enum | Self::FuncProto => vlen.saturating_mul(8),
            Self::Void
            | Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => 0,
        }
    }
}

/// One type record, decoded in place.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub id: u32,
    pub name_off: u32,
    pub kind: Kind,
    pub kind_flag: bool,
    /// How many members, enumerators or parameters `payload` holds.
    pub vlen: u32,
    /// A size for kinds that have one, else the id of the type that this one refers to.
    pub size_or_type: u32,
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    pub const VOID: Self = Self {
        id: 0,
        name_off: 0,
        kind: Kind::Void,
        kind_flag: false,
        vlen: 0,
        size_or_type: 0,
        payload: &[],
    };

    /// Reads the record of type `id` at `offset` of the type section.
    pub fn read(sections: &Sections<'a>, id: u32, offset: usize) -> Result<Self, BtfError> {
        let Sections { types, types_offset, strings } = sections;
        let blob_offset = types_offset.saturating_add(offset);
        let truncated =
            BtfError::Truncated { part: "type record", offset: blob_offset, len: types_offset + types.len() };
        let rest = types.get(offset..).unwrap_or_default();
        let (Some(name_off), Some(info), Some(size_or_type)) =
            (u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8))
        else {
            return Err(truncated);
        };
        // The format first gave 16 bits to the count and 5 to the kind; newer kernels widen both into
        // bits that had to be zero before, so the wide reading fits every kernel.
        let vlen = info & 0x00ff_ffff;
        let number = (info >> 24) & 0x7f;
        let Some(kind) = Kind::from_number(number) else {
            return Err(BtfError::UnknownKind { id, offset: blob_offset, kind: number });
        };
        if name_off as usize >= strings.len() {
            return Err(BtfError::NameOffset { id, offset: blob_offset, name_off });
        }
        let end = RECORD_LEN.saturating_add(kind.payload_len(vlen));
        let payload = rest.get(RECORD_LEN..end).ok_or(truncated)?;
        Ok(Self { id, name_off, kind, kind_flag: info >> 31 == 1, vlen, size_or_type, payload })
    }

    /// Bytes of the whole record: the next one starts right behind.
    pub fn len(&self) -> usize {
        RECORD_LEN + self.payload.len()
    }

    pub fn has_members(&self) -> bool {
        matches!(self.kind, Kind::Struct | Kind::Union)
    }

    /// The members of a struct or union; nothing for any other kind.
    pub fn members(&self) -> impl Iterator<Item = Member> + use<'a> {
        let bytes = if self.has_members() { self.payload } else { &[] };
        let kind_flag = self.kind_flag;
        bytes.chunks_exact(12).filter_map(move |entry| {
            let offset = u32_at(entry, 8)?;
            // With the kind flag the upper 8 bits hold the width of a bit field, 0 for other members.
            let (bit_offset, width) =
                if kind_flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            Some(Member {
                name_off: u32_at(entry, 0)?,
                type_id: u32_at(entry, 4)?,
                bit_offset: u64::from(bit_offset),
                is_bit_field: width != 0,
            })
        })
    }

    /// Whether this is an int that does not fill its bytes: how a bit field was written before the
    /// kind flag existed.
    pub fn is_partial_int(&self) -> bool {
        let encoding = if self.kind == Kind::Int { u32_at(self.payload, 0) } else { None };
        encoding.is_some_and(|encoding| {
            let (start, bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
            start != 0 || u64::from(bits) != u64::from(self.size_or_type) * 8
        })
    }
}

#[derive(Clone, Copy)]
pub(super) struct Member {
    pub name_off: u32,
    pub type_id: u32,
    pub bit_offset: u64,
    pub is_bit_field: bool,
}
