//! Random damage to every file of a small checkpoint: it is refused, or it does not matter. Never a panic, a wrong tensor
//! or a file that should not be there. The seed is printed when a case fails; TULU_QUANT_SEED sets it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod made;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tulu_quantize::gguf::Gguf;
use tulu_quantize::{Checkpoint, Class, Error, Ftype, Options, Plan, Recipe, Silent, convert};

fn small(shards: usize) -> made::Checkpoint {
    made::Checkpoint { hidden: 8, ffn: 16, layers: 1, heads: 2, kv_heads: 1, vocab: 260, shards, ..Default::default() }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Half of the time near one of the ends, where the structure is.
    fn place(&mut self, len: usize) -> usize {
        match self.below(4) {
            0 => self.below(len.min(2000)),
            1 => len - 1 - self.below(len.min(2000)),
            _ => self.below(len),
        }
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) -> String {
        let at = self.place(bytes.len());
        let n = (1 + self.below(16)).min(bytes.len() - at);
        match self.below(8) {
            0..=2 => {
                let bit = self.below(8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
            3 => {
                bytes[at] = self.next() as u8;
                format!("byte {at} is {}", bytes[at])
            }
            4 => {
                let with = [0, 0xff, 0x7f, b'9', b'.'][self.below(5)];
                bytes[at..at + n].fill(with);
                format!("{n} bytes from {at} are {with}")
            }
            5 => {
                drop(bytes.drain(at..at + n));
                format!("{n} bytes from {at} removed")
            }
            6 => {
                let again = bytes[at..at + n].to_vec();
                bytes.splice(at..at, again);
                format!("{n} bytes from {at} doubled")
            }
            _ => {
                bytes.truncate(at);
                format!("cut at {at}")
            }
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("TULU_QUANT_SEED").ok().and_then(|s| s.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// Says which case it was when a test dies of it.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the case was: {}", self.0);
        }
    }
}

fn run(dir: &Path, out: &Path) -> Result<Vec<u8>, Error> {
    let source = Checkpoint::open(dir)?;
    let plan = Plan::new(&source, &[(Ftype::F32, out.join("out.gguf"))], &Recipe::default())?;
    convert(&source, &plan, Options { threads: NonZeroUsize::MIN, replace: false, reference_kernels: false }, &Silent)?;
    let path = out.join("out.gguf");
    Gguf::open(&path)?;
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    Ok(bytes)
}

/// Damages `file` `times` times; `judge` gets the damaged bytes and what came of them, when it was not refused. Answers
/// how many were not.
fn mutate(dir: &Path, file: &str, times: usize, judge: impl Fn(&[u8], &[u8])) -> usize {
    let seed = seed();
    let mut random = Random(seed);
    let out = tempfile::tempdir().unwrap();
    let path = dir.join(file);
    let good = fs::read(&path).unwrap();
    let mut passed = 0;
    for i in 0..times {
        let mut bytes = good.clone();
        let what = random.damage(&mut bytes);
        let case = Case(format!("TULU_QUANT_SEED={seed}, number {i}: {file}: {what}"));
        fs::write(&path, &bytes).unwrap();
        let started = Instant::now();
        match run(dir, out.path()) {
            Ok(converted) => {
                passed += 1;
                judge(&bytes, &converted);
            }
            Err(err) => {
                assert_eq!(err.code.class(), Class::Input, "{err}");
                assert!(!err.to_string().is_empty());
            }
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
        drop(case);
    }
    fs::write(path, good).unwrap();
    println!("{file}: {passed} of {times} did not matter");
    passed
}

#[test]
fn a_damaged_bin_is_refused_or_converts_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    small(1).write_bin(dir.path());
    let good = run(dir.path(), dir.path()).unwrap();
    let passed = mutate(dir.path(), "pytorch_model.bin", 800, |_, converted| assert!(converted == good));
    assert!(passed < 400, "{passed}");
}

#[test]
fn a_damaged_safetensors_is_refused_or_only_the_weights_that_were_hit_differ() {
    let dir = tempfile::tempdir().unwrap();
    small(1).write(dir.path());
    let (file, path) = ("model.safetensors", dir.path().join("good.gguf"));
    let good = run(dir.path(), dir.path()).unwrap();
    fs::write(&path, &good).unwrap();
    let before = fs::read(dir.path().join(file)).unwrap();
    let described = Gguf::open(&path).unwrap();
    let header = |bytes: &[u8]| 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    mutate(dir.path(), file, 800, |after, converted| {
        // a weight has two bytes there and four here
        let hit = before.iter().zip(after).skip(header(&before)).filter(|(a, b)| a != b).count();
        let differ = |start: usize, len: usize| {
            let weights = good[start..start + len].chunks(4).zip(converted[start..start + len].chunks(4));
            weights.filter(|(a, b)| a != b).count()
        };
        let all: usize = described.tensors.iter().map(|t| differ(t.offset as usize, t.bytes as usize)).sum();
        assert!(all <= hit, "{all} weights differ, {hit} bytes were hit");
        assert_eq!(converted.len(), good.len());
    });
}

#[test]
fn the_files_beside_the_weights_are_refused_or_convert() {
    let dir = tempfile::tempdir().unwrap();
    small(2).write_bin(dir.path());
    for file in ["pytorch_model.bin.index.json", "config.json", "tokenizer.model", "tokenizer_config.json"] {
        mutate(dir.path(), file, 150, |_, _| {});
    }
}
