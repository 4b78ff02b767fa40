//! A reader of BTF, the kernel's description of its own types (`/sys/kernel/btf/vmlinux`).
//!
//! The kernel programs carry no relocations, so the agent looks up where each kernel member lies,
//! what the kernel's enumerators are worth and how many arguments a tracepoint passes, before it
//! loads them. This module answers those questions from the bytes alone: it opens no file, and knows
//! neither which members are needed nor what is done with them.
//!
//! The blob is read as hostile: no input makes it panic, recurse or allocate beyond a small multiple
//! of the blob's size. It keeps two `u32` per type and finds names by scanning those of a kind,
//! because some hundred lookups at start-up do not pay for an index of 150 000 names. Split BTF (that
//! of kernel modules) is not read.

mod error;
mod format;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;

pub use self::error::BtfError;
use self::format::{Kind, Member, Record, Sections, u32_at};

/// The kernel itself follows no longer chain of typedefs and qualifiers (`MAX_RESOLVE_DEPTH`).
const MODIFIER_LIMIT: u32 = 32;

/// An index over the bytes of one BTF blob.
pub struct Btf<'a> {
    sections: Sections<'a>,
    /// Where the record of type `i + 1` begins in the type section; all of them have been read once.
    offsets: Vec<u32>,
    /// The ids of the types of each kind, in order: names are looked for among these.
    by_kind: [Vec<u32>; Kind::COUNT],
}

impl fmt::Debug for Btf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf").field("types", &self.offsets.len()).finish_non_exhaustive()
    }
}

impl<'a> Btf<'a> {
    /// Reads the header and every type record once, and refuses what it cannot read whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let sections = Sections::locate(bytes)?;
        let mut offsets = Vec::new();
        let mut by_kind = [const { Vec::new() }; Kind::COUNT];
        let mut offset: u32 = 0;
        while (offset as usize) < sections.types.len() {
            let id = (offsets.len() as u32).saturating_add(1);
            let record = Record::read(&sections, id, offset as usize)?;
            offsets.push(offset);
            by_kind[record.kind as usize].push(id);
            // A section's length is a `u32`, and the record lies within the section.
            offset = offset.saturating_add(record.len() as u32);
        }
        Ok(Self { sections, offsets, by_kind })
    }

    /// Byte offset of a member from the beginning of struct `type_name`.
    ///
    /// `path` names members with dots between them (`sk_lock.owned`). Members of anonymous structs and
    /// unions are named as in C, as if they were the outer type's own. Typedefs and qualifiers on the
    /// way are looked through; pointers and arrays are not. A bit field is refused.
    pub fn member_offset(&self, type_name: &str, path: &str) -> Result<u32, BtfError> {
        let names = || (type_name.to_owned(), path.to_owned());
        let mut container = self.find_struct(type_name)?;
        let mut bits: u64 = 0;
        let mut components = path.split('.').peekable();
        while let Some(component) = components.next() {
            let Some(member) = self.find_member(&container, component)? else {
                let (type_name, path) = names();
                return Err(BtfError::NoMember { type_name, path, component: component.to_owned() });
            };
            bits = bits.saturating_add(member.bit_offset);
            let inner = self.resolve(member.type_id, container.id)?;
            if components.peek().is_some() {
                if !inner.has_members() {
                    let ((type_name, path), kind) = (names(), inner.kind.name());
                    let component = component.to_owned();
                    return Err(BtfError::NoMembersInside { type_name, path, component, kind });
                }
            } else if member.is_bit_field || inner.is_partial_int() || !bits.is_multiple_of(8) {
                let (type_name, path) = names();
                return Err(BtfError::BitField { type_name, path });
            }
            container = inner;
        }
        u32::try_from(bits / 8).map_err(|_| {
            let (type_name, path) = names();
            BtfError::OffsetRange { type_name, path, bits }
        })
    }

    /// The enumerators of `enum name`, in the order of their declaration.
    ///
    /// `None` if the enum is missing, has no enumerators or cannot be read. Enums of signed 32 bits are
    /// marked as such only by compilers and kernels from 6.0 on: before, -1 reads as 4294967295. Unsigned
    /// 64-bit values beyond `i64::MAX` wrap.
    pub fn enum_values(&self, name: &str) -> Option<Vec<(String, i64)>> {
        let mut enums = self.named(name, Kind::Enum).chain(self.named(name, Kind::Enum64));
        let record = enums.find(|record| record.vlen > 0)?;
        // Enumerators have distinct names, so together these cannot be longer than the section that holds
        // them; a blob that says otherwise would make a short enum ask for endless memory.
        let mut budget = self.sections.strings.len();
        let mut values = Vec::new();
        for entry in record.payload.chunks_exact(if record.kind == Kind::Enum64 { 12 } else { 8 }) {
            let name = self.string(u32_at(entry, 0)?)?;
            budget = budget.checked_sub(name.len() + 1)?;
            let low = u32_at(entry, 4)?;
            let value = match record.kind {
                Kind::Enum64 => (u64::from(u32_at(entry, 8)?) << 32 | u64::from(low)) as i64,
                _ if record.kind_flag => i64::from(low as i32),
                _ => i64::from(low),
            };
            values.push((name.to_owned(), value));
        }
        Some(values)
    }

    /// How many arguments the tracepoint `name` passes to a raw tracepoint program.
    ///
    /// That is the prototype behind `btf_trace_NAME` without its leading `void *`. `None` if this
    /// kernel has no such tracepoint.
    pub fn tracepoint_args(&self, name: &str) -> Option<usize> {
        let typedef = format!("btf_trace_{name}");
        self.named(&typedef, Kind::Typedef).find_map(|record| {
            let pointer = self.resolve(record.id, 0).ok().filter(|record| record.kind == Kind::Ptr)?;
            let prototype = self.resolve(pointer.size_or_type, pointer.id).ok()?;
            let is_prototype = prototype.kind == Kind::FuncProto;
            is_prototype.then_some(prototype.vlen as usize)?.checked_sub(1)
        })
    }

    /// Whether the blob describes a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.named(name, Kind::Func).next().is_some()
    }

    fn find_struct(&self, name: &str) -> Result<Record<'a>, BtfError> {
        self.named(name, Kind::Struct)
            .find(|record| record.vlen > 0)
            .ok_or_else(|| BtfError::NoStruct(name.to_owned()))
    }

    /// Finds a member in `container` or in the anonymous members below it; its offset counts from
    /// the beginning of `container`.
    fn find_member(&self, container: &Record<'a>, name: &str) -> Result<Option<Member>, BtfError> {
        // A queue instead of recursion. Each type is entered once: what it does not hold at one place it
        // does not hold at another, and a blob may nest a type in itself.
        let mut queue = vec![(*container, 0)];
        let mut entered = HashSet::from([container.id]);
        let mut next = 0;
        while let Some(&(container, base)) = queue.get(next) {
            next += 1;
            for member in container.members() {
                let bit_offset = member.bit_offset.saturating_add(base);
                if self.is_named(member.name_off, name) {
                    return Ok(Some(Member { bit_offset, ..member }));
                }
                if self.is_anonymous(member.name_off) {
                    let inner = self.resolve(member.type_id, container.id)?;
                    if inner.has_members() && entered.insert(inner.id) {
                        queue.push((inner, bit_offset));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The type behind any typedefs and qualifiers of type `id`, which `referrer` refers to.
    fn resolve(&self, id: u32, referrer: u32) -> Result<Record<'a>, BtfError> {
        let mut record = self.record(id, referrer)?;
        for _ in 0..=MODIFIER_LIMIT {
            if !record.kind.is_modifier() {
                return Ok(record);
            }
            record = self.record(record.size_or_type, record.id)?;
        }
        Err(BtfError::ModifierChain { id, limit: MODIFIER_LIMIT })
    }

    fn record(&self, id: u32, referrer: u32) -> Result<Record<'a>, BtfError> {
        let Some(index) = id.checked_sub(1) else { return Ok(Record::VOID) };
        let offset = self.offsets.get(index as usize).ok_or(BtfError::NoTypeId { id, referrer })?;
        Record::read(&self.sections, id, *offset as usize)
    }

    /// All types of this name and kind, in the order of their ids.
    fn named(&self, name: &str, kind: Kind) -> impl Iterator<Item = Record<'a>> {
        let records = self.by_kind[kind as usize].iter().filter_map(|&id| self.record(id, 0).ok());
        records.filter(move |record| self.is_named(record.name_off, name))
    }

    fn is_anonymous(&self, name_off: u32) -> bool {
        self.sections.strings.get(name_off as usize) == Some(&0)
    }

    /// An anonymous object has no name, not an empty one.
    fn is_named(&self, name_off: u32, name: &str) -> bool {
        let rest = self.sections.strings.get(name_off as usize..).unwrap_or_default();
        !name.is_empty() && rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn string(&self, name_off: u32) -> Option<&'a str> {
        let rest = self.sections.strings.get(name_off as usize..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}
