//! Random damage to every file of a small checkpoint. The damaged file is refused, or the damage has no effect: no
//! panic, no wrong tensor, no unexpected file. The seed is printed when a case fails; TULU_QUANT_SEED sets it.

use crate::fixtures;
use crate::support::{is_own_process, options};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tulu_quantize::gguf::{Array, Gguf, TensorEntry, Value, encode_header};
use tulu_quantize::{
    Checkpoint, Class, ConvertOptions, Error, Ftype, GgmlType, Imatrix, Plan, QuantizeOptions, Reference, Silent,
    convert, table_problems, verify,
};

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

    /// Returns a random offset; half of the time near one of the ends, where the structure is.
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

/// Prints the case if a test panics in it.
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
    let plan = Plan::new(&source, &[(Ftype::F32, out.join("out.gguf"))], &QuantizeOptions::default())?;
    convert(&source, &plan, options(1), &Silent)?;
    let path = out.join("out.gguf");
    Gguf::open(&path)?;
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    Ok(bytes)
}

/// Damages `file` `times` times, and passes the damaged and the converted bytes to `judge` if the damaged file was not
/// refused. Returns how many were not refused.
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
                assert!(err.file.starts_with(dir), "{err} names no file of the checkpoint");
                assert!(!err.what.is_empty() && !err.fix.is_empty(), "{err}");
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
fn damaged_bin_is_refused_or_converts_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(1).write_bin(dir.path());
    let good = run(dir.path(), dir.path()).unwrap();
    let passed = mutate(dir.path(), "pytorch_model.bin", 800, |_, converted| assert!(converted == good));
    assert!(passed < 400, "{passed}");
}

#[test]
fn damaged_safetensors_is_refused_or_changes_only_the_damaged_weights() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(1).write(dir.path());
    let (file, path) = ("model.safetensors", dir.path().join("good.gguf"));
    let good = run(dir.path(), dir.path()).unwrap();
    fs::write(&path, &good).unwrap();
    let before = fs::read(dir.path().join(file)).unwrap();
    let described = Gguf::open(&path).unwrap();
    let header = |bytes: &[u8]| 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    mutate(dir.path(), file, 800, |after, converted| {
        // a weight has two bytes in the source and four in the output
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

/// A tensor's name, its dimensions, and the bytes of its rows.
type Rows = (String, Vec<u64>, Vec<Vec<u8>>);

/// Metadata and tensors of a file. The rows of a tensor are sorted where `sorted` returns true for its name.
fn contents(gguf: &[u8], sorted: impl Fn(&str) -> bool) -> (Gguf, Vec<Rows>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    fs::write(&path, gguf).unwrap();
    let opened = Gguf::open(&path).unwrap();
    let tensor = |t: &tulu_quantize::gguf::TensorInfo| {
        let bytes = &gguf[t.offset as usize..][..t.bytes as usize];
        let mut rows: Vec<Vec<u8>> = bytes.chunks(4 * t.dims[0] as usize).map(<[u8]>::to_vec).collect();
        if sorted(&t.name) {
            rows.sort();
        }
        (t.name.clone(), t.dims.clone(), rows)
    };
    let tensors = opened.tensors.iter().map(tensor).collect();
    (opened, tensors)
}

/// Numbers of config.json and their keys in a GGUF file.
const NUMBERS: [(&str, &str); 6] = [
    ("num_hidden_layers", "llama.block_count"),
    ("hidden_size", "llama.embedding_length"),
    ("intermediate_size", "llama.feed_forward_length"),
    ("num_attention_heads", "llama.attention.head_count"),
    ("num_key_value_heads", "llama.attention.head_count_kv"),
    ("max_position_embeddings", "llama.context_length"),
];

#[test]
fn damaged_small_file_is_refused_or_changes_no_weight() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(2).write_bin(dir.path());
    let good = run(dir.path(), dir.path()).unwrap();
    mutate(dir.path(), "pytorch_model.bin.index.json", 150, |_, converted| assert!(converted == good));
    let (_, weights) = contents(&good, |_| false);
    for file in ["tokenizer.model", "tokenizer_config.json"] {
        mutate(dir.path(), file, 150, |_, converted| assert!(contents(converted, |_| false).1 == weights));
    }
    // the order of the rows of these two depends on the number of heads
    let by_heads = |name: &str| name.contains("attn_q") || name.contains("attn_k");
    let (_, weights) = contents(&good, by_heads);
    mutate(dir.path(), "config.json", 150, |damaged, converted| {
        let (gguf, found) = contents(converted, by_heads);
        assert!(found == weights);
        let config: serde_json::Value = serde_json::from_slice(damaged).unwrap();
        for (key, name) in NUMBERS {
            let said = config.get(key).and_then(serde_json::Value::as_u64);
            assert!(said.is_none_or(|said| gguf.u32(name).map(u64::from) == Some(said)), "{key}");
        }
    });
}

/// The peak memory of this process in bytes.
#[cfg(target_os = "linux")]
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Every reader of GGUF files refuses or reads a damaged one, without a panic, a hang, or memory beyond the size of the
/// file. Integers are changed more often than other bytes.
#[test]
fn damaged_gguf_is_refused_or_read_by_every_reader() {
    if !is_own_process("fuzz_damage::damaged_gguf_is_refused_or_read_by_every_reader") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint::small(1).write(dir.path());
    let path = dir.path().join("x.gguf");
    let good = run(dir.path(), dir.path()).unwrap();
    let other = dir.path().join("good.gguf");
    fs::write(&other, &good).unwrap();
    let header = usize::try_from(Gguf::open(&other).unwrap().data).unwrap();
    let against = Reference::gguf(Gguf::open(&other).unwrap());
    let (seed, began) = (seed(), Instant::now());
    let mut random = Random(seed);
    #[cfg(target_os = "linux")]
    let before = most_memory();
    let (mut opened, mut converted, mut times) = (0, 0, 0);
    while times < 4000 && began.elapsed() < Duration::from_secs(15) {
        let mut bytes = good.clone();
        let what = match random.below(3) {
            0 => random.damage(&mut bytes),
            _ => {
                // integers can be at any offset: lengths, types, counts, dimensions, offsets
                let at = random.below(header - 8);
                let n = [4, 8][random.below(2)];
                let values =
                    [0, 1, 0x7f, 0xff, 1 << 16, 1 << 31, u32::MAX.into(), 1 << 32, 1 << 40, 1 << 62, 1 << 63, u64::MAX];
                let with = values[random.below(values.len())].wrapping_sub(random.next() % 2);
                bytes[at..at + n].copy_from_slice(&with.to_le_bytes()[..n]);
                format!("{n} bytes at {at} are {with}")
            }
        };
        let case = Case(format!("TULU_QUANT_SEED={seed}, number {times}: {what}"));
        fs::write(&path, &bytes).unwrap();
        let started = Instant::now();
        match Gguf::open(&path) {
            Err(err) => assert_eq!(err.code.class(), Class::Input, "{err}"),
            Ok(gguf) => {
                opened += 1;
                let shown: usize = gguf.pairs.iter().map(|(_, value)| value.to_string().len()).sum();
                assert!(shown < 1 << 20);
                let _ = (gguf.n_params(), gguf.tensor_bytes(), gguf.part(), table_problems(&gguf));
                for against in [None, Some(&against)] {
                    let verdict = verify(&gguf, against, NonZeroUsize::MIN, &Silent).unwrap();
                    assert_eq!(verdict.tensors.len(), gguf.tensors.len());
                }
            }
        }
        let made = Checkpoint::open_gguf(&path, true).and_then(|source| {
            let out = dir.path().join("out.gguf");
            let plan = Plan::new(&source, &[(Ftype::F16, out.clone())], &QuantizeOptions::default())?;
            let options = ConvertOptions { replace: true, ..options(1) };
            convert(&source, &plan, options, &Silent)?;
            Gguf::open(&out)
        });
        match made {
            Ok(_) => converted += 1,
            Err(err) => assert_eq!(err.code.class(), Class::Input, "{err}"),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        times += 1;
        drop(case);
    }
    println!("{times} damaged files: {opened} were read, {converted} converted");
    assert!(opened > 0 && converted < times);
    #[cfg(target_os = "linux")]
    {
        // for a file of 100 kB
        let more = most_memory().saturating_sub(before);
        println!("{more} bytes more were held");
        assert!(more < 96 << 20, "TULU_QUANT_SEED={seed}: {more} bytes more");
    }
}

#[test]
fn damaged_imatrix_is_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.dat");
    // the older form: entries of name, calls, number of values and values; then the chunk count and the data set's name
    let mut good = 3_i32.to_le_bytes().to_vec();
    for name in ["blk.0.attn_q.weight", "blk.0.ffn_up.weight", "output.weight"] {
        good.extend((name.len() as i32).to_le_bytes());
        good.extend(name.as_bytes());
        good.extend(4_i32.to_le_bytes());
        good.extend(8_i32.to_le_bytes());
        good.extend((0..8).flat_map(|i| (i as f32 + 0.5).to_le_bytes()));
    }
    good.extend(2_i32.to_le_bytes());
    good.extend(4_i32.to_le_bytes());
    good.extend(b"text");
    // the newer form: a GGUF file with sums of squares and counts
    let pairs = [
        ("general.type".to_owned(), Value::Str("imatrix".into())),
        ("imatrix.datasets".to_owned(), Value::Array(Array::Str(vec!["text".into()]))),
        ("imatrix.chunk_count".to_owned(), Value::U32(2)),
    ];
    let entry = |name, dims, offset| TensorEntry { name, dims, ggml_type: GgmlType::F32, offset };
    let tensors = [entry("blk.0.attn_q.weight.in_sum2", &[8, 1], 0), entry("blk.0.attn_q.weight.counts", &[1, 1], 32)];
    let mut newer = encode_header(&pairs, &tensors);
    newer.extend([1.5_f32; 16].iter().flat_map(|x| x.to_le_bytes()));
    let seed = seed();
    let mut random = Random(seed);
    for (form, good) in [("older", good), ("newer", newer)] {
        fs::write(&path, &good).unwrap();
        Imatrix::read(&path).unwrap_or_else(|err| panic!("{form}: {err}"));
        for i in 0..1500 {
            let mut bytes = good.clone();
            let what = random.damage(&mut bytes);
            let case = Case(format!("TULU_QUANT_SEED={seed}, {form} number {i}: {what}"));
            fs::write(&path, &bytes).unwrap();
            if let Err(err) = Imatrix::read(&path) {
                assert_eq!(err.code.class(), Class::Input, "{err}");
            }
            drop(case);
        }
    }
}
