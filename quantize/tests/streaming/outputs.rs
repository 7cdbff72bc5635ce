//! Streaming conversion: the outputs are those of a conversion from a folder, memory and requests are bounded, and
//! existing or locked outputs are not changed.

use super::{AROUND, Case, outputs, stopped};
use crate::fixtures;
use crate::support::options;
use std::fs;
use std::sync::atomic::Ordering;
use tulu_quantize::{
    Checkpoint, Code, ConvertOptions, Plan, QuantizeOptions, Silent, StreamOptions, can_stream, convert_streaming,
    stream_memory,
};

#[test]
fn streams_the_same_bytes_as_a_folder_and_fetches_nothing_twice() {
    for case in [Case::safetensors(), Case::bin()] {
        let report = case.run().unwrap();
        case.is_done();
        assert_eq!(report.written, case.wanted.iter().map(|file| file.len() as u64).sum::<u64>());
        let given = case.given();
        let most = case.total() + AROUND * case.server.files.len() as u64;
        assert!(given >= case.total() && given <= most, "{given} of {} bytes", case.total());
        let requests = case.server.requests.lock().unwrap();
        assert!(requests.len() > 12, "{} requests", requests.len());
        let most = case.server.most_flying.load(Ordering::SeqCst);
        assert!(most <= stream_memory(&case.stream_options()), "{most} bytes at once");
    }
}

#[test]
fn conversions_with_a_common_output_do_not_disturb_each_other() {
    let case = stopped();
    let (journal, parts) = (case.stream_options().journal, case.parts());
    let kept: Vec<Vec<u8>> = [&journal, &parts[0], &parts[1]].map(|path| fs::read(path).unwrap()).to_vec();
    let source = Checkpoint::open_with(&case.small, &case.remote).unwrap();
    let one = outputs(&case.out)[..1].to_vec();
    let plan = Plan::new(&source, &one, &QuantizeOptions::default()).unwrap();
    let stream_options = StreamOptions { journal: case.out.join("little-Q4_0.tulu-journal"), ..case.stream_options() };
    convert_streaming(&source, &plan, &case.remote, options(3), &stream_options, &Silent).unwrap();
    assert!(fs::read(&one[0].1).unwrap() == case.wanted[0]);
    let found: Vec<Vec<u8>> = [&journal, &parts[0], &parts[1]].map(|path| fs::read(path).unwrap()).to_vec();
    assert!(found == kept, "what was stopped is as it was");
    fs::remove_file(&one[0].1).unwrap();
    case.given();
    case.run().unwrap();
    case.is_done();
    assert!(case.given() < case.total(), "and it is gone on with");
}

#[test]
fn existing_outputs_are_refused_before_fetching_and_replaced_on_request() {
    let case = Case::safetensors();
    fs::write(case.out.join("little-Q8_0.gguf"), "mine").unwrap();
    let err = case.run().unwrap_err();
    assert_eq!(err.code, Code::OutputExists);
    assert_eq!(case.names(), ["little-Q8_0.gguf"]);
    assert!(case.given() <= AROUND * case.server.files.len() as u64);
    case.run_with(ConvertOptions { replace: true, ..options(3) }, &Silent).unwrap();
    case.is_done();
}

#[test]
fn second_process_reports_lock() {
    let case = Case::safetensors();
    let held = fs::File::create(case.stream_options().journal).unwrap();
    held.lock().unwrap();
    let err = case.run().unwrap_err();
    assert_eq!(err.code, Code::Locked, "{err}");
    drop(held);
    case.run().unwrap();
    case.is_done();
}

#[test]
fn shared_storages_fall_back_to_download() {
    let dir = tempfile::tempdir().unwrap();
    fixtures::Checkpoint { shards: 1, ..Default::default() }.write(dir.path());
    let mut source = Checkpoint::open(dir.path()).unwrap();
    let plan = Plan::new(&source, &outputs(dir.path()), &QuantizeOptions::default()).unwrap();
    let stream_options = StreamOptions::for_size(1 << 30, dir.path().join("journal"));
    assert!(can_stream(&source, &plan, &stream_options));
    let matrix = source.tensors.iter_mut().find(|t| t.shape.len() == 2).unwrap();
    matrix.strides = Some(vec![1, matrix.shape[0]]);
    assert!(!can_stream(&source, &plan, &stream_options));
}
