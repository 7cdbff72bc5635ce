//! Helpers of the program's tests: the binary, checkpoints, the hub, terminals, and files outside the repository.

pub(crate) mod batch;
pub(crate) mod bpe;
pub(crate) mod browser;
pub(crate) mod chat;
pub(crate) mod checkpoint;
pub(crate) mod gguf;
pub(crate) mod hub;
pub(crate) mod screen;
pub(crate) mod serve;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// The program under test, without `TULU_QUANT_` variables of the environment.
pub(crate) fn tulu_quant() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tulu-quant"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TULU_QUANT_")) {
        command.env_remove(name);
    }
    command
}

/// A file of `../shared`. Tests that use it are named `shared_` or `tools_` and ignored.
pub(crate) fn shared(path: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let root = std::env::var_os("TULU_QUANT_SHARED").map_or(beside, PathBuf::from);
    let file = root.join(path);
    assert!(file.exists(), "{} is missing; set TULU_QUANT_SHARED", file.display());
    file
}

/// Runs `command` with `input` on stdin.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Write from another thread, because the program may produce output before it has read all input.
    let input = input.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All of stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that the program succeeded.
pub(crate) fn assert_success(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// Asserts that the last line is an error with `code` that contains every one of `parts`.
pub(crate) fn assert_error(output: &Output, exit: i32, code: &str, parts: &[&str]) {
    let line = last_line(output);
    assert_eq!(output.status.code(), Some(exit), "{line}");
    assert!(line.starts_with(&format!("tulu-quant: error[{code}]: ")), "{line}");
    parts.iter().for_each(|part| assert!(line.contains(part), "'{part}' is not in: {line}"));
}

/// Returns the last line of stderr, which is the error.
pub(crate) fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

/// The bundled checkpoint as a Q8_0 file. Each build of the program converts it once. All test processes share the
/// file, and the files of older builds are deleted.
pub(crate) fn demo_model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let program = fs::metadata(env!("CARGO_BIN_EXE_tulu-quant")).unwrap();
        let built = program.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo-model");
        let model = folder.join(format!("{:x}-{built:x}/tulu-tiny-Q8_0.gguf", program.len()));
        fs::create_dir_all(&folder).unwrap();
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !model.exists() {
            fs::remove_dir_all(&folder).unwrap();
            // `convert` renames the file to its final name when it is complete
            let output =
                run(tulu_quant().arg("convert").arg(checkpoint::bundled()).args(["-q", "Q8_0", "-o"]).arg(&model), b"");
            assert_success(&output);
        }
        model
    })
}

/// The bundled checkpoint as an F32 file, which each build of the program converts once.
pub(crate) fn demo_f32() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let model = demo_model().with_file_name("tulu-tiny-F32.gguf");
        let lock = File::create(model.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !model.exists() {
            let mut convert = tulu_quant();
            convert.arg("convert").arg(checkpoint::bundled()).args(["-q", "F32", "-o"]).arg(&model);
            assert_success(&run(&mut convert, b""));
        }
        model
    })
}

/// The bundled draft checkpoint as a Q8_0 file, which each build of the program converts once.
pub(crate) fn draft_model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let model = demo_model().with_file_name("tulu-tiny-draft-Q8_0.gguf");
        let lock = File::create(model.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !model.exists() {
            let mut convert = tulu_quant();
            convert.arg("convert").arg(checkpoint::bundled_draft()).args(["-q", "Q8_0", "-o"]).arg(&model);
            assert_success(&run(&mut convert, b""));
        }
        model
    })
}

/// The permission bits of `file`.
pub(crate) fn mode(file: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(file).unwrap().permissions()) & 0o777
}
