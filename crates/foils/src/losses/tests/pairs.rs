//! The losses that are not over anchors and candidates.

use super::*;

fn says<T>(result: Result<T>, word: &str) {
    let message = result.err().expect("should be refused").to_string();
    assert!(message.contains(word), "{message}");
}

/// `[n, dim]` rows of a flat tensor that holds several inputs.
fn part(x: &Tensor<2>, n: usize, i: usize) -> Tensor<2> {
    x.clone().narrow(0, i * n, n)
}

#[test]
fn gradients_of_triplets_are_right() {
    for distance in [Distance::Euclidean, Distance::SquaredEuclidean, Distance::Cosine] {
        let loss = TripletMargin::new(0.7).unwrap().distance(distance);
        check_gradient(&wave(15 * 3, 0.77), 3, |x| loss.forward(part(&x, 5, 0), part(&x, 5, 1), part(&x, 5, 2)));
    }
}

#[test]
fn triplets_at_the_corner_and_at_distance_zero_have_no_gradient() {
    // Row 0: violation exactly 0. Row 1: the positive equals the anchor; only the negative pulls.
    let (a, p, n) = ([0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], [0.0, 2.0, 1.0, 1.5]);
    let x = leaf(&[a, p, n].concat(), 2);
    let loss = TripletMargin::new(1.0).unwrap().forward(part(&x, 2, 0), part(&x, 2, 1), part(&x, 2, 2)).unwrap();
    assert_eq!(values(loss.clone()), [0.25]);
    assert_eq!(values(x.grad(&loss.backward()).unwrap()), [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5]);
}

#[test]
fn gradients_of_alignment_and_uniformity_are_right() {
    for normalize in [true, false] {
        for alpha in [0.5, 1.0, 2.0, 3.3] {
            let loss = Alignment::new(alpha).unwrap().normalize(normalize);
            check_gradient(&wave(10 * 3, 0.77), 3, |x| loss.forward(part(&x, 5, 0), part(&x, 5, 1)));
        }
        let loss = Uniformity::new(1.7).unwrap().normalize(normalize);
        check_gradient(&wave(7 * 3, 0.77), 3, |x| loss.forward(x));
    }
}

#[test]
fn coinciding_rows_are_aligned_and_collapsed() {
    let x = leaf(&[0.3, 0.4, 0.3, 0.4, 0.3, 0.4], 2);
    for alpha in [0.5, 2.0] {
        let loss = Alignment::new(alpha).unwrap().forward(x.clone(), x.clone().inner()).unwrap();
        assert_eq!(values(loss.clone()), [0.0]);
        assert_eq!(values(x.grad(&loss.backward()).unwrap()), [0.0; 6]);
    }
    let loss = Uniformity::new(2.0).unwrap().forward(x.clone()).unwrap();
    assert!(values(loss.clone())[0].abs() < 1e-15);
    assert!(values(x.grad(&loss.backward()).unwrap()).iter().all(|g| g.abs() < 1e-14));
    // Far from the origin, and so far apart that every exponential vanishes.
    let far = leaf(&[1e6, 0.0, 1e6 + 1.0, 0.0, 1e6 + 60.0, 0.0], 2);
    let value = values(Uniformity::new(2.0).unwrap().normalize(false).forward(far.clone()).unwrap())[0];
    assert!((value - (-2.0 - 3.0f64.ln())).abs() < 1e-9, "{value}");
    let apart = far.mul_scalar(100.0);
    let value = values(Uniformity::new(2.0).unwrap().normalize(false).forward(apart).unwrap())[0];
    assert!((value - (-2e4 - 3.0f64.ln())).abs() < 1e-7, "{value}");
}

#[test]
fn gradients_of_barlow_twins_are_right() {
    let loss = BarlowTwins::new(0.3).unwrap().eps(1e-3).unwrap();
    check_gradient(&wave(12 * 3, 0.77), 3, |x| Ok(loss.forward(part(&x, 6, 0), part(&x, 6, 1))?.loss));
    let x = leaf(&wave(12, 0.77), 3);
    let same = BarlowTwins::new(0.3).unwrap().eps(0.0).unwrap().forward(x.clone(), x).unwrap();
    let c = values(same.cross_correlation);
    assert!((0..3).all(|l| (c[l * 4] - 1.0).abs() < 1e-12));
}

#[test]
fn sup_con_is_the_same_by_both_paths_and_right() {
    let labels = [3, -1, 3, 0];
    for (views, normalize) in [(1, true), (3, true), (2, false)] {
        let x = wave(4 * views * 3, 0.77);
        let run = |options: Options, x: Tensor<2>| {
            let loss = SupCon::new(0.3).unwrap().base_temperature(0.1).unwrap().normalize(normalize).options(options);
            loss.forward(x.reshape([4, views, 3]), &labels)
        };
        both(&x, &x, 3, |o, x, _| run(o, x));
        check_gradient(&x, 3, |x| run(Options::default(), x));
    }
    // With one view of every label there are no positives: 0, without gradient. So it is for a single feature.
    for (n, compute) in [(4, Compute::Auto), (1, Compute::Auto), (4, Compute::TensorOps), (1, Compute::TensorOps)] {
        let x = leaf(&wave(n * 3, 0.77), 3);
        let loss = SupCon::new(0.3).unwrap().options(Options { compute, ..Options::default() });
        let value = loss.forward(x.clone().reshape([n, 1, 3]), &[0, 1, 2, 3][..n]).unwrap();
        assert_eq!(values(value.clone()), [0.0]);
        assert!(values(x.grad(&value.backward()).unwrap()).iter().all(|g| *g == 0.0));
    }
}

#[test]
fn queue_losses_are_the_same_by_both_paths_and_leave_key_and_queue_alone() {
    let (query, key, queue) = (wave(4 * 3, 0.77), wave(4 * 3, 0.31), wave(6 * 3, 1.1));
    let moco = |o: Options, q, k| Ok(MocoInfoNce::new(0.2)?.options(o).forward(q, k, leaf(&queue, 3))?.loss);
    let dcl = |o: Options, q, k| DclQueue::new(0.2)?.options(o).forward(q, k, leaf(&queue, 3));
    assert_eq!(both(&query, &key, 3, moco)[2], Vec::<f64>::new());
    assert_eq!(both(&query, &key, 3, dcl)[2], Vec::<f64>::new());
    check_gradient(&query, 3, |q| moco(Options::default(), q, leaf(&key, 3)));
    check_gradient(&query, 3, |q| dcl(Options::default(), q, leaf(&key, 3)));
    // One query, one negative.
    let one = |q, k, n| MocoInfoNce::new(1.0).unwrap().forward(leaf(&[q, 1.0], 2), leaf(&[k, 1.0], 2), leaf(&[n, 1.0], 2)).unwrap();
    assert_eq!(one(0.0, 0.0, 1.0).proxy_top1, 1.0);
    assert_eq!(one(0.0, 1.0, 0.0).proxy_top1, 0.0);
    // The same vector as key and in the queue is not strictly nearer.
    assert_eq!(one(0.3, 0.7, 0.7).proxy_top1, 0.0);
    assert!((values(one(0.3, 0.7, 0.7).loss)[0] - 2.0f64.ln()).abs() < 1e-15);
}

#[test]
fn bad_input_is_refused() {
    let (x, nan) = (leaf(&wave(4, 0.7), 2), leaf(&[1.0, f64::NAN, 0.0, 1.0], 2));
    let none = || Tensor::<2>::zeros([0, 2], (&x.device(), x.dtype()));
    let one = || x.clone().narrow(0, 0, 1);
    let triplet = TripletMargin::new(1.0).unwrap();
    says(triplet.forward(none(), none(), none()), "anchor has 0 rows");
    says(triplet.forward(x.clone(), x.clone(), one()), "negative has [1, 2]");
    says(triplet.forward(x.clone(), nan.clone(), x.clone()), "positive: row 0, column 1 is NaN");
    says(TripletMargin::new(-0.1), "margin = -0.1");
    says(TripletMargin::new(f64::NAN), "margin");
    assert!(serde_json::from_str::<Distance>("\"manhattan\"").is_err());
    says(triplet.distance(Distance::Cosine).forward(x.clone(), x.clone(), x.clone().mul_scalar(0.0)), "negative: row 0 is a zero");
    says(Alignment::new(0.0), "alpha");
    says(Alignment::new(2.0).unwrap().forward(none(), none()), "0 rows");
    says(Alignment::new(2.0).unwrap().forward(x.clone(), nan.clone()), "y: row 0");
    says(Uniformity::new(2.0).unwrap().forward(one()), "1 rows");
    says(Uniformity::new(-1.0), "t = -1");
    says(Uniformity::new(2.0).unwrap().forward(nan.clone()), "NaN");
    says(BarlowTwins::new(f64::INFINITY), "lambda_offdiag");
    let barlow = BarlowTwins::new(0.1).unwrap();
    says(barlow.eps(-1.0), "eps");
    says(barlow.forward(none(), none()), "0 rows");
    says(barlow.forward(x.clone(), nan.clone()), "z2: row 0");
    let constant = leaf(&[0.1, 1.0, 0.1, 2.0], 2);
    says(barlow.eps(0.0).unwrap().forward(x.clone(), constant.clone()), "z2: column 0 is constant");
    assert!(barlow.forward(x.clone(), constant).is_ok());
    let sup_con = SupCon::new(0.1).unwrap();
    says(sup_con.forward(x.clone().reshape([2, 1, 2]), &[1]), "1 labels");
    says(sup_con.forward(none().reshape([0, 1, 2]), &[]), "0 rows");
    says(sup_con.forward(nan.clone().reshape([2, 1, 2]), &[1, 1]), "NaN");
    says(sup_con.base_temperature(0.0), "base_temperature");
    says(SupCon::new(0.0), "temperature = 0");
    says(InfoNce::new(0.1).unwrap().forward(one(), one()), "1 rows");
    says(InfoNce::new(0.1).unwrap().forward(none(), none()), "0 rows");
    let moco = MocoInfoNce::new(0.1).unwrap();
    says(moco.forward(x.clone(), x.clone(), none()), "queue has 0 rows");
    says(moco.forward(x.clone(), one(), x.clone()), "key has [1, 2]");
    says(moco.forward(none(), none(), x.clone()), "query has 0 rows");
    says(moco.forward(x.clone(), x.clone(), leaf(&[1.0, 2.0, 3.0], 3)), "widths differ");
    says(moco.forward(x.clone(), x.clone(), nan.clone()), "NaN");
    let queue = DclQueue::new(0.1).unwrap();
    says(queue.forward(x.clone(), x.clone(), none()), "queue has 0 rows");
    says(queue.forward(x.clone(), x.clone(), nan), "NaN");
    says(DclQueue::new(-0.1), "temperature");
    says(Dcl::new(0.0), "temperature = 0");
    says(Dclw::new(0.1, 0.5).unwrap().forward(one(), one()), "1 rows");
    says(Dclw::new(0.1, 0.5).unwrap().forward(x.clone(), one()), "z2 has [1, 2]");
    // A power that is no number of this machine's.
    says(Alignment::new(1e308).unwrap().normalize(false).forward(x.clone().mul_scalar(9.0), x.clone()), "the loss is");
}
