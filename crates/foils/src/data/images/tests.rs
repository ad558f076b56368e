use super::*;
use proptest::prelude::*;

fn ramp(n: usize, shape: [usize; 3]) -> Images {
    let size: usize = shape.iter().product();
    let pixels = (0..n * size).map(|i| (i * 37 % 251) as u8).collect();
    Images::new(shape, pixels, (0..n).map(|i| (i % 4) as u8).collect()).unwrap()
}

/// Every part that keeps pixels in [0, 1].
fn in_range() -> Augment {
    Augment {
        crop: (0.3, 1.0),
        crop_aspect: 2.0,
        flip: 0.5,
        jitter: Jitter::simclr(1.0),
        greyscale: 0.2,
        blur: 0.5,
        sigma: (0.1, 2.0),
        erase: Erase { probability: 0.5, fill: Fill::Noise, ..Erase::NONE },
        cutout: 3,
        ..Augment::NONE
    }
}

fn strong() -> Augment {
    Augment { shift: 2, gain: 0.4, brightness: 0.2, noise: 0.1, ..in_range() }
}

#[test]
fn without_settings_a_view_is_the_image_and_parts_that_are_off_change_nothing() {
    let images = ramp(5, [2, 6, 7]);
    let rows = [4, 0, 0];
    let plain = images.batch(&rows).unwrap();
    assert_eq!(plain.len(), 3 * 84);
    assert_eq!(plain[..84], images.image(4).iter().map(|&b| f32::from(b) / 255.0).collect::<Vec<_>>());
    assert_eq!(Augment::default().views(&images, &rows, 7, 1).unwrap(), plain);
}

#[test]
fn views_follow_seed_stream_and_place_but_not_threads() {
    let images = ramp(40, [1, 28, 28]);
    let rows: Vec<u32> = (0..40).collect();
    let make = |seed, stream| strong().views(&images, &rows, seed, stream).unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| make(3, 5));
    assert_eq!(make(3, 5), one);
    assert_ne!(make(3, 6), one);
    assert_ne!(make(4, 5), one);
    let twice = strong().views(&images, &[1, 1], 3, 5).unwrap();
    assert_ne!(twice[..784], twice[784..]);
}

#[test]
fn flips_mirror() {
    let images = ramp(1, [1, 4, 4]);
    let plain = images.batch(&[0]).unwrap();
    let flipped = Augment { flip: 1.0, ..Augment::default() }.views(&images, &[0], 1, 1).unwrap();
    for y in 0..4 {
        for x in 0..4 {
            assert_eq!(flipped[y * 4 + x], plain[y * 4 + 3 - x]);
        }
    }
}

#[test]
fn colours_are_lost_in_greyscale_and_grey_images_have_none_to_lose() {
    let (colour, grey) = (ramp(1, [3, 4, 4]), ramp(1, [1, 4, 4]));
    let greyscale = Augment { greyscale: 1.0, ..Augment::NONE };
    let view = greyscale.views(&colour, &[0], 1, 1).unwrap();
    assert!(view[..16] == view[16..32] && view[..16] == view[32..]);
    assert_eq!(greyscale.views(&grey, &[0], 1, 1).unwrap(), grey.batch(&[0]).unwrap());
    let hues = Augment { jitter: Jitter { probability: 1.0, saturation: 0.5, hue: 0.5, ..Jitter::NONE }, ..Augment::NONE };
    assert_eq!(hues.views(&grey, &[0], 1, 1).unwrap(), grey.batch(&[0]).unwrap());
    assert_ne!(hues.views(&colour, &[0], 1, 1).unwrap(), colour.batch(&[0]).unwrap());
}

#[test]
fn squares_and_rectangles_are_painted_over() {
    let white = Images::new([3, 9, 11], vec![255; 297 * 60], vec![0; 60]).unwrap();
    let rows: Vec<u32> = (0..60).collect();
    let (mut largest, mut smallest) = (0, 99);
    let cut = Augment { cutout: 5, ..Augment::NONE };
    for view in cut.views(&white, &rows, 1, 1).unwrap().chunks(297) {
        let black: Vec<usize> = (0..99).filter(|&i| view[i] == 0.0).collect();
        assert!(black.iter().all(|&i| view[99 + i] == 0.0 && view[198 + i] == 0.0), "every channel");
        let (first, last) = (black[0], black[black.len() - 1]);
        let (tall, wide) = (last / 11 - first / 11 + 1, last % 11 - first % 11 + 1);
        assert!(tall <= 5 && wide <= 5 && black.len() == tall * wide);
        (largest, smallest) = (largest.max(black.len()), smallest.min(black.len()));
    }
    assert!(largest == 25 && smallest < 16, "whole inside, cut at the border: {largest} {smallest}");

    let erase = |fill| Augment { erase: Erase { probability: 1.0, fill, area: (0.2, 0.4), aspect: 3.0 }, ..Augment::NONE };
    for view in erase(Fill::Constant(0.25)).views(&white, &rows, 1, 1).unwrap().chunks(297) {
        let painted = view.iter().filter(|v| **v == 0.25).count();
        assert!(painted % 3 == 0 && (30..=119).contains(&painted) && view.iter().all(|v| [0.25, 1.0].contains(v)), "{painted}");
    }
    let noise = erase(Fill::Noise).views(&white, &rows, 1, 1).unwrap();
    let inside: Vec<f32> = noise.iter().copied().filter(|v| *v < 1.0).collect();
    let mean = inside.iter().sum::<f32>() / inside.len() as f32;
    assert!((mean - 0.5).abs() < 0.03 && noise.iter().all(|v| (0.0..=1.0).contains(v)), "{mean}");
}

#[test]
fn noise_has_its_standard_deviation_and_erasing_its_share() {
    let flat = Images::new([1, 28, 28], vec![51; 784 * 200], vec![0; 200]).unwrap();
    let rows: Vec<u32> = (0..200).collect();
    let noisy = Augment { noise: 0.1, ..Augment::default() }.views(&flat, &rows, 1, 1).unwrap();
    let n = noisy.len() as f64;
    let mean = noisy.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let sd = (noisy.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Standard errors: 0.1/√156800 ≈ 2.5e-4 and 1.8e-4; five of them.
    assert!((mean - 0.2).abs() < 1.3e-3 && (sd - 0.1).abs() < 9e-4, "{mean} {sd}");
    let erased = Augment { erase: Erase { probability: 1.0, ..Erase::NONE }, ..Augment::default() }.views(&flat, &rows, 1, 1).unwrap();
    for view in erased.chunks(784) {
        let share = view.iter().filter(|v| **v == 0.0).count() as f64 / 784.0;
        assert!((0.02..=0.26).contains(&share), "{share}");
    }
}

#[test]
fn a_balanced_sample_has_every_class_alike_and_no_image_twice() {
    let images = ramp(40, [1, 2, 2]);
    let sample = images.balanced_sample(10, 3).unwrap();
    let mut counts = [0; 4];
    sample.labels().iter().for_each(|&c| counts[c as usize] += 1);
    assert_eq!(counts, [3, 3, 2, 2]);
    assert!(images.balanced_sample(41, 3).unwrap_err().to_string().contains("11 images of class 0 asked for, there are 10"));

    let tail = images.long_tailed_sample(8, 0.125, 3).unwrap();
    assert_eq!([0, 1, 2, 3].map(|class| tail.labels().iter().filter(|l| **l == class).count()), [8, 4, 2, 1]);
    assert!(images.long_tailed_sample(8, 0.0, 3).unwrap_err().to_string().contains("share = 0"));
}

#[test]
fn wrong_input_is_refused_with_its_value() {
    let images = ramp(2, [1, 4, 4]);
    let error = |a: Augment| a.views(&images, &[0], 0, 0).unwrap_err().to_string();
    assert!(error(Augment { flip: 1.5, ..Augment::default() }).contains("flip is 1.5"));
    assert!(error(Augment { noise: f32::NAN, ..Augment::default() }).contains("noise is NaN"));
    assert!(error(Augment { crop: (0.0, 1.0), ..Augment::default() }).contains("crop"));
    assert!(error(Augment { shift: 4, ..Augment::default() }).contains("shift is 4"));
    assert!(error(Augment { crop_aspect: 0.5, ..Augment::default() }).contains("crop_aspect is 0.5"));
    assert!(error(Augment { sigma: (0.0, 1.0), ..Augment::default() }).contains("sigma"));
    assert!(error(Augment { greyscale: -0.1, ..Augment::default() }).contains("greyscale is -0.1"));
    assert!(error(Augment { erase: Erase { area: (0.5, 1.5), ..Erase::NONE }, ..Augment::default() }).contains("erase: area"));
    assert!(error(Augment { erase: Erase { fill: Fill::Constant(2.0), ..Erase::NONE }, ..Augment::default() }).contains("fill is 2"));
    assert!(error(Augment { jitter: Jitter { hue: 0.6, ..Jitter::NONE }, ..Augment::default() }).contains("hue is 0.6"));
    assert!(error(Augment { jitter: Jitter { contrast: f32::NAN, ..Jitter::NONE }, ..Augment::default() }).contains("contrast is NaN"));
    assert!(images.batch(&[2]).unwrap_err().to_string().contains("image 2"));
    assert!(Images::new([1, 4, 4], vec![0; 15], vec![0]).is_err());
    assert!(Images::new([1, 0, 4], vec![], vec![]).is_err());
}

proptest! {
    #[test]
    fn views_stay_in_range(height in 1usize..20, width in 1usize..20, channels in 1usize..=4, seed in 0u64..1000, byte: u8) {
        let images = Images::new([channels, height, width], vec![byte; channels * height * width], vec![0]).unwrap();
        let view = in_range().views(&images, &[0], seed, 0).unwrap();
        prop_assert!(view.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)), "{:?}", view);
    }

    #[test]
    fn parts_without_strength_are_no_parts(seed in 0u64..1000, channels in 1usize..=3) {
        let images = ramp(2, [channels, 6, 7]);
        let weak = Augment {
            crop: (1.0, 1.0),
            crop_aspect: 3.0,
            jitter: Jitter { probability: 1.0, ..Jitter::NONE },
            sigma: (0.5, 3.0),
            ..Augment::NONE
        };
        prop_assert_eq!(weak.views(&images, &[1, 0], seed, 1).unwrap(), images.batch(&[1, 0]).unwrap());
    }
}
