//! What the headers of model files tell: where each tensor begins and ends.
//!
//! A reader that picks single tensors (a rank taking its share) should not pay for the next one, so prefetch of
//! a stream that began inside a file stops at the tensor's end until the stream has crossed one.
//! Formats: safetensors (8-byte little-endian header length, JSON with `data_offsets`), GGUF v2/v3 (key-value
//! pairs, then tensor infos with offsets from the aligned data start). A header that can't be parsed, or is longer than
//! what came by, simply gives no advice.
//!
//! Only the offsets are ever kept: read as a tree of values, a header can take 25 times its size, beside the memory budget.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::ops::Range;

/// More tensors than any known model has; beyond it the header gives no advice.
const TENSORS_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
enum Format {
    #[default]
    Plain,
    Safetensors,
    Gguf,
}

/// The borders of tensors in one file, as far as known.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    format: Format,
    /// Sorted, unique offsets at which tensors begin; empty until learned.
    starts: Vec<u64>,
}

impl Layout {
    pub(crate) fn for_key(key: &str) -> Self {
        let format = match key.rsplit('.').next() {
            Some("safetensors") => Format::Safetensors,
            Some("gguf") => Format::Gguf,
            _ => Format::Plain,
        };
        Self { format, starts: Vec::new() }
    }

    /// Learns from the first bytes of the file; does nothing when it knows already or the header is not whole.
    pub(crate) fn learn(&mut self, head: &[u8]) {
        if !self.starts.is_empty() {
            return;
        }
        let starts = match self.format {
            Format::Plain => None,
            Format::Safetensors => safetensors(head),
            Format::Gguf => gguf(head),
        };
        let Some(mut starts) = starts else { return };
        starts.sort_unstable();
        starts.dedup();
        self.starts = starts;
    }

    /// The tensor that holds `offset`; the whole file when nothing is known of it.
    pub(crate) fn tensor(&self, offset: u64, size: u64) -> Range<u64> {
        let after = self.starts.partition_point(|&s| s <= offset);
        let start = if after == 0 { 0 } else { self.starts[after - 1] };
        let end = self.starts.get(after).copied().unwrap_or(size).min(size);
        start..end
    }
}

fn safetensors(head: &[u8]) -> Option<Vec<u64>> {
    let length = u64::from_le_bytes(head.get(..8)?.try_into().ok()?);
    let data = 8u64.checked_add(length)?;
    let json = head.get(8..usize::try_from(data).ok()?)?;
    let Begins(begins) = serde_json::from_slice(json).ok()?;
    begins.into_iter().map(|begin| begin.checked_add(data)).collect()
}

/// Where tensors begin, after the header, out of the JSON as it goes by.
struct Begins(Vec<u64>);

/// What is looked at of one tensor; `__metadata__` has none of it.
#[derive(serde::Deserialize)]
struct Tensor {
    data_offsets: Option<(u64, u64)>,
}

impl<'de> Deserialize<'de> for Begins {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Header;

        impl<'de> Visitor<'de> for Header {
            type Value = Begins;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut tensors: M) -> Result<Begins, M::Error> {
                let mut begins = Vec::new();
                while let Some((IgnoredAny, tensor)) = tensors.next_entry::<IgnoredAny, Tensor>()? {
                    begins.extend(tensor.data_offsets.map(|(begin, _)| begin));
                    if begins.len() > TENSORS_MAX {
                        return Err(M::Error::custom("too many tensors"));
                    }
                }
                Ok(Begins(begins))
            }
        }

        json.deserialize_map(Header)
    }
}

/// Reads GGUF's little-endian fields; every step checks its bounds.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take(&mut self, count: u64) -> Option<&[u8]> {
        let end = self.at.checked_add(usize::try_from(count).ok()?)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&[u8]> {
        let length = self.u64()?;
        self.take(length)
    }

    /// Skips a value of the given type; returns it when it is a u32 (the alignment is one).
    fn value(&mut self, kind: u32) -> Option<Option<u32>> {
        match kind {
            0 | 1 | 7 => self.take(1).map(|_| None),
            2 | 3 => self.take(2).map(|_| None),
            4 => self.u32().map(Some),
            5 | 6 => self.take(4).map(|_| None),
            8 => self.string().map(|_| None),
            9 => self.array().map(|()| None),
            10..=12 => self.take(8).map(|_| None),
            _ => None,
        }
    }

    fn array(&mut self) -> Option<()> {
        let kind = self.u32()?;
        let count = self.u64()?;
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                for _ in 0..count {
                    self.string()?;
                }
                return Some(());
            }
            // Arrays of arrays appear in no known model; giving up keeps the parser free of recursion.
            _ => return None,
        };
        self.take(count.checked_mul(width)?).map(|_| ())
    }
}

fn gguf(head: &[u8]) -> Option<Vec<u64>> {
    let mut fields = Fields { bytes: head, at: 0 };
    if fields.take(4)? != b"GGUF" || !matches!(fields.u32()?, 2 | 3) {
        return None;
    }
    let tensors = fields.u64()?;
    let pairs = fields.u64()?;
    if tensors > TENSORS_MAX as u64 {
        return None;
    }
    let mut alignment = 32u64;
    for _ in 0..pairs {
        let is_alignment = fields.string()? == b"general.alignment";
        let kind = fields.u32()?;
        if let (true, Some(value)) = (is_alignment, fields.value(kind)?) {
            alignment = u64::from(value).max(1);
        }
    }
    let mut offsets = Vec::new();
    for _ in 0..tensors {
        fields.string()?;
        let dimensions = u64::from(fields.u32()?);
        fields.take(dimensions.checked_mul(8)?)?;
        fields.u32()?;
        offsets.push(fields.u64()?);
    }
    let data = (fields.at as u64).checked_next_multiple_of(alignment)?;
    offsets.iter().map(|o| o.checked_add(data)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(key: &str, head: &[u8]) -> Layout {
        let mut layout = Layout::for_key(key);
        layout.learn(head);
        layout
    }

    #[test]
    fn safetensors_header_gives_the_tensors() {
        let json = br#"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}"#;
        let mut head = (json.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(json);
        let data = head.len() as u64;
        let known = layout("m.safetensors", &head);
        assert_eq!(known.tensor(data, data + 32), data..data + 16);
        assert_eq!(known.tensor(data + 20, data + 32), data + 16..data + 32);
        assert_eq!(known.tensor(3, data + 32), 0..data);
    }

    #[test]
    fn gguf_header_gives_the_tensors() {
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend(2u64.to_le_bytes());
        head.extend(1u64.to_le_bytes());
        head.extend(17u64.to_le_bytes());
        head.extend(b"general.alignment");
        head.extend(4u32.to_le_bytes());
        head.extend(64u32.to_le_bytes());
        for offset in [0u64, 128] {
            head.extend(1u64.to_le_bytes());
            head.extend(b"t");
            head.extend(1u32.to_le_bytes());
            head.extend(8u64.to_le_bytes());
            head.extend(0u32.to_le_bytes());
            head.extend(offset.to_le_bytes());
        }
        let data = (head.len() as u64).next_multiple_of(64);
        let known = layout("m.gguf", &head);
        assert_eq!(known.tensor(data + 5, data + 256), data..data + 128);
    }

    #[test]
    fn metadata_of_any_shape_does_not_hide_the_tensors() {
        let json = format!(
            r#"{{"__metadata__":{{"a":[{}0],"b":{{"c":null}}}},"x":{{"shape":[4],"data_offsets":[0,16],"more":1.5}}}}"#,
            "0,".repeat(100_000)
        );
        let head = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
        let data = head.len() as u64;
        assert_eq!(layout("m.safetensors", &head).tensor(data + 3, data + 16), data..data + 16);
    }

    #[test]
    fn rubbish_gives_no_advice() {
        for key in ["m.safetensors", "m.gguf"] {
            for head in [&b""[..], &[0xff; 64], b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
                assert_eq!(layout(key, head).tensor(10, 100), 0..100);
            }
        }
    }
}
