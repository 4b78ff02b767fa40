//! Assembles BTF blobs, valid ones and, where a test asks for them, impossible ones.

use super::super::format::Kind;

pub(super) struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    last_id: u32,
}

/// A member of a struct with the kind flag; `width` is that of a bit field, 0 for other members.
pub(super) struct Field<'a> {
    pub name: &'a str,
    pub type_id: u32,
    pub bit_offset: u32,
    pub width: u32,
}

impl Blob {
    pub fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], last_id: 0 }
    }

    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        offset
    }

    /// The id that the next record will have, for types that refer to themselves.
    pub fn next_id(&self) -> u32 {
        self.last_id + 1
    }

    pub fn record(
        &mut self,
        name: &str,
        kind: Kind,
        flag: bool,
        vlen: u32,
        size_or_type: u32,
        rest: &[u32],
    ) -> u32 {
        let name_off = self.string(name);
        self.raw(name_off, u32::from(flag) << 31 | (kind as u32) << 24 | vlen, size_or_type, rest)
    }

    pub fn raw(&mut self, name_off: u32, info: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        for word in [name_off, info, size_or_type].iter().chain(rest) {
            self.types.extend(word.to_ne_bytes());
        }
        self.last_id += 1;
        self.last_id
    }

    pub fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.record(name, Kind::Int, false, 0, bytes, &[bytes * 8])
    }

    /// A pointer, a typedef, a qualifier, a function: any record that is a name and a type.
    pub fn wrap(&mut self, kind: Kind, name: &str, inner: u32) -> u32 {
        self.record(name, kind, false, 0, inner, &[])
    }

    pub fn array(&mut self, element: u32, len: u32) -> u32 {
        self.record("", Kind::Array, false, 0, 0, &[element, element, len])
    }

    /// A struct or union without the kind flag; members are name, type and bit offset.
    pub fn composite(&mut self, kind: Kind, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let mut words = Vec::new();
        for &(name, type_id, bit_offset) in members {
            words.extend([self.string(name), type_id, bit_offset]);
        }
        self.record(name, kind, false, members.len() as u32, 64, &words)
    }

    /// A struct with the kind flag.
    pub fn fields(&mut self, name: &str, fields: &[Field<'_>]) -> u32 {
        let mut words = Vec::new();
        for &Field { name, type_id, bit_offset, width } in fields {
            words.extend([self.string(name), type_id, width << 24 | bit_offset]);
        }
        self.record(name, Kind::Struct, true, fields.len() as u32, 64, &words)
    }

    pub fn enumeration(&mut self, name: &str, signed: bool, values: &[(&str, i32)]) -> u32 {
        let mut words = Vec::new();
        for &(name, value) in values {
            words.extend([self.string(name), value as u32]);
        }
        self.record(name, Kind::Enum, signed, values.len() as u32, 4, &words)
    }

    pub fn enumeration64(&mut self, name: &str, values: &[(&str, i64)]) -> u32 {
        let mut words = Vec::new();
        for &(name, value) in values {
            words.extend([self.string(name), value as u32, (value >> 32) as u32]);
        }
        self.record(name, Kind::Enum64, true, values.len() as u32, 8, &words)
    }

    pub fn prototype(&mut self, arguments: &[u32]) -> u32 {
        let words: Vec<u32> = arguments.iter().flat_map(|&argument| [0, argument]).collect();
        self.record("", Kind::FuncProto, false, arguments.len() as u32, 0, &words)
    }

    pub fn finish(self) -> Vec<u8> {
        let (types_len, strings_len) = (self.types.len() as u32, self.strings.len() as u32);
        let mut bytes = 0xeb9fu16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes
    }
}
