//! The screen: products of 8-bit copies, with a bound on how far each can be from the score.
//!
//! With q̂ and d̂ the coded rows, ⟨q, d⟩ − ⟨q̂, d̂⟩ = ⟨q, d − d̂⟩ + ⟨q − q̂, d̂⟩, so by Cauchy and Schwarz
//! |⟨q, d⟩ − ⟨q̂, d̂⟩| ≤ ‖q‖ · ‖d − d̂‖ + ‖q − q̂‖ · ‖d̂‖, with the norms of what coding actually left out. The product of
//! the codes is exact; the roundings of the comparison and of the score itself are in [`Factor`].

use super::exact::norm;
use super::shortlist::{Rows, Shortlist};
use crate::Real;
use crate::simd::int8::{self, COLUMNS, Columns, Engine, Limit, ROWS, RightGroup, Tile};
use rayon::prelude::*;
use std::ops::Range;

/// Above this a document is always scored, so that nothing in the comparison can overflow.
const LARGEST_NORM: f64 = 1e30;

/// Coded queries, six in a tile.
pub(super) struct Queries {
    groups: usize,
    /// Each of six times so many groups, in the order that the engine reads.
    tiles: Vec<i32>,
    starts: Vec<[i32; ROWS]>,
    factors: Vec<Factor>,
}

/// A query's part in the bound of its products: |⟨q, d⟩ − scale · scale_d · product| ≤ a · ‖d − d̂‖ + b · ‖d̂‖.
#[derive(Clone, Copy)]
struct Factor {
    scale: f64,
    a: f64,
    b: f64,
    /// a and b in units of `scale`, for the comparison in f32.
    a_steps: f32,
    b_steps: f32,
}

/// Relative room for roundings. In units of u = 2⁻²⁴ the comparison rounds the product of the codes when it becomes f32, when it
/// is scaled and in the sum (3u of |⟨q̂, d̂⟩| ≤ (‖q‖ + ‖q − q̂‖) ‖d̂‖), and the bound itself four times; a score rounds to the bar (1u). `dot` adds n products
/// that are exact in f64: n · 2⁻⁵³ ‖q‖ ‖d‖, below u for every row that is not too wide. Measured norms are off by as little.
const ROOM: f64 = 16.0 / (1u32 << 24) as f64;

impl Factor {
    fn new<T: Real>(query: &[T], coded: &int8::Coded) -> Self {
        let norm = norm(query);
        let (scale, a) = (f64::from(coded.scale), norm * (1.0 + ROOM));
        let b = (coded.residual + (norm + coded.residual) * ROOM) * (1.0 + ROOM);
        Self { scale, a, b, a_steps: above(a / scale), b_steps: above(b / scale) }
    }

    /// What a product of codes must reach for its score to reach `bar`. Without a scale NaN, which everything reaches.
    fn limit<T: Real>(&self, bar: T) -> Limit {
        // A score that is smaller, but rounds to the bar, reaches it. What ROOM does not cover: a bar of ∞, and one near 0.
        let bar = bar.to_f64().min(f32::MAX.into()) - f64::from(f32::from_bits(1));
        Limit { a: self.a_steps, b: self.b_steps, bar: below(bar / self.scale) }
    }
}

/// An f32 that is larger by more than its rounding, and by more than what underflows.
fn above(x: f64) -> f32 {
    (x as f32).next_up().next_up()
}

fn below(x: f64) -> f32 {
    (x as f32).next_down().next_down()
}

impl Queries {
    /// Codes `[q, dim]` queries for a tile engine.
    pub(super) fn new<T: Real>(engine: Engine, queries: &[T], dim: usize) -> Self {
        let groups = engine.groups(dim);
        let tiles = (queries.len() / dim).div_ceil(ROWS);
        let mut coded = Self {
            groups,
            tiles: vec![0; tiles * groups * ROWS],
            starts: vec![[0; ROWS]; tiles],
            factors: Vec::with_capacity(tiles * ROWS),
        };
        let mut codes = vec![0i8; groups * 4];
        for (row, query) in queries.chunks_exact(dim).enumerate() {
            let (tile, row) = (row / ROWS, row % ROWS);
            let quantised = int8::quantise(query, engine.left_levels(), &mut codes[..dim]);
            coded.factors.push(Factor::new(query, &quantised));
            coded.starts[tile][row] = int8::start(&codes);
            let own = &mut coded.tiles[tile * groups * ROWS..][..groups * ROWS];
            for (group, four) in codes.as_chunks().0.iter().enumerate() {
                own[engine.left_place(groups, row, group)] = int8::left_group(*four);
            }
        }
        coded
    }
}

/// Coded documents, 64 in a panel.
#[derive(Default)]
pub(super) struct Documents {
    groups: usize,
    panels: Vec<RightGroup>,
    columns: Vec<Columns>,
    /// Not less than any norm; infinite when a row is not finite.
    pub(super) largest_norm: f64,
}

impl Documents {
    /// Codes `[n, dim]` documents for a tile engine in place of what was held.
    pub(super) fn fill<T: Real>(&mut self, engine: Engine, documents: &[T], dim: usize) {
        self.groups = engine.groups(dim);
        let panels = (documents.len() / dim).div_ceil(COLUMNS);
        self.panels.resize(panels * self.groups, RightGroup([0; COLUMNS]));
        self.columns.resize(panels, Columns { scale: [0.0; COLUMNS], residual: [0.0; COLUMNS], norm: [0.0; COLUMNS] });
        let panels = self.panels.par_chunks_exact_mut(self.groups).zip(&mut self.columns).zip(documents.par_chunks(COLUMNS * dim));
        let code = |codes: &mut Vec<i8>, ((panel, columns), rows): ((&mut [RightGroup], &mut Columns), &[T])| {
            let mut largest = 0f64;
            for (j, row) in rows.chunks_exact(dim).enumerate() {
                let coded = int8::quantise(row, 127, &mut codes[..dim]);
                columns.scale[j] = coded.scale;
                columns.residual[j] = if coded.norm < LARGEST_NORM { above(coded.residual) } else { f32::INFINITY };
                columns.norm[j] = above(coded.norm);
                panel.iter_mut().zip(codes.as_chunks().0).for_each(|(group, four)| group.0[j] = int8::right_group(*four));
                largest = largest.max(coded.norm + coded.residual);
            }
            largest
        };
        let groups = self.groups;
        self.largest_norm = panels.map_init(|| vec![0i8; groups * 4], code).reduce(|| 0.0, f64::max);
    }

    /// Bytes that a document takes, at most one panel's more in all.
    pub(super) fn bytes(engine: Engine, dim: usize) -> usize {
        engine.groups(dim) * 4 + size_of::<Columns>() / COLUMNS
    }
}

/// Finds what may be among the best of some queries in some panels.
pub(super) struct Scan<'a, T, F> {
    pub(super) engine: Engine,
    pub(super) rows: Rows<'a, T>,
    /// The same rows, coded.
    pub(super) queries: &'a Queries,
    pub(super) documents: &'a Documents,
    /// Takes the row of a query here and a document's index.
    pub(super) excluded: F,
}

impl<T: Real, F: Fn(usize, u32) -> bool> Scan<'_, T, F> {
    /// Notes in the shortlists, one for each query, what of a range of documents, which begins at a panel, may be among the best.
    pub(super) fn range(&self, range: Range<usize>, shortlists: &mut [Shortlist<T>]) {
        let Queries { groups, tiles, starts, factors } = self.queries;
        let mut tile = Tile([[0; COLUMNS]; ROWS]);
        let limit = |row: usize, shortlist: &Shortlist<T>| factors[row].limit(shortlist.bar());
        let mut limits = vec![[Limit::default(); ROWS]; starts.len()];
        shortlists.iter().enumerate().for_each(|(row, s)| limits[row / ROWS][row % ROWS] = limit(row, s));
        for start in range.clone().step_by(COLUMNS) {
            let panel = start / COLUMNS;
            let valid = u64::MAX >> (COLUMNS - COLUMNS.min(range.end - start));
            let right = &self.documents.panels[panel * groups..][..*groups];
            let columns = &self.documents.columns[panel];
            for (at, limits) in limits.iter_mut().enumerate() {
                self.engine.tile(&tiles[at * groups * ROWS..][..groups * ROWS], &starts[at], right, &mut tile);
                let hits = int8::may_reach(&tile, columns, limits);
                for (j, (hits, row)) in hits.into_iter().zip(at * ROWS..shortlists.len()).enumerate() {
                    let mut hits = hits & valid;
                    if hits != 0 {
                        let shortlist = &mut shortlists[row];
                        while hits != 0 {
                            let column = hits.trailing_zeros() as usize;
                            hits &= hits - 1;
                            let document = self.rows.first + (start + column) as u32;
                            if !(self.excluded)(row, document) {
                                let bounds = bounds(&factors[row], columns, column, tile.0[j][column]);
                                shortlist.push(document, bounds, &self.rows, row);
                            }
                        }
                        limits[j] = limit(row, shortlist);
                    }
                }
            }
        }
    }
}

/// Between what the score lies. In f64 the products here are exact or off by far less than [`ROOM`].
fn bounds(factor: &Factor, columns: &Columns, j: usize, product: i32) -> (f64, f64) {
    let near = factor.scale * f64::from(columns.scale[j]) * f64::from(product);
    let error = factor.a * f64::from(columns.residual[j]) + factor.b * f64::from(columns.norm[j]);
    (near - error, near + error)
}

/// The bounds of one pair, for tests.
#[cfg(test)]
pub(super) fn certified(engine: Engine, queries: &Queries, documents: &Documents, query: usize, document: usize) -> (f64, f64) {
    let product = tile(engine, queries, documents, query, document).0[query % ROWS][document % COLUMNS];
    bounds(&queries.factors[query], &documents.columns[document / COLUMNS], document % COLUMNS, product)
}

/// Whether a pair passes the comparison with a bar, for tests.
#[cfg(test)]
pub(super) fn reaches(engine: Engine, queries: &Queries, documents: &Documents, query: usize, document: usize, bar: f32) -> bool {
    let mut limits = [Limit::default(); ROWS];
    limits[query % ROWS] = queries.factors[query].limit(bar);
    let products = tile(engine, queries, documents, query, document);
    let hits = int8::may_reach(&products, &documents.columns[document / COLUMNS], &limits);
    hits[query % ROWS] >> (document % COLUMNS) & 1 == 1
}

#[cfg(test)]
fn tile(engine: Engine, queries: &Queries, documents: &Documents, query: usize, document: usize) -> Tile {
    let (groups, at, panel) = (queries.groups, query / ROWS, document / COLUMNS);
    let mut tile = Tile([[0; COLUMNS]; ROWS]);
    let (left, right) = (&queries.tiles[at * groups * ROWS..][..groups * ROWS], &documents.panels[panel * groups..][..groups]);
    engine.tile(left, &queries.starts[at], right, &mut tile);
    tile
}
