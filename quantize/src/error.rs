//! Why a checkpoint or a GGUF file is refused, or a conversion stopped. One [`Code`] for each broken invariant.

use std::fmt;
use std::path::{Path, PathBuf};

/// What this crate answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The input or the request: another file or flag helps.
    Input,
    /// The machine: space, permissions, memory.
    Machine,
    /// The user asked to stop.
    Interrupted,
    /// llama.cpp failed, or this crate is wrong.
    Defect,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// The invariant that does not hold. The text form is stable: scripts match it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// The stable text, such as `ST_HOLE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Who can mend it.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

codes! {
    /// The folder, or a file that must be there, is not.
    NotFound = "NOT_FOUND", Input;
    /// The path is there but is not what is needed (a folder for a file, a pipe, …).
    NotAFile = "NOT_A_FILE", Input;
    /// Reading, writing or creating failed.
    Io = "IO", Machine;
    /// A JSON file does not parse, or is larger than any real one.
    Json = "JSON", Input;
    /// config.json describes a model this is not for (reward model, other architecture, adapter).
    Architecture = "ARCHITECTURE", Input;
    /// A number in config.json is missing or impossible.
    Config = "CONFIG", Input;
    /// tokenizer.model is not a usable SentencePiece vocabulary.
    Tokenizer = "TOKENIZER", Input;
    /// No weights in a format that is read.
    NoWeights = "NO_WEIGHTS", Input;
    /// The index names a shard that is not a plain file name.
    IndexPath = "INDEX_PATH", Input;
    /// Shards named by the index are missing.
    IndexShards = "INDEX_SHARDS", Input;
    /// The index and the shards disagree about which tensor is where.
    IndexTensors = "INDEX_TENSORS", Input;
    /// A safetensors header's length is impossible for the file.
    StLength = "ST_LENGTH", Input;
    /// A safetensors header is not the JSON it has to be.
    StHeader = "ST_HEADER", Input;
    /// A tensor stands twice in a header.
    StDuplicate = "ST_DUPLICATE", Input;
    /// A tensor's type is not one that is read.
    StDtype = "ST_DTYPE", Input;
    /// A tensor's bytes do not match its shape and type.
    StSize = "ST_SIZE", Input;
    /// The tensors of a file overlap or leave a hole.
    StHole = "ST_HOLE", Input;
    /// The file is shorter or longer than its header says.
    StEnd = "ST_END", Input;
    /// A `.bin` file that is not of the zip layout that torch.save writes since PyTorch 1.6.
    TorchFormat = "TORCH_FORMAT", Input;
    /// The `version` member of a `.bin` file is not one that is known.
    TorchVersion = "TORCH_VERSION", Input;
    /// A `.bin` file was written by a big-endian machine.
    TorchEndian = "TORCH_ENDIAN", Input;
    /// What is pickled is no table of named tensors.
    TorchState = "TORCH_STATE", Input;
    /// A tensor stands twice in a `.bin` file.
    TorchDuplicate = "TORCH_DUPLICATE", Input;
    /// A tensor's type is not one that is read.
    TorchDtype = "TORCH_DTYPE", Input;
    /// A storage is not there, or is not as long as is said of it.
    TorchStorage = "TORCH_STORAGE", Input;
    /// A tensor's shape, strides and offset do not lie within its storage.
    TorchView = "TORCH_VIEW", Input;
    /// The end record or the directory of a zip file is cut or damaged.
    ZipDirectory = "ZIP_DIRECTORY", Input;
    /// A member of a zip file has a name that no `.bin` file has.
    ZipName = "ZIP_NAME", Input;
    /// A member stands twice, or there are several data.pkl.
    ZipDuplicate = "ZIP_DUPLICATE", Input;
    /// A member is compressed or encrypted.
    ZipMethod = "ZIP_METHOD", Input;
    /// A member's own header says something else than the directory.
    ZipHeader = "ZIP_HEADER", Input;
    /// Members of a zip file overlap, or do not begin at its first byte.
    ZipOverlap = "ZIP_OVERLAP", Input;
    /// The bytes of a member do not have the CRC32 that was stored with them.
    ZipCrc = "ZIP_CRC", Input;
    /// The pickle ends too early, or goes on after its end.
    PickleEnd = "PICKLE_END", Input;
    /// The pickle has a protocol whose opcodes are not read.
    PickleProtocol = "PICKLE_PROTOCOL", Input;
    /// An opcode that no checkpoint needs.
    PickleOpcode = "PICKLE_OPCODE", Input;
    /// The pickle names a function or class that no checkpoint needs. Nothing of a pickle is ever executed.
    PickleGlobal = "PICKLE_GLOBAL", Input;
    /// The pickle takes from an empty stack, a mark or a memo entry that is not there.
    PickleStack = "PICKLE_STACK", Input;
    /// An operand or argument is not of the kind or number it has to be.
    PickleValue = "PICKLE_VALUE", Input;
    /// The pickle is larger or deeper than any real one.
    PickleLimit = "PICKLE_LIMIT", Input;
    /// A tensor that a LLaMA model does not have.
    TensorUnknown = "TENSOR_UNKNOWN", Input;
    /// A tensor that a LLaMA model needs is missing.
    TensorMissing = "TENSOR_MISSING", Input;
    /// A tensor's shape is not the one config.json gives.
    TensorShape = "TENSOR_SHAPE", Input;
    /// A weight is NaN or infinite.
    TensorValue = "TENSOR_VALUE", Input;
    /// The rows of a tensor cannot be stored in the type asked for.
    Type = "TYPE", Input;
    /// A source that is quantized already.
    Requantize = "REQUANTIZE", Input;
    /// An importance matrix that is not one, or not of this model.
    Imatrix = "IMATRIX", Input;
    /// The request contradicts itself (one output file for two types, …).
    Request = "REQUEST", Input;
    /// The output exists and replacing it was not asked for.
    OutputExists = "OUTPUT_EXISTS", Input;
    /// The output folder cannot be written.
    Output = "OUTPUT", Machine;
    /// The outputs do not fit on the disk.
    DiskFull = "DISK_FULL", Machine;
    /// A distant file could not be fetched.
    Fetch = "FETCH", Machine;
    /// What was fetched does not have the sha256 that was listed.
    Sha256 = "SHA256", Machine;
    /// The system starts no thread.
    Threads = "THREADS", Machine;
    /// Another process is at it.
    Locked = "LOCKED", Machine;
    /// A source file changed while it was read.
    InputChanged = "INPUT_CHANGED", Machine;
    /// Not a GGUF file, or a damaged one.
    Gguf = "GGUF", Input;
    /// A tensor of a GGUF file has a type that the linked ggml does not know.
    GgufType = "GGUF_TYPE", Input;
    /// The observer asked to stop.
    Interrupted = "INTERRUPTED", Interrupted;
    /// llama.cpp refused what should have been right.
    Engine = "ENGINE", Defect;
}

/// A refusal with its place and its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which invariant.
    pub code: Code,
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong: the tensor, the offset in bytes, the numbers.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Error {
    pub(crate) fn new(code: Code, file: &Path, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, file: file.to_owned(), what: what.into(), fix: fix.into() }
    }

    /// An operating-system error while `doing` something with `file`.
    pub(crate) fn io(file: &Path, doing: &str, err: &std::io::Error) -> Self {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, StorageFull};
        // a medium that knows better than the operating system says it whole
        if let Some(known) = err.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return known.clone();
        }
        let (code, fix) = match err.kind() {
            NotFound | NotADirectory => (Code::NotFound, "check the path"),
            IsADirectory => (Code::NotAFile, "give a file"),
            StorageFull => (Code::DiskFull, "free space or choose another disk with -o; nothing was kept"),
            PermissionDenied => (Code::Io, "check the permissions"),
            _ => (Code::Io, "check the disk, then run it again"),
        };
        Self::new(code, file, format!("cannot {doing}: {err}"), fix)
    }
}

impl Error {
    /// A thread that is needed for `file` could not be started.
    pub(crate) fn thread(file: &Path, err: &std::io::Error) -> Self {
        let fix = "raise the limit on processes and threads (ulimit -u, the container's pids)";
        Self::new(Code::Threads, file, format!("cannot start a thread: {err}"), fix)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.file.display(), self.what, self.fix)
    }
}

impl std::error::Error for Error {}
