//! Reads the pieces of tokenizer.model (a SentencePiece protobuf) and rejects pieces that make llama.cpp abort.

use super::token::{Token, TokenKind};
use crate::error::{Code, Error, Result};
use crate::files::read_small;
use crate::wrong_file;
use prost::Message as _;
use std::path::Path;

/// Limits on the file; Llama 2's has 500 kB and 32,000 pieces.
const MAX_BYTES: u64 = 16 << 20;
const MAX_PIECES: usize = 1 << 18;
const MAX_PIECE_BYTES: usize = 1 << 10;

/// The fields of sentencepiece_model.proto that are used.
#[derive(Clone, PartialEq, prost::Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
}

/// Reads and checks the pieces of tokenizer.model.
pub(super) fn read(path: &Path) -> Result<Vec<Token>> {
    let bad =
        |what: String| Error::new(Code::Tokenizer, path, what, "download the file again (Llama 2's has 499,723 bytes)");
    let bytes = read_small(path, MAX_BYTES, |len| bad(format!("has {len} bytes, more than {MAX_BYTES}")))?;
    let model = ModelProto::decode(bytes.as_slice()).map_err(|err| match wrong_file::instead(&bytes) {
        Some((what, fix)) => Error::new(Code::Tokenizer, path, what, fix),
        None => bad(format!("is not a SentencePiece model: {err}")),
    })?;
    if model.pieces.is_empty() || model.pieces.len() > MAX_PIECES {
        return Err(bad(format!("has {} pieces, expected 1 to {MAX_PIECES}", model.pieces.len())));
    }
    check_algorithm(path, model.trainer.as_ref())?;
    let mut tokens = Vec::with_capacity(model.pieces.len());
    for (id, piece) in model.pieces.into_iter().enumerate() {
        let text = piece.piece.unwrap_or_default();
        let kind = match piece.kind.unwrap_or(1) {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            // llama.cpp's converter stores these as normal tokens, which its tokenizer then never produces
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            other => return Err(bad(format!("piece {id} has kind {other}, expected 1 to 6"))),
        };
        let score = piece.score.unwrap_or(0.0);
        if text.is_empty() || text.contains('\0') || text.len() > MAX_PIECE_BYTES || !score.is_finite() {
            return Err(bad(format!(
                "piece {id} is empty or too long, contains a NUL, or has an infinite or NaN score"
            )));
        }
        tokens.push(Token { text, score, kind });
    }
    let bytes = tokens.iter().filter(|t| t.kind == TokenKind::Byte).count();
    if bytes != 256 {
        return Err(bad(format!("has {bytes} of the 256 byte pieces; without them some text has no tokens")));
    }
    Ok(tokens)
}

/// Accepts BPE models only. llama.cpp merges pairs like SentencePiece's BPE; other algorithms give other ids.
fn check_algorithm(path: &Path, trainer: Option<&TrainerSpec>) -> Result<()> {
    let name = match trainer.map(|spec| spec.model_type.unwrap_or(1)) {
        // a file without trainer settings does not name its algorithm
        None | Some(2) => return Ok(()),
        Some(1) => "UNIGRAM",
        Some(3) => "WORD",
        Some(4) => "CHAR",
        Some(_) => "unknown",
    };
    let what = format!("is a SentencePiece model of type {name}; only BPE, as in Llama 2, is supported");
    Err(Error::new(Code::Tokenizer, path, what, "only LLaMA models with a BPE vocabulary are supported"))
}
