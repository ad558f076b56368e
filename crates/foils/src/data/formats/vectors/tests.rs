//! Embeddings to file and back, and files that cannot be used.

use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

fn tensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

fn read_bytes(name: &str, bytes: &[u8]) -> Result<Embeddings> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path)
}

fn error(name: &str, bytes: &[u8]) -> String {
    let error = read_bytes(name, bytes).unwrap_err().to_string();
    error[error.find(name).unwrap_or_else(|| panic!("{error} does not name the file"))..].to_owned()
}

fn bytes<const N: usize, T>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

#[test]
fn every_number_type_and_both_orders_are_read() {
    let expected = Embeddings::new(3, vec![1.0, -2.0, 0.5, 4.0, 5.0, -0.25]).unwrap();
    let values = expected.data();
    let half = bytes(values, |v| half::f16::from_f32(*v).to_le_bytes());
    let brain = bytes(values, |v| half::bf16::from_f32(*v).to_le_bytes());
    let single = bytes(values, |v| v.to_le_bytes());
    let double = bytes(values, |v| f64::from(*v).to_le_bytes());
    for (descr, data) in [("'<f2'", &half), ("'<f4'", &single), ("'<f8'", &double)] {
        assert_eq!(read_bytes("a.npy", &npy(descr, "False", "(2, 3)", data)).unwrap(), expected, "{descr}");
    }
    let columns = bytes(&[1.0f32, 4.0, -2.0, 5.0, 0.5, -0.25], |v| v.to_le_bytes());
    assert_eq!(read_bytes("a.npy", &npy("'<f4'", "True", "(2, 3)", &columns)).unwrap(), expected);
    for (kind, data) in [("F16", &half), ("BF16", &brain), ("F32", &single), ("F64", &double)] {
        let header = format!("{{\"x\":{{\"dtype\":\"{kind}\",\"shape\":[2,3],\"data_offsets\":[0,{}]}}}}", data.len());
        assert_eq!(read_bytes("a.safetensors", &tensors(&header, data)).unwrap(), expected, "{kind}");
    }
}

#[test]
fn one_of_several_tensors_is_taken_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let header = "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"x\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[8,12]},\"y\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[12,16]}}";
    std::fs::write(&path, tensors(header, &bytes(&[1.0f32, 2.0, 3.0, 4.0], |v| v.to_le_bytes()))).unwrap();
    assert_eq!(read_named(&path, Some("x")).unwrap().data(), [3.0]);
    assert_eq!(read_named(&path, Some("y")).unwrap().data(), [4.0]);
    assert!(read(&path).unwrap_err().to_string().ends_with("has several 2-D tensors (x, y); name one"));
    assert!(read_named(&path, Some("z")).unwrap_err().to_string().ends_with("has no tensor `z`; it has b, x, y"));
    assert!(read_named(&path, Some("b")).unwrap_err().to_string().ends_with("has the shape [2]; [rows, dim] is needed"));
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let data = bytes(&[1.0f32, f32::NAN], |v| v.to_le_bytes());
    assert_eq!(error("a.npy", &npy("'<f4'", "False", "(1, 2)", &data)), "a.npy: embedding row 0, column 1: NaN is not a finite number");
    let large = bytes(&[1.0f64, 1e300], |v| v.to_le_bytes());
    assert_eq!(error("a.npy", &npy("'<f8'", "False", "(2, 1)", &large)), "a.npy: embedding row 1, column 0: inf is not a finite number");
    assert_eq!(
        error("a.npy", &npy("'<f4'", "False", "(2, 2)", &data)),
        "a.npy: is cut off: shape [2, 2] needs 16 bytes of data, 8 are there"
    );
    assert_eq!(error("a.npy", &npy("'<f4'", "False", "(1, 1)", &data)), "a.npy: has more data than its header says");
    assert_eq!(error("a.npy", &npy("'<f4'", "False", "(0, 2)", &[])), "a.npy: shape [0, 2]: there are no embeddings");
    assert_eq!(error("a.npy", &npy("'<f4'", "False", "(2,)", &data)), "a.npy: has the shape [2]; [rows, dim] is needed");
    for descr in ["'<i8'", "'>f4'", "'|O'"] {
        let message = error("a.npy", &npy(descr, "False", "(1, 1)", &data));
        assert_eq!(message, format!("a.npy: holds numbers of type {descr}; '<f2', '<f4' or '<f8' is needed"));
    }
    assert!(error("a.npy", &npy("[('x', '<f4')]", "False", "(1, 1)", &data)).contains("its type is a record"));
    for shape in ["(9223372036854775807, 4)", "(4294967296, 4294967296)", "(1000000000, 1000000000)"] {
        let message = error("a.npy", &npy("'<f4'", "False", shape, &data));
        assert!(message.contains("too large") || message.contains("cut off") || message.contains(".npy file"), "{message}");
    }
    assert!(error("a.npy", b"").contains("does not begin as a .npy file"));
    assert!(error("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").contains("does not begin as a .npy file"));
    // Found by fuzzing: the time to parse this doubles with each bracket.
    for bracket in ["[", "(", "{"] {
        assert!(error("a.npy", &npy(&bracket.repeat(200), "False", "(1, 1)", &[])).contains("its header is damaged"));
    }
    let info = |offsets: &str| format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":{offsets}}}}}");
    assert_eq!(
        error("a.safetensors", &tensors(&info("[0,8]"), &data)),
        "a.safetensors: embedding row 0, column 1: NaN is not a finite number"
    );
    assert!(error("a.safetensors", &tensors(&info("[0,8]"), &data[..5])).contains("needs 8 bytes of data, 5 are there"));
    assert!(error("a.safetensors", &tensors(&info("[0,12]"), &data)).contains("its header cannot be understood"));
    assert!(error("a.safetensors", &tensors("{}", &[])).ends_with("has no 2-D tensor; it has none at all"));
    assert!(error("a.safetensors", b"abc").contains("cut off"));
    assert!(error("a.safetensors", &u64::MAX.to_le_bytes()).contains("is no safetensors file"));
    assert!(error("a.safetensors", &100u64.to_le_bytes()).contains("cut off in its header"));
    assert!(error("a.txt", b"").ends_with("embeddings are kept in .npy and .safetensors files"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("d.npy")).unwrap();
    assert!(read(folder.path().join("d.npy")).unwrap_err().to_string().ends_with("is a folder; a file is needed here"));
    assert!(write(folder.path().join("e.npy"), &Embeddings::default()).unwrap_err().to_string().ends_with("there are no embeddings"));
    assert!(!folder.path().join("e.npy").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn embeddings_come_back_bit_by_bit(dim in 1usize..9, values in proptest::collection::vec(proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO, 9..90)) {
        let rows = values.len() / dim;
        let embeddings = Embeddings::new(dim, values[..rows * dim].to_vec()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.npy", "a.npy.gz", "a.safetensors", "a.safetensors.zst"] {
            let path: PathBuf = folder.path().join(name);
            write(&path, &embeddings).unwrap();
            prop_assert_eq!(&read(&path).unwrap(), &embeddings, "{}", name);
        }
        // What is written is what the format's own library reads.
        let bytes = std::fs::read(folder.path().join("a.safetensors")).unwrap();
        let own = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = own.tensor("embeddings").unwrap();
        prop_assert_eq!(tensor.shape(), [rows, dim]);
    }
}
