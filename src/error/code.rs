//! The error codes of the program. Their text is stable: scripts match it.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a command failed. `as_str` is what stands in `error[CODE]`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Code {
            $($(#[$doc])* $name,)*
            /// A code that only the conversion library has.
            Library(tulu_quantize::Code),
        }

        impl Code {
            /// Every code of the program itself.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable text, such as `HUB_OFFLINE`.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Library(code) => code.as_str(),
                }
            }
        }
    };
}

codes! {
    /// Not a policy model of the LLaMA architecture.
    Architecture = "ARCHITECTURE";
    /// The cache folder is unknown or cannot be used.
    Cache = "CACHE";
    /// The KV cache types do not fit together or are unknown.
    CacheType = "CACHE_TYPE";
    /// llama.cpp could not create a context.
    Context = "CONTEXT";
    /// A prompt does not fit into the context.
    ContextLength = "CONTEXT_LENGTH";
    /// The text of a message would become a special token.
    ControlInText = "CONTROL_IN_TEXT";
    /// There is no saved conversation, or the file is not one.
    Conversation = "CONVERSATION";
    /// The folder of saved conversations is unknown.
    Conversations = "CONVERSATIONS";
    /// The context size is too large or too small.
    CtxSize = "CTX_SIZE";
    /// The user did not confirm a download.
    Declined = "DECLINED";
    /// llama.cpp failed to compute a batch.
    Decode = "DECODE";
    /// A defect of this program.
    Defect = "DEFECT";
    /// No free space on the disk.
    DiskFull = "DISK_FULL";
    /// The draft model has another vocabulary.
    DraftVocabulary = "DRAFT_VOCABULARY";
    /// The external editor failed.
    Editor = "EDITOR";
    /// A file without a conversation.
    Empty = "EMPTY";
    /// Text that is not UTF-8.
    Encoding = "ENCODING";
    /// llama.cpp failed where it should not.
    Engine = "ENGINE";
    /// A file that a chat command would overwrite.
    Exists = "EXISTS";
    /// The format of an export is unknown.
    Export = "EXPORT";
    /// Flags that exclude each other.
    Flags = "FLAGS";
    /// The size of a model could not be computed.
    Forecast = "FORECAST";
    /// The input format of a batch is unknown or not the one that was named.
    Format = "FORMAT";
    /// GPU offload in a build or on a machine without a GPU.
    Gpu = "GPU";
    /// A grammar or a JSON schema that cannot be used.
    Grammar = "GRAMMAR";
    /// The Hub or a proxy sent something that is not a valid response.
    HubAnswer = "HUB_ANSWER";
    /// The Hub refused the token, or asks for one.
    HubAuth = "HUB_AUTH";
    /// The Hugging Face cache cannot be read or written.
    HubCache = "HUB_CACHE";
    /// No connection to the Hub.
    HubConnect = "HUB_CONNECT";
    /// A response ended too early.
    HubCut = "HUB_CUT";
    /// The address of the Hub is invalid.
    HubEndpoint = "HUB_ENDPOINT";
    /// A file of a repository is missing or has an unusable name.
    HubFile = "HUB_FILE";
    /// The owners of a model ask for an agreement first.
    HubGated = "HUB_GATED";
    /// Downloaded bytes do not match the listed hash.
    HubHash = "HUB_HASH";
    /// The repository has no weights in a supported format.
    HubNoWeights = "HUB_NO_WEIGHTS";
    /// The Hub has no such repository.
    HubNotFound = "HUB_NOT_FOUND";
    /// Offline mode is on and the cache lacks a file.
    HubOffline = "HUB_OFFLINE";
    /// The proxy's address is invalid, or the proxy does not connect.
    HubProxy = "HUB_PROXY";
    /// The Hub limits the rate of requests.
    HubRate = "HUB_RATE";
    /// A redirect that is not followed.
    HubRedirect = "HUB_REDIRECT";
    /// The repository has no such revision.
    HubRevision = "HUB_REVISION";
    /// The Hub failed with a server error.
    HubServer = "HUB_SERVER";
    /// A server sent nothing for too long.
    HubTimeout = "HUB_TIMEOUT";
    /// No trusted TLS connection.
    HubTls = "HUB_TLS";
    /// The token cannot be read, or has characters that no token has.
    HubToken = "HUB_TOKEN";
    /// The input of a batch is not a regular file.
    Input = "INPUT";
    /// The input of a batch changed during the run.
    InputChanged = "INPUT_CHANGED";
    /// A JSON array that cannot be split into records.
    InputJson = "INPUT_JSON";
    /// Ctrl-C or SIGTERM.
    Interrupted = "INTERRUPTED";
    /// The operating system reported an error about a file.
    Io = "IO";
    /// The journal of a batch is damaged, or of another version.
    Journal = "JOURNAL";
    /// A file that is not the JSON it has to be.
    Json = "JSON";
    /// A saved KV cache cannot be written or used.
    KvState = "KV_STATE";
    /// The KV cache is too small for one sequence.
    KvTokens = "KV_TOKENS";
    /// The server cannot listen at an address.
    Listen = "LISTEN";
    /// The manifest of a batch is missing or damaged.
    Manifest = "MANIFEST";
    /// Not enough memory.
    Memory = "MEMORY";
    /// A message of a conversation is invalid.
    Message = "MESSAGE";
    /// The weights cannot be locked into memory.
    Mlock = "MLOCK";
    /// llama.cpp does not load the model file.
    Model = "MODEL";
    /// The model computed NaN.
    Nan = "NAN";
    /// The file, folder or model does not exist.
    NotFound = "NOT_FOUND";
    /// The output is a folder, or cannot be written.
    Output = "OUTPUT";
    /// The output exists and replacing it was not requested.
    OutputExists = "OUTPUT_EXISTS";
    /// The output folder was deleted during the run.
    OutputGone = "OUTPUT_GONE";
    /// Another process writes to the same output.
    OutputLocked = "OUTPUT_LOCKED";
    /// A chat setting has an invalid value.
    Parameter = "PARAMETER";
    /// A file to merge was not written with `--shard`.
    Part = "PART";
    /// A file to merge was modified after its run.
    PartChanged = "PART_CHANGED";
    /// The same shard was given twice.
    PartDouble = "PART_DOUBLE";
    /// Files to merge come from different runs.
    PartMismatch = "PART_MISMATCH";
    /// A shard is missing.
    PartMissing = "PART_MISSING";
    /// The run of a shard is unfinished.
    PartUnfinished = "PART_UNFINISHED";
    /// A limit of 0 tokens for an answer.
    Predict = "PREDICT";
    /// The prompt cannot be used.
    Prompt = "PROMPT";
    /// A file that cannot be added to a message.
    Read = "READ";
    /// The request contradicts itself, or is empty.
    Request = "REQUEST";
    /// Finished records do not fit the input or the settings of this run.
    ResumeMismatch = "RESUME_MISMATCH";
    /// A sampling parameter is out of range.
    Sampling = "SAMPLING";
    /// The self-test found wrong results.
    SelfTest = "SELF_TEST";
    /// Several conversations where the output has room for one.
    Several = "SEVERAL";
    /// `--shard` is invalid, or the scheduler's variables do not give a shard.
    Shard = "SHARD";
    /// Signals cannot be handled.
    Signal = "SIGNAL";
    /// Too many slots.
    Slots = "SLOTS";
    /// Standard output cannot be written.
    Stdout = "STDOUT";
    /// The chat template cannot be used.
    Template = "TEMPLATE";
    /// The chat template leaves a message out.
    TemplateDropsMessage = "TEMPLATE_DROPS_MESSAGE";
    /// The chat template decides by the text of a message where that text has special tokens.
    TemplateReadsText = "TEMPLATE_READS_TEXT";
    /// The terminal cannot be used.
    Terminal = "TERMINAL";
    /// The text has private-use characters that the renderer needs.
    TextPrivateUse = "TEXT_PRIVATE_USE";
    /// The text has less than one chunk.
    TextTooShort = "TEXT_TOO_SHORT";
    /// The text is too long for llama.cpp's tokenizer.
    TextTooLong = "TEXT_TOO_LONG";
    /// A thread cannot be started, or the number of threads is invalid.
    Threads = "THREADS";
    /// A token id that the vocabulary does not have.
    TokenId = "TOKEN_ID";
    /// An unknown quantization type.
    Type = "TYPE";
    /// The command line is invalid.
    Usage = "USAGE";
    /// The manual has no such subcommand.
    Verb = "VERB";
    /// Files that are compared have different vocabularies.
    Vocabulary = "VOCABULARY";
}

impl From<tulu_quantize::Code> for Code {
    /// The program's own code of the same text, where it has one, so that both compare equal.
    fn from(code: tulu_quantize::Code) -> Self {
        let own = Self::ALL.iter().find(|own| own.as_str() == code.as_str());
        own.copied().unwrap_or(Self::Library(code))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_text_is_unique_and_in_capitals() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(
            texts.iter().all(|text| text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
        );
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }

    #[test]
    fn the_librarys_codes_keep_their_text() {
        assert_eq!(Code::from(tulu_quantize::Code::Interrupted), Code::Interrupted);
        let other = Code::from(tulu_quantize::Code::StHole);
        assert_eq!((other, other.as_str()), (Code::Library(tulu_quantize::Code::StHole), "ST_HOLE"));
    }
}
