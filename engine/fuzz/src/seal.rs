//! Makes the checksums of damaged files right again, so that damage reaches what stands behind them.
//!
//! Checksums tell a torn file from a whole one; they do not make bytes true. What stands behind them is held to
//! the same promise: an answer or an error, within bounds.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// A snapshot: four sections' checksums in the header, and the header's own at its end. The last section is made to end with the file.
pub fn snapshot(file: &mut [u8]) -> Option<()> {
    let header = u32_at(file, 12)?;
    let mut at = header;
    for section in 0..4 {
        let length_at = 56 + section * 16;
        let told = u32_at(file, length_at)?;
        let rest = file.len().checked_sub(at)?;
        let length = if section == 3 { rest } else { told.min(rest) };
        let sum = xxh3_64(&file[at..at + length]);
        let told = file.get_mut(length_at..length_at + 16)?;
        told[..8].copy_from_slice(&(length as u64).to_le_bytes());
        told[8..].copy_from_slice(&sum.to_le_bytes());
        at += length;
    }
    let body = header.checked_sub(8)?;
    let sum = xxh3_64(file.get(..body)?);
    file.get_mut(body..header)?.copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// A cache's meta file: identity, head, and each record's own.
pub fn meta(file: &mut [u8]) -> Option<()> {
    let identity_len = u32_at(file, 28)?;
    let identity_end = 64usize.checked_add(identity_len)?;
    if let Some(identity) = file.get(64..identity_end) {
        let sum = xxh3_64(identity);
        file[32..40].copy_from_slice(&sum.to_le_bytes());
    }
    let sum = xxh3_64(file.get(..56)?);
    file.get_mut(56..64)?.copy_from_slice(&sum.to_le_bytes());
    let records = file.get_mut(identity_end.next_multiple_of(32)..)?;
    for (block, record) in records.chunks_exact_mut(32).enumerate() {
        let sum = xxh3_64_with_seed(&record[..28], block as u64) as u32;
        record[28..].copy_from_slice(&sum.to_le_bytes());
    }
    Some(())
}
