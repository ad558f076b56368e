//! Building HTML in which a text cannot become markup: templates are compile-time strings, everything else is escaped.

/// A piece of finished HTML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Html(String);

/// What may be put into a `{}` of a template: finished HTML as it is, anything else escaped.
pub trait Piece {
    /// Appends itself to `out`.
    fn write(&self, out: &mut String);
}

impl Html {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `template` with its `{}` filled in; see [`Html::put`].
    pub fn from(template: &'static str, pieces: &[&dyn Piece]) -> Self {
        let mut html = Self::new();
        html.put(template, pieces);
        html
    }

    /// Appends `template` with its `{}` replaced by `pieces`, one each. Only a string that is in the program can be a
    /// template, so no text of a run folder can reach the page unescaped.
    ///
    /// # Panics
    /// When the numbers of `{}` and of pieces differ, a slip in the program that any rendering shows.
    pub fn put(&mut self, template: &'static str, pieces: &[&dyn Piece]) {
        let mut pieces = pieces.iter();
        let mut parts = template.split("{}");
        self.0.push_str(parts.next().unwrap_or_default());
        for part in parts {
            pieces.next().unwrap_or_else(|| panic!("a piece for every {{}} of {template:?}")).write(&mut self.0);
            self.0.push_str(part);
        }
        assert!(pieces.next().is_none(), "more pieces than {{}} in {template:?}");
    }

    /// Appends markup that is in the program and may hold braces (the style sheet).
    pub fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Appends finished HTML.
    pub fn add(&mut self, html: &Html) {
        self.0.push_str(&html.0);
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of it.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Piece for Html {
    fn write(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

impl Piece for str {
    fn write(&self, out: &mut String) {
        for c in self.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                // HTML knows no other control characters; shown, they cannot hide or reorder what stands beside them.
                '\n' | '\t' => out.push(c),
                '\r' => {}
                c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) => {
                    out.push('\u{fffd}')
                }
                c => out.push(c),
            }
        }
    }
}

impl Piece for &str {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
}

impl Piece for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

impl Piece for usize {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

/// The first `most` characters of a text, with a word on what was cut.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} more characters)", &text[..at], count(text[at..].chars().count() as u64)),
    }
}

/// `0.436`, with a real minus sign.
pub fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value < 0.0 && !zero { format!("−{text}") } else { text }
}

/// `+0.045`, `−0.012`, `0.000`.
pub fn signed(value: f64, digits: usize) -> String {
    let text = fixed(value, digits);
    let zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if value > 0.0 && !zero { format!("+{text}") } else { text }
}

/// A share as a percentage: `12.3 %`; tiny ones as `< 0.1 %`, never rounded to nothing.
pub fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if value > 0.0 && value < 0.05 { "< 0.1\u{a0}%".into() } else { format!("{}\u{a0}%", fixed(value, 1)) }
}

/// `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration as people say it: `850 ms`, `12.3 s`, `2 min 31 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round();
    if seconds < 1.0 {
        format!("{}\u{a0}ms", fixed(seconds * 1e3, 0))
    } else if seconds < 60.0 && fixed(seconds, 1) != "60.0" {
        format!("{}\u{a0}s", fixed(seconds, 1))
    } else if whole < 3600.0 {
        format!("{}\u{a0}min {}\u{a0}s", (whole / 60.0).floor(), whole % 60.0)
    } else {
        let minutes = (whole / 60.0).round();
        format!("{}\u{a0}h {}\u{a0}min", (minutes / 60.0).floor(), minutes % 60.0)
    }
}

/// A number of unknown size, with three or four figures: `20`, `0.05`, `2e−5`.
pub fn plain(value: f64) -> String {
    let text = if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        format!("{value:.2e}").replace(".00e", "e").replace("0e", "e")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    text.replace('-', "−")
}

/// `one`, `two` … as a plural: `3 queries`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{}\u{a0}{}", count(n), if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_finished_html_is_not() {
        let inner = Html::from("<b>{}</b>", &[&"a<b>&\"'"]);
        let html = Html::from("<p title=\"{}\">{}</p>{}", &[&"\" onload=\"x", &inner, &7usize]);
        assert_eq!(html.into_string(), "<p title=\"&quot; onload=&quot;x\"><b>a&lt;b&gt;&amp;&quot;&#39;</b></p>7");
        assert_eq!(Html::from("{}", &[&"a\u{0}\u{202e}b\r\nc"]).into_string(), "a\u{fffd}\u{fffd}b\nc");
    }

    #[test]
    #[should_panic(expected = "more pieces")]
    fn a_piece_too_many_is_seen() {
        Html::from("<p>{}</p>", &[&"a", &"b"]);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!((fixed(-0.0001, 3), fixed(-1.5, 1), signed(0.0445, 3)), ("0.000".into(), "−1.5".into(), "+0.044".into()));
        assert_eq!((signed(1e-9, 3), signed(-0.2, 1)), ("0.000".into(), "−0.2".into()));
        assert_eq!((percent(0.116), percent(0.0001), percent(0.0)), ("11.6\u{a0}%".into(), "< 0.1\u{a0}%".into(), "0.0\u{a0}%".into()));
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let said = [0.0123, 12.34, 59.97, 151.0, 3599.7, 3900.0].map(duration);
        assert_eq!(
            said,
            ["12\u{a0}ms", "12.3\u{a0}s", "1\u{a0}min 0\u{a0}s", "2\u{a0}min 31\u{a0}s", "1\u{a0}h 0\u{a0}min", "1\u{a0}h 5\u{a0}min"]
        );
        assert_eq!([20.0, 0.05, 2e-5, -3.25e-7, 1.5e9].map(plain), ["20", "0.05", "2e−5", "−3.25e−7", "1.5e9"]);
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 2), "äö… (2 more characters)");
    }
}
