//! The choice of layers, as a table: no device is needed.

use super::{Demand, Placement, plan, proportional};
use crate::engine::devices::{Device, Kind, Usable};
use crate::engine::gpu_settings::{GpuLayers, GpuSettings};
use crate::engine::memory_plan::KvPlan;
use crate::engine::model_dims::ModelDims;
use crate::engine::settings::{CacheType, EngineSettings};
use crate::engine::tensor_sizes::TensorSizes;
use crate::error::{Code, Failure};
use crate::platform::Available;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Tulu 3 8B at Q4_K_M.
fn tulu_8b() -> ModelDims {
    ModelDims {
        n_layer: 32,
        n_embd: 4096,
        n_head: 32,
        n_head_kv: 8,
        head_dim: 128,
        n_vocab: 128_264,
        n_ctx_train: 131_072,
        tensor_bytes: 4_920_000_000,
    }
}

fn card(index: usize, kind: Kind, budget: u64) -> Usable {
    let name = format!("CUDA{index}");
    let device = Device {
        index,
        name,
        description: "a card".to_owned(),
        backend: "CUDA".to_owned(),
        kind,
        total: budget + GIB,
        free: budget,
        id: String::new(),
        splits_rows: true,
    };
    Usable { device, budget }
}

fn settings(layers: GpuLayers) -> EngineSettings {
    EngineSettings { gpu: GpuSettings { layers, ..GpuSettings::default() }, ..EngineSettings::default() }
}

fn planned(
    dims: &ModelDims,
    settings: &EngineSettings,
    n_slots: u32,
    main: u64,
    devices: &[Usable],
) -> Result<(KvPlan, Placement), Failure> {
    let sizes = TensorSizes::estimate(dims);
    let demand = Demand { dims, sizes: &sizes, settings };
    let (kv, placement) = plan(&demand, Some(n_slots), &Available::of_machine(main), devices, u32::MAX)?;
    // Whatever is chosen holds, with the whole KV cache.
    for (one, needed) in devices.iter().zip(&placement.device_bytes) {
        assert!(*needed <= one.budget, "{placement:?}");
    }
    assert!(placement.main_bytes <= main, "{placement:?}");
    Ok((kv, placement))
}

#[test]
fn auto_takes_what_fits() {
    let dims = ModelDims::tulu_13b();
    for (budgets, all) in [
        (&[24 * GIB][..], true),
        (&[8 * GIB], false),
        (&[2 * GIB], false),
        (&[8 * GIB, 8 * GIB], true),
        (&[2 * GIB, 12 * GIB], true),
    ] {
        let devices: Vec<Usable> =
            budgets.iter().enumerate().map(|(index, budget)| card(index, Kind::Gpu, *budget)).collect();
        let (kv, placement) = planned(&dims, &settings(GpuLayers::Auto), 1, 32 * GIB, &devices).unwrap();
        assert_eq!((placement.n_layers() == 41, kv.n_ctx), (all, 4096), "{budgets:?}: {placement:?}");
        assert!(placement.n_layers() > 0, "{budgets:?}");
        // One more layer does not fit.
        if !all {
            let more = settings(GpuLayers::Count(placement.n_layers() + 1));
            let refused = planned(&dims, &more, 1, 32 * GIB, &devices).unwrap_err();
            assert_eq!(refused.code, Code::Memory);
            assert!(refused.fix.contains(&format!("-ngl {} ", placement.n_layers())), "{refused}");
        }
    }
}

#[test]
fn layers_stay_on_the_cpu_where_none_fits() {
    let (dims, auto) = (ModelDims::tulu_13b(), settings(GpuLayers::Auto));
    for devices in [vec![], vec![card(0, Kind::Gpu, 100 * MIB)], vec![card(0, Kind::Gpu, 0)]] {
        let (kv, placement) = planned(&dims, &auto, 1, 64 * GIB, &devices).unwrap();
        assert_eq!((placement.n_layers(), kv.n_ctx), (0, 4096));
        assert_eq!(kv, KvPlan::on_cpu(&dims, &auto, Some(1), &Available::of_machine(64 * GIB)).unwrap());
    }
    let none = planned(&dims, &settings(GpuLayers::Count(0)), 1, 64 * GIB, &[card(0, Kind::Gpu, 24 * GIB)]).unwrap();
    assert_eq!(none.1.n_layers(), 0);
}

#[test]
fn the_context_is_reduced_to_4096_before_layers_stay_on_the_cpu() {
    let dims = tulu_8b();
    let auto = settings(GpuLayers::Auto);
    let with = |budget| planned(&dims, &auto, 1, 64 * GIB, &[card(0, Kind::Gpu, budget)]).unwrap();
    assert_eq!(with(40 * GIB).0.n_ctx, 131_072);
    let (kv, placement) = with(12 * GIB);
    assert_eq!(placement.n_layers(), 33);
    assert!((4096..131_072).contains(&kv.n_ctx), "{kv:?}");
    let (kv, placement) = with(4 * GIB);
    assert!(placement.n_layers() < 33 && placement.n_layers() > 8, "{placement:?}");
    assert_eq!(kv.n_ctx, 4096);
    // A context that the user asks for is kept.
    let asked = EngineSettings { n_ctx: Some(65_536), ..auto };
    let (kv, placement) = planned(&dims, &asked, 1, 64 * GIB, &[card(0, Kind::Gpu, 8 * GIB)]).unwrap();
    assert_eq!(kv.n_ctx, 65_536);
    assert!((1..33).contains(&placement.n_layers()), "{placement:?}");
}

#[test]
fn a_number_of_layers_is_kept_or_refused() {
    let dims = ModelDims::tulu_13b();
    let devices = [card(0, Kind::Gpu, 24 * GIB)];
    for (layers, n) in [(GpuLayers::All, 41), (GpuLayers::Count(99), 41), (GpuLayers::Count(7), 7)] {
        assert_eq!(planned(&dims, &settings(layers), 1, 32 * GIB, &devices).unwrap().1.n_layers(), n);
    }
    let refused = planned(&dims, &settings(GpuLayers::All), 1, 32 * GIB, &[card(0, Kind::Gpu, 6 * GIB)]).unwrap_err();
    assert_eq!(refused.code, Code::Memory);
    assert!(refused.what.starts_with("all 41 layers") && refused.what.contains("CUDA0"), "{refused}");
    let refused = planned(&dims, &settings(GpuLayers::All), 1, 32 * GIB, &[card(0, Kind::Gpu, 9 * MIB)]).unwrap_err();
    assert!(refused.fix.starts_with("leave -ngl out"), "{refused}");
}

#[test]
fn the_pool_of_the_slots_takes_half_of_the_rest() {
    let dims = ModelDims::tulu_13b();
    let with =
        |budget, slots| planned(&dims, &settings(GpuLayers::All), slots, 64 * GIB, &[card(0, Kind::Gpu, budget)]);
    assert_eq!(with(79 * GIB, 8).unwrap().0.n_cells, 8 * 4096);
    let (kv, placement) = with(16 * GIB, 8).unwrap();
    assert!((4096..8 * 4096).contains(&kv.n_cells), "{kv:?}");
    assert_eq!(placement.n_layers(), 41);
    // --kv-tokens is kept: fewer layers fit.
    let asked = EngineSettings { n_cells: Some(16_384), ..settings(GpuLayers::Auto) };
    let (kv, placement) = planned(&dims, &asked, 8, 64 * GIB, &[card(0, Kind::Gpu, 16 * GIB)]).unwrap();
    assert_eq!(kv.n_cells, 16_384);
    assert!((1..41).contains(&placement.n_layers()), "{placement:?}");
}

#[test]
fn the_kv_cache_can_stay_in_main_memory() {
    let dims = ModelDims::tulu_13b();
    let mut small = settings(GpuLayers::All);
    let devices = [card(0, Kind::Gpu, 9 * GIB)];
    assert!(planned(&dims, &small, 1, 32 * GIB, &devices).is_err());
    small.gpu.kv_offload = false;
    let (_, placement) = planned(&dims, &small, 1, 32 * GIB, &devices).unwrap();
    assert!(placement.main_bytes > 3 * GIB, "{placement:?}");
    let quantized = EngineSettings { type_k: CacheType::Q8_0, type_v: CacheType::Q8_0, ..settings(GpuLayers::All) };
    assert!(planned(&dims, &quantized, 1, 32 * GIB, &[card(0, Kind::Gpu, 10 * GIB)]).is_ok());
}

#[test]
fn an_integrated_gpu_takes_from_main_memory() {
    let dims = ModelDims::tulu_13b();
    let with = |kind| planned(&dims, &settings(GpuLayers::All), 1, 8 * GIB, &[card(0, kind, 24 * GIB)]);
    assert!(with(Kind::Gpu).is_ok());
    assert_eq!(with(Kind::IntegratedGpu).unwrap_err().code, Code::Memory);
}

#[test]
fn several_devices_are_filled_alike_or_by_shares() {
    let dims = ModelDims::tulu_13b();
    let two = [card(0, Kind::Gpu, 24 * GIB), card(1, Kind::Gpu, 12 * GIB)];
    let (_, placement) = planned(&dims, &settings(GpuLayers::Auto), 1, 32 * GIB, &two).unwrap();
    assert_eq!(placement.n_layers(), 41);
    let [first, second] = placement.layers[..] else { panic!("{placement:?}") };
    assert!((24..31).contains(&first) && (11..18).contains(&second), "{placement:?}");
    let mut shared = settings(GpuLayers::All);
    shared.gpu.shares = vec![1.0, 3.0];
    let (_, placement) = planned(&dims, &shared, 1, 64 * GIB, &[two[0].clone(), two[0].clone()]).unwrap();
    assert_eq!(placement.layers, [11, 30]);
    assert_eq!(proportional(4, &[1.0, 1.0], 2), [2, 2]);
    assert_eq!(proportional(4, &[0.0, 1.0], 2), [0, 4]);
    assert_eq!(proportional(3, &[5.0], 2), [3, 0]);
}

#[test]
fn fewer_layers_need_less_of_a_device_and_more_of_main_memory() {
    let dims = tulu_8b();
    let (sizes, settings) = (TensorSizes::estimate(&dims), settings(GpuLayers::Auto));
    let demand = Demand { dims: &dims, sizes: &sizes, settings: &settings };
    let needs: Vec<Placement> = (0..=33).map(|n| demand.placement(4096, vec![n])).collect();
    assert_eq!(needs[0].device_bytes, [0]);
    assert!(needs[1..].windows(2).all(|two| two[1].main_bytes < two[0].main_bytes));
    assert!(needs[1..33].windows(2).all(|two| two[0].device_bytes < two[1].device_bytes));
}
