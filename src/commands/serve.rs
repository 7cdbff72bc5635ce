//! `serve`: a server with OpenAI's API. The server itself is in `serve/`.

mod listen;

use self::listen::listen;
use super::{devices, load_model};
use crate::engine::{EngineSettings, Sampling};
use crate::error::{Code, Exit, Failure};
use crate::interrupt::Interrupt;
use crate::options::{DraftArgs, EngineArgs, HubArgs, SamplingArgs, byte_size};
use crate::platform::open_url;
use crate::serve::{Access, CacheSettings, RequestLog, ServeConfig, serve};
use crate::{stderr, stdout};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Finished conversations whose tokens stay in the KV cache while there is room.
const N_KEPT: u32 = 48;

/// Serve a model over HTTP, with OpenAI's API
///
/// Answers /v1/chat/completions, /v1/completions, /v1/models and /health. Several clients are answered at the same time;
/// beginnings that their prompts share are computed once. Prints its address on stdout when it is ready. SIGTERM or Ctrl-C
/// lets the running answers finish; a second one stops at once.
///
/// Only programs on this machine can connect, unless --host gives another address; then clients need the key of --api-key.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tulu-quant serve tulu-2-7b\n  tulu-quant serve tulu-2-13b-Q4_K_M.gguf --port 8000 -np 8\n  \
    TULU_QUANT_API_KEY=secret tulu-quant serve tulu-2-7b --host 0.0.0.0\n  \
    curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
)]
pub(crate) struct Args {
    /// A short name, Hub id, checkpoint folder or .gguf file; without it, the small demonstration model in the program
    #[arg(env = "TULU_QUANT_MODEL")]
    model: Option<OsString>,
    /// Listen at this address or name
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", help_heading = "Server", env = "TULU_QUANT_HOST")]
    host: String,
    /// Listen at this port; 0: at a free one, which is printed
    #[arg(long, value_name = "N", default_value_t = 8080, help_heading = "Server", env = "TULU_QUANT_PORT")]
    port: u16,
    /// Require this key of every request ('Authorization: Bearer KEY'); repeatable. Others on this machine can read it in the
    /// list of processes: prefer the variable TULU_QUANT_API_KEY or --api-key-file
    #[arg(long, value_name = "KEY", help_heading = "Server", env = "TULU_QUANT_API_KEY", hide_env_values = true)]
    api_key: Vec<String>,
    /// Require one of the keys in this file, one for each line
    #[arg(long, value_name = "FILE", help_heading = "Server", env = "TULU_QUANT_API_KEY_FILE")]
    api_key_file: Option<PathBuf>,
    /// Let everyone who reaches another address than this machine's own send requests without a key
    #[arg(long, help_heading = "Server", env = "TULU_QUANT_NO_AUTH")]
    no_auth: bool,
    /// Let pages of this site send requests, such as https://chat.example.org; '*' allows all sites; repeatable
    #[arg(long, value_name = "ORIGIN", help_heading = "Server", env = "TULU_QUANT_CORS")]
    cors: Vec<String>,
    /// Accept this name in the Host header, besides addresses and localhost; repeatable
    #[arg(long, value_name = "NAME", help_heading = "Server", env = "TULU_QUANT_ALLOWED_HOST")]
    allowed_host: Vec<String>,
    /// Name of the model in responses [default: the name of the file]
    #[arg(short, long, value_name = "NAME", help_heading = "Server", env = "TULU_QUANT_ALIAS")]
    alias: Option<String>,
    /// Number of slots: answers that are generated at the same time (-np)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256),
          help_heading = "Server", env = "TULU_QUANT_PARALLEL")]
    parallel: u32,
    /// KV cache size in tokens, shared by all slots [default: -c times the number of slots, but at most one context plus half
    /// of the remaining free memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Server",
          env = "TULU_QUANT_KV_TOKENS")]
    kv_tokens: Option<u32>,
    /// Let N requests wait for a slot; more are refused with status 503
    #[arg(long, value_name = "N", default_value_t = 128, help_heading = "Server", env = "TULU_QUANT_QUEUE",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    queue: u32,
    /// Give a request up after this time in seconds; 0: never
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        help_heading = "Server",
        env = "TULU_QUANT_REQUEST_TIMEOUT"
    )]
    request_timeout: u32,
    /// Let running answers finish for this time in seconds after SIGTERM or Ctrl-C
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        help_heading = "Server",
        env = "TULU_QUANT_DRAIN_TIMEOUT"
    )]
    drain_timeout: u32,
    /// Open the page in the browser when the server is ready
    #[arg(long, help_heading = "Server", env = "TULU_QUANT_OPEN")]
    open: bool,
    /// Keep long prompts and conversations in this folder over restarts, so that they are not computed again
    #[arg(long, value_name = "DIR", help_heading = "Server", env = "TULU_QUANT_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Bytes of --cache-dir; the oldest files are removed
    #[arg(long, value_name = "N(M|G)", default_value = "8G", help_heading = "Server", env = "TULU_QUANT_CACHE_SIZE",
          value_parser = byte_size)]
    cache_size: u64,
    /// Append every request and its answers to this file as JSON lines. Only its owner may be able to read it
    #[arg(long, value_name = "FILE", help_heading = "Server", env = "TULU_QUANT_LOG_REQUESTS")]
    log_requests: Option<PathBuf>,
    /// Print no line for each request
    #[arg(long, help_heading = "Server", env = "TULU_QUANT_NO_ACCESS_LOG")]
    no_access_log: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    drafts: DraftArgs,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = EngineSettings { n_cells: args.kv_tokens, n_kept: N_KEPT, ..args.engine.settings()? };
    if args.engine.list_devices {
        return devices::list(args.model.as_deref(), &settings, args.parallel);
    }
    let sampling = args.sampling.sampling(Sampling::model_card_defaults())?;
    let max_tokens = args.sampling.max_tokens(u32::MAX)?;
    let keys = keys(args)?;
    // Another program at the port is reported before the model is loaded.
    let check = |addresses: &[SocketAddr]| check_exposure(args, addresses, &keys);
    let listeners = listen(&args.host, args.port, check)?;
    let request_log = args.log_requests.as_deref().map(RequestLog::open).transpose()?;
    let interrupt = Interrupt::install()?;
    let path = load_model::resolve(args.model.as_deref(), &settings, &args.hub, &interrupt)?;
    let (second, settings) = load_model::resolve_second(&args.drafts, settings, &args.hub, &interrupt)?;
    let model = load_model::model(&path, settings, Some(args.parallel), &interrupt)?;
    let second = second.map(|path| load_model::second(&path, &model, &interrupt)).transpose()?;
    let config = ServeConfig {
        access: Access::new(&keys, &hosts(args), &args.cors),
        model_name: args.alias.clone().unwrap_or_else(|| stem(&path)),
        queue: args.queue as usize,
        request_timeout: (args.request_timeout > 0).then(|| Duration::from_secs(args.request_timeout.into())),
        drain_timeout: Duration::from_secs(args.drain_timeout.into()),
        seed: args.sampling.seed.is_some_and(|seed| seed >= 0).then_some(sampling.seed),
        sampling,
        max_tokens,
        access_log: !args.no_access_log,
        request_log,
        cache: args.cache_dir.clone().map(|folder| CacheSettings { folder, bytes_max: args.cache_size }),
    };
    let urls = listeners.iter().filter_map(|listener| Some(format!("http://{}", listener.local_addr().ok()?)));
    let urls: Vec<String> = urls.collect();
    serve(&model, args.drafts.drafts(second.as_ref()), config, listeners, &interrupt, || {
        let kv = model.kv_plan();
        stderr::note(&format!("serving at {} with {} slots of {} tokens", urls.join(" and "), kv.n_slots, kv.n_ctx));
        if args.open
            && let Some(url) = urls.first()
            && let Err(err) = open_url(&browsable(url))
        {
            stderr::note(&format!("cannot open a browser ({err}); open {}", browsable(url)));
        }
        stdout::print(&format!("{}\n", urls.join("\n"))).map(|_| ())
    })
}

/// Returns the API keys of the flags and of the file.
fn keys(args: &Args) -> Result<Vec<String>, Failure> {
    let mut keys = args.api_key.clone();
    if let Some(file) = &args.api_key_file {
        let text = std::fs::read_to_string(file).map_err(|err| Failure::io(file, "cannot read the API keys", &err))?;
        let lines: Vec<String> =
            text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err(Failure::input(
                Code::Flags,
                "the file of --api-key-file has no key",
                "write one for each line",
            )
            .at(file));
        }
        keys.extend(lines);
    }
    match keys.iter().any(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        true => {
            let fix = "use letters, digits and punctuation without spaces";
            Err(Failure::input(Code::Flags, "an API key is empty or has characters that a header cannot have", fix))
        }
        false => Ok(keys),
    }
}

/// Refuses to listen for other machines without a key, unless that is asked for.
fn check_exposure(args: &Args, addresses: &[SocketAddr], keys: &[String]) -> Result<(), Failure> {
    if args.no_auth && !keys.is_empty() {
        let what = "--no-auth and an API key contradict each other";
        return Err(Failure::input(Code::Flags, what, "give one of them"));
    }
    let Some(open) = addresses.iter().find(|address| !address.ip().is_loopback()) else { return Ok(()) };
    if !keys.is_empty() || args.no_auth {
        return Ok(());
    }
    let what = match addresses.len() {
        1 if open.ip().to_string() != args.host => format!("other machines can reach {open}, and no API key is set"),
        _ => format!("other machines can reach --host {}, and no API key is set", args.host),
    };
    let fix = "set TULU_QUANT_API_KEY or --api-key-file, or give --no-auth to let everyone in";
    Err(Failure::input(Code::Flags, what, fix))
}

/// Returns the names that the Host header may have: --allowed-host, and the name of --host.
fn hosts(args: &Args) -> Vec<String> {
    args.allowed_host.iter().chain([&args.host]).cloned().collect()
}

/// Returns the address that a browser on this machine can open.
fn browsable(url: &str) -> String {
    url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
