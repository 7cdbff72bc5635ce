//! The two formats of weight files and the names that Transformers gives to their files. The readers are in
//! `safetensors.rs` and `torch/`.

/// How the bytes of a weight file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A JSON header and raw tensors.
    Safetensors,
    /// A zip file that torch.save wrote: a pickle and raw storages.
    Torch,
}

/// A format of weight files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFormat {
    /// How the files are read.
    pub container: Container,
    /// Name of the file of a model that is not sharded.
    pub single: &'static str,
    /// Name of the index of a sharded model.
    pub index: &'static str,
    /// First part of a shard's name.
    pub prefix: &'static str,
    /// Last part of a shard's name.
    pub suffix: &'static str,
}

/// All formats, in order of preference. safetensors is first because it can contain only tensors.
pub const WEIGHT_FORMATS: [WeightFormat; 2] = [
    WeightFormat {
        container: Container::Safetensors,
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        prefix: "model-",
        suffix: ".safetensors",
    },
    WeightFormat {
        container: Container::Torch,
        single: "pytorch_model.bin",
        index: "pytorch_model.bin.index.json",
        prefix: "pytorch_model-",
        suffix: ".bin",
    },
];

impl WeightFormat {
    /// Returns number and count of a shard by its name: `model-00001-of-00002.safetensors` is the first of two.
    #[must_use]
    pub fn shard_number(&self, name: &str) -> Option<(u32, u32)> {
        let (number, count) = name.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?.split_once("-of-")?;
        Some((number.parse().ok()?, count.parse().ok()?))
    }

    /// Returns the shards among `names` in their order if they are one complete set, else `None`.
    pub fn complete_set<'n>(&self, names: impl Iterator<Item = &'n str>) -> Option<Vec<&'n str>> {
        let mut found: Vec<_> = names.filter_map(|name| Some((self.shard_number(name)?, name))).collect();
        found.sort_unstable();
        let ((_, count), _) = *found.first()?;
        let complete = found.iter().map(|(number, _)| *number).eq((1..=count).map(|n| (n, count)));
        complete.then(|| found.into_iter().map(|(_, name)| name).collect())
    }

    /// Whether `names` has a file of this format: one that is not sharded, or a shard. (`training_args.bin` is
    /// neither.)
    pub fn is_among<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> bool {
        names.any(|name| name == self.single || self.shard_number(name).is_some())
    }
}
