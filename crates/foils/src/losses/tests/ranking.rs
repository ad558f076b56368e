//! The ranking losses and their two-view forms.

use super::*;
use proptest::prelude::*;

/// Every loss over anchors, candidates and targets.
fn ranking_losses(options: Options) -> Vec<Box<dyn RankingLoss>> {
    let t = 0.2;
    vec![
        Box::new(MultipleNegativesRanking::new(1.0 / t).unwrap().options(options)),
        Box::new(MultipleNegativesRanking::new(0.7).unwrap().similarity(Similarity::Dot).options(options)),
        Box::new(InfoNce::new(t).unwrap().options(options)),
        Box::new(InfoNce::new(t).unwrap().symmetric(true).options(options)),
        Box::new(Dcl::new(t).unwrap().options(options)),
        Box::new(Dcl::new(1.5).unwrap().normalize(false).options(options)),
        Box::new(Dclw::new(t, 0.5).unwrap().options(options)),
        Box::new(Dclw::new(t, 0.3).unwrap().detach_weight(true).options(options)),
        Box::new(SimpleContrastive::new(None).unwrap().options(options)),
        Box::new(SoftInfoNce::new(t).unwrap().options(options)),
        Box::new(NtXent::new(t).unwrap().options(options)),
        Box::new(TripletMargin::new(0.5).unwrap().distance(Distance::Cosine).options(options)),
        Box::new(TripletMargin::new(0.5).unwrap().options(options)),
        Box::new(AlignmentUniformity::new(0.7, 2.0).unwrap().options(options)),
        Box::new(Cacr::new(1.0, 2.0).unwrap().factors(0.5, 3.0).unwrap().options(options)),
    ]
}

prop_compose! {
    fn batch()(n in 2usize..12, extra in 0usize..9, dim in 1usize..6)(
        dim in Just(dim),
        a in prop::collection::vec(0.1..1.0f64, n * dim),
        c in prop::collection::vec(-1.0..-0.1f64, (n + extra) * dim),
        positive in prop::collection::vec(0..(n + extra) as u32, n),
        // At most n - 2 of them, so that a negative is always left.
        excluded in prop::collection::vec(prop::collection::btree_set(0..(n + extra) as u32, 0..n - 1), n),
        any_excluded in any::<bool>(),
    ) -> (Vec<f64>, Vec<f64>, usize, Targets) {
        let excluded = excluded.into_iter().filter(|_| any_excluded).map(|s| s.into_iter().collect()).collect();
        (a, c, dim, Targets::new(positive, excluded))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ranking_losses_are_the_same_by_kernel_and_by_tensor_operations((a, c, dim, targets) in batch()) {
        for k in 0..ranking_losses(Options::default()).len() {
            both(&a, &c, dim, |options, x, y| ranking_losses(options)[k].forward(x, y, &targets));
        }
    }

    #[test]
    fn negatives_of_weight_one_are_full_ones_and_of_weight_zero_none((a, c, dim, targets) in batch(), step in 0.1f64..3.0) {
        let (n, m) = (a.len() / dim, c.len() / dim);
        let weighted = |weights: Vec<f64>| Targets { weights, ..targets.clone() };
        let mixed = weighted(wave(n * m, step).into_iter().map(|w| 1.5 * w.max(0.0)).collect());
        // What has no weight is excluded; an anchor keeps a negative.
        let mut zeros = vec![1.0; n * m];
        let mut excluded = vec![Vec::new(); n];
        for (i, list) in excluded.iter_mut().enumerate() {
            let out = targets.excluded.get(i).map_or(&[][..], Vec::as_slice);
            list.extend_from_slice(out);
            let left: Vec<u32> = (0..m as u32).filter(|j| *j != targets.positive[i] && !out.contains(j)).collect();
            for &j in &left[1..] {
                zeros[i * m + j as usize] = 0.0;
                list.push(j);
            }
            list.sort_unstable();
        }
        for k in (0..ranking_losses(Options::default()).len()).filter(|&k| ranking_losses(Options::default())[k].takes_weights()) {
            let by = |targets: &Targets| both(&a, &c, dim, |options, x, y| ranking_losses(options)[k].forward(x, y, targets));
            let same = |x: &[Vec<f64>; 3], y: &[Vec<f64>; 3]| {
                x.iter().flatten().zip(y.iter().flatten()).all(|(x, y)| (x - y).abs() < 1e-9 * (1.0 + y.abs()))
            };
            prop_assert!(same(&by(&weighted(vec![1.0; n * m])), &by(&targets)), "loss {k}, weights of 1");
            prop_assert!(same(&by(&weighted(zeros.clone())), &by(&Targets::new(targets.positive.clone(), excluded.clone()))), "loss {k}");
            if mixed.weights.iter().all(|w| *w > 0.0) || !ranking_losses(Options::default())[k].describe().starts_with("DCL") {
                by(&mixed);
            }
        }
    }

    #[test]
    fn two_view_losses_are_the_same_by_kernel_and_by_tensor_operations((a, c, dim, _) in batch(), symmetric: bool, normalize: bool) {
        let c = &c[..a.len()];
        both(&a, c, dim, |o, x, y| InfoNce::new(0.3)?.normalize(normalize).symmetric(symmetric).options(o).forward(x, y));
        both(&a, c, dim, |o, x, y| NtXent::new(0.3)?.normalize(normalize).options(o).forward(x, y));
        both(&a, c, dim, |o, x, y| Dcl::new(0.3)?.normalize(normalize).symmetric(symmetric).options(o).forward(x, y));
        both(&a, c, dim, |o, x, y| Dclw::new(0.3, 0.5)?.normalize(normalize).symmetric(symmetric).options(o).forward(x, y));
    }
}

#[test]
fn two_views_and_targets_say_the_same() {
    let (a, b) = ([1.0, 0.2, -0.4, 0.9, 0.5, 0.5, 0.3, -1.0], [0.8, 0.1, -0.2, 1.0, 0.7, -0.5, 0.1, 0.4]);
    let identity = Targets::new(vec![0, 1, 2, 3], vec![]);
    for symmetric in [false, true] {
        let loss = InfoNce::new(0.1).unwrap().symmetric(symmetric);
        let views = both(&a, &b, 2, |o, x, y| loss.options(o).forward(x, y));
        let targets = both(&a, &b, 2, |o, x, y| RankingLoss::forward(&loss.options(o), x, y, &identity));
        assert!((views[0][0] - targets[0][0]).abs() < 1e-12);
    }
    // DCL of one direction is the ranking form with both views of the others as candidates.
    let z = [a, b].concat();
    let targets = Targets::new(vec![4, 5, 6, 7], vec![vec![0], vec![1], vec![2], vec![3]]);
    for weighted in [false, true] {
        let one = both(&a, &b, 2, |o, x, y| match weighted {
            false => Dcl::new(0.1)?.symmetric(false).options(o).forward(x, y),
            true => Dclw::new(0.1, 0.5)?.symmetric(false).options(o).forward(x, y),
        });
        let other = both(&a, &z, 2, |o, x, y| match weighted {
            false => RankingLoss::forward(&Dcl::new(0.1)?.options(o), x, y, &targets),
            true => RankingLoss::forward(&Dclw::new(0.1, 0.5)?.options(o), x, y, &targets),
        });
        assert!((one[0][0] - other[0][0]).abs() < 1e-12);
    }
}

#[test]
fn mean_weight_of_dclw_is_one_and_identical_views_weigh_one() {
    let z = [1.0, 0.2, -0.4, 0.9, 0.5, 0.5, 0.3, -1.0];
    let dcl = both(&z, &z, 2, |o, x, y| Dcl::new(0.1)?.options(o).forward(x, y));
    let dclw = both(&z, &z, 2, |o, x, y| Dclw::new(0.1, 0.5)?.detach_weight(true).options(o).forward(x, y));
    assert!((dcl[0][0] - dclw[0][0]).abs() < 1e-12);
}

/// dcl, "must hold" (a): for every anchor the gradient of InfoNCE is q times that of DCL.
#[test]
fn infonce_is_dcl_times_the_coupling() {
    let n = 9;
    let (a, c) = (wave(n * 4, 0.7), wave(n * 4, 1.3));
    for i in 0..n as u32 {
        let targets = Targets::new(vec![i], vec![]);
        let anchor = &a[i as usize * 4..][..4];
        let of = |loss: &dyn Fn(Options) -> Box<dyn RankingLoss>| both(anchor, &c, 4, |o, x, y| loss(o).forward(x, y, &targets));
        let nce = of(&|o| Box::new(InfoNce::new(0.1).unwrap().options(o)));
        let dcl = of(&|o| Box::new(Dcl::new(0.1).unwrap().options(o)));
        // L_InfoNCE = log(1 + exp L_DCL), so q = sigmoid(L_DCL).
        let q = 1.0 / (1.0 + (-dcl[0][0] / 3.0).exp());
        for side in [1, 2] {
            assert!(nce[side].iter().zip(&dcl[side]).all(|(x, y)| (x - q * y).abs() < 1e-10), "anchor {i}, q {q}");
        }
    }
}

#[test]
fn reversed_direction_leaves_out_what_belongs_together() {
    // Anchors 0 and 1 share a positive; anchor 2 excludes it. So 0's positive sees only anchor 0.
    let targets = Targets::new(vec![0, 0, 1], vec![vec![], vec![], vec![0]]);
    let (a, c) = ([1.0, 0.0, 0.8, 0.6, 0.0, 1.0], [0.6, 0.8, -1.0, 0.1]);
    let one = |symmetric| {
        both(&a, &c, 2, |o, x, y| RankingLoss::forward(&InfoNce::new(1.0)?.symmetric(symmetric).options(o), x, y, &targets))[0][0]
    };
    let cos = |x: [f64; 2], y: [f64; 2]| (x[0] * y[0] + x[1] * y[1]) / (x[0].hypot(x[1]) * y[0].hypot(y[1]));
    let to_c1 = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]].map(|x| cos(x, [-1.0, 0.1]));
    let back = (to_c1.iter().map(|s| s.exp()).sum::<f64>().ln() - to_c1[2]) / 3.0;
    assert!((one(true) - (one(false) + 3.0 * back) / 2.0).abs() < 1e-12);
}

#[test]
fn f32_and_constants_work_by_both_paths() {
    let device = Device::flex().autodiff();
    for compute in [Compute::Auto, Compute::TensorOps] {
        let a = Tensor::<2>::from_floats([[1.0, 0.5], [0.2, -0.7]], &device).require_grad();
        let c = Tensor::<2>::from_floats([[0.9, 0.1], [0.4, -0.6], [0.3, 0.3]], &Device::flex());
        let targets = Targets::new(vec![0, 1], vec![]);
        let loss = Dclw::new(0.1, 0.5).unwrap().options(Options { compute, ..Options::default() });
        let value = RankingLoss::forward(&loss, a.clone(), c.clone(), &targets).unwrap();
        assert_eq!(value.dtype(), DType::F32);
        assert!(values(a.grad(&value.backward()).unwrap()).iter().any(|g| *g != 0.0));
        // Without any graph the value is the same.
        let plain = RankingLoss::forward(&loss, a.inner(), c, &targets).unwrap();
        assert!((values(value)[0] - values(plain)[0]).abs() < 1e-6);
    }
}

#[test]
fn bad_input_is_refused_with_its_value() {
    let ok = [1.0, 0.2, -0.4, 0.9];
    let says = |result: Result<[Vec<f64>; 3]>, words: &[&str]| {
        let message = result.unwrap_err().to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    };
    for compute in [Compute::Auto, Compute::TensorOps] {
        let options = Options { compute, ..Options::default() };
        let run = |a: &[f64], b: &[f64]| evaluate(a, b, 2, |x, y| NtXent::new(0.1)?.options(options).forward(x, y));
        says(run(&ok, &[1.0, 0.0, f64::NAN, 1.0]), &["row", "NaN"]);
        says(run(&[f64::INFINITY, 0.0, 1.0, 1.0], &ok), &["row 0", "inf"]);
        says(run(&[0.0, 0.0, 1.0, 1.0], &ok), &["row 0", "zero vector"]);
        says(run(&ok[..2], &ok[..2]), &["1 rows", "no negatives"]);
        says(run(&ok, &ok[..2]), &["z1", "[2, 2]", "z2", "[1, 2]"]);
        says(
            evaluate(&ok, &ok, 2, |x, y| Dcl::new(0.1)?.options(options).forward(x.narrow(0, 0, 1), y.narrow(0, 0, 1))),
            &["no negatives"],
        );
        let huge = ok.map(|v| v * 1e200);
        says(evaluate(&huge, &huge, 2, |x, y| InfoNce::new(0.1)?.normalize(false).options(options).forward(x, y)), &["the loss is"]);
        let ranked = |positive: Vec<u32>, excluded: Vec<Vec<u32>>| {
            evaluate(&ok, &ok, 2, |x, y| {
                RankingLoss::forward(&Dcl::new(0.1)?.options(options), x, y, &Targets::new(positive.clone(), excluded.clone()))
            })
        };
        says(ranked(vec![0], vec![]), &["1 positives for 2 anchors"]);
        says(ranked(vec![0, 2], vec![]), &["anchor 1", "candidate 2 of 2"]);
        says(ranked(vec![0, 1], vec![vec![9], vec![]]), &["anchor 0", "candidate 9 of 2"]);
        says(ranked(vec![0, 1], vec![vec![]]), &["1 exclusion lists"]);
        says(ranked(vec![0, 1], vec![vec![], vec![0]]), &["anchor 1 has no negatives"]);
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
        assert!(InfoNce::new(bad).unwrap_err().to_string().contains("temperature"));
        assert!(Dclw::new(0.1, bad).unwrap_err().to_string().contains("sigma"));
        assert!(MultipleNegativesRanking::new(bad).is_err());
    }
    let f32s = Tensor::<2>::from_floats([[1.0, 0.5], [0.2, -0.7]], &Device::flex());
    assert!(NtXent::new(0.1).unwrap().forward(f32s, leaf(&ok, 2)).unwrap_err().to_string().contains("F32"));
}

#[test]
fn losses_by_name() {
    for name in NAMES {
        let without_temperature = [
            "mnrl",
            "margin-mse",
            "simple-contrastive",
            "hard-simple-contrastive",
            "cacr",
            "triplet",
            "groco",
            "alignment-uniformity",
            "barlow-twins",
        ]
        .contains(&name);
        let described = by_name(name, &LossSettings::default()).unwrap().describe();
        assert_eq!(described.contains("temperature 0.05"), !without_temperature, "{described}");
    }
    let both = LossSettings { temperature: Some(0.1), scale: Some(10.0), ..Default::default() };
    assert!(by_name("dcl", &both).is_err());
    assert!(by_name("hinge", &LossSettings::default()).err().unwrap().to_string().contains("mnrl, infonce"));
    for (name, words) in [
        ("moco", "`infonce` with a queue of negatives, `--negatives queue:N`"),
        ("sup-con", "needs classes"),
        ("supcon", "`losses::SupCon`"),
    ] {
        let message = by_name(name, &LossSettings::default()).err().unwrap().to_string();
        assert!(message.contains(&format!("no loss `{name}`")) && message.contains(words), "{message}");
    }
    let settings: LossSettings = serde_json::from_str(r#"{"scale": 10, "similarity": "dot"}"#).unwrap();
    assert_eq!(by_name("dclw", &settings).unwrap().describe(), "DCLW(temperature 0.1, sigma 0.5, dot)");
    assert!(serde_json::from_str::<LossSettings>(r#"{"tau": 1}"#).is_err());
}

#[test]
fn pairs_of_nt_xent_are_its_two_views() {
    let (a, b) = (wave(12, 0.7), wave(12, 1.9));
    let loss = NtXent::new(0.2).unwrap();
    let views = both(&a, &b, 3, |o, x, y| loss.options(o).forward(x, y));
    let targets = Targets::new(vec![0, 1, 2, 3], vec![]);
    let ranked = both(&a, &b, 3, |o, x, y| RankingLoss::forward(&loss.options(o), x, y, &targets));
    assert!(views.iter().flatten().zip(ranked.iter().flatten()).all(|(x, y)| (x - y).abs() < 1e-12));
}

/// What the lists of columns mean, from their definition: pair 0 leaves out the positive of pair 2, so also its anchor, and pair 1 has the
/// same positive as pair 3.
#[test]
fn pairs_of_nt_xent_leave_out_as_one() {
    let (n, m, d, t) = (4, 6, 3, 0.3);
    let (a, c) = (wave(n * d, 0.7), wave(m * d, 1.9));
    let targets = Targets {
        weights: (0..n * m).map(|k| 0.2 + (k % 5) as f64 / 4.0).collect(),
        ..Targets::new(vec![0, 1, 2, 1], vec![vec![2, 4], vec![], vec![0], vec![5]])
    };
    let unit = |v: &[f64]| {
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.iter().map(|x| x / norm).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<f64>> = a.chunks(d).chain(c.chunks(d)).map(unit).collect();
    let similarity = |x: usize, y: usize| rows[x].iter().zip(&rows[y]).map(|(x, y)| x * y).sum::<f64>() / t;
    // Row i of anchors and that of its positive; the columns that count, with the candidate whose weight they have.
    let counts: [&[(usize, usize)]; 4] = [
        &[(1, 1), (3, 1), (5, 1), (7, 3), (9, 5)],
        &[(0, 0), (2, 2), (4, 0), (6, 2), (7, 3), (8, 4), (9, 5)],
        &[(1, 1), (3, 1), (5, 1), (7, 3), (8, 4), (9, 5)],
        &[(0, 0), (2, 2), (4, 0), (6, 2), (7, 3), (8, 4)],
    ];
    let mut expected = 0.0;
    for (i, columns) in counts.iter().enumerate() {
        let positive = n + targets.positive[i] as usize;
        for (row, own) in [(i, positive), (positive, i)] {
            let own = similarity(row, own);
            let others: f64 = columns.iter().map(|&(column, w)| targets.weights[i * m + w] * similarity(row, column).exp()).sum();
            expected += ((own.exp() + others).ln() - own) / (2 * n) as f64;
        }
    }
    let found = both(&a, &c, d, |o, x, y| RankingLoss::forward(&NtXent::new(t)?.options(o), x, y, &targets));
    assert!((found[0][0] / 3.0 - expected).abs() < 1e-12, "{} and {expected}", found[0][0] / 3.0);
}

#[test]
fn triplets_of_a_batch_are_all_its_negatives() {
    let (n, m, d) = (3, 5, 2);
    let (a, c) = (wave(n * d, 0.7), wave(m * d, 1.9));
    let targets = Targets::new(vec![0, 1, 4], vec![vec![3], vec![], vec![0, 1]]);
    for distance in [Distance::Cosine, Distance::Euclidean, Distance::SquaredEuclidean] {
        let loss = TripletMargin::new(0.4).unwrap().distance(distance);
        let (mut sum, mut triplets) = (0.0, 0.0);
        for i in 0..n {
            let row = |x: &[f64], k: usize| leaf(&x[k * d..][..d], d);
            let negative = |j: &usize| *j as u32 != targets.positive[i] && !targets.excluded[i].contains(&(*j as u32));
            for j in (0..m).filter(negative) {
                sum += values(loss.forward(row(&a, i), row(&c, targets.positive[i] as usize), row(&c, j)).unwrap())[0];
                triplets += 1.0;
            }
        }
        let found = evaluate(&a, &c, d, |x, y| RankingLoss::forward(&loss, x, y, &targets)).unwrap();
        assert!(triplets == 9.0 && (found[0][0] / 3.0 - sum / triplets).abs() < 1e-12, "{distance:?}: {found:?}, {sum}");
        check_gradient(&c, d, |y| RankingLoss::forward(&loss, leaf(&a, d), y, &targets));
        check_gradient(&a, d, |x| RankingLoss::forward(&loss, x, leaf(&c, d), &targets));
    }
    let alone = Targets::new(vec![0], vec![vec![1, 2, 3, 4]]);
    let refused = RankingLoss::forward(&TripletMargin::new(0.4).unwrap(), leaf(&a[..d], d), leaf(&c, d), &alone);
    assert!(refused.unwrap_err().to_string().contains("anchor 0 has no negatives"));
}

#[test]
fn losses_of_pairs_take_the_positives_in_their_order() {
    let (a, c) = (wave(12, 0.7), wave(12, 1.9));
    let (order, turned) = (Targets::new(vec![2, 0, 3, 1], vec![]), [2usize, 0, 3, 1].map(|p| &c[p * 3..][..3]).concat());
    let twins = BarlowTwins::new(0.1).unwrap();
    let one = evaluate(&a, &c, 3, |x, y| RankingLoss::forward(&twins, x, y, &order)).unwrap();
    let other = evaluate(&a, &turned, 3, |x, y| Ok(twins.forward(x, y)?.loss)).unwrap();
    assert!(one[0] == other[0] && one[1] == other[1]);
    let one = evaluate(&a, &c, 3, |x, y| AlignmentUniformity::new(0.7, 2.0)?.forward(x, y, &order)).unwrap();
    let parts = |x: Tensor<2>, y: Tensor<2>| {
        let spread = Uniformity::new(2.0)?.forward(x.clone())? + Uniformity::new(2.0)?.forward(y.clone())?;
        Ok(Alignment::new(2.0)?.forward(x, y)? + spread.mul_scalar(0.35))
    };
    let other = evaluate(&a, &turned, 3, parts).unwrap();
    assert!((one[0][0] - other[0][0]).abs() < 1e-12);
    let extra = Targets::new(vec![0, 1, 2], vec![]);
    let refused = evaluate(&a[..9], &c, 3, |x, y| RankingLoss::forward(&twins, x, y, &extra)).unwrap_err().to_string();
    assert!(refused.contains("candidate 3 is no anchor's positive"), "{refused}");
}
