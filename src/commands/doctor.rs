//! `doctor`: checks that this build fits this machine, and that llama.cpp's kernels run and compute correctly.
//!
//! The self-test runs in a child process. If the build uses instructions that this CPU lacks, the system kills the
//! child with SIGILL, and the parent process reports it.

mod gpus;

use crate::error::{Code, Exit, Failure};
use crate::model::hub::HubSettings;
use crate::table;
use llama_ext::{GgmlType, cpu_check, cpu_features};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Check this build and this machine, and suggest changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tulu-quant doctor\n  tulu-quant doctor --json | jq .advice")]
pub(crate) struct Args {
    /// Print the findings as one JSON object
    #[arg(long, env = "TULU_QUANT_JSON")]
    json: bool,
    /// Run the self-test in this process and print its result as JSON (doctor starts it as a child)
    #[arg(long, hide = true)]
    self_test: bool,
}

/// Maximum error of a product. Activations are rounded to 8 bits; correct results stay well below this.
const TOLERANCE: f64 = 0.05;

/// Runs the subcommand: exit code 0, or 4 if a kernel fails.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    if args.self_test {
        return crate::stdout::print(&(self_test()?.to_string() + "\n"));
    }
    let features = features();
    let tested = run_self_test();
    let mut advice = Vec::new();
    let missing: Vec<&str> = features.iter().filter(|f| f.cpu && !f.built).map(|f| f.name).collect();
    if !missing.is_empty() {
        advice.push(format!(
            "this CPU has {}, which llama.cpp was not built for: build with `cargo build --release` in the source folder, \
             without RUSTFLAGS in the environment (it replaces .cargo/config.toml's target-cpu=native)",
            missing.join(", ")
        ));
    }
    let lacking: Vec<&str> = features.iter().filter(|f| f.built && !f.cpu).map(|f| f.name).collect();
    if !lacking.is_empty() {
        advice.push(format!(
            "llama.cpp was built for {}, which this CPU lacks: build it again on this machine",
            lacking.join(", ")
        ));
    }
    let is_x86 = features.iter().any(|f| f.name == "avx2" && f.built);
    if is_x86 && !llama_ext::accel::kernels().attention {
        advice.push(
            "the attention for many conversations at a time is not in this build, so batch is slower: build with GCC (it \
             needs GCC's OpenMP), as in CXX=g++ cargo build --release"
                .to_owned(),
        );
    }
    if let Err(why) = &tested {
        advice.push(format!(
            "the self-test failed ({why}): build again on this machine, and report it if that does not help"
        ));
    }
    let memory = crate::platform::machine_memory();
    let cache = crate::model::app_dirs::cache_dir().map_or_else(|err| err.what, |dir| dir.display().to_string());
    let hub = HubSettings::from_env();
    if let Err(why) = &hub {
        advice.push(format!("Hub settings: {}; {}", why.what, why.fix));
    }
    let hub = hub.ok();
    if let Some(hub) = hub.as_ref().filter(|hub| hub.sends_secret_unencrypted()) {
        advice.push(format!("the token is sent to {} without encryption: use an https HF_ENDPOINT", hub.endpoint));
    }
    // Their drivers answer in this process only after the self-test, in a child process, has survived them.
    let gpus = if tested.is_ok() { gpus::Found::now()? } else { gpus::Found::default() };
    advice.extend(gpus.advice());
    let text = if args.json {
        let features: Vec<Value> =
            features.iter().map(|f| json!({"name": f.name, "cpu": f.cpu, "built": f.built})).collect();
        let all = json!({
            "version": env!("CARGO_PKG_VERSION"), "revision": env!("TULU_QUANT_REVISION"), "pin": pin(),
            "ggml": llama_ext::ggml_version(), "features": features, "system_info": cpu_features::system_info(),
            "kernels": llama_ext::accel::kernels().matmul,
            "gpu_backends": gpus.backends, "backend_files": gpus.files_json(), "devices": gpus.devices_json(),
            "memory_total": memory.0, "memory_available": memory.1, "cache": cache, "hub": hub.as_ref().map(hub_json),
            "self_test": tested.as_ref().map_or_else(|why| json!({"failed": why}), Clone::clone), "advice": advice,
        });
        all.to_string() + "\n"
    } else {
        let gpu = gpus.text();
        report(&features, &tested, &advice, memory, &gpu, &cache, hub.as_ref())
    };
    crate::stdout::print(&text)?;
    Ok(if tested.is_ok() { Exit::Done } else { Exit::Engine })
}

struct Feature {
    name: &'static str,
    cpu: bool,
    built: bool,
}

/// Returns the features of the CPU and those that llama.cpp was built for.
fn features() -> Vec<Feature> {
    let has = |name: &str| cpu_has(name);
    cpu_features::built_for().into_iter().map(|(name, built)| Feature { name, cpu: has(name), built }).collect()
}

#[cfg(target_arch = "x86_64")]
fn cpu_has(name: &str) -> bool {
    match name {
        "avx" => is_x86_feature_detected!("avx"),
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        "f16c" => is_x86_feature_detected!("f16c"),
        "bmi2" => is_x86_feature_detected!("bmi2"),
        "avx_vnni" => is_x86_feature_detected!("avxvnni"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512vbmi" => is_x86_feature_detected!("avx512vbmi"),
        "avx512vnni" => is_x86_feature_detected!("avx512vnni"),
        "avx512bf16" => is_x86_feature_detected!("avx512bf16"),
        // Stable Rust does not detect AMX. The kernel lists it only if programs may use it.
        "amx_int8" => std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains(" amx_int8")),
        _ => false,
    }
}

#[cfg(target_arch = "aarch64")]
fn cpu_has(name: &str) -> bool {
    use std::arch::is_aarch64_feature_detected;
    match name {
        "neon" => is_aarch64_feature_detected!("neon"),
        "dotprod" => is_aarch64_feature_detected!("dotprod"),
        "i8mm" => is_aarch64_feature_detected!("i8mm"),
        "sve" => is_aarch64_feature_detected!("sve"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_has(_: &str) -> bool {
    false
}

/// The types that the self-test multiplies: the most common ones for Tulu models.
const TESTED: [GgmlType; 3] = [GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::Q8_0];

fn self_test() -> Result<Value, Failure> {
    let threads = crate::model::resolve::available_threads().get().min(8);
    let mut results = Vec::new();
    for kind in TESTED {
        let tested = cpu_check::matmul_test(kind, u16::try_from(threads).unwrap_or(1));
        let tested = tested.map_err(|err| Failure::engine(Code::SelfTest, err.to_string(), "report this"))?;
        for r in tested {
            let ok = f64::from(r.error) < TOLERANCE;
            results.push(json!({"type": kind.name(), "buffer": r.buffer, "error": r.error, "ok": ok}));
        }
    }
    for device in crate::engine::gpus()? {
        results.extend(gpus::test(&device)?);
    }
    Ok(Value::Array(results))
}

/// Runs [`self_test`] in a child process. The error is the child's exit status, or the wrong product.
fn run_self_test() -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|err| format!("cannot find this program: {err}"))?;
    let child = Command::new(program).args(["doctor", "--self-test"]).stdin(Stdio::null()).output();
    let child = child.map_err(|err| format!("cannot start a process: {err}"))?;
    if !child.status.success() {
        return Err(format!("the matrix product ended with {}", child.status));
    }
    let results: Value = serde_json::from_slice(&child.stdout).map_err(|err| format!("unreadable result: {err}"))?;
    let wrong = results.as_array().into_iter().flatten().find(|r| r["ok"] != json!(true));
    match wrong {
        None => Ok(results),
        Some(r) => Err(format!("{} in {}: error {}", r["type"], r["buffer"], r["error"])),
    }
}

/// Returns the Hub settings as JSON. Of the token, only its presence is included.
fn hub_json(hub: &HubSettings) -> Value {
    json!({"endpoint": hub.endpoint, "cache": hub.cache.0.display().to_string(), "token": hub.token.is_some(),
           "offline": hub.offline, "proxies": HubSettings::proxies()})
}

/// Returns the Hub settings as text.
fn hub_text(hub: &HubSettings) -> String {
    let mut out = format!("hub          {}", hub.endpoint);
    out += if hub.token.is_some() { ", with a token" } else { ", without a token" };
    out += if hub.offline { ", offline (HF_HUB_OFFLINE)" } else { "" };
    for name in HubSettings::proxies() {
        out += &format!(", {name} is set");
    }
    out + &format!("\ndownloads    {}\n", crate::sanitize::shown(&hub.cache.0))
}

/// Returns the pinned llama.cpp, from the pin file.
fn pin() -> Value {
    let pairs = llama_ext::PIN.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    pairs.map(|(key, value)| (key.to_owned(), json!(value.trim_matches('"')))).collect::<serde_json::Map<_, _>>().into()
}

fn report(
    features: &[Feature],
    tested: &Result<Value, String>,
    advice: &[String],
    memory: (u64, u64),
    gpu: &str,
    cache: &str,
    hub: Option<&HubSettings>,
) -> String {
    let pin = pin();
    let field = |name: &str| pin[name].as_str().unwrap_or("?").to_owned();
    let mut out = format!(
        "tulu-quant   {} ({})\nllama.cpp    ggml {}, in llama-cpp-sys-2 {}\nkernels      {}\nmemory       {} available of {}\n{}cache        {}\n{}\nCPU feature  here   built for\n",
        env!("CARGO_PKG_VERSION"),
        env!("TULU_QUANT_REVISION"),
        llama_ext::ggml_version(),
        field("llama-cpp-sys-2"),
        llama_ext::accel::kernels()
            .matmul
            .map_or("ggml's".to_owned(), |name| format!("our own for {name}, else ggml's")),
        table::bytes(memory.1),
        table::bytes(memory.0),
        gpu,
        crate::sanitize::one_line(cache),
        hub.map_or_else(String::new, hub_text),
    );
    let word = |yes: bool| if yes { "yes" } else { "-" };
    for f in features {
        let mark = if f.cpu == f.built { "" } else { "  <- differs" };
        out += &format!("{:<12} {:<6} {}{mark}\n", f.name, word(f.cpu), word(f.built));
    }
    out += "\nself-test    a 512 x 1024 matrix times 48 columns, on GPUs also an attention (attn); error against f64\n";
    match tested {
        Ok(results) => {
            for r in results.as_array().into_iter().flatten() {
                let text = |key: &str| r[key].as_str().unwrap_or("?").to_owned();
                out += &format!(
                    "  {:<6} {:<12} {:.4}  ok\n",
                    text("type"),
                    text("buffer"),
                    r["error"].as_f64().unwrap_or(f64::NAN)
                );
            }
        }
        Err(why) => out += &format!("  FAILED: {why}\n"),
    }
    out += if advice.is_empty() { "\nAll is well.\n" } else { "\nWhat to change:\n" };
    advice.iter().for_each(|line| out += &format!("  - {}\n", crate::sanitize::one_line(line)));
    out
}
