//! The functions and classes that the pickle of a checkpoint may use. They are never called: a name becomes a
//! [`Global`], and its calls are recorded.

use std::ops::RangeInclusive;

/// An allowed operand of the GLOBAL opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    /// `_rebuild_tensor` and `_rebuild_tensor_v2`: (storage, offset, shape, strides, …).
    Tensor,
    /// `_rebuild_parameter` and `Parameter`: (tensor, …).
    Parameter,
    /// `torch.Size` and `_get_layout`, whose results are not used.
    Ignored,
    Storage(StorageType),
}

/// The element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageType {
    BFloat16,
    Half,
    Float,
    Double,
    Long,
    Int,
    Short,
    Char,
    Byte,
    Bool,
    Untyped,
}

impl StorageType {
    /// Returns the bytes of an element.
    pub(crate) fn width(self) -> u64 {
        match self {
            Self::Double | Self::Long => 8,
            Self::Float | Self::Int => 4,
            Self::BFloat16 | Self::Half | Self::Short => 2,
            Self::Char | Self::Byte | Self::Bool | Self::Untyped => 1,
        }
    }
}

/// (module, name, meaning, allowed numbers of arguments)
type AllowedGlobal = (&'static str, &'static str, Global, RangeInclusive<usize>);

/// The numbers of arguments of a global that cannot be called.
#[allow(clippy::reversed_empty_ranges, reason = "a storage type is named, never called")]
const NEVER: RangeInclusive<usize> = 1..=0;

const fn storage(name: &'static str, kind: StorageType) -> AllowedGlobal {
    ("torch", name, Global::Storage(kind), NEVER)
}

/// All allowed globals. torch/_weights_only_unpickler.py allows more; LLaMA checkpoints need only these, and most only
/// the first four.
const ALLOWED: [AllowedGlobal; 18] = [
    ("collections", "OrderedDict", Global::OrderedDict, 0..=0),
    ("torch._utils", "_rebuild_tensor_v2", Global::Tensor, 6..=7),
    storage("BFloat16Storage", StorageType::BFloat16),
    storage("FloatStorage", StorageType::Float),
    storage("HalfStorage", StorageType::Half),
    ("torch._utils", "_rebuild_tensor", Global::Tensor, 4..=4),
    ("torch._utils", "_rebuild_parameter", Global::Parameter, 3..=3),
    ("torch.nn.parameter", "Parameter", Global::Parameter, 1..=2),
    ("torch", "Size", Global::Ignored, 1..=1),
    ("torch.serialization", "_get_layout", Global::Ignored, 1..=1),
    storage("DoubleStorage", StorageType::Double),
    storage("LongStorage", StorageType::Long),
    storage("IntStorage", StorageType::Int),
    storage("ShortStorage", StorageType::Short),
    storage("CharStorage", StorageType::Char),
    storage("ByteStorage", StorageType::Byte),
    storage("BoolStorage", StorageType::Bool),
    ("torch.storage", "UntypedStorage", Global::Storage(StorageType::Untyped), NEVER),
];

impl Global {
    /// Looks up a global.
    pub(crate) fn from_name(module: &[u8], name: &[u8]) -> Option<Self> {
        ALLOWED.iter().find(|k| k.0.as_bytes() == module && k.1.as_bytes() == name).map(|k| k.2)
    }

    /// Whether PyTorch writes calls with `n` arguments.
    pub(crate) fn takes(self, n: usize) -> bool {
        ALLOWED.iter().any(|k| k.2 == self && k.3.contains(&n))
    }
}
