//! PyTorch `.bin` files as torch.save writes them, byte by byte, and with lies where a test wants one.

use super::{Checkpoint, Tensor};
use serde_json::json;
use std::fs;
use std::path::Path;

/// A pickle under construction. Opcodes are those that Python's pickler writes for protocol 2.
#[derive(Clone, Default)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(crate) fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.op(b"X").op(&u32::try_from(text.len()).unwrap().to_le_bytes()).op(text.as_bytes())
    }

    pub(crate) fn int(self, n: i64) -> Self {
        match n {
            0..=0xff => self.op(&[b'K', n as u8]),
            0x100..=0xffff => self.op(b"M").op(&(n as u16).to_le_bytes()),
            _ if i32::try_from(n).is_ok() => self.op(b"J").op(&(n as i32).to_le_bytes()),
            _ => self.op(&[0x8a, 8]).op(&n.to_le_bytes()),
        }
    }

    pub(crate) fn tuple(self, numbers: &[i64]) -> Self {
        let all = numbers.iter().fold(self.op(b"("), |p, n| p.int(*n));
        all.op(b"t")
    }

    /// An empty OrderedDict, as the hooks of a tensor are.
    pub(crate) fn ordered(self) -> Self {
        self.global("collections", "OrderedDict").op(b")R")
    }

    /// The storage `key` of `numel` elements.
    pub(crate) fn storage(self, kind: &str, key: &str, numel: i64) -> Self {
        let p = self.op(b"(").text("storage").global("torch", kind).text(key).text("cpu");
        p.int(numel).op(b"tQ")
    }

    pub(crate) fn tensor(self, v: &View) -> Self {
        let p = self.global("torch._utils", "_rebuild_tensor_v2").op(b"(");
        let p = p.storage(v.kind, &v.key, v.numel).int(v.offset).tuple(&v.shape).tuple(&v.strides);
        p.op(b"\x89").ordered().op(b"tR")
    }

    /// A state_dict of these.
    pub(crate) fn state<'a>(entries: impl IntoIterator<Item = (&'a str, View)>) -> Vec<u8> {
        let mut p = Self::new().ordered().op(b"q\x00(");
        for (name, view) in entries {
            p = p.text(name).tensor(&view);
        }
        p.op(b"u.").0
    }
}

/// A tensor over a storage.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) kind: &'static str,
    pub(crate) key: String,
    pub(crate) numel: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

impl View {
    pub(crate) fn whole(kind: &'static str, key: impl ToString, shape: &[usize]) -> Self {
        let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let strides = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
        Self { kind, key: key.to_string(), numel: shape.iter().product(), offset: 0, shape, strides }
    }
}

/// A member of a zip file, and what is said of it.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) crc: u32,
}

pub(crate) fn member(name: &str, data: impl Into<Vec<u8>>) -> Member {
    let data = data.into();
    Member { name: name.to_owned(), crc: crc32fast::hash(&data), data }
}

/// The members of a file whose data.pkl is `pickle`.
pub(crate) fn members(pickle: &[u8], storages: &[Vec<u8>]) -> Vec<Member> {
    let mut all = vec![member("archive/data.pkl", pickle), member("archive/byteorder", "little")];
    all.extend(storages.iter().enumerate().map(|(i, data)| member(&format!("archive/data/{i}"), data.clone())));
    all.push(member("archive/version", "3\n"));
    all
}

/// Where the parts of a zip file are.
pub(crate) struct Zip {
    pub(crate) bytes: Vec<u8>,
    /// First byte of each member's header, of its data, and of its line in the directory.
    pub(crate) headers: Vec<usize>,
    pub(crate) data: Vec<usize>,
    pub(crate) lines: Vec<usize>,
    /// First byte of the end record.
    pub(crate) end: usize,
}

/// A zip file as PyTorch writes it: stored, data at multiples of 64 (padded by an extra field "FB"), lengths in a
/// descriptor after the data, zip64 end records always.
pub(crate) fn zip(members: &[Member]) -> Zip {
    let mut z = Zip { bytes: vec![], headers: vec![], data: vec![], lines: vec![], end: 0 };
    let numbers = |m: &Member| {
        let len = u32::try_from(m.data.len()).unwrap().to_le_bytes();
        [m.crc.to_le_bytes(), len, len].concat()
    };
    for m in members {
        z.headers.push(z.bytes.len());
        let start = z.bytes.len() + 30 + m.name.len() + 4;
        let padding = start.next_multiple_of(64) - start;
        z.bytes.extend(b"PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00");
        z.bytes.extend([0; 12]);
        z.bytes.extend((m.name.len() as u16).to_le_bytes());
        z.bytes.extend((padding as u16 + 4).to_le_bytes());
        z.bytes.extend(m.name.as_bytes());
        z.bytes.extend(b"FB");
        z.bytes.extend((padding as u16).to_le_bytes());
        z.bytes.extend(vec![b'Z'; padding]);
        z.data.push(z.bytes.len());
        z.bytes.extend(&m.data);
        z.bytes.extend(b"PK\x07\x08");
        z.bytes.extend(numbers(m));
    }
    let directory = z.bytes.len();
    for (m, header) in members.iter().zip(&z.headers) {
        z.lines.push(z.bytes.len());
        z.bytes.extend(b"PK\x01\x02\x00\x00\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00");
        z.bytes.extend(numbers(m));
        z.bytes.extend((m.name.len() as u16).to_le_bytes());
        z.bytes.extend([0; 12]);
        z.bytes.extend((*header as u32).to_le_bytes());
        z.bytes.extend(m.name.as_bytes());
    }
    let (len, n) = (z.bytes.len() - directory, members.len());
    let zip64 = z.bytes.len() as u64;
    z.bytes.extend(b"PK\x06\x06\x2c\x00\x00\x00\x00\x00\x00\x00\x1e\x03\x2d\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    [n, n, len, directory].iter().for_each(|x| z.bytes.extend((*x as u64).to_le_bytes()));
    z.bytes.extend(b"PK\x06\x07\x00\x00\x00\x00");
    z.bytes.extend(zip64.to_le_bytes());
    z.bytes.extend(1_u32.to_le_bytes());
    z.end = z.bytes.len();
    z.bytes.extend(b"PK\x05\x06\x00\x00\x00\x00");
    [n, n].iter().for_each(|x| z.bytes.extend((*x as u16).to_le_bytes()));
    [len, directory].iter().for_each(|x| z.bytes.extend((*x as u32).to_le_bytes()));
    z.bytes.extend([0, 0]);
    z
}

/// PyTorch's name of a storage of this type.
pub(crate) fn storage_type(dtype: &str) -> &'static str {
    match dtype {
        "F32" => "FloatStorage",
        "F16" => "HalfStorage",
        _ => "BFloat16Storage",
    }
}

/// A `.bin` file of these tensors, one storage each.
pub(crate) fn bin(dtype: &str, tensors: &[Tensor]) -> Zip {
    let kind = storage_type(dtype);
    let entries = tensors.iter().enumerate().map(|(i, (name, shape, _))| (name.as_str(), View::whole(kind, i, shape)));
    let storages: Vec<Vec<u8>> = tensors.iter().map(|(.., bytes)| bytes.clone()).collect();
    zip(&members(&Pickle::state(entries), &storages))
}

impl Checkpoint {
    /// The same weights as [`Checkpoint::write`], as PyTorch files.
    pub(crate) fn write_bin(&self, dir: &Path) {
        self.write_beside(dir);
        let tensors = self.tensors();
        let per_shard = tensors.len().div_ceil(self.shards);
        let mut weight_map = serde_json::Map::new();
        for (i, shard) in tensors.chunks(per_shard).enumerate() {
            let file = if self.shards == 1 {
                "pytorch_model.bin".to_owned()
            } else {
                format!("pytorch_model-{:05}-of-{:05}.bin", i + 1, self.shards)
            };
            shard.iter().for_each(|(name, ..)| drop(weight_map.insert(name.clone(), file.clone().into())));
            fs::write(dir.join(&file), bin(self.dtype(), shard).bytes).unwrap();
        }
        if self.shards > 1 {
            let index = json!({"metadata": {}, "weight_map": weight_map});
            fs::write(dir.join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
        }
    }
}
