//! What the run was asked to do, as the steps wrote it down.

use super::super::RunFiles;
use super::super::cells::{self, Head::*};
use super::super::html::{Html, shorten};
use super::timing;
use serde_json::Value;

/// What of tune.json is shown elsewhere.
const ELSEWHERE: [&str; 5] = ["strategies", "judge", "reason", "seconds", "timings"];

pub fn body(files: &RunFiles) -> Html {
    let mut html = timing::table(files);
    if let Some(tune) = &files.tune {
        let mut list = Vec::new();
        for (key, value) in tune.iter().filter(|(key, _)| !ELSEWHERE.contains(&key.as_str())) {
            // The settings are what this table is about: their names stand without the word.
            flatten(if key == "settings" { "" } else { key }, value, &mut list);
        }
        html.add(&table("Settings of tune", &list));
    }
    let steps =
        [("Settings of mine", files.mine.as_ref().map(|m| &m.settings)), ("Settings of train", files.train.as_ref().map(|t| &t.settings))];
    for (title, settings) in steps {
        let mut list = Vec::new();
        flatten("", settings.unwrap_or(&Value::Null), &mut list);
        html.add(&table(title, &list));
    }
    html
}

fn table(title: &str, list: &[(String, String)]) -> Html {
    if list.is_empty() {
        return Html::new();
    }
    let mut rows = Html::from("<tbody>", &[]);
    for (key, value) in list {
        rows.put("<tr><th scope=\"row\"><code>{}</code></th><td class=\"prose\"><code>{}</code></td></tr>", &[key, &shorten(value, 400)]);
    }
    rows.put("</tbody>", &[]);
    Html::from(
        "<details class=\"settings\" open><summary>{}</summary>{}</details>",
        &[&title, &cells::table(title, "", &[Text("Name"), Text("Value")], &rows)],
    )
}

/// Objects within objects as dotted names; nothing (null) at the top is no setting.
fn flatten(name: &str, value: &Value, list: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, list);
            }
        }
        Value::Null if name.is_empty() => {}
        Value::String(text) => list.push((name.to_owned(), text.clone())),
        Value::Null => list.push((name.to_owned(), "–".into())),
        other => list.push((name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_settings_get_dotted_names() {
        let mut list = Vec::new();
        flatten("", &serde_json::json!({"a": {"b": 1, "c": null}, "d": [1, "x"], "e": "t"}), &mut list);
        let expected = [("a.b", "1"), ("a.c", "–"), ("d", "[1,\"x\"]"), ("e", "t")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(list, expected);
    }
}
