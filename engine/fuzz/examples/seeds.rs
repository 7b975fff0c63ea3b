//! Writes the first inputs of the targets whose formats are not text: `cargo run -p headrace-fuzz --example seeds -- fuzz/corpus`.
//!
//! Snapshots and meta files are made by the engine itself, so they have the layout of today; after a change of a format run it again.

use headrace_cache::{BLOCK, Kept, ObjectIdentity};
use headrace_fuzz::engine;
use headrace_snapshot::{Builder, NewEntry, SnapshotHeader};
use std::fs;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let corpus = std::env::args().nth(1).ok_or("usage: seeds CORPUS")?;
    let corpus = Path::new(&corpus);
    snapshots(corpus)?;
    metas(corpus)?;
    heads(corpus)?;
    handout(corpus)?;
    fuse(corpus)
}

fn write(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let directory = corpus.join(target);
    fs::create_dir_all(&directory)?;
    Ok(fs::write(directory.join(name), bytes)?)
}

/// Both as it is and to be sealed after each mutation.
fn write_both(corpus: &Path, target: &str, name: &str, file: &[u8]) -> Result<()> {
    for (choice, suffix) in [(0, "plain"), (1, "sealed")] {
        write(corpus, target, &format!("{name}-{suffix}"), &[&[choice], file].concat())?;
    }
    Ok(())
}

fn snapshots(corpus: &Path) -> Result<()> {
    let skipped = ["x//y", "..", "a", "a/", "a/b", "nul\0", "a/b"];
    let lists: [(&str, &[&str], Option<&str>); 4] = [
        ("empty", &[], None),
        ("flat", &["config.json", "model-00001.safetensors", "model-00002.safetensors"], Some("v1")),
        ("names", &["a!", "a-b", "a/", "a/x", "a0", "模型/权重.bin", "deep/1/2/3/4/5/6/f"], None),
        ("skipped", &skipped, Some("null")),
    ];
    let scratch = engine::scratch();
    for (name, keys, version) in lists {
        let path = scratch.path().join(name);
        let header = SnapshotHeader {
            endpoint: "http://fuzz".into(),
            bucket: "b".into(),
            prefix: "p/".into(),
            created_ns: 1,
            versioned: version.is_some(),
        };
        let builder = Builder::create(&path, header)?;
        for (size, key) in (1000..).zip(keys) {
            builder.push(0, &[NewEntry { key, size, mtime_ns: 5, etag: "\"e\"", version, archived: size == 1001 }])?;
        }
        builder.finish()?;
        write_both(corpus, "snapshot", name, &fs::read(&path)?)?;
    }
    Ok(())
}

fn metas(corpus: &Path) -> Result<()> {
    let size = 2 * BLOCK + 16_389;
    let blocks: [&[u64]; 4] = [&[0], &[1], &[0, 2], &[0, 1, 2]];
    for (name, present) in ["first", "second", "ends", "whole"].iter().zip(blocks) {
        let scratch = engine::scratch();
        let cache = engine::cache(scratch.path().join("cache"));
        let identity = ObjectIdentity { endpoint: "http://fuzz".into(), bucket: "b".into(), key: "k".into(), pin: "\"e\"".into(), size };
        let file = cache.file(&identity)?;
        for block in present {
            let start = block * BLOCK;
            let kept = file.write(start, &vec![0; (size.min(start + BLOCK) - start) as usize]);
            assert!(matches!(kept, Kept::Yes), "the scratch disk takes it");
        }
        cache.set_pinned(&identity, present.len() == 2)?;
        let id = identity.id().to_string();
        let meta = fs::read(scratch.path().join("cache/objects").join(&id[..2]).join(format!("{id}.meta")))?;
        write_both(corpus, "meta", name, &meta)?;
    }
    Ok(())
}

fn heads(corpus: &Path) -> Result<()> {
    let json = br#"{"__metadata__":{"format":"pt"},"wte.weight":{"dtype":"BF16","shape":[8,4],"data_offsets":[0,64]},"h.0.\u00e9":{"dtype":"F32","shape":[],"data_offsets":[64,68]}}"#;
    let safetensors = [&[0], &(json.len() as u64).to_le_bytes()[..], json].concat();
    write(corpus, "header", "safetensors", &safetensors)?;
    let wide = format!(r#"{{"__metadata__":{{"":[{}0]}},"w":{{"data_offsets":[0,4]}}}}"#, "0,".repeat(3900));
    write(corpus, "header", "wide-metadata", &[&[0], &(wide.len() as u64).to_le_bytes()[..], wide.as_bytes()].concat())?;
    let text = |t: &str| [&(t.len() as u64).to_le_bytes()[..], t.as_bytes()].concat();
    let word = |n: u32| n.to_le_bytes().to_vec();
    let long = |n: u64| n.to_le_bytes().to_vec();
    let mut gguf = vec![vec![1], b"GGUF".to_vec(), word(3), long(2), long(4)];
    gguf.extend([text("general.alignment"), word(4), word(64), text("general.architecture"), word(8), text("llama")]);
    gguf.extend([text("tokens"), word(9), word(8), long(2), text("a"), text("b")]);
    gguf.extend([text("scores"), word(9), word(6), long(2), word(1), word(2)]);
    for (name, offset) in [("token_embd.weight", 0), ("output.weight", 128)] {
        gguf.extend([text(name), word(2), long(8), long(4), word(0), long(offset)]);
    }
    write(corpus, "header", "gguf", &gguf.concat())
}

fn handout(corpus: &Path) -> Result<()> {
    let text = |t: &str| [&(t.len() as u32).to_le_bytes()[..], t.as_bytes()].concat();
    let frame = |kind: u8, body: &[u8]| [&(body.len() as u32 + 1).to_le_bytes()[..], &[kind], body].concat();
    let read = |handle: u32, offset: u64, length: u32| {
        frame(3, &[&handle.to_le_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat())
    };
    let mut session = vec![frame(1, &1u32.to_le_bytes())];
    for (handle, (path, size)) in (1u32..).zip(engine::FILES) {
        session.push(frame(2, &[text("o"), text("v1.snap"), text(path)].concat()));
        write(corpus, "handout", &format!("open-{handle}"), &session.concat())?;
        session.extend([read(handle, size / 2, 4096), frame(4, &handle.to_le_bytes())]);
    }
    session.extend([frame(5, &1u32.to_le_bytes()), read(1, 0, 10), frame(2, &[text("x"), text(""), text("a.bin")].concat())]);
    write(corpus, "handout", "session", &session.concat())
}

fn fuse(corpus: &Path) -> Result<()> {
    let at = |offset: u64, size: u32| [&[0; 8][..], &offset.to_ne_bytes(), &size.to_ne_bytes(), &[0; 20]].concat();
    let request = |opcode: u8, node: u8, body: &[u8]| [&[opcode, node, body.len() as u8], body].concat();
    // Ids follow the keys: 1 a.bin, 2 d, 3 d/empty, 4 d/m.safetensors, 5 d/old.gguf; a node's byte is one more.
    let browse = [
        request(1, 0, b"a.bin\0"),
        request(1, 0, b"d\0"),
        request(1, 3, b"m.safetensors\0"),
        request(1, 3, b"no\0"),
        request(3, 0, &[0; 16]),
        request(27, 3, &[0; 8]),
        request(28, 3, &at(0, 4096)),
        request(44, 0, &[&[1], &at(0, 4096)[1..]].concat()),
        request(29, 3, &[0; 24]),
        request(17, 0, &[]),
    ];
    write(corpus, "fuse", "browse", &browse.concat())?;
    let mut reads = Vec::new();
    for (node, offset) in [(2, 100), (5, 2 << 20), (4, 0), (5, 1 << 20), (6, 0), (37, 0)] {
        reads.extend([request(14, node, &[0; 8]), request(15, node, &at(offset, 4096)), request(18, node, &[0; 24])]);
    }
    reads.extend([
        request(36, 0, &[9; 8]),
        request(2, 2, &[0; 8]),
        request(42, 0, &[&1u64.to_ne_bytes()[..], &[1; 16]].concat()),
        request(16, 2, &[]),
    ]);
    write(corpus, "fuse", "reads", &reads.concat())
}
