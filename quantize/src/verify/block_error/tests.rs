use super::{BLOCK, ErrorSums, GgmlType, StoredTypes, compare, kernels, requantized_error, usual_error};

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// Approximates a normal distribution by a sum of twelve uniform numbers.
    fn bell(&mut self) -> f32 {
        (0..12).map(|_| self.next()).sum::<f32>() - 6.0
    }
}

/// Weights like those of models, and weights with larger errors.
fn distributions() -> Vec<(&'static str, Vec<f32>)> {
    let mut r = Random(11);
    let n = 10 * BLOCK;
    let mut all = vec![
        ("bell", (0..n).map(|_| 0.02 * r.bell()).collect()),
        ("uniform", (0..n).map(|_| 0.1 * (r.next() - 0.5)).collect::<Vec<f32>>()),
        ("heavy tails", (0..n).map(|_| 0.02 * r.bell() / (0.05 + r.next())).collect()),
        ("heavier tails", (0..n).map(|_| 0.02 * r.bell().powi(5)).collect()),
        ("all alike", vec![0.03; n]),
        ("all positive", (0..n).map(|_| 0.9 + 0.2 * r.next()).collect()),
        ("ternary", (0..n).map(|_| [-0.02, 0.0, 0.02][(3.0 * r.next()) as usize % 3]).collect()),
        ("zeros", vec![0.0; n]),
        ("tiny", (0..n).map(|_| 1e-8 * r.bell()).collect()),
        ("small", (0..n).map(|_| 1e-5 * r.bell()).collect()),
        ("large", (0..n).map(|_| 100.0 * r.bell()).collect()),
    ];
    let mut outliers: Vec<f32> = (0..n).map(|_| 0.02 * r.bell()).collect();
    outliers.iter_mut().step_by(97).for_each(|x| *x *= 60.0);
    all.push(("outliers", outliers));
    let mut one: Vec<f32> = (0..n).map(|_| 0.001 * r.bell()).collect();
    one.iter_mut().step_by(BLOCK).for_each(|x| *x = 3.0);
    all.push(("one outlier a block", one));
    let mut mixed: Vec<f32> = (0..n).map(|_| 0.02 * r.bell()).collect();
    mixed.iter_mut().enumerate().filter(|(i, _)| i / 32 % 2 == 0).for_each(|(_, x)| *x *= 1e-3);
    all.push(("quiet groups", mixed));
    all
}

fn stored(ggml_type: GgmlType, source: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut packed = vec![0; ggml_type.row_bytes(source.len()).unwrap()];
    kernels::quantize(ggml_type, source, source.len(), importance, &mut packed).unwrap();
    let mut back = vec![0.0; source.len()];
    llama_ext::to_f32(ggml_type, &packed, &mut back).unwrap();
    back
}

fn between(file: GgmlType) -> StoredTypes {
    StoredTypes { file, source: GgmlType::F32, has_imatrix: false }
}

#[test]
fn accepts_quantized_weights_of_every_type() {
    for (name, source) in distributions() {
        for ggml_type in GgmlType::ALL {
            let file = stored(ggml_type, &source, None);
            let (_, bad, count) = compare(&file, &source, 4 * BLOCK, between(ggml_type));
            assert!(count == 0, "{ggml_type} {name}: {bad:?}");
            if ggml_type.block_size() > 1 {
                // importance that differs by a factor of a thousand between columns
                let mut r = Random(5);
                let importance: Vec<f32> = (0..source.len()).map(|_| 10_f32.powf(3.0 * r.next())).collect();
                let file = stored(ggml_type, &source, Some(&importance));
                let how = StoredTypes { has_imatrix: true, ..between(ggml_type) };
                let (sums, bad, count) = compare(&file, &source, 4 * BLOCK, how);
                println!("{ggml_type} {name} weighted: {:.4}", sums.relative());
                assert!(count == 0, "{ggml_type} {name} weighted: {bad:?}");
            }
        }
    }
}

#[test]
fn usual_error_is_that_of_normally_distributed_weights() {
    let mut r = Random(3);
    let source: Vec<f32> = (0..64 * BLOCK).map(|_| 0.02 * r.bell()).collect();
    for ggml_type in GgmlType::known().filter(|ggml_type| ggml_type.is_weights() && ggml_type.block_size() > 1) {
        let sums = requantized_error(ggml_type, &source).unwrap_or_else(|| panic!("{ggml_type} is not quantized"));
        let (found, usual) = (sums.relative(), usual_error(ggml_type));
        println!("{ggml_type}: {found:.5} ({usual})");
        assert!(found < 1.1 * usual && usual < 1.6 * found, "{ggml_type}: {found}, and {usual} is called usual");
    }
}

#[test]
fn finds_damage_to_one_block() {
    type Damage = (&'static str, fn(&mut [f32], &[f32]));
    let damages: [Damage; 5] = [
        ("zeroed", |block, _| block.fill(0.0)),
        ("another block's", |block, other| block.copy_from_slice(other)),
        ("negated", |block, _| block.iter_mut().for_each(|x| *x = -*x)),
        ("doubled", |block, _| block.iter_mut().for_each(|x| *x *= 2.0)),
        ("reversed", |block, _| block.reverse()),
    ];
    for (name, source) in distributions().into_iter().filter(|(name, _)| ["bell", "uniform", "outliers"].contains(name))
    {
        for ggml_type in GgmlType::ALL {
            let good = stored(ggml_type, &source, None);
            for (what, damage) in damages {
                let mut file = good.clone();
                let other = good[9 * BLOCK..10 * BLOCK].to_vec();
                damage(&mut file[5 * BLOCK..6 * BLOCK], &other);
                let (_, bad, count) = compare(&file, &source, 4 * BLOCK, between(ggml_type));
                let place = bad.as_ref().map(|bad| (bad.at, bad.len));
                assert_eq!((place, count), (Some((5 * BLOCK, BLOCK)), 1), "{ggml_type} {name} {what}: {bad:?}");
            }
        }
    }
}

#[test]
fn finds_one_changed_weight() {
    let source = distributions().swap_remove(0).1;
    for ggml_type in GgmlType::ALL {
        let mut file = stored(ggml_type, &source, None);
        file[300] += if ggml_type.block_size() == 1 { 0.001 } else { 1.0 };
        let (sums, bad, count) = compare(&file, &source, 4 * BLOCK, between(ggml_type));
        assert!(count == 1 && bad.is_some_and(|bad| bad.at == BLOCK), "{ggml_type}");
        assert_ne!(sums, ErrorSums::default());
    }
}
