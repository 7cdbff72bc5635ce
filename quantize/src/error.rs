//! The errors of this crate: one [`Code`] for each invariant that can be broken.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of the functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error class, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The input or the request is invalid: use another file or flag.
    Input,
    /// System error: disk space, permissions, memory, network.
    Machine,
    /// The user asked to stop.
    Interrupted,
    /// A bug in llama.cpp or in this crate.
    Defect,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// The broken invariant. Its text is stable, because scripts match it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Returns the stable text, such as `ST_HOLE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns the class, which decides the exit code.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

codes! {
    /// A folder or a required file does not exist.
    NotFound = "NOT_FOUND", Input;
    /// The path is of the wrong kind: a folder for a file, a file for a folder, a pipe, ….
    NotAFile = "NOT_A_FILE", Input;
    /// Reading, writing or creating failed.
    Io = "IO", Machine;
    /// A JSON file does not parse, or is too large.
    Json = "JSON", Input;
    /// config.json is of an unsupported model (reward model, other architecture, adapter).
    Architecture = "ARCHITECTURE", Input;
    /// A number in config.json is missing or impossible.
    Config = "CONFIG", Input;
    /// tokenizer.model is not a usable SentencePiece vocabulary.
    Tokenizer = "TOKENIZER", Input;
    /// The folder has no weights in a supported format.
    NoWeights = "NO_WEIGHTS", Input;
    /// The index names a shard that is not a plain file name.
    IndexPath = "INDEX_PATH", Input;
    /// Shards named by the index are missing.
    IndexShards = "INDEX_SHARDS", Input;
    /// The index and the shards disagree about which tensor is where.
    IndexTensors = "INDEX_TENSORS", Input;
    /// A safetensors header's length is impossible for the file.
    StLength = "ST_LENGTH", Input;
    /// A safetensors header is not the expected JSON.
    StHeader = "ST_HEADER", Input;
    /// A header lists a tensor twice.
    StDuplicate = "ST_DUPLICATE", Input;
    /// A tensor's type is not supported.
    StDtype = "ST_DTYPE", Input;
    /// A tensor's bytes do not match its shape and type.
    StSize = "ST_SIZE", Input;
    /// The tensors of a file overlap or leave a hole.
    StHole = "ST_HOLE", Input;
    /// The file is shorter or longer than its header says.
    StEnd = "ST_END", Input;
    /// A `.bin` file is not in the zip layout that torch.save writes since PyTorch 1.6.
    TorchFormat = "TORCH_FORMAT", Input;
    /// The `version` member of a `.bin` file is unknown.
    TorchVersion = "TORCH_VERSION", Input;
    /// A `.bin` file was written by a big-endian machine.
    TorchEndian = "TORCH_ENDIAN", Input;
    /// The pickle is not a table of named tensors (a state dict).
    TorchState = "TORCH_STATE", Input;
    /// A `.bin` file lists a tensor twice.
    TorchDuplicate = "TORCH_DUPLICATE", Input;
    /// A tensor's type is not supported.
    TorchDtype = "TORCH_DTYPE", Input;
    /// A storage is missing, or has the wrong length.
    TorchStorage = "TORCH_STORAGE", Input;
    /// A tensor's shape, strides and offset reach outside its storage.
    TorchView = "TORCH_VIEW", Input;
    /// The end record or the central directory of a zip file is truncated or damaged.
    ZipDirectory = "ZIP_DIRECTORY", Input;
    /// A member of a zip file has an invalid name.
    ZipName = "ZIP_NAME", Input;
    /// Two members of a zip file have the same name, or there are several data.pkl.
    ZipDuplicate = "ZIP_DUPLICATE", Input;
    /// A member is compressed or encrypted.
    ZipMethod = "ZIP_METHOD", Input;
    /// A member's local header contradicts the central directory.
    ZipHeader = "ZIP_HEADER", Input;
    /// Members of a zip file overlap, or the first does not begin at byte 0.
    ZipOverlap = "ZIP_OVERLAP", Input;
    /// The bytes of a member do not match its CRC-32.
    ZipCrc = "ZIP_CRC", Input;
    /// The pickle is truncated, or has bytes after its STOP opcode.
    PickleEnd = "PICKLE_END", Input;
    /// The pickle has an unsupported protocol.
    PickleProtocol = "PICKLE_PROTOCOL", Input;
    /// The pickle has an opcode that no checkpoint needs.
    PickleOpcode = "PICKLE_OPCODE", Input;
    /// The pickle names a function or class that is not allowed. Nothing in a pickle is ever executed.
    PickleGlobal = "PICKLE_GLOBAL", Input;
    /// The pickle uses a missing stack value, mark or memo entry.
    PickleStack = "PICKLE_STACK", Input;
    /// An operand or argument of the pickle has the wrong type or number.
    PickleValue = "PICKLE_VALUE", Input;
    /// The pickle exceeds a limit on size or nesting.
    PickleLimit = "PICKLE_LIMIT", Input;
    /// A tensor that a LLaMA model does not have.
    TensorUnknown = "TENSOR_UNKNOWN", Input;
    /// A tensor that a LLaMA model needs is missing.
    TensorMissing = "TENSOR_MISSING", Input;
    /// A tensor's shape differs from the shape that follows from config.json.
    TensorShape = "TENSOR_SHAPE", Input;
    /// A weight is NaN or infinite.
    TensorValue = "TENSOR_VALUE", Input;
    /// The rows of a tensor cannot be stored in the requested type.
    Type = "TYPE", Input;
    /// The source is already quantized.
    Requantize = "REQUANTIZE", Input;
    /// An importance matrix is invalid, or of another model.
    Imatrix = "IMATRIX", Input;
    /// Two parts of the request contradict each other (one output file for two types, …).
    Request = "REQUEST", Input;
    /// The output exists, and `replace` is not set.
    OutputExists = "OUTPUT_EXISTS", Input;
    /// The output folder cannot be written.
    Output = "OUTPUT", Machine;
    /// The outputs do not fit on the disk.
    DiskFull = "DISK_FULL", Machine;
    /// A remote file could not be fetched.
    Fetch = "FETCH", Machine;
    /// A SHA-256 does not match the known one.
    Sha256 = "SHA256", Machine;
    /// A thread could not be started.
    Threads = "THREADS", Machine;
    /// Another process holds the lock.
    Locked = "LOCKED", Machine;
    /// A source file changed while it was read.
    InputChanged = "INPUT_CHANGED", Machine;
    /// Not a GGUF file, or a damaged one.
    Gguf = "GGUF", Input;
    /// A tensor of a GGUF file has a type that the linked ggml does not know.
    GgufType = "GGUF_TYPE", Input;
    /// The observer asked to stop.
    Interrupted = "INTERRUPTED", Interrupted;
    /// llama.cpp or this crate failed on valid input: a bug.
    Engine = "ENGINE", Defect;
}

/// An error: the file, the problem, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The broken invariant.
    pub code: Code,
    /// The file at fault.
    pub file: PathBuf,
    /// The problem, with the tensor, the offset in bytes or the numbers: a predicate whose subject is the file.
    pub what: String,
    /// How to fix it.
    pub fix: String,
}

impl Error {
    pub(crate) fn new(code: Code, file: &Path, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, file: file.to_owned(), what: what.into(), fix: fix.into() }
    }

    /// Describes an operating-system error: "cannot `doing`". An [`Error`] inside `err` is returned as it is.
    pub(crate) fn io(file: &Path, doing: &str, err: &std::io::Error) -> Self {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, StorageFull};
        if let Some(known) = err.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            return known.clone();
        }
        let (code, fix) = match err.kind() {
            NotFound | NotADirectory => (Code::NotFound, "check the path"),
            IsADirectory => (Code::NotAFile, "give a file"),
            StorageFull => (Code::DiskFull, "free space or choose another disk with -o"),
            PermissionDenied => (Code::Io, "check the permissions"),
            _ => (Code::Io, "check the disk, then run it again"),
        };
        Self::new(code, file, format!("cannot {doing}: {err}"), fix)
    }
}

impl Error {
    /// Describes a failure to start a thread that the work on `file` needs.
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
