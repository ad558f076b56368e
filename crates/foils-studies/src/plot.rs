//! What a study draws, as data: the report decides how it looks.

use foils::diagnostics::{PrincipalAxes, SimilarityHistograms};
use foils::metrics::Histogram;
use foils::{Error, Result};
use serde::{Deserialize, Serialize};

/// A plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// What is plotted.
    pub title: String,
    /// One sentence: what to look for.
    pub look: String,
    /// The quantity along the bottom.
    pub x: String,
    /// The quantity along the side.
    pub y: String,
    /// What is drawn.
    pub marks: Marks,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marks {
    /// Lines through points; along the bottom in equal steps of the logarithm, if so.
    Lines {
        /// The lines.
        series: Vec<Series>,
        /// Whether the bottom axis is logarithmic; then all x are above 0.
        logarithmic: bool,
    },
    /// Clouds of points.
    Scatter(Vec<Series>),
    /// Shapes of the same bins.
    Histograms(Vec<(String, Histogram)>),
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Their name.
    pub name: String,
    /// The points, x and y.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// From its name and points.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }
}

impl Plot {
    /// Lines through points, such as a measurement against a hyper-parameter for each method.
    pub fn lines(title: impl Into<String>, look: impl Into<String>, axes: [&str; 2], series: Vec<Series>) -> Self {
        Self::new(title, look, axes, Marks::Lines { series, logarithmic: false })
    }

    /// Makes the bottom axis of lines logarithmic: for temperatures and learning rates.
    #[must_use]
    pub fn logarithmic(mut self) -> Self {
        if let Marks::Lines { logarithmic, .. } = &mut self.marks {
            *logarithmic = true;
        }
        self
    }

    /// Similarities of positives and negatives.
    pub fn similarities(title: impl Into<String>, look: impl Into<String>, of: &SimilarityHistograms) -> Self {
        let shapes = vec![("positives".to_owned(), of.positive.clone()), ("negatives".to_owned(), of.negative.clone())];
        Self::new(title, look, ["cosine similarity", "% of pairs per 0.1 of similarity"], Marks::Histograms(shapes))
    }

    /// Rows `[n, dim]` along their first two principal axes, coloured by class.
    ///
    /// # Errors
    /// When labels are not one a row or not among `classes`, and as [`PrincipalAxes::of`].
    pub fn embedding(
        title: impl Into<String>,
        look: impl Into<String>,
        rows: &[f32],
        dim: usize,
        labels: &[i64],
        classes: &[&str],
    ) -> Result<Self> {
        let axes = PrincipalAxes::of(rows, dim, 2)?;
        let points = axes.project(rows)?;
        if points.len() != 2 * labels.len() {
            return Err(Error::invalid(format!("{} labels for {} rows", labels.len(), points.len() / 2)));
        }
        let mut series: Vec<Series> = classes.iter().map(|name| Series::new(*name, [])).collect();
        for (point, &label) in points.chunks_exact(2).zip(labels) {
            let of = usize::try_from(label).ok().and_then(|l| series.get_mut(l));
            of.ok_or_else(|| Error::invalid(format!("label {label} is not one of {} classes", classes.len())))?
                .points
                .push((point[0], point[1]));
        }
        let name = |axis: usize| format!("principal axis {} ({:.0} % of the variance)", axis + 1, 100.0 * axes.shares()[axis]);
        Ok(Self::new(title, look, [&name(0), &name(1)], Marks::Scatter(series)))
    }

    fn new(title: impl Into<String>, look: impl Into<String>, [x, y]: [&str; 2], marks: Marks) -> Self {
        Self { title: title.into(), look: look.into(), x: x.to_owned(), y: y.to_owned(), marks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_drawn_by_class_and_plots_survive_json() {
        let rows = [3.0, 0.0, 0.0, -3.0, 0.1, 0.0, 0.0, 0.0, 0.2];
        let plot = Plot::embedding("e", "", &rows, 3, &[0, 1, 1], &["a", "b"]).unwrap();
        let Marks::Scatter(series) = &plot.marks else { panic!("{plot:?}") };
        assert_eq!((series[0].points.len(), series[1].points.len()), (1, 2));
        assert!((series[0].points[0].0 - 3.0).abs() < 0.1 && plot.x.contains("100 %"), "{plot:?}");
        assert!(Plot::embedding("e", "", &rows, 3, &[0, 1, 2], &["a", "b"]).unwrap_err().to_string().contains("label 2"));
        assert!(Plot::embedding("e", "", &rows, 3, &[0, 1], &["a", "b"]).is_err());
        let lines = Plot::lines("l", "", ["τ", "y"], vec![Series::new("a", [(0.1, 1.0)])]).logarithmic();
        for plot in [plot, lines] {
            assert_eq!(serde_json::from_str::<Plot>(&serde_json::to_string(&plot).unwrap()).unwrap(), plot);
        }
    }
}
